"""Writes tests/fixtures/peft_parity.safetensors: every kind of layer with every kind of adapter, by PEFT.

Run by hand, like make_fixtures.py. README.md in this folder names every tensor. What PEFT refuses,
or trains without effect, is printed as the table of that page.
"""

import copy
import json
import pathlib
import tempfile

import peft
import torch
import transformers
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors.torch import load_file

from make_fixtures import FIXTURES, save
from random_adapters import count_updates_once, perturb

STEPS, LEARNING_RATE = 10, 1e-2

# name: (the adapted layer, the shape of its input). A convolution's output is averaged over space;
# attention is self-attention.
KINDS = {
    "linear": (lambda: torch.nn.Linear(6, 5), (4, 6)),
    "linear_3d": (lambda: torch.nn.Linear(6, 5), (2, 3, 6)),
    "linear_no_bias": (lambda: torch.nn.Linear(6, 5, bias=False), (4, 6)),
    "transposed": (lambda: transformers.pytorch_utils.Conv1D(5, 6), (2, 3, 6)),
    "conv1d": (lambda: torch.nn.Conv1d(3, 5, 3, padding=1), (2, 3, 6)),
    "conv2d": (lambda: torch.nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=1), (2, 3, 5, 4)),
    "conv2d_groups": (lambda: torch.nn.Conv2d(4, 6, 2, stride=2, padding=1, groups=2), (2, 4, 4, 4)),
    "embedding": (lambda: torch.nn.Embedding(9, 5), (3, 4)),
    "attention": (lambda: torch.nn.MultiheadAttention(5, 1), (4, 2, 5)),
}

DEFAULTS = dict(r=2, lora_alpha=3, target_modules=["first"])
# name: the options that differ from DEFAULTS.
VARIANTS = {
    "plain": {},
    "scaled_down": dict(lora_alpha=0.37),
    "scaled_up": dict(r=4, lora_alpha=11.3),
    "rslora": dict(use_rslora=True),
    "dora": dict(use_dora=True),
    "bias_all": dict(bias="all"),
    "bias_lora_only": dict(bias="lora_only"),
    "lora_bias": dict(lora_bias=True),
    "saved_whole": dict(modules_to_save=["second"]),
    "patterns": dict(target_modules=["first", "second"], rank_pattern={"first": 4},
                     alpha_pattern={"second": 1.7}),
    "two_layers": dict(target_modules=["first", "second"]),
    "two_dora": dict(target_modules=["first", "second"], use_dora=True, use_rslora=True),
    "bias_and_whole": dict(bias="all", modules_to_save=["second"]),
    "together": dict(use_dora=True, use_rslora=True, bias="lora_only", modules_to_save=["second"]),
    "pissa": dict(init_lora_weights="pissa"),
    "olora": dict(init_lora_weights="olora"),
    "orthogonal": dict(init_lora_weights="orthogonal"),
}


class Net(torch.nn.Module):
    """A layer of some kind, tanh, and a Linear head."""

    def __init__(self, first):
        super().__init__()
        self.is_conv = isinstance(first, torch.nn.modules.conv._ConvNd)
        self.is_attention = isinstance(first, torch.nn.MultiheadAttention)
        self.first = first
        self.second = torch.nn.Linear(first.out_channels if self.is_conv else 5, 3)

    def forward(self, x):
        y = torch.tanh(self.first(x, x, x)[0] if self.is_attention else self.first(x))
        return self.second(y.flatten(2).mean(-1) if self.is_conv else y)


def saved_by_peft(model):
    """Returns the tensors and the config in the folder that save_pretrained writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = (pathlib.Path(folder) / "adapter_config.json").read_text()
        return load_file(pathlib.Path(folder) / "adapter_model.safetensors"), json.loads(config)


def gradients(model, x, dy):
    """Returns the output, and the gradients by the names in the file."""
    y = model(x)
    y.backward(dy)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return y, get_peft_model_state_dict(model, state_dict=found)


def train(model, x, target):
    """Returns the output after a few Adam steps on one batch."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), target).backward()
        optimizer.step()
    return model(x)


def run_cell(net, options, x, dy):
    """Returns a cell's tensors and its config.

    Raises what PEFT raises, and ValueError for parameters that are trained without effect.
    """
    config = peft.LoraConfig(**{**DEFAULTS, **options})
    model = peft.get_peft_model(net, config)
    perturb(model)
    count_updates_once(model)
    adapter, config = saved_by_peft(model)
    y, grads = gradients(model, x, dy)
    unread = sorted(name for name in grads.keys() ^ adapter.keys() if ".original_module." not in name)
    if unread:
        raise ValueError(f"without effect: {', '.join(unread)}")
    tensors = {"y": y}
    tensors.update({f"file.{name}": value for name, value in adapter.items()})
    tensors.update({f"grad.{name}": value.clone() for name, value in grads.items()})
    tensors["trained"] = train(model, x, dy)
    return tensors, config


def run_kind(kind, seed):
    """Returns the cells of one kind, which share a base: tensors, configs, and PEFT's refusals."""
    make, shape = KINDS[kind]
    torch.manual_seed(seed)
    net = Net(make())
    x = torch.randint(0, 9, shape) if kind == "embedding" else torch.randn(shape)
    dy = torch.randn_like(net(x))
    tensors = {f"{kind}.base.{name}": value for name, value in net.state_dict().items()}
    tensors.update({f"{kind}.x": x, f"{kind}.dy": dy})
    configs, refused = {}, {}
    for variant, options in VARIANTS.items():
        cell = f"{kind}.{variant}"
        try:
            found, configs[cell] = run_cell(copy.deepcopy(net), options, x, dy)
            tensors.update({f"{cell}.{name}": value for name, value in found.items()})
        except (ValueError, TypeError, AttributeError, NotImplementedError, RuntimeError) as error:
            refused[cell] = f"{type(error).__name__}: {error}".splitlines()[0]
    return tensors, configs, refused


def main():
    tensors, configs, refused = {}, {}, {}
    for seed, kind in enumerate(KINDS):
        for found, of_kind in zip((tensors, configs, refused), run_kind(kind, seed=400 + seed)):
            found.update(of_kind)
    plain = configs["linear.plain"]
    changes = {cell: {key: value for key, value in config.items() if value != plain[key]}
               for cell, config in configs.items()}
    save("peft_parity.safetensors", tensors, config=json.dumps(plain), cells=json.dumps(changes))
    for cell, message in refused.items():
        print(f"| `{cell}` | {message} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
