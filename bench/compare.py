"""Compares lowrank with PyTorch and PEFT, and with its targets; bench/run.sh calls it.

1. Correctness: five steps of each contestant from one start must give the losses of the float64
   reference, and evaluation must give the same number of hits.
2. Scout: a short run of each in every setting (BLAS library x threads) finds its best one.
3. Rounds: the contestants take turns, each in its best setting and as installed. The results are
   the median, the range, and the ratios within each round.
4. The samples of every target (targets.py); tables.py prints the verdicts.

Exits with 1 if something did not run or was wrong, never because of a time.
"""

import argparse
import datetime
import json
import pathlib

import contests
import tables
from programs import measure_starts, run_program
from shapes import BATCHES, GRID, NOTEBOOK, SCOUTED_RANK, STEP, request
from workers import Measurement, Worker, machine_in_words, scout, usable_cores


def check(lora, pretraining):
    """Returns the largest difference of the losses in each contest."""
    ours, notebook, _ = lora
    differences = {
        "LoRA": contests.check_losses("LoRA", lora, [NOTEBOOK, *GRID]),
        "pretraining": contests.check_losses("pretraining", pretraining, [NOTEBOOK]),
    }
    contests.check_hits([ours, notebook])
    return differences


def scout_all(build, lora, pretraining, seconds):
    ours, notebook, peft = lora
    of_batches = [request(batch, SCOUTED_RANK) for batch in BATCHES]
    scout(build, ours, [STEP, *of_batches, "evaluate_off"], seconds)
    scout(build, ours, ["machine"], seconds, [usable_cores()])
    scout(build, notebook, [STEP, "evaluate"], seconds)
    scout(build, peft, [STEP, *of_batches], seconds)
    for contestant in pretraining:
        scout(build, contestant, [STEP], seconds)


def measure(lora, pretraining, args):
    """Measures everything and returns all samples."""
    ours, notebook, peft = lora
    speed = Measurement("machine", ours, ours.best("machine"), "machine")
    lora_rates, answers = contests.compete(lora, args, [speed])
    tables.print_contest("LoRA", lora, lora_rates)
    pretraining_rates, _ = contests.compete(pretraining, args)
    tables.print_contest("pretraining", pretraining, pretraining_rates)
    print("Threads: LibTorch's + the BLAS library's own.\n", flush=True)
    return {
        "contests": {"LoRA": lora_rates, "pretraining": pretraining_rates},
        "machine": answers["machine"],
        "grid": contests.measure_grid(ours, peft, args),
        "evaluation": contests.measure_evaluation(ours, notebook, args),
        "merge": run_program(args.build / "bench" / "merge_bench", "--threads", usable_cores()),
        "memory": run_program(args.build / "bench" / "memory_bench"),
        "starts": measure_starts(str(args.build / "cli" / "lowrank")),
    }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="a build with the benchmarks and the command")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.4, help="length of one measurement in a contest")
    parser.add_argument("--scout-seconds", type=float, default=0.5)
    return parser.parse_args()


def main():
    args = arguments()
    here = machine_in_words()
    tables.print_machine(here)
    lora, pretraining = contests.contests(args.build)
    differences = check(lora, pretraining)
    scout_all(args.build, lora, pretraining, args.scout_seconds)
    samples = measure(lora, pretraining, args)
    written = {
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "machine": here,
        "loss_differences": differences,
        "scouted": {"LoRA": tables.scouted_as_json(lora), "pretraining": tables.scouted_as_json(pretraining)},
        "samples": samples,
        "targets": tables.targets_as_json(samples),
        "least_share_of_a_core": Worker.least_share,
    }
    args.out.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
