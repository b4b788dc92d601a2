"""Draws random LoraConfigs of all options that both sides support, and saves PEFT's adapters."""

import copy
import json
import re

import peft
import torch
from safetensors.torch import load_file, save_file

# pissa_niter_N draws random numbers again when a file is read. So even PEFT does not get the same
# adapter back, unless the file has the converted form.
INITS = [True, True, True, False, "gaussian", "pissa", "olora", "orthogonal", "pissa_niter_4"]
CHANGE_THE_BASE = ("pissa", "olora", "pissa_niter_4")
NOTHING_BUT_FACTORS = {"use_dora": False, "lora_bias": False, "bias": "none"}
FILE_DTYPES = [torch.float32, torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.float64]


def layers_of(net):
    """Returns the path and the class of each layer that PEFT can adapt, except the head."""
    kinds = ("Linear", "Conv1D", "Conv1d", "Conv2d", "Embedding")
    found = {path: type(module).__name__ for path, module in net.named_modules()}
    return {path: kind for path, kind in found.items() if kind in kinds and not path.endswith("head")}


def has_norm(net):
    return any(isinstance(module, torch.nn.BatchNorm1d) for module in net.modules())


def _some(rng, items, most=4):
    items = sorted(items)
    return rng.sample(items, rng.randint(1, min(most, len(items))))


def _ending(rng, path):
    """Returns the path, or what follows one of its dots."""
    segments = path.split(".")
    return ".".join(segments[-rng.choice([1, 1, 2, len(segments)]):])


def draw_targets(rng, paths):
    """Draws the names of layers: ends of paths, one regular expression, or all-linear."""
    form = rng.choice(["names", "names", "names", "regex", "all-linear"])
    if form == "all-linear":
        return {"target_modules": "all-linear"}
    leaves = sorted({path.rsplit(".", 1)[-1] for path in paths})
    if form == "regex":
        words = "|".join(_some(rng, leaves))
        forms = [rf".*\.({words})", rf".*\b(?:{words})", rf"(.+\.)?\d\.({words})|{words}"]
        return {"target_modules": rng.choice(forms)}
    options = {"target_modules": sorted({_ending(rng, path) for path in _some(rng, paths)})}
    numbered = sorted({int(n) for path in paths for n in re.findall(r"\.(\d+)\.", path)})
    is_numbered_for_peft = all(re.search(r"\.\w+\.\d+\.", path) for path in paths if re.search(r"\d", path))
    container = next(s for path in paths for s in path.split(".") if s in ("layers", "blocks", "h"))
    if rng.random() < 0.3 and is_numbered_for_peft:
        options["layers_to_transform"] = rng.choice([numbered[0], _some(rng, numbered)])
        options["layers_pattern"] = rng.choice([None, container, [container]])
    return options


def draw_exclusion(rng, paths):
    path = rng.choice(paths)
    return rng.choice([[path], [_ending(rng, path)], rf".*{re.escape(path)}"])


def draw_pattern(rng, targeted, values):
    """Draws keys in a random order, of which the first that matches counts."""
    keys = {}
    for path in _some(rng, targeted, most=3):
        leaf = path.rsplit(".", 1)[-1]
        numbered = rf"\d+\.{leaf}" if re.search(r"\d\.\w+$", path) else leaf
        forms = [leaf, path, re.escape(path), _ending(rng, path), rf".*{leaf}", rf"({leaf}|nothing)", numbered]
        key = rng.choice(forms)
        keys[key] = rng.choice(values)
    return dict(rng.sample(sorted(keys.items()), len(keys)))


