"""The digit classifier of the notebooks in PyTorch, which the command builds as `app::Mlp`."""

import torch


class Mlp(torch.nn.Module):
    """Linear layers linear1, linear2, ... with ReLU between; inputs are flattened to (N, sizes[0])."""

    def __init__(self, sizes=(784, 1000, 2000, 10)):
        super().__init__()
        self.depth = len(sizes) - 1
        for i in range(self.depth):
            self.add_module(f"linear{i + 1}", torch.nn.Linear(sizes[i], sizes[i + 1]))

    def forward(self, x):
        x = x.flatten(1)
        for i in range(1, self.depth):
            x = torch.relu(getattr(self, f"linear{i}")(x))
        return getattr(self, f"linear{self.depth}")(x)
