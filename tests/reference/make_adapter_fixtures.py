"""Writes tests/fixtures/combine.safetensors and init_methods.safetensors: what PEFT does to factors.

Run by hand, like make_fixtures.py. README.md in this folder names every tensor.
"""

import peft
import torch
from peft.tuners.lora import corda
from peft.tuners.lora.config import CordaConfig

from make_fixtures import FIXTURES, save

# name: (layer, ranks, alphas, options of PEFT's add_weighted_adapter). The scalings of "unit" are
# 1, because PEFT applies them twice in its svd methods; "equal" has equal ranks.
WEIGHTS = [0.7, -1.3, 0.4]
COMBINED = {
    "unit": (
        lambda: torch.nn.Linear(9, 6, bias=False), (2, 3, 1), (2, 3, 1),
        {"cat": {}, "svd": dict(svd_rank=2), "ties_svd": dict(svd_rank=3, density=0.4),
         "magnitude_prune_svd": dict(svd_rank=3, density=0.4)},
    ),
    "equal": (
        lambda: torch.nn.Linear(9, 6, bias=False), (3, 3, 3), (6, 1.5, 4),
        {"cat": {}, "linear": {}, "ties": dict(density=0.4), "magnitude_prune": dict(density=0.4),
         "ties_frequency": dict(density=0.8, majority_sign_method="frequency")},
    ),
    "conv": (
        lambda: torch.nn.Conv2d(3, 5, 2, bias=False), (2, 2, 2), (2, 2, 2),
        {"cat": {}, "linear": {}, "svd": dict(svd_rank=3), "ties_svd": dict(svd_rank=2, density=0.5)},
    ),
}


def adapted(layer, ranks, alphas):
    """Returns the layer with a PEFT adapter of random factors for each rank, named "0", "1", ..."""
    net = torch.nn.Sequential(layer)
    for i, (rank, alpha) in enumerate(zip(ranks, alphas)):
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"])
        if i == 0:
            model = peft.get_peft_model(net, config, adapter_name="0")
        else:
            model.add_adapter(str(i), config)
        torch.nn.init.normal_(model.base_model.model[0].lora_B[str(i)].weight)
    return model


def combine():
    tensors = {}
    for seed, (name, (make, ranks, alphas, methods)) in enumerate(COMBINED.items()):
        torch.manual_seed(200 + seed)
        model = adapted(make(), ranks, alphas)
        layer = model.base_model.model[0]
        for i in map(str, range(len(ranks))):
            tensors[f"{name}.lora_A.{i}"] = layer.lora_A[i].weight
            tensors[f"{name}.lora_B.{i}"] = layer.lora_B[i].weight
            tensors[f"{name}.scaling.{i}"] = torch.tensor(layer.scaling[i], dtype=torch.float64)
        adapters = [str(i) for i in range(len(ranks))]
        for method, options in methods.items():
            kind = method.removesuffix("_frequency")
            model.add_weighted_adapter(adapters, WEIGHTS, method, combination_type=kind, **options)
            tensors[f"{name}.{method}.delta"] = layer.get_delta_weight(method)
    save("combine.safetensors", tensors, weights=",".join(map(str, WEIGHTS)))


# name: (rank, alpha, PEFT's init_lora_weights, its LoraGAConfig or CorDA method)
INITIALISED = {
    "pissa": (3, 6, "pissa", {}),
    "pissa_niter": (3, 6, "pissa_niter_4", {}),
    "olora": (3, 6, "olora", {}),
    "orthogonal": (4, 8, "orthogonal", {}),
    "corda_ipm": (3, 6, "corda", dict(corda_method="ipm")),
    "corda_kpm": (3, 6, "corda", dict(corda_method="kpm")),
    "lora_ga": (3, 6, "lora_ga", {}),
    "lora_ga_alternating": (3, 6, "lora_ga", dict(direction="ArBr", scale="unit")),
    "lora_ga_swapped": (3, 6, "lora_ga", dict(direction="A2rBr", scale="gd_scale")),
    "lora_ga_random": (2, 6, "lora_ga", dict(direction="random", scale="unit")),
}


def give_eigens(net, config, covariance):
    """Gives the layer what preprocess_corda would give it, from a known covariance."""
    layer = net[0]
    layer.covariance_matrix = covariance
    layer.rank, layer.corda_method = config.r, config.corda_config.corda_method
    layer.eigens = corda.collect_eigens_for_layer(layer, config)
    corda.crop_corda_eigens(net, config)


def init_methods():
    torch.manual_seed(300)
    weight, gradient = torch.randn(8, 12), torch.randn(8, 12)
    inputs = torch.randn(40, 12) @ torch.randn(12, 12)
    covariance = inputs.T @ inputs / inputs.abs().max() ** 2
    tensors = {"weight": weight, "gradient": gradient, "covariance": covariance}
    for name, (rank, alpha, method, options) in INITIALISED.items():
        net = torch.nn.Sequential(torch.nn.Linear(12, 8, bias=False))
        net[0].weight.data = weight.clone()
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"], init_lora_weights=method)
        if method == "lora_ga":
            config.lora_ga_config = peft.LoraGAConfig(**options)
            net[0]._peft_loraga_grad = gradient.clone()
        if method == "corda":
            config.corda_config = CordaConfig(**options)
            give_eigens(net, config, covariance)
        torch.manual_seed(301)
        layer = peft.get_peft_model(net, config).base_model.model[0]
        tensors[name + ".lora_A"] = layer.lora_A["default"].weight
        tensors[name + ".lora_B"] = layer.lora_B["default"].weight
    save("init_methods.safetensors", tensors, seed="301")


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    combine()
    init_methods()
