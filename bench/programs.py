"""Measurements in separate programs: merging, memory, and how long the command takes to start."""

import json
import subprocess
import sys
import tempfile
import time

STARTS, WHOLE_RUNS = 21, 5


def run_program(program, *arguments):
    """Runs a program and returns the JSON line that it prints."""
    done = subprocess.run([program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {program} must exit with 0. Got {done.returncode}.")
    return json.loads(done.stdout)


def milliseconds(command, expected=0):
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    spent = 1e3 * (time.perf_counter() - begin)
    if done.returncode != expected:
        sys.exit(f"bench: {' '.join(command)} must exit with {expected}. Got {done.returncode}.")
    return spent


def measure_starts(lowrank):
    """Milliseconds per start. For finetune this is a whole run of one training step, which includes
    the start."""
    starts = {
        "help": [milliseconds([lowrank, "--help"]) for _ in range(STARTS)],
        "version": [milliseconds([lowrank, "--version"]) for _ in range(STARTS)],
        "mistyped": [milliseconds([lowrank, "svd", "--rnak", "2"], expected=2) for _ in range(STARTS)],
    }
    with tempfile.TemporaryDirectory() as folder:
        base, out = f"{folder}/base", f"{folder}/adapter"
        milliseconds([lowrank, "train", "--data", "mnist", "--steps", "1", "--out", base])
        finetune = [lowrank, "finetune", base, "--data", "mnist", "--only", "2"]
        finetune += ["--steps", "1", "--out", out, "--force"]
        starts["finetune"] = [milliseconds(finetune) for _ in range(WHOLE_RUNS)]
    return starts
