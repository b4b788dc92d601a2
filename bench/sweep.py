"""Measures LoRA steps per second by batch, rank, width and threads; bench/run.sh --full calls it.

lowrank and PEFT take turns, each in the best of its settings (BLAS library x threads) at each
point. The results are the median and the range. bench/plot.py draws them.
"""

import argparse
import datetime
import json
import pathlib

from figures import summary
from shapes import NOTEBOOK, STEP, request
from workers import Measurement, in_turn, lowrank, machine_in_words, rival, scout, usable_cores

BATCH, RANK = NOTEBOOK  # in the sweeps that do not vary them
SWEEPS = {
    "batch": [(batch, RANK) for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256)],
    "rank": [(BATCH, rank) for rank in (1, 2, 4, 8, 16, 32, 64)],
    "width": [(BATCH, RANK, width) for width in (512, 1024, 2048, 4096, 8192)],
}
VARIES = {"batch": 0, "rank": 1, "width": 2}


def thread_counts():
    """1, 2, 4 and so on, and all cores."""
    cores = usable_cores()
    return [*(2**i for i in range(cores.bit_length()) if 2**i < cores), cores]


def best_by_threads(contestant, threads):
    rates = {s: rate for s, rate in contestant.scouted[STEP].items() if s.threads == threads}
    return max(rates, key=rates.get)


def measurements(sweep, contestants):
    for shape in SWEEPS[sweep]:
        for c in contestants:
            asked = request(*shape)
            yield shape[VARIES[sweep]], Measurement(f"{c.name} {shape}", c, c.best(asked), asked)


def thread_measurements(contestants):
    for threads in thread_counts():
        for c in contestants:
            yield threads, Measurement(f"{c.name} {threads} threads", c, best_by_threads(c, threads), STEP)


def measure(pairs, args):
    pairs = list(pairs)
    answers = in_turn([m for _, m in pairs], args.rounds, args.seconds)
    points = []
    for value, m in pairs:
        rate = summary([a["rate"] for a in answers[m.key]])
        points.append({"name": m.contestant.name, "at": value, "setting": str(m.setting), "steps_per_second": rate})
    return points


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder with the benchmarks")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--scout-seconds", type=float, default=0.2)
    args = parser.parse_args()

    contestants = [lowrank(args.build, "lora"), rival("PEFT", "peft")]
    shapes = {shape for sweep in SWEEPS.values() for shape in sweep} - {NOTEBOOK}
    for contestant in contestants:
        scout(args.build, contestant, [STEP], args.scout_seconds, thread_counts())
        scout(args.build, contestant, [request(*shape) for shape in sorted(shapes)], args.scout_seconds)
    sweeps = {sweep: measure(measurements(sweep, contestants), args) for sweep in SWEEPS}
    sweeps["threads"] = measure(thread_measurements(contestants), args)
    for sweep, points in sweeps.items():
        print(f"\n{sweep:>8}  {'':<10}{'steps/s':>9}  range")
        for p in points:
            rate = p["steps_per_second"]
            print(f"{p['at']:>8}  {p['name']:<10}{rate['median']:>9.1f}  {rate['lowest']:.1f} - {rate['highest']:.1f}")
    date = datetime.datetime.now().isoformat(timespec="seconds")
    args.out.write_text(json.dumps({"date": date, "machine": machine_in_words(), "sweeps": sweeps}, indent=2) + "\n")


if __name__ == "__main__":
    main()
