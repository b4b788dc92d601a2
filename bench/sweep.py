"""LoRA steps a second as a function of batch, rank, width and threads; bench/run.sh --full calls it.

Ours beside PEFT, each in the best of its settings (BLAS library x threads) at each point, in turn;
median and range. bench/plot.py draws what this writes.
"""

import argparse
import datetime
import json
import os
import pathlib

import targets
from workers import Measurement, in_turn, lowrank, machine_in_words, rival, scout

BATCH, RANK, WIDTH = 10, 1, 0  # where they do not vary; a width of 0 is 1000 and 2000
SWEEPS = {
    "batch": [(batch, RANK, WIDTH) for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256)],
    "rank": [(BATCH, rank, WIDTH) for rank in (1, 2, 4, 8, 16, 32, 64)],
    "width": [(BATCH, RANK, width) for width in (512, 1024, 2048, 4096, 8192)],
}
VARIES = {"batch": 0, "rank": 1, "width": 2}


def request(shape):
    return "train {} {} {}".format(*shape)


def best_by_threads(contestant, shape, threads):
    rates = {s: rate for s, rate in contestant.scouted[request(shape)].items() if s.threads == threads}
    return max(rates, key=rates.get)


def measurements(sweep, contestants):
    for shape in SWEEPS[sweep]:
        for c in contestants:
            yield shape[VARIES[sweep]], Measurement(f"{c.name} {shape}", c, c.best(request(shape)), request(shape))


def thread_measurements(contestants):
    shape = (BATCH, RANK, WIDTH)
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        for c in contestants:
            setting = best_by_threads(c, shape, threads)
            yield threads, Measurement(f"{c.name} {threads} threads", c, setting, request(shape))


def measure(pairs, args):
    pairs = list(pairs)
    answers = in_turn([m for _, m in pairs], args.rounds, args.seconds)
    points = []
    for value, m in pairs:
        rate = targets.summary([a["rate"] for a in answers[m.key]])
        points.append({"name": m.contestant.name, "at": value, "setting": str(m.setting), "steps_per_second": rate})
    return points


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="with the benchmarks")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the JSON file that is written")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--scout-seconds", type=float, default=0.2)
    args = parser.parse_args()

    contestants = [lowrank(args.build, "lora"), rival("PEFT", "peft")]
    shapes = dict.fromkeys([(BATCH, RANK, WIDTH), *(shape for sweep in SWEEPS.values() for shape in sweep)])
    for contestant in contestants:
        scout(contestant, [request(shape) for shape in shapes], args.scout_seconds)
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
