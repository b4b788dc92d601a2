"""Writes tests/fixtures/base_*.pt, TorchScript files that the commands take as bases.

Run by hand with Debian's PyTorch, like make_scripts.py. README.md in this folder says what they are.
"""

import zipfile

import torch
from torch import nn

from make_scripts import FIXTURES, save


class ImageClassifier(nn.Module):
    """Gray images (N, 1, 4, 4) to logits (N, 10)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(96, 10)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))


class RowClassifier(nn.Module):
    """Reads an image row by row, (N, 4, 4), and returns logits (N, 10)."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 7, batch_first=True)
        self.head = nn.Linear(7, 10)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


class Counting(nn.Module):
    """(N, 3) to (N, 2). It adds to its outputs how often it was called before."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2, bias=False)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return self.head(x) + self.calls - 1


def rename_operator(name, copy):
    """Copies a file, with an operator in its code that no LibTorch has."""
    with zipfile.ZipFile(FIXTURES / name) as old, zipfile.ZipFile(FIXTURES / copy, "w") as new:
        for record in old.namelist():
            text = old.read(record)
            if record.endswith(".py"):
                text = text.replace(b"torch.relu(", b"torch.relu_of_tomorrow(")
            new.writestr(record, text)


if __name__ == "__main__":
    torch.manual_seed(11)
    flat = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10))
    numbers = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
    bases = {"image": ImageClassifier(), "rows": RowClassifier(), "flat": flat, "numbers": numbers}
    for name, module in bases.items():
        save(f"base_{name}.pt", torch.jit.script(module.eval()))
    torch.manual_seed(12)
    save("base_counting.pt", torch.jit.script(Counting().eval()))
    rename_operator("base_flat.pt", "unknown_operator.pt")
