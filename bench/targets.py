"""The targets that lowrank should reach, by the keys of figures.py."""

import dataclasses

from shapes import GRID, request


@dataclasses.dataclass(frozen=True)
class Target:
    figure: str
    value: float
    unit: str = "x"
    at_most: bool = False

    def met_by(self, figure):
        median = figure.found["median"]
        return median <= self.value if self.at_most else median >= self.value


def targets(instruction_set):
    """Some targets depend on how wide the machine's registers are: AVX-512, or AVX2 and less."""
    wide = instruction_set == "avx512"
    grid = {
        request(batch, rank): Target(f"LoRA step, batch {batch}, rank {rank}: against PEFT", 2 if batch <= 64 else 1)
        for batch, rank in GRID
    }
    return {
        "notebook": Target("LoRA step: against the notebook's way", 18 if wide else 10),
        "PEFT": Target("LoRA step: against PEFT", 5 if wide else 2.5),
        "share": Target("LoRA step: share of what the products allow", 60, " %"),
        "pretraining": Target("pretraining step: against PyTorch", 4 if wide else 3),
        **grid,
        "evaluation": Target("evaluation, adapter on: against the notebook's loop", 3),
        "switched on": Target("evaluation: on costs more than off", 10, " %", at_most=True),
        "merge": Target("merge, rank 16 into 4096 x 4096: share of a copy's speed", 50, " %"),
        "memory": Target("peak tensor memory of LoRA training: of what it must hold", 1.2, at_most=True),
        "help": Target("start: lowrank --help", 50, " ms", at_most=True),
        "version": Target("start: lowrank --version", 50, " ms", at_most=True),
        "mistyped": Target("start: a mistyped flag", 50, " ms", at_most=True),
        "finetune": Target("start: lowrank finetune, all of a run of one step", 1000, " ms", at_most=True),
    }
