"""The contestants, the checks that all of them are right, and their measurements in turn."""

import sys

from shapes import GRID, SCOUTED_RANK, STEP, request
from workers import INSTALLED, Measurement, Worker, in_turn, lowrank, rival

HITS_APART = 3  # of 10,000 images, where two logits differ only by rounding


def contests(build):
    """The contestants for LoRA, and those for pretraining."""
    lora = [lowrank(build, "lora"), rival("the notebook's way", "notebook"), rival("PEFT", "peft")]
    return lora, [lowrank(build, "pretrain"), rival("PyTorch", "plain")]


def first_losses(contestant, shapes, arguments=()):
    with Worker(contestant, INSTALLED, arguments) as worker:
        return [worker.ask("losses {} {}".format(*shape))["losses"] for shape in shapes]


def tolerance(rank):
    """The tolerance, as a share of the first loss. At rank 64, a hidden unit that is zero but for
    rounding falls on either side of ReLU in the second step, and Adam makes whole steps of the
    gradients that this changes."""
    return 1e-5 if rank <= 8 else 1e-4


def check_losses(kind, contestants, shapes):
    """Checks everyone's first losses against the last contestant's in float64, and returns the
    largest difference."""
    worst = 0.0
    references = first_losses(contestants[-1], shapes, ["--dtype", "float64"])
    for contestant in contestants:
        found = first_losses(contestant, shapes)
        for (batch, rank), losses, reference in zip(shapes, found, references, strict=True):
            difference = max(abs(a - b) for a, b in zip(losses, reference, strict=True)) / reference[0]
            if difference > tolerance(rank) or losses[-1] >= losses[0]:
                shape = f"batch {batch}, rank {rank}"
                sys.exit(f"bench: {kind} of {contestant.name}, {shape}, must follow {reference}. Got {losses}.")
            worst = max(worst, difference)
    steps = len(references[0])
    print(f"{kind}: {steps} losses from one start fall, and agree with float64 within {worst:.0e} of the first")
    return worst


def check_hits(contestants):
    hits = []
    for contestant in contestants:
        with Worker(contestant, INSTALLED) as worker:
            hits.append(worker.ask("correct")["correct"])
    if max(hits) - min(hits) > HITS_APART:
        sys.exit(f"bench: all must hit the same images, within {HITS_APART}. Got {hits}.")
    print(f"Evaluation: {hits[0]} and {hits[1]} hits of 10,000 images")


def compete(contestants, args, beside=()):
    """Measures each contestant in its best setting and as installed. Returns the rates by row and
    name, and all answers, also to the measurements in `beside`."""
    rows = {"best": lambda c: c.best(STEP), "installed": lambda c: INSTALLED}
    asked = [
        Measurement(f"{row} {c.name}", c, setting(c), STEP) for row, setting in rows.items() for c in contestants
    ]
    answers = in_turn([*asked, *beside], args.rounds, args.seconds)
    rates = {row: {c.name: [a["rate"] for a in answers[f"{row} {c.name}"]] for c in contestants} for row in rows}
    return rates, answers


def measure_grid(ours, rival, args):
    """Steps per second by batch and rank, each contestant in its best setting for the batch."""
    measurements = [
        Measurement(f"{c.name} {shape}", c, c.best(request(shape[0], SCOUTED_RANK)), request(*shape))
        for shape in GRID
        for c in (ours, rival)
    ]
    answers = in_turn(measurements, args.rounds, args.seconds / 4)
    rates = {key: [a["rate"] for a in of_key] for key, of_key in answers.items()}
    return {request(*shape): {c.name: rates[f"{c.name} {shape}"] for c in (ours, rival)} for shape in GRID}


def measure_evaluation(ours, notebook, args):
    setting = ours.best("evaluate_off")  # only the disabled adapter uses the BLAS library
    measurements = [
        Measurement("on", ours, setting, "evaluate"),
        Measurement("off", ours, setting, "evaluate_off"),
        Measurement("notebook", notebook, notebook.best("evaluate"), "evaluate"),
    ]
    answers = in_turn(measurements, args.rounds, args.seconds / 2)
    return {key: [a["rate"] for a in of_key] for key, of_key in answers.items()}
