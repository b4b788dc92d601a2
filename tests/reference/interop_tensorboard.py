"""Checks that TensorBoard's own reader gets from a log what metrics.jsonl says."""

import glob
import json
import math
import pathlib
import shutil
import struct
import subprocess
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

KINDS = ("scalars", "histograms", "images", "tensors")


def float32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def read(folder):
    reader = EventAccumulator(str(folder), size_guidance=dict.fromkeys(KINDS, 0))
    reader.Reload()
    return reader


def figures(folder):
    """Returns {name: {step: value}} of metrics.jsonl."""
    found = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        step = entry.pop("step")
        for name, value in entry.items():
            found.setdefault(name, {})[step] = math.nan if value is None else float32(value)
    return found


def check_scalars(checks, name, folder):
    """Returns the reader and the figures that metrics.jsonl has."""
    reader = read(folder)
    wanted = figures(folder)
    found = {tag: {event.step: event.value for event in reader.Scalars(tag)}
             for tag in reader.Tags()["scalars"]}
    checks.expect(name, found == wanted,
                  f"{sum(map(len, wanted.values()))} figures under {len(wanted)} names")
    return reader, wanted


def check_resumed_log(checks, lowrank, work, data):
    """The same for a run that is killed and goes on."""
    out, log = work / "killed", work / "killed_log"
    run = subprocess.Popen([lowrank, "finetune", work / "base", "--data", data, "--steps", "1000",
                            "--log-to", log, "--out", out, "--quiet"])
    metrics = log / "metrics.jsonl"
    while run.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 400):
        time.sleep(0.1)
    run.kill()
    run.wait()
    subprocess.run([lowrank, "finetune", "--resume", out, "--log-to", log, "--quiet"], check=True,
                   stdout=subprocess.DEVNULL)
    check_scalars(checks, "TensorBoard reads the log of a run that was killed", log)
    checks.expect("two event files hold that log", len(list(log.glob("events.*"))) == 2)


def check_log(checks, folder):
    """Compares a log, and then what is left of its event file after a cut at any place."""
    reader, wanted = check_scalars(checks, "TensorBoard reads every figure of metrics.jsonl", folder)
    histograms = [reader.Histograms(tag)[-1].histogram_value for tag in reader.Tags()["histograms"]]
    checks.expect("TensorBoard reads the histograms",
                  histograms and all(h.num > 0 and h.num == sum(h.bucket) and
                                     len(h.bucket) == len(h.bucket_limit) for h in histograms),
                  f"{len(histograms)}")
    images = [reader.Images(tag)[-1] for tag in reader.Tags()["images"]]
    checks.expect("TensorBoard reads the images",
                  images and all(i.encoded_image_string.startswith(b"\x89PNG") and
                                 (i.height, i.width) == (28, 28) for i in images), f"{len(images)}")
    options = reader.Tensors("options")[-1].tensor_proto.string_val[0].decode()
    checks.expect("TensorBoard reads the options", json.loads(
        options.removeprefix("```json\n").removesuffix("\n```"))["train"]["steps"] > 0)

    (events,) = map(pathlib.Path, glob.glob(str(folder / "events.out.tfevents.*")))
    content = events.read_bytes()
    cut = folder.parent / "cut"
    whole = True
    for size in range(0, len(content), max(1, len(content) // 100)):
        shutil.rmtree(cut, ignore_errors=True)
        cut.mkdir()
        (cut / events.name).write_bytes(content[:size])
        left = read(cut)
        for tag in left.Tags()["scalars"]:
            whole &= all(wanted[tag][event.step] == event.value for event in left.Scalars(tag))
    checks.expect("TensorBoard reads a log that is cut anywhere", whole)
