"""Compares the commands for weights with PyTorch and with plain copies of files.

    weights.py --build FOLDER [--rounds 5] [--out FILE]

Decompositions: the leading 16 triplets of a 4096 x 4096 matrix with singular values 1 / (1 + i), beside
torch.svd_lowrank (q 32, two iterations) and a full SVD; a rank-64 adapter of such a layer resized to
rank 16, beside the dense product and a full SVD. Files: a model of 24 layers (1.2 GB of float32)
merged, compared and verified, beside a copy with fsync; a sparse model of 100 GB listed. Needs torch
and safetensors in this interpreter, and 5 GB on the disk of the temporary folder.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

SIZE, RANK = 4096, 16


def seconds(work):
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def run(*words):
    return subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, text=True).stdout


def spread(samples):
    return f"{statistics.median(samples):.4g} s ({min(samples):.4g} to {max(samples):.4g})"


def report(found, name, samples, note=""):
    found[name] = samples
    print(f"{name:44}  {spread(samples):32}  {note}", flush=True)


def decompositions(found, build, folder, rounds, threads):
    import numpy
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    sides = [torch.linalg.qr(torch.randn(SIZE, SIZE))[0] for _ in range(2)]
    values = 1 / (1 + torch.arange(SIZE, dtype=torch.float32))
    w = (sides[0] * values) @ sides[1].T
    numpy.save(folder / "w.npy", w.numpy())
    exact = w.double()
    norm = exact.norm().item()
    best = values.double()[RANK:].norm().item() / norm
    bench = [build / "bench" / "weights_bench", "--threads", threads, "--rounds", 2]  # the first warms up
    ours, theirs, errors = [], [], {}
    for _ in range(rounds):
        answer = json.loads(run(*bench, "--matrix", folder / "w.npy"))
        ours += answer["seconds"][1:]
        taken, (u, s, v) = seconds(lambda: torch.svd_lowrank(w, q=2 * RANK, niter=2))
        theirs.append(taken)
        u, s, v = u[:, :RANK].double(), s[:RANK].double(), v[:, :RANK].double()
        errors = {"ours": answer["error"] / best, "svd_lowrank": ((exact - (u * s) @ v.T).norm().item() / norm) / best}
    whole, _ = seconds(lambda: torch.linalg.svd(w, full_matrices=False))
    if errors["ours"] > 1.01:
        raise SystemExit(f"weights.py: the error must be within 1 % of the optimum. Got {errors['ours']} times it.")
    report(found, "rank 16 of 4096 x 4096: lowrank", ours, f"error {errors['ours']:.6f} of the optimum")
    report(found, "  torch.svd_lowrank", theirs, f"error {errors['svd_lowrank']:.6f} of the optimum")
    report(found, "  torch.linalg.svd", [whole])
    ratios = [b / a for a, b in zip(ours, theirs)]
    print(f"  {statistics.median(ratios):.2f} times as fast as svd_lowrank, {whole / statistics.median(ours):.0f} as the full SVD")

    b, a = torch.randn(SIZE, 64), torch.randn(64, SIZE)
    adapter = folder / "adapter"
    write_adapter(adapter, 64, {"layer": (a, b)})
    samples = []
    for _ in range(rounds):
        answer = json.loads(run(*bench, "--adapter", adapter, "--out", folder / "small", "--rank", RANK))
        samples += answer["seconds"][1:]
    dense, (_, s, _) = seconds(lambda: torch.linalg.svd(b @ a, full_matrices=False))
    kept = 1 - (s[:RANK].double().square().sum() / s.double().square().sum()).item()
    if abs(answer["error"] - kept**0.5) > 1e-4:
        raise SystemExit(f"weights.py: resize must leave an error of {kept ** 0.5}. Got {answer['error']}.")
    report(found, "resize of rank 64 to 16, 4096 x 4096: lowrank", samples)
    report(found, "  dense product and torch.linalg.svd", [dense])
    print(f"  {dense / statistics.median(samples):.0f} times as fast")


def write_adapter(folder, rank, layers):
    from safetensors.torch import save_file

    folder.mkdir()
    tensors = {}
    for name, (a, b) in layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(layers)}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def copy(source, target):
    shutil.copyfile(source, target)
    with open(target, "rb+") as file:
        os.fsync(file.fileno())


def files(found, lowrank, folder, rounds):
    import torch
    from safetensors.torch import save_file

    shapes = {"q": (1024, 1024), "k": (1024, 1024), "v": (1024, 1024), "o": (1024, 1024), "up": (4096, 1024), "down": (1024, 4096)}
    names = {f"layers.{i}.{part}": shape for i in range(24) for part, shape in shapes.items()}
    base = folder / "base.safetensors"
    save_file({f"{name}.weight": torch.randn(shape) for name, shape in names.items()}, base)
    gigabytes = base.stat().st_size / 1e9
    factors = {name: (torch.randn(16, inputs) / 32, torch.randn(outputs, 16) / 32) for name, (outputs, inputs) in names.items()}
    write_adapter(folder / "update", 16, factors)
    merged = folder / "merged.safetensors"
    base.read_bytes()  # into the page cache
    works = {
        "copy with fsync": lambda: copy(base, folder / "copy.safetensors"),
        "merge": lambda: run(lowrank, "merge", base, "--adapters", folder / "update", "--out", merged, "--force", "--json", "--quiet"),
        "compare": lambda: run(lowrank, "compare", base, merged, "--json", "--quiet"),
        "verify": lambda: run(lowrank, "verify", base, merged, "--adapters", folder / "update", "--json", "--quiet"),
    }
    samples = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            samples[name].append(seconds(work)[0])
    for name, taken in samples.items():
        report(found, f"{name}, {gigabytes:.2f} GB", taken, f"{gigabytes / statistics.median(taken):.2f} GB/s")
    share = statistics.median(c / m for c, m in zip(samples["copy with fsync"], samples["merge"]))
    print(f"  merge has {100 * share:.0f} % of the copy's speed")

    sparse, count = folder / "sparse.safetensors", 10_000
    size = 100 * 10**9 // count // 4 * 4
    header = {f"t{i}": {"dtype": "F32", "shape": [size // 4], "data_offsets": [i * size, (i + 1) * size]} for i in range(count)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(sparse, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + count * size)
    listed = [seconds(lambda: run(lowrank, "info", sparse, "--json"))[0] for _ in range(rounds)]
    report(found, "info of 100 GB in 10,000 tensors", listed)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        decompositions(found, options.build, folder, options.rounds, options.threads)
        files(found, options.build / "cli" / "lowrank", folder, options.rounds)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.exit(main())
