"""Training steps a second of the rivals, in whatever PyTorch this interpreter has.

    rivals.py --way notebook --threads 1 --seconds 3     one measurement, one JSON line
    rivals.py --way peft --serve                         one measurement for each line of stdin (seconds)

Ways: `plain` trains the whole net; `notebook` forms W + (alpha/rank)·B·A at each step through
torch.nn.utils.parametrize, as the well-known "LoRA from scratch" notebook does; `peft` is PEFT's.
The net is 784-1000-2000-10, the data is of MNIST's shape and in memory. bench/training_bench.cc does
the same steps on the same numbers: both draw them from manual_seed(0), 1 and 2, in one order.
"""

import argparse
import itertools
import json
import pathlib
import sys
import time

import torch
from torch.nn.utils import parametrize

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "reference"))
from notebook_net import Mlp  # noqa: E402

TARGETS = ("linear1", "linear2", "linear3")
IMAGE_BATCHES, LABEL_BATCHES = 256, 1021  # coprime, so that no pair of them is learnt by heart
CHECKED_STEPS = 5


class LoRAParametrization(torch.nn.Module):
    """The notebook's: a weight that reads as W + (alpha/rank)·B·A."""

    def __init__(self, features_out, features_in, rank, alpha):
        super().__init__()
        self.lora_A = torch.nn.Parameter(torch.zeros(rank, features_in))
        self.lora_B = torch.nn.Parameter(torch.zeros(features_out, rank))
        self.scale = alpha / rank

    def forward(self, weight):
        return weight + torch.matmul(self.lora_B, self.lora_A).view(weight.shape) * self.scale


def attach_notebook(net, rank):
    for target in TARGETS:
        layer = getattr(net, target)
        parametrize.register_parametrization(
            layer, "weight", LoRAParametrization(*layer.weight.shape, rank, alpha=rank)
        )
    for name, parameter in net.named_parameters():
        parameter.requires_grad = "lora" in name
    factors = [getattr(net, target).parametrizations.weight[0].lora_A for target in TARGETS]
    return net, factors


def attach_peft(net, rank):
    import peft

    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS))
    model = peft.get_peft_model(net, config)
    layers = [getattr(model.base_model.model, target) for target in TARGETS]
    return model, [layer.lora_A["default"].weight for layer in layers]


def build(way, rank):
    torch.manual_seed(0)
    net = Mlp()
    if way == "plain":
        return net
    net, factors = {"notebook": attach_notebook, "peft": attach_peft}[way](net, rank)
    torch.manual_seed(2)
    for factor in factors:  # the notebook's N(0, 1); B is zero
        torch.nn.init.normal_(factor)
    return net


class Trainer:
    def __init__(self, way, rank, batch, dtype):
        self.model = build(way, rank).to(dtype).train()
        self.optimizer = torch.optim.Adam([p for p in self.model.parameters() if p.requires_grad], lr=1e-3)
        torch.manual_seed(1)
        self.images = torch.randn(IMAGE_BATCHES, batch, 784).to(dtype).unbind()
        self.labels = torch.randint(0, 10, (LABEL_BATCHES, batch)).unbind()
        self.batches = zip(itertools.cycle(self.images), itertools.cycle(self.labels))

    def step(self, x, y):
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def check(self):
        """The losses of a few steps on one batch: they must fall, and agree with every other way's."""
        return [self.step(self.images[0], self.labels[0]) for _ in range(CHECKED_STEPS)]

    def measure(self, seconds):
        steps, start, cpu = 0, time.perf_counter(), time.process_time()
        while (spent := time.perf_counter() - start) < seconds:
            loss = self.step(*next(self.batches))
            steps += 1
        cpu = time.process_time() - cpu
        return {"steps": steps, "seconds": spent, "cpu_seconds": cpu, "rate": steps / spent, "last_loss": loss}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", choices=("plain", "notebook", "peft"), required=True)
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's own default")
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--serve", action="store_true", help="read seconds from stdin, line by line")
    args = parser.parse_args()

    if args.threads:
        torch.set_num_threads(args.threads)
    trainer = Trainer(args.way, args.rank, args.batch, getattr(torch, args.dtype))
    checked = {"way": args.way, "threads": args.threads, "torch": torch.__version__, "losses": trainer.check()}
    print(json.dumps(checked), flush=True)
    for seconds in map(float, sys.stdin if args.serve else [args.seconds]):
        print(json.dumps(trainer.measure(seconds)), flush=True)


if __name__ == "__main__":
    main()
