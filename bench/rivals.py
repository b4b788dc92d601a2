"""Measures the rivals' training steps and evaluated images per second, in this PyTorch.

    rivals.py --way peft --threads 2      answers each line of stdin with one JSON line:
        train SECONDS BATCH RANK [WIDTH]  steps per second of a net for this batch and rank; with
                                          a width the net is 784-WIDTH-WIDTH-10
        losses 0 BATCH RANK               the losses of that net's first steps
        evaluate SECONDS                  images per second, batch 10, rank 1, after the first steps
        correct 0                         how many of all images that net then gets right

Ways: `plain` trains the whole net; `notebook` forms W + (alpha/rank)·B·A at each step through
torch.nn.utils.parametrize, as the well-known "LoRA from scratch" notebook does; `peft` uses PEFT.
The net is 784-1000-2000-10. The data has MNIST's shape and is in memory. bench/training_bench.cc
does the same steps on the same numbers: both draw them from manual_seed(0), 1 and 2, in the same
order.
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
EVALUATED_SHAPE = (10, 1)  # batch, rank
EVALUATED_IMAGES = 10_000  # as many as MNIST's test half has
MEAN, DEVIATION = 0.1307, 0.3081


class LoRAParametrization(torch.nn.Module):
    """The notebook's parametrization: a weight that reads as W + (alpha/rank)·B·A."""

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


def build(way, rank, width):
    torch.manual_seed(0)
    net = Mlp((784, width, width, 10)) if width else Mlp()
    if way == "plain":
        return net
    net, factors = {"notebook": attach_notebook, "peft": attach_peft}[way](net, rank)
    torch.manual_seed(2)
    for factor in factors:  # the notebook's N(0, 1); B is zero
        torch.nn.init.normal_(factor)
    return net


class Trainer:
    def __init__(self, way, dtype, batch, rank, width=0):
        self.model = build(way, rank, width).to(dtype).train()
        self.optimizer = torch.optim.Adam([p for p in self.model.parameters() if p.requires_grad], lr=1e-3)
        torch.manual_seed(1)
        self.images = torch.randn(min(IMAGE_BATCHES, 4096 // batch), batch, 784).to(dtype).unbind()
        self.labels = torch.randint(0, 10, (LABEL_BATCHES, batch)).unbind()
        self.batches = zip(itertools.cycle(self.images), itertools.cycle(self.labels))
        # The first losses, all on one batch: they must fall, and agree with the other ways'.
        self.losses = [self.step(self.images[0], self.labels[0]) for _ in range(CHECKED_STEPS)]

    def step(self, x, y):
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def measure(self, seconds):
        steps, start, cpu = 0, time.perf_counter(), time.process_time()
        while (spent := time.perf_counter() - start) < seconds:
            self.step(*next(self.batches))
            steps += 1
        return {"rate": steps / spent, "seconds": spent, "cpu_seconds": time.process_time() - cpu}


class Evaluation:
    """The notebook's loop over a test set in batches of ten, image by image. The notebook also
    counts the wrong images by class. They are few after training, but nine in ten with these
    labels, so this is left out in the notebook's favour."""

    def __init__(self):
        torch.manual_seed(4)
        images = torch.randint(0, 256, (EVALUATED_IMAGES, 28, 28), dtype=torch.uint8)
        images = (images.float() / 255 - MEAN) / DEVIATION  # as the data loader hands them over
        self.images = images.split(10)
        self.labels = torch.randint(0, 10, (EVALUATED_IMAGES,)).split(10)

    def batch(self, model, i):
        correct = 0
        output = model(self.images[i].view(-1, 784))
        for row, logits in enumerate(output):
            if torch.argmax(logits) == self.labels[i][row]:
                correct += 1
        return correct

    @torch.no_grad()
    def correct(self, model):
        return sum(self.batch(model, i) for i in range(len(self.images)))

    @torch.no_grad()
    def measure(self, model, seconds):
        images, start, cpu = 0, time.perf_counter(), time.process_time()
        while (spent := time.perf_counter() - start) < seconds:
            self.batch(model, images // 10 % len(self.images))
            images += 10
        return {"rate": images / spent, "seconds": spent, "cpu_seconds": time.process_time() - cpu}


class Server:
    """Answers requests; keeps a trainer for each shape that was asked for."""

    def __init__(self, way, dtype):
        self.way, self.dtype = way, dtype
        self.trainers = {}
        self.evaluation = None

    def trainer(self, *shape):
        if shape not in self.trainers:
            self.trainers[shape] = Trainer(self.way, self.dtype, *shape)
        return self.trainers[shape]

    def answer(self, what, seconds, *shape):
        if what == "losses":
            return {"losses": self.trainer(*map(int, shape)).losses}
        if what == "train":
            return self.trainer(*map(int, shape)).measure(float(seconds))
        model = self.trainer(*EVALUATED_SHAPE).model.eval()
        self.evaluation = self.evaluation or Evaluation()
        if what == "correct":
            return {"correct": self.evaluation.correct(model)}
        return self.evaluation.measure(model, float(seconds))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", choices=("plain", "notebook", "peft"), required=True)
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's own default")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    args = parser.parse_args()

    if args.threads:
        torch.set_num_threads(args.threads)
    server = Server(args.way, getattr(torch, args.dtype))
    for line in sys.stdin:
        print(json.dumps(server.answer(*line.split())), flush=True)


if __name__ == "__main__":
    main()
