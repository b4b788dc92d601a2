"""Draws build/bench-full.json: an SVG for each sweep.

    plot.py build/bench-full.json docs      needs matplotlib (Debian: python3-matplotlib)
"""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("SVG")
matplotlib.rcParams["svg.hashsalt"] = "lowrank"  # the same figures give the same file
import matplotlib.pyplot as plt  # noqa: E402

COLOURS = {"lowrank": "#1f6f8b", "PEFT": "#c0562b"}
LABELS = {
    "batch": "rows in a batch (rank 1)",
    "rank": "rank (batch 10)",
    "width": "width of both hidden layers (batch 10, rank 1)",
    "threads": "threads (batch 10, rank 1)",
}


def draw(sweep, points, machine, out):
    figure, axes = plt.subplots(figsize=(6, 4.5))
    for name, colour in COLOURS.items():
        of_name = [p for p in points if p["name"] == name]
        at = [p["at"] for p in of_name]
        rates = [p["steps_per_second"] for p in of_name]
        axes.plot(at, [r["median"] for r in rates], marker="o", markersize=4, color=colour, label=name)
        axes.fill_between(at, [r["lowest"] for r in rates], [r["highest"] for r in rates], color=colour, alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted({p["at"] for p in points}))
    axes.get_xaxis().set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axes.set_xlabel(LABELS[sweep])
    axes.set_ylabel("LoRA steps a second")
    axes.set_title(f"{machine['cpu']}, {machine['cores']} cores: median and range", fontsize=10)
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})
    print(out)


def main():
    source, folder = map(pathlib.Path, sys.argv[1:])
    measured = json.loads(source.read_text())
    for sweep, points in measured["sweeps"].items():
        draw(sweep, points, measured["machine"], folder / f"steps-by-{sweep}.svg")


if __name__ == "__main__":
    main()