def draw_options(rng, net):
    """Draws the arguments of a LoraConfig; PEFT may refuse some of them."""
    paths = sorted(layers_of(net))
    init = rng.choice(INITS)
    options = {
        "r": rng.choice([1, 2, 2, 4, 6, 8]),
        "lora_alpha": rng.choice([1, 2, 3.5, 8, 16, 0.25, -1]),
        "use_rslora": rng.random() < 0.25,
        "use_dora": rng.random() < 0.25,
        "lora_bias": rng.random() < 0.1,
        "lora_dropout": rng.choice([0, 0, 0.1]),
        "bias": rng.choice(["none", "none", "none", "all", "lora_only"]),
        "fan_in_fan_out": rng.random() < 0.3,
        "init_lora_weights": init,
        **draw_targets(rng, paths),
    }
    if str(init).startswith("pissa"):
        options["lora_alpha"] = abs(options["lora_alpha"])  # PiSSA takes the root of the scaling
    if init == "pissa_niter_4":
        options.update(NOTHING_BUT_FACTORS)
    if rng.random() < 0.25:
        options["exclude_modules"] = draw_exclusion(rng, paths)
    if rng.random() < 0.25 and init != "pissa_niter_4":
        norms = ["norm"] * 3 if has_norm(net) else []
        leaf = rng.choice(paths).rsplit(".", 1)[-1]
        options["modules_to_save"] = [rng.choice(["head", "head", paths[0], leaf, *norms])]
    return options


def add_patterns(rng, net, options):
    """Adds patterns that match the adapted layers, which only PEFT's own matching can tell."""
    model = peft.get_peft_model(copy.deepcopy(net), peft.LoraConfig(**options))
    targeted = model.base_model.targeted_module_names
    if rng.random() < 0.4:
        options["rank_pattern"] = draw_pattern(rng, targeted, [1, 2, 3, 4, 8])
    if rng.random() < 0.4:
        options["alpha_pattern"] = draw_pattern(rng, targeted, [1, 5, 0.5, 12])
    return options, {layers_of(net).get(path, "head") for path in targeted}


def perturb(model):
    """Moves everything that is trained away from its initial value, so that all of it matters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Skip the originals of modules_to_save: bias="all" makes their biases trainable, but
            # nothing reads them.
            if not parameter.requires_grad or ".original_module." in name:
                continue
            is_factor = "lora_" in name and "magnitude" not in name
            noise = torch.randn_like(parameter) * 0.3
            parameter.copy_(noise if is_factor else parameter + noise)
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.BatchNorm1d) and ".modules_to_save." in name:
                module.running_mean.add_(torch.randn_like(module.running_mean))
                module.running_var.mul_(torch.rand_like(module.running_var) + 0.5)
                module.num_batches_tracked.add_(3)


def count_updates_once(model):
    """Makes PEFT 0.21.2 add the update of an attention's out_proj once.

    It would add it twice: by hand, and by merge().
    """
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.layer.MultiheadAttention):
            module.base_layer.out_proj.merge = lambda **_: None


def keep_order(file, config):
    """Restores the order of the patterns' keys.

    PEFT sorts them when it saves. Since the first match counts, it would read back another adapter.
    """
    written = json.loads(file.read_text())
    for pattern in ("rank_pattern", "alpha_pattern"):
        written[pattern] = {key: written[pattern][key] for key in getattr(config, pattern)}
    file.write_text(json.dumps(written, indent=2))


def write_folder(rng, net, options, folder):
    """Saves such an adapter with PEFT; returns whether it has the converted form, and its dtype."""
    model = peft.get_peft_model(copy.deepcopy(net), peft.LoraConfig(**options))
    start = folder.parent / "start"
    # PEFT's converted form holds only the factors of linear layers; what else is trained is lost.
    init = options["init_lora_weights"]
    has_embedding = any("lora_embedding" in name for name, _ in model.named_parameters())
    keeps_all = options == {**options, **NOTHING_BUT_FACTORS} and "modules_to_save" not in options and not has_embedding
    if init == "pissa_niter_4" and not keeps_all:
        raise ValueError("pissa_niter without a converted form: every reader draws its start anew")
    plain = init == "pissa_niter_4" or (init in CHANGE_THE_BASE and keeps_all and rng.random() < 0.4)
    if plain:
        model.peft_config["default"].init_lora_weights = True  # as PEFT requires of this file
        model.save_pretrained(start)
        keep_order(start / "adapter_config.json", model.peft_config["default"])
        model.peft_config["default"].init_lora_weights = options["init_lora_weights"]
    perturb(model)
    model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(start) if plain else None)
    keep_order(folder / "adapter_config.json", model.peft_config["default"])
    dtype = rng.choice(FILE_DTYPES)
    file = folder / "adapter_model.safetensors"
    tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return plain, dtype
