"""Computes the figures that have a target (targets.py, by the same keys) from the measurements."""

import dataclasses
import statistics

from shapes import GRID, NOTEBOOK, request

LORA_STEP = 0.096  # GFLOP at batch 10: 56 MFLOP forward, 40 for the inputs' gradients


def summary(values):
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "values": values}


def ratios(ours, theirs):
    """The ratio within each round, in which both met the machine at about the same time."""
    return summary([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclasses.dataclass
class Figure:
    found: dict  # a summary
    note: str = ""


def limits(machine, batch=NOTEBOOK[0]):
    """Steps per second with only the base's products, at the machine's speed in each round."""
    return [m["rate"] / (LORA_STEP * batch / NOTEBOOK[0]) for m in machine]


def beside(rates, rival, limit):
    """The ratio, with a note on how large it could be on this machine."""
    most, rate = statistics.median(limit), statistics.median(rates[rival])
    note = f"the machine's limit is {most:.0f} steps/s, {most / rate:.1f} x {rival}"
    return Figure(ratios(rates["lowrank"], rates[rival]), note)


def share(parts, wholes):
    return Figure(summary([100 * part / whole for part, whole in zip(parts, wholes, strict=True)]))


def of_training(lora, pretraining, machine):
    """Figures of the steps per second in the best settings, round by round."""
    limit = limits(machine)
    return {
        "notebook": beside(lora, "the notebook's way", limit),
        "PEFT": beside(lora, "PEFT", limit),
        "share": share(lora["lowrank"], limit),
        "pretraining": Figure(ratios(pretraining["lowrank"], pretraining["PyTorch"])),
    }


def of_grid(rates, machine):
    requests = {request(*shape): shape[0] for shape in GRID}
    return {asked: beside(rates[asked], "PEFT", limits(machine, batch)) for asked, batch in requests.items()}


def of_evaluation(on, off, notebook):
    slower = [100 * (b / a - 1) for a, b in zip(on, off, strict=True)]
    return {"evaluation": Figure(ratios(on, notebook)), "switched on": Figure(summary(slower))}


def of_memory(peak, base, factors, activations):
    return Figure(summary([peak / (base + factors + activations)]))


def figures_of(samples):
    """All figures, by the keys of targets.py."""
    best = {kind: rates["best"] for kind, rates in samples["contests"].items()}
    return {
        **of_training(best["LoRA"], best["pretraining"], samples["machine"]),
        **of_grid(samples["grid"], samples["machine"]),
        **of_evaluation(**samples["evaluation"]),
        "merge": share(samples["merge"]["merge"], samples["merge"]["copy"]),
        "memory": of_memory(**samples["memory"]),
        **{key: Figure(summary(spent)) for key, spent in samples["starts"].items()},
    }
