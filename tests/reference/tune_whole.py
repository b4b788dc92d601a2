"""Trains all parameters of a base of `lowrank train` on one digit with PyTorch, so that there is a pair of models for
docs/weights.md.

    tune_whole.py BASE OUT [--digit 2] [--steps 100]
"""

import argparse
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file

from mnist_images import DEVIATION, MEAN, find, read_idx
from notebook_net import Mlp


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--digit", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    torch.manual_seed(0)
    net = Mlp()
    net.load_state_dict(load_file(args.base / "model.safetensors"))
    images = torch.from_numpy(read_idx(find("mnist", "train-images-idx3-ubyte")).copy())
    labels = torch.from_numpy(read_idx(find("mnist", "train-labels-idx1-ubyte")).copy()).long()
    chosen = labels == args.digit
    images, labels = ((images[chosen].float() / 255 - MEAN) / DEVIATION), labels[chosen]
    optimizer = torch.optim.Adam(net.parameters())
    for step in range(args.steps):
        batch = torch.arange(10 * step, 10 * step + 10) % len(labels)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
        optimizer.step()
    args.out.mkdir()
    shutil.copy(args.base / "config.json", args.out)
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, args.out / "model.safetensors")


if __name__ == "__main__":
    main()
