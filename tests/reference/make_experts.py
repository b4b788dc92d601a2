"""Writes tests/fixtures/experts*.pt and peft_experts.safetensors: what PEFT does to the weights of
experts (target_parameters) and to single rows of an embedding (trainable_token_indices).

Run by hand, like make_parity.py. README.md in this folder names every tensor.
"""

import copy
import json

import peft
import torch

from make_fixtures import FIXTURES, save
from make_parity import gradients, saved_by_peft
from random_adapters import perturb


class Experts(torch.nn.Module):
    """Three experts with one hidden layer, whose matrices are (out, in), or transposed."""

    is_transposed: bool

    def __init__(self, is_transposed):
        super().__init__()
        self.is_transposed = is_transposed
        up, down = torch.randn(3, 6, 4), torch.randn(3, 4, 6)
        self.up = torch.nn.Parameter(up.transpose(1, 2).contiguous() if is_transposed else up)
        self.down = torch.nn.Parameter(down.transpose(1, 2).contiguous() if is_transposed else down)

    def forward(self, x):
        up = self.up if self.is_transposed else self.up.transpose(1, 2)
        down = self.down if self.is_transposed else self.down.transpose(1, 2)
        return torch.matmul(torch.tanh(torch.matmul(x.unsqueeze(1), up)), down).sum(1)


class Net(torch.nn.Module):
    """Maps token ids (N, T) to logits (N, T, 3)."""

    def __init__(self, is_transposed):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(7, 4)
        self.experts = Experts(is_transposed)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, ids):
        return self.head(self.experts(self.embed_tokens(ids)))


UP, DOWN = "experts.up", "experts.down"
CELLS = {
    "up": dict(target_modules=[], target_parameters=[UP]),
    "both": dict(target_modules=["head"], target_parameters=["down", "up"], use_rslora=True),
    "patterns": dict(
        target_modules=[], target_parameters=[UP, DOWN], rank_pattern={UP: 3}, alpha_pattern={"down": 7}
    ),
    "tokens": dict(target_modules=["head"], trainable_token_indices=[5, 0]),
    "tokens_by_name": dict(
        target_modules=["head"], target_parameters=[UP], trainable_token_indices={"embed_tokens": [2]}
    ),
}


def trained_by_peft(net, options):
    """Returns the net with an adapter, every part of which changes the output."""
    model = peft.get_peft_model(copy.deepcopy(net), peft.LoraConfig(r=2, lora_alpha=3, **options))
    perturb(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "trainable_tokens_delta" in name:
                parameter.add_(torch.randn_like(parameter))
    return model


def run_cell(net, options, ids, dy):
    model = trained_by_peft(net, options)
    adapter, config = saved_by_peft(model)
    y, grads = gradients(model, ids, dy)
    tensors = {"y": y, **{f"file.{name}": value for name, value in adapter.items()}}
    tensors.update({f"grad.{name}": value.clone() for name, value in grads.items()})
    return tensors, config


def main():
    tensors, configs = {}, {}
    for kind, is_transposed in (("experts", False), ("experts_transposed", True)):
        torch.manual_seed(500 + is_transposed)
        net = Net(is_transposed)
        torch.jit.script(net).save(str(FIXTURES / f"{kind}.pt"))
        ids = torch.randint(0, 7, (2, 5))
        dy = torch.randn_like(net(ids))
        tensors.update({f"{kind}.x": ids, f"{kind}.dy": dy})
        for cell, options in CELLS.items():
            found, configs[f"{kind}.{cell}"] = run_cell(net, options, ids, dy)
            tensors.update({f"{kind}.{cell}.{name}": value for name, value in found.items()})
    save("peft_experts.safetensors", tensors, configs=json.dumps(configs))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
