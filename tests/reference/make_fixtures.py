"""Writes tests/fixtures/*.safetensors: numbers of PyTorch and PEFT for our C++ tests.

Run by hand, with the interpreter that environment.sh prints, to change a fixture:

    "$(tests/reference/environment.sh)" tests/reference/make_fixtures.py

README.md in this folder names every tensor. The files are small and under version control. Two runs
on one machine write the same tensors (the order of the metadata keys may differ).
"""

import hashlib
import pathlib

import peft
import torch
from safetensors.torch import save_file

from notebook_net import Mlp

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
VERSIONS = {"format": "pt", "torch": torch.__version__, "peft": peft.__version__}


def save(name, tensors, **metadata):
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    save_file(tensors, FIXTURES / name, metadata={**VERSIONS, **metadata})
    print(f"{name}: {len(tensors)} tensors, {(FIXTURES / name).stat().st_size} bytes")


def sha256(tensor):
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()


def summary(named_tensors):
    """Returns the first 8 values, the float64 sum and the SHA-256 of tensors too large to keep."""
    tensors, digests = {}, {}
    for name, tensor in named_tensors:
        tensors[name + ".first"] = tensor.flatten()[:8]
        tensors[name + ".sum"] = tensor.double().sum()
        digests["sha256." + name] = sha256(tensor)
    return tensors, digests


def mlp_init():
    torch.manual_seed(0)
    tensors, digests = summary(Mlp((784, 1000, 2000, 10)).named_parameters())
    save("mlp_init.safetensors", tensors, seed="0", **digests)


def adam_steps(model, parameters, inputs, labels, lr):
    """Takes one Adam step per batch; returns the loss before each step."""
    optimizer = torch.optim.Adam(parameters, lr=lr)
    losses = []
    for x, y in zip(inputs, labels):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def small_problem(seed):
    """Returns the 8-6-5-3 net as manual_seed makes it, and 10 batches of 4 drawn after it."""
    torch.manual_seed(seed)
    net = Mlp((8, 6, 5, 3))
    inputs = torch.randn(10, 4, 8)
    labels = torch.randint(0, 3, (10, 4))
    tensors = {"inputs": inputs, "labels": labels}
    tensors.update({"before." + name: value.clone() for name, value in net.named_parameters()})
    return net, tensors


def mlp_adam():
    net, tensors = small_problem(seed=1)
    tensors["losses"] = adam_steps(net, net.parameters(), tensors["inputs"], tensors["labels"], 0.01)
    tensors.update({"after." + name: value for name, value in net.named_parameters()})
    save("mlp_adam.safetensors", tensors, seed="1", lr="0.01")


def lora_adam():
    net, tensors = small_problem(seed=2)
    targets = ["linear1", "linear2"]
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=targets)
    model = peft.get_peft_model(net, config)

    def factors():
        for target in targets:
            layer = getattr(model.base_model.model, target)
            yield target + ".lora_A", layer.lora_A["default"].weight
            yield target + ".lora_B", layer.lora_B["default"].weight

    tensors.update({"before." + name: value.clone() for name, value in factors()})
    trainable = [p for p in model.parameters() if p.requires_grad]
    tensors["losses"] = adam_steps(model, trainable, tensors["inputs"], tensors["labels"], 0.01)
    tensors.update({"after." + name: value for name, value in factors()})
    save("lora_adam.safetensors", tensors, seed="2", lr="0.01", rank="2", alpha="4")


# name: (in, out, rank, alpha, bias, rslora, shape of x without its last dimension)
LORA_CASES = {
    "batch": (7, 5, 2, 4.0, True, False, (3,)),
    "batch_no_bias": (6, 9, 1, 1.0, False, False, (4,)),
    "square": (8, 8, 3, 5.0, True, False, (6,)),
    "sequence": (8, 8, 3, 5.0, True, False, (2, 5)),
    "sequence_no_bias": (6, 4, 2, 0.5, False, False, (2, 3)),
    "vector": (7, 5, 2, 4.0, True, False, ()),
    "empty": (7, 5, 2, 4.0, True, False, (0,)),
    "rslora": (16, 12, 4, 8.0, True, True, (5,)),
    "larger": (64, 48, 8, 16.0, True, False, (10,)),
}


def lora_linear():
    tensors = {}
    for seed, (name, case) in enumerate(LORA_CASES.items()):
        n_in, n_out, rank, alpha, bias, rslora, leading = case
        torch.manual_seed(100 + seed)
        net = torch.nn.Sequential(torch.nn.Linear(n_in, n_out, bias=bias))
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"], use_rslora=rslora)
        model = peft.get_peft_model(net, config)
        layer = model.base_model.model[0]
        lora_a, lora_b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        torch.nn.init.normal_(lora_b)
        x = torch.randn(*leading, n_in, requires_grad=True)
        y = layer(x)
        dy = torch.randn_like(y)
        y.backward(dy)
        parts = {
            "x": x, "weight": layer.base_layer.weight, "lora_A": lora_a, "lora_B": lora_b, "dy": dy,
            "y": y, "base_y": layer.base_layer(x), "dx": x.grad, "d_lora_A": lora_a.grad,
            "d_lora_B": lora_b.grad, "merged": layer.base_layer.weight + layer.get_delta_weight("default"),
            "scaling": torch.tensor(layer.scaling["default"], dtype=torch.float64),
        }
        if bias:
            parts["bias"] = layer.base_layer.bias
        tensors.update({f"{name}.{part}": value for part, value in parts.items()})
    save("lora_linear.safetensors", tensors, cases=",".join(LORA_CASES))


def peft_init():
    torch.manual_seed(0)
    net = Mlp((784, 1000, 2000, 10))
    torch.manual_seed(3)
    config = peft.LoraConfig(r=4, target_modules=["linear1", "linear2", "linear3"])
    model = peft.get_peft_model(net, config).base_model.model
    factors = [(f"{name}.lora_A", getattr(model, name).lora_A["default"].weight)
               for name in ("linear1", "linear2", "linear3")]
    tensors, digests = summary(factors)
    save("peft_init.safetensors", tensors, seed="3", rank="4", **digests)


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    for make in (mlp_init, mlp_adam, lora_adam, lora_linear, peft_init):
        make()
