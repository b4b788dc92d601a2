"""What lowrank should reach, as a table: each figure with its spread, its target, and a verdict."""

import dataclasses
import statistics

# Ratios that depend on how wide the machine's registers are: AVX-512, or AVX2 and less.
WIDE = {"notebook": 18, "PEFT": 5, "pretraining": 4}
NARROW = {"notebook": 10, "PEFT": 2.5, "pretraining": 3}
LORA_STEP = 0.096  # GFLOP: 56 MFLOP forward, 40 for the inputs' gradients


def summary(values):
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "values": values}


def ratios(ours, theirs):
    """In each round, so that both had the same moment of the machine."""
    return summary([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclasses.dataclass
class Row:
    figure: str
    found: dict  # a summary
    unit: str
    target: float
    at_most: bool = False
    note: str = ""

    @property
    def met(self):
        median = self.found["median"]
        return median <= self.target if self.at_most else median >= self.target

    def line(self):
        found = f"{self.found['median']:.2f}"
        span = f"({self.found['lowest']:.2f} - {self.found['highest']:.2f})"
        target = f"{'<=' if self.at_most else '>='} {self.target:g}{self.unit}"
        verdict = "met" if self.met else "not met"
        return f"  {self.figure:<58}{found + self.unit:>9} {span:<19}{target:<11}{verdict}"

    def as_json(self):
        return {**dataclasses.asdict(self), "met": self.met}


def product_speed(machine):
    """GFLOP/s: the larger of a 2048^3 product and our own thin kernel, round by round."""
    return [max(m["thin_product"], m["large_product"]) for m in machine]


def limit_note(limits, theirs, rival):
    limit, rate = statistics.median(limits), statistics.median(theirs)
    return f"the machine's limit is {limit:.0f} steps/s, {limit / rate:.1f} x {rival}"


def training_rows(lora, pretraining, machine):
    """`lora`: steps a second of lowrank, notebook and PEFT in their best settings, round by round."""
    wide = WIDE if machine[0]["instruction_set"] == "avx512" else NARROW
    limits = [speed / LORA_STEP for speed in product_speed(machine)]
    rows = []
    for name, rival in (("notebook", "the notebook's way"), ("PEFT", "PEFT")):
        note = limit_note(limits, lora[rival], rival)
        rows.append(Row(f"LoRA step: against {rival}", ratios(lora["lowrank"], lora[rival]), "x", wide[name], note=note))
    shares = [100 * a / b for a, b in zip(lora["lowrank"], limits, strict=True)]
    rows.append(Row("LoRA step: share of what the products allow", summary(shares), " %", 60))
    found = ratios(pretraining["lowrank"], pretraining["PyTorch"])
    rows.append(Row("pretraining step: against PyTorch", found, "x", wide["pretraining"]))
    return rows


def grid_rows(points, machine):
    """`points`: (batch, rank, ours, PEFT's). The limit is that of the base's products alone."""
    rows = []
    for batch, rank, ours, theirs in points:
        limits = [speed / (LORA_STEP * batch / 10) for speed in product_speed(machine)]
        figure = f"LoRA step, batch {batch}, rank {rank}: against PEFT"
        target = 2 if batch <= 64 else 1
        rows.append(Row(figure, ratios(ours, theirs), "x", target, note=limit_note(limits, theirs, "PEFT")))
    return rows


def evaluation_rows(on, off, notebook):
    slower = [100 * (b / a - 1) for a, b in zip(on, off, strict=True)]
    return [
        Row("evaluation, adapter on: against the notebook's loop", ratios(on, notebook), "x", 3),
        Row("evaluation: on costs more than off", summary(slower), " %", 10, at_most=True),
    ]


def merge_row(merged):
    shares = [100 * a / b for a, b in zip(merged["merge"], merged["copy"], strict=True)]
    return Row("merge, rank 16 into 4096 x 4096: share of a copy's speed", summary(shares), " %", 50)


def memory_row(memory):
    share = memory["peak"] / (memory["base"] + memory["factors"] + memory["activations"])
    return Row("peak tensor memory of LoRA training: of what it must hold", summary([share]), "x", 1.2, at_most=True)


def start_rows(starts):
    """Milliseconds by what was started."""
    return [
        Row(f"start: {name}", summary(values), " ms", 1000 if "finetune" in name else 50, at_most=True)
        for name, values in starts.items()
    ]


def print_rows(rows):
    print(f"Targets{'median':>62} {'range':<19}{'target':<11}verdict")
    for row in rows:
        print(row.line())
        if row.note and not row.met:
            print(f"      {row.note}")
    print(f"  {sum(row.met for row in rows)} of {len(rows)} are met.")
