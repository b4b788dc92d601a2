"""Prints the measurements, and turns them into JSON.

    tables.py build/bench.json      prints the table of targets
"""

import dataclasses
import json
import pathlib
import sys

from figures import figures_of, ratios, summary
from shapes import STEP
from targets import targets
from workers import INSTALLED


def span(found, digits):
    return f"{found['lowest']:.{digits}f} - {found['highest']:.{digits}f}"


def print_machine(machine):
    print(f"{machine['cpu']}, {machine['cores']} cores; {machine['system']}; load {machine['load']:.2f}")
    if machine["load"] > 0.5:
        print("Other programs are running: figures with all threads suffer most, and repeat badly.")
    print("Net 784-1000-2000-10, batch 10, rank 1 on all layers, Adam, float32; data in memory.\n")


def print_contest(kind, contestants, rates):
    print(f"\n{kind}, steps a second{'median':>43}{'range':>16}   lowrank is")
    for row, of_row in rates.items():
        for contestant in contestants:
            rate = summary(of_row[contestant.name])
            ratio = ratios(of_row["lowrank"], of_row[contestant.name])
            setting = contestant.best(STEP) if row == "best" else INSTALLED
            note = "" if contestant.name == "lowrank" else f"{ratio['median']:.2f}x  ({span(ratio, 2)})"
            print(f"  {contestant.name:<20}{str(setting):<36}{rate['median']:>8.1f}{span(rate, 1):>16}   {note}")
    print(flush=True)


def scouted_as_json(contestants):
    return {
        c.name: {request: {str(s): rate for s, rate in of.items()} for request, of in c.scouted.items()}
        for c in contestants
    }


def print_target(target, figure):
    met = target.met_by(figure)
    found = f"{figure.found['median']:.2f}{target.unit}"
    wanted = f"{'<=' if target.at_most else '>='} {target.value:g}{target.unit}"
    verdict = "met" if met else "not met"
    print(f"  {target.figure:<58}{found:>9} {f'({span(figure.found, 2)})':<19}{wanted:<11}{verdict}")
    if figure.note and not met:
        print(f"      {figure.note}")


def kernels_of(samples):
    """The instruction set of the kernels that were measured."""
    return samples["machine"][0]["instruction_set"]


def print_targets(samples):
    table, figures = targets(kernels_of(samples)), figures_of(samples)
    print(f"\n{f'Targets (kernels: {kernels_of(samples)})':<60}{'median':>9} {'range':<19}{'target':<11}verdict")
    for key, target in table.items():
        print_target(target, figures[key])
    met = sum(target.met_by(figures[key]) for key, target in table.items())
    print(f"  {met} of {len(table)} are met.")


def targets_as_json(samples):
    figures = figures_of(samples)
    return [
        {**dataclasses.asdict(target), **dataclasses.asdict(figures[key]), "met": target.met_by(figures[key])}
        for key, target in targets(kernels_of(samples)).items()
    ]


def main():
    source = pathlib.Path(sys.argv[1])
    measured = json.loads(source.read_text())
    print_targets(measured["samples"])
    if measured["least_share_of_a_core"] < 0.9:
        share = measured["least_share_of_a_core"]
        print(f"The machine was busy: one measurement got {share:.0%} of a core. Repeat it alone.")
    print(f"All samples: {source}\nRepeat it: make bench")


if __name__ == "__main__":
    main()
