"""lowrank beside PyTorch and PEFT, and beside its targets; bench/run.sh calls it.

1. Correctness: five steps of each from one start must give the losses of the float64 reference, and
   evaluation the same number of hits.
2. Scout: a short run of each in every setting (BLAS library x threads) picks its best one.
3. Rounds: one after the other in turn, each in its best setting, and as installed. Median, range,
   and the ratios within each round.
4. The table of targets (targets.py).

Exits with 1 where something did not run or was wrong, never because of a time.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import targets
from workers import INSTALLED, Measurement, Worker, in_turn, lowrank, machine_in_words, rival, scout

LOSS_TOLERANCE = 1e-4  # of each loss; float32 steps are seen to agree to about 1e-7
HITS_APART = 3  # of 10,000 images: where two logits are equal but for rounding
STEP = "train 10 1"  # batch, rank
GRID = [(batch, rank) for batch in (1, 64, 256) for rank in (1, 8, 64)]
STARTS = 15


def contests(build):
    return {
        "LoRA": [lowrank(build, "lora"), rival("the notebook's way", "notebook"), rival("PEFT", "peft")],
        "pretraining": [lowrank(build, "pretrain"), rival("PyTorch", "plain")],
    }


def check_losses(kind, contestants):
    """Every one's first losses against the last contestant's in float64; the largest difference."""
    worst = 0.0
    with Worker(contestants[-1], INSTALLED, ["--dtype", "float64"]) as worker:
        reference = worker.losses
    for contestant in contestants:
        with Worker(contestant, INSTALLED) as worker:
            losses = worker.losses
        differences = [abs(a - b) / max(abs(b), 1e-2) for a, b in zip(losses, reference, strict=True)]
        if max(differences) > LOSS_TOLERANCE or losses[-1] >= losses[0]:
            sys.exit(f"bench: {kind} of {contestant.name} must follow {reference}. Got {losses}.")
        worst = max(worst, *differences)
    print(f"{kind}: {len(reference)} losses from one start fall, and agree with float64 within {worst:.0e}")
    return worst


def check_hits(contestants):
    hits = []
    for contestant in contestants:
        with Worker(contestant, INSTALLED) as worker:
            hits.append(worker.ask("correct", 0)["correct"])
    if max(hits) - min(hits) > HITS_APART:
        sys.exit(f"bench: all must hit the same images, within {HITS_APART}. Got {hits}.")
    print(f"Evaluation: {hits[0]} and {hits[1]} hits of 10,000 images")


def compete(contestants, args, beside=()):
    """Each in its best setting, and as installed; rates by row and name, and what was asked beside."""
    rows = {"best": lambda c: c.best(STEP), "installed": lambda c: INSTALLED}
    asked = [
        Measurement(f"{row} {c.name}", c, setting(c), STEP) for row, setting in rows.items() for c in contestants
    ]
    answers = in_turn([*asked, *beside], args.rounds, args.seconds)
    rates = {row: {c.name: [a["rate"] for a in answers[f"{row} {c.name}"]] for c in contestants} for row in rows}
    return rates, answers


def measure_grid(ours, rival, args):
    measurements = [
        Measurement(f"{c.name} {batch} {rank}", c, c.best(f"train {batch} 8"), f"train {batch} {rank}")
        for batch, rank in GRID
        for c in (ours, rival)
    ]
    answers = in_turn(measurements, args.rounds, args.seconds / 4)
    rates = {key: [a["rate"] for a in of_key] for key, of_key in answers.items()}
    return [(b, r, rates[f"{ours.name} {b} {r}"], rates[f"{rival.name} {b} {r}"]) for b, r in GRID]


def measure_evaluation(ours, notebook, args):
    setting = ours.best("evaluate_off")  # which is the BLAS library's; the adapter's is not
    measurements = [
        Measurement("on", ours, setting, "evaluate"),
        Measurement("off", ours, setting, "evaluate_off"),
        Measurement("notebook", notebook, notebook.best("evaluate"), "evaluate"),
    ]
    answers = in_turn(measurements, args.rounds, args.seconds / 2)
    return {key: [a["rate"] for a in of_key] for key, of_key in answers.items()}


def run_program(program, *arguments):
    """The JSON line that it prints."""
    done = subprocess.run([program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {program} must exit with 0. Got {done.returncode}.")
    return json.loads(done.stdout)


def milliseconds(command, expected=0):
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    spent = 1e3 * (time.perf_counter() - begin)
    if (done.returncode == 0) != (expected == 0):
        sys.exit(f"bench: {' '.join(command)} must exit with {expected}. Got {done.returncode}.")
    return spent


def measure_starts(lowrank):
    """A whole run of one training step stands for the start to the first one, which is in it."""
    starts = {
        "lowrank --help": [milliseconds([lowrank, "--help"]) for _ in range(STARTS)],
        "lowrank --version": [milliseconds([lowrank, "--version"]) for _ in range(STARTS)],
        "a mistyped flag": [milliseconds([lowrank, "svd", "--rnak", "2"], expected=2) for _ in range(STARTS)],
    }
    with tempfile.TemporaryDirectory() as folder:
        base, out = f"{folder}/base", f"{folder}/adapter"
        milliseconds([lowrank, "train", "--data", "mnist", "--steps", "1", "--out", base])
        finetune = [lowrank, "finetune", base, "--data", "mnist", "--only", "2", "--steps", "1", "--out", out, "--force"]
        starts["lowrank finetune, all of a run of one step"] = [milliseconds(finetune) for _ in range(5)]
    return starts


def print_contest(kind, contestants, rates):
    print(f"\n{kind}, steps a second{'median':>43}{'range':>16}   lowrank is")
    for row, of_row in rates.items():
        for contestant in contestants:
            rate = targets.summary(of_row[contestant.name])
            ratio = targets.ratios(of_row["lowrank"], of_row[contestant.name])
            setting = contestant.best(STEP) if row == "best" else INSTALLED
            span = f"{rate['lowest']:.1f} - {rate['highest']:.1f}"
            times = f"{ratio['median']:.2f}x  ({ratio['lowest']:.2f} - {ratio['highest']:.2f})"
            note = "" if contestant.name == "lowrank" else times
            print(f"  {contestant.name:<20}{str(setting):<36}{rate['median']:>8.1f}{span:>16}   {note}")
    print(flush=True)


def contest_as_json(contestants, rates, difference):
    scouted = {
        c.name: {request: {str(s): rate for s, rate in of.items()} for request, of in c.scouted.items()}
        for c in contestants
    }
    best = {c.name: str(c.best(STEP)) for c in contestants}
    return {"loss_difference": difference, "best_settings": best, "steps_per_second": rates, "scouted": scouted}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="with the benchmarks and the command")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the JSON file that is written")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.2, help="of one measurement of a contest")
    parser.add_argument("--scout-seconds", type=float, default=0.5)
    args = parser.parse_args()
    programs = args.build / "bench"

    here = machine_in_words()
    print(f"{here['cpu']}, {here['cores']} cores; {here['system']}; load {here['load']:.2f}")
    if here["load"] > 0.5:
        print("Other programs are running: figures with all threads suffer most, and repeat badly.")
    print("Net 784-1000-2000-10, batch 10, rank 1 on all layers, Adam, float32; data in memory.\n")
    all_contests = contests(args.build)
    lora, pretraining = all_contests["LoRA"], all_contests["pretraining"]
    ours, notebook, peft = lora
    written = {"date": datetime.datetime.now().isoformat(timespec="seconds"), "machine": here, "contests": {}}
    differences = {kind: check_losses(kind, contestants) for kind, contestants in all_contests.items()}
    check_hits([ours, notebook])

    of_batches = sorted({f"train {batch} 8" for batch, _ in GRID})
    for contestant, requests in ((ours, [*of_batches, "evaluate_off"]), (notebook, ["evaluate"]), (peft, of_batches)):
        scout(contestant, [STEP, *requests], args.scout_seconds)
    for contestant in pretraining:
        scout(contestant, [STEP], args.scout_seconds)

    speed = Measurement("machine", ours, ours.best(STEP), "machine")
    rates, asked = {}, {}
    for kind, contestants in all_contests.items():
        rates[kind], asked[kind] = compete(contestants, args, [speed] if kind == "LoRA" else [])
        print_contest(kind, contestants, rates[kind])
        written["contests"][kind] = contest_as_json(contestants, rates[kind], differences[kind])

    machine = asked["LoRA"]["machine"]
    evaluated = measure_evaluation(ours, notebook, args)
    threads = here["cores"]
    rows = [
        *targets.training_rows(rates["LoRA"]["best"], rates["pretraining"]["best"], machine),
        *targets.grid_rows(measure_grid(ours, peft, args), machine),
        *targets.evaluation_rows(evaluated["on"], evaluated["off"], evaluated["notebook"]),
        targets.merge_row(run_program(programs / "merge_bench", "--threads", threads)),
        targets.memory_row(run_program(programs / "memory_bench")),
        *targets.start_rows(measure_starts(str(args.build / "cli" / "lowrank"))),
    ]
    targets.print_rows(rows)
    written |= {"speed": machine, "evaluation": evaluated, "targets": [row.as_json() for row in rows]}
    written["least_share_of_a_core"] = Worker.least_share
    if Worker.least_share < 0.9:
        print(f"The machine was busy: one measurement got {Worker.least_share:.0%} of a core. Repeat it alone.")
    args.out.write_text(json.dumps(written, indent=2) + "\n")
    print(f"LibTorch's threads + the BLAS library's own. All samples: {args.out}")
    print("Repeat it: make bench")


if __name__ == "__main__":
    main()
