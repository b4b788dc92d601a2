"""Training steps a second of lowrank beside PyTorch's; bench/run.sh calls it.

1. Correctness: five steps of each from one start must give the losses of the float64 reference.
2. Scout: a short run of each in every setting (BLAS library x threads) picks its best one.
3. Rounds: one after the other in turn, A B C A B C, each in its best setting, and as installed;
   so a slow moment of the machine falls on all. Median, range, and the ratios within each round.

Exits with 1 where something did not run or was wrong, never because of a time.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

RIVALS = pathlib.Path(__file__).resolve().parent / "rivals.py"
BLAS_FOLDERS = ("openblas-openmp", "openblas-pthread", "blis-openmp")  # Debian's, below /usr/lib/*
LOSS_TOLERANCE = 1e-4  # of each loss; float32 steps are seen to agree to about 1e-7
WARM_UP = 0.3


@dataclasses.dataclass(frozen=True)
class Setting:
    blas: str | None = None  # a folder with libblas.so.3; None: what the system links to
    threads: int = 0  # LibTorch's; 0: what each takes by itself
    blas_threads: int = 0  # the BLAS library's own

    def environment(self):
        result = dict(os.environ)
        if self.blas:
            result["LD_LIBRARY_PATH"] = self.blas
        if self.threads:
            result["OMP_NUM_THREADS"] = str(self.threads)
            result["OPENBLAS_NUM_THREADS"] = result["BLIS_NUM_THREADS"] = str(self.blas_threads)
        return result

    def __str__(self):
        blas = pathlib.Path(self.blas).name if self.blas else "system BLAS"
        if not self.threads:
            return "as installed"
        return f"{blas}, {self.threads} + {self.blas_threads} threads"


@dataclasses.dataclass
class Contestant:
    name: str
    command: list
    best: Setting | None = None
    scouted: dict = dataclasses.field(default_factory=dict)
    rates: dict = dataclasses.field(default_factory=dict)  # "best", "installed" -> one a round


class Worker:
    """A contestant's process: it prints its first losses, then measures for each line it is sent."""

    least_share = 1.0  # of one core that any measurement got

    def __init__(self, contestant, setting, arguments=()):
        self.command = [*contestant.command, "--serve", *arguments]
        if setting.threads:
            self.command += ["--threads", str(setting.threads)]
        self.process = subprocess.Popen(
            self.command, env=setting.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.losses = self.read()["losses"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"bench: {' '.join(self.command)} must print a line. Got exit {self.process.wait()}.")
        return json.loads(line)

    def rate(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        measured = self.read()
        Worker.least_share = min(Worker.least_share, measured["cpu_seconds"] / measured["seconds"])
        return measured["rate"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def settings():
    """Every BLAS library of Debian's that is here, by 1 and all threads, alone and in LibTorch only."""
    folders = [str(f) for name in BLAS_FOLDERS for f in sorted(pathlib.Path("/usr/lib").glob(f"*/{name}"))]
    cores = len(os.sched_getaffinity(0))
    threads = [(1, 1)] + ([(cores, 1), (cores, cores)] if cores > 1 else [])
    return [Setting(folder, *t) for folder in folders or [None] for t in threads]


def contests(ours):
    def lowrank(what):
        return Contestant("lowrank", [ours, "--what", what])

    def rival(name, way):
        return Contestant(name, [sys.executable, "-W", "ignore", str(RIVALS), "--way", way])

    return {
        "LoRA": [lowrank("lora"), rival("the notebook's way", "notebook"), rival("PEFT", "peft")],
        "pretraining": [lowrank("pretrain"), rival("PyTorch", "plain")],
    }


def check(kind, contestants):
    """Every one's first losses against the last contestant's in float64; the largest difference."""
    worst = 0.0
    with Worker(contestants[-1], Setting(), ["--dtype", "float64"]) as worker:
        reference = worker.losses
    for contestant in contestants:
        with Worker(contestant, Setting()) as worker:
            losses = worker.losses
        differences = [abs(a - b) / max(abs(b), 1e-2) for a, b in zip(losses, reference, strict=True)]
        if max(differences) > LOSS_TOLERANCE or losses[-1] >= losses[0]:
            sys.exit(f"bench: {kind} of {contestant.name} must follow {reference}. Got {losses}.")
        worst = max(worst, *differences)
    print(f"{kind}: {len(reference)} losses from one start fall, and agree with float64 within {worst:.0e}")
    return worst


def scout(contestants, seconds):
    for contestant in contestants:
        for setting in settings():
            with Worker(contestant, setting) as worker:
                worker.rate(WARM_UP)
                contestant.scouted[setting] = worker.rate(seconds)
        contestant.best = max(contestant.scouted, key=contestant.scouted.get)


def rounds(contestants, count, seconds):
    """Keeps all processes open and asks them in turn."""
    with contextlib.ExitStack() as stack:
        workers = []
        for row in ("best", "installed"):
            for contestant in contestants:
                setting = contestant.best if row == "best" else Setting()
                workers.append((contestant.rates.setdefault(row, []), stack.enter_context(Worker(contestant, setting))))
        for _, worker in workers:
            worker.rate(WARM_UP)
        for _ in range(count):
            for rates, worker in workers:
                rates.append(worker.rate(seconds))


def summary(values):
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "values": values}


def result(contestant, ours):
    rows = {}
    for row, rates in contestant.rates.items():
        rows[row] = {"steps_per_second": summary(rates)}
        rows[row]["setting"] = str(contestant.best if row == "best" else Setting())
        rows[row]["ours_over_it"] = summary([a / b for a, b in zip(ours.rates[row], rates, strict=True)])
    scouted = {str(setting): rate for setting, rate in contestant.scouted.items()}
    return {"name": contestant.name, **rows, "scouted": scouted}


def print_table(kind, results):
    print(f"\n{kind}, steps a second{'median':>43}{'range':>16}   lowrank is")
    for row in ("best", "installed"):
        for entry in results:
            rate, ratio = entry[row]["steps_per_second"], entry[row]["ours_over_it"]
            span = f"{rate['lowest']:.1f} - {rate['highest']:.1f}"
            times = f"{ratio['median']:.2f}x  ({ratio['lowest']:.2f} - {ratio['highest']:.2f})"
            note = "" if entry["name"] == "lowrank" else times
            print(f"  {entry['name']:<20}{entry[row]['setting']:<36}{rate['median']:>8.1f}{span:>16}   {note}")


def machine():
    model = "unknown"
    with contextlib.suppress(OSError, StopIteration):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    isa = "unknown"
    with contextlib.suppress(ImportError, AttributeError):
        import torch

        isa = next((l.split()[-1] for l in torch.__config__.show().splitlines() if "capability" in l), isa)
    return {
        "cpu": model, "cores": len(os.sched_getaffinity(0)), "capability": isa,
        "system": platform.platform(), "load": os.getloadavg()[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", required=True, help="training_bench")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the JSON file that is written")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="of one measurement")
    parser.add_argument("--scout-seconds", type=float, default=0.6)
    args = parser.parse_args()

    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores, {here['capability']}; {here['system']}; load {here['load']:.2f}")
    if here["load"] > 0.5:
        print("Other programs are running: figures with all threads suffer most, and repeat badly.")
    print("Net 784-1000-2000-10, batch 10, rank 1 on all layers, Adam, float32; data in memory.\n")
    written = {"date": datetime.datetime.now().isoformat(timespec="seconds"), "machine": here, "contests": {}}
    for kind, contestants in contests(args.ours).items():
        difference = check(kind, contestants)
        scout(contestants, args.scout_seconds)
        rounds(contestants, args.rounds, args.seconds)
        results = [result(contestant, contestants[0]) for contestant in contestants]
        written["contests"][kind] = {"loss_difference": difference, "results": results}
        print_table(kind, results)
        print(flush=True)
    written["least_share_of_a_core"] = Worker.least_share
    if Worker.least_share < 0.9:
        print(f"The machine was busy: one measurement got {Worker.least_share:.0%} of a core. Repeat it alone.")
    args.out.write_text(json.dumps(written, indent=2) + "\n")
    print(f"LibTorch's threads + the BLAS library's own. All samples: {args.out}")
    print("Repeat it: make bench")


if __name__ == "__main__":
    main()
