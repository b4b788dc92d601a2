"""Compares training in one and two processes with PyTorch's DistributedDataParallel around PEFT.

    processes.py --lowrank PATH [--rounds 3] [--out FILE]

Two nets (784-1000-2000-10, rank 1, and 784-4096-4096-10, rank 16), MNIST's training half, steps of
two batches of 64, one thread a process. A round starts every program once, in turn. Printed are the
steps a second (median, lowest and highest) and the bytes that a step sends, by the counter of the
loopback interface, on which nothing else should talk meanwhile.

Needs MNIST where `lowrank data fetch mnist` puts it, and torch and peft in this interpreter, whose
PyTorch must have torch.distributed.run.
"""

import argparse
import gzip
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

BATCH, BATCHES = 64, 2
NETS = {"MNIST, rank 1": ([784, 1000, 2000, 10], 1, 400), "width 4096, rank 16": ([784, 4096, 4096, 10], 16, 40)}


def sent():
    """Bytes that the loopback interface has sent."""
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[8])
    raise RuntimeError("there is no loopback interface")


def counted(command):
    """Runs a command, and returns the last line that it prints as JSON, and the bytes sent."""
    before = sent()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout[done.stdout.index("{"):]), sent() - before


def ours(lowrank, folder, net, processes):
    sizes, rank, steps = NETS[net]
    base = folder / f"base{sizes[1]}"
    if not base.exists():
        shape = ",".join(map(str, sizes))
        subprocess.run([lowrank, "train", "--data", "mnist", "--sizes", shape, "--steps", "1", "--quiet",
                        "--threads", "1", "--out", base], check=True, stdout=subprocess.DEVNULL)
    command = [lowrank, "finetune", base, "--rank", str(rank), "--batch-size", str(BATCH), "--accumulate",
               str(BATCHES), "--threads", "1", "--json", "--quiet", "--force", "--out", folder / "adapter"]
    measured = {}
    for count in (steps // 10, steps):  # the difference is without the start
        more = ["--steps", str(count)] + (["--processes", str(processes)] if processes > 1 else [])
        measured[count] = counted(command + more)
    (first, sent_first), (second, sent_second) = measured.values()
    bytes_a_step = (sent_second - sent_first) / (second["steps"] - first["steps"])
    return {"rate": second["steps_per_second"], "bytes": bytes_a_step}


def theirs(net, processes):
    worker = [__file__, "--worker", net]
    # Debian's torchrun fails under Python 3.11 unless it redirects the output (-r, -t).
    launch = ["-m", "torch.distributed.run", "-r", "1", "-t", "1", "--nproc_per_node", str(processes)]
    launch = launch if processes > 1 else []
    found, _ = counted([sys.executable, "-W", "ignore", *launch, *worker])
    return {"rate": found["rate"], "bytes": found["bytes"]}


def images_and_labels():
    import torch

    cache = pathlib.Path(os.environ.get("LOWRANK_DATA", pathlib.Path.home() / ".cache" / "lowrank")) / "mnist"

    def read(name, header):
        path = cache / name
        data = path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()
        return torch.frombuffer(bytearray(data[header:]), dtype=torch.uint8)

    images = read("train-images-idx3-ubyte", 16).view(-1, 784).float().div(255).sub(0.1307).div(0.3081)
    return images, read("train-labels-idx1-ubyte", 8).long()


def work(net):
    """One of the rival's processes."""
    import peft
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if size > 1 else 0
    sizes, r, steps = NETS[net]
    torch.manual_seed(0)
    layers = [torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
    stack = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    model = peft.get_peft_model(stack, peft.LoraConfig(r=r, lora_alpha=r, target_modules=["0", "2", "4"]))
    if size > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    images, labels = images_and_labels()
    own = BATCHES // size
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))

    def step(number):
        optimizer.zero_grad(set_to_none=True)
        for i in range(own):
            begin = ((number * BATCHES + i * size + rank) * BATCH) % (len(order) - BATCH)
            chosen = order[begin : begin + BATCH]
            loss = torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen]) / own
            loss.backward()
        optimizer.step()
        loss.item()

    for number in range(5):
        step(number)
    begun, before = time.perf_counter(), sent()
    for number in range(steps):
        step(number)
    seconds, spent = time.perf_counter() - begun, sent() - before
    if rank == 0:
        print(json.dumps({"rate": steps / seconds, "bytes": spent / steps}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lowrank")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out")
    parser.add_argument("--worker")
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(options.rounds):
            for net in NETS:
                for processes in (1, 2):
                    ways = {"lowrank": lambda: ours(options.lowrank, pathlib.Path(name), net, processes),
                            "DDP, PEFT": lambda: theirs(net, processes)}
                    for way, measure in ways.items():
                        found.setdefault((net, way, processes), []).append(measure())
    print(f"{'net':20}  {'program':9}  processes  steps a second            bytes a step")
    for (net, way, processes), samples in found.items():
        rates = [sample["rate"] for sample in samples]
        spread = f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"
        sent_bytes = statistics.median(sample["bytes"] for sample in samples)
        print(f"{net:20}  {way:9}  {processes:9}  {spread:24}  {sent_bytes:12,.0f}")
    if options.out:
        rows = [{"net": net, "way": way, "processes": n, "samples": s} for (net, way, n), s in found.items()]
        pathlib.Path(options.out).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
