"""Checks that PEFT and transformers read what extract, resize, combine and merge wrote, and the figures of
info --spectrum against NumPy in float64. interop_test.py calls this."""

import json
import subprocess

import numpy
import peft
import torch
from transformers import BertConfig, BertModel

SIZES = dict(
    vocab_size=100, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
    max_position_embeddings=32,
)
TOLERANCE = 1e-5  # of ‖ours − theirs‖ / ‖theirs‖


def run(lowrank, *arguments):
    subprocess.run([lowrank, *map(str, arguments), "--threads", "1", "--quiet"], check=True, stdout=subprocess.DEVNULL)


def tuned_copy(model):
    """A copy whose layers differ by a rank of 3, with another norm, bias and embedding."""
    tuned = BertModel(BertConfig(**SIZES)).eval()
    tuned.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, module in tuned.named_modules():
            if isinstance(module, torch.nn.Linear):
                out, inside = module.weight.shape
                module.weight += 0.02 * torch.randn(out, 3) @ torch.randn(3, inside)
        tuned.encoder.layer[0].output.LayerNorm.weight += 0.1
        tuned.encoder.layer[1].output.dense.bias += 0.1
        tuned.embeddings.word_embeddings.weight += 0.01
    return tuned


def outputs(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).last_hidden_state.flatten(1)


def difference(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


def spectrum(w):
    """The figures of info --spectrum, from their definitions."""
    s = numpy.linalg.svd(w.astype(numpy.float64), compute_uv=False)
    share, energy = s / s.sum(), numpy.cumsum(s**2) / (s**2).sum()
    tolerance = s[0] * max(w.shape) * numpy.finfo(numpy.float32).eps
    ranks = {f"rank_{p}": int(numpy.searchsorted(energy, p / 100)) + 1 for p in (90, 95, 99)}
    return {"largest": s[0], "norm": numpy.sqrt((s**2).sum()), "numerical_rank": int((s > tolerance).sum()),
            "stable_rank": (s**2).sum() / s[0] ** 2, "effective_rank": numpy.exp(-(share * numpy.log(share)).sum()),
            **ranks}


def check_spectra(checks, lowrank, place, tensors):
    """`tensors` are the model's own, by name."""
    answer = subprocess.run([lowrank, "info", place, "--spectrum", "--json"], check=True, stdout=subprocess.PIPE)
    worst, found = 0.0, 0
    for tensor in json.loads(answer.stdout)["tensors"]:
        weight = tensors[tensor["name"]].numpy()
        if ("spectrum" in tensor) != (weight.ndim > 1):
            checks.expect("info decomposes matrices", False, tensor["name"])
        if weight.ndim == 1:
            continue
        found += 1
        for name, expected in spectrum(weight).items():
            worst = max(worst, abs(tensor["spectrum"][name] - expected) / expected)
    checks.expect("info --spectrum is NumPy's in float64", found > 10 and worst <= 1e-6, f"{found} weights, {worst:.1e}")


def check_combined(checks, lowrank, folder, expect, ids):
    for i in range(2):
        config = peft.LoraConfig(r=3, lora_alpha=2 + 4 * i, target_modules=["query", "value"], init_lora_weights=False)
        model = peft.get_peft_model(BertModel.from_pretrained(folder / "base"), config)
        model.save_pretrained(folder / f"part{i}")
    parts = f"{folder / 'part0'},{folder / 'part1'}"
    for method in ("cat", "linear", "svd"):
        out = folder / f"combined-{method}"
        rank = ["--rank", "3"] if method == "svd" else []
        run(lowrank, "combine", "--adapters", parts, "--weights", "0.7,0.4", "--method", method, *rank, "--out", out)
        ours = peft.PeftModel.from_pretrained(BertModel.from_pretrained(folder / "base"), out).eval()
        theirs = peft.PeftModel.from_pretrained(BertModel.from_pretrained(folder / "base"), folder / "part0", "part0")
        theirs.load_adapter(folder / "part1", "part1")
        if method != "svd":
            theirs.add_weighted_adapter(["part0", "part1"], [0.7, 0.4], "sum", combination_type=method)
            theirs.set_adapter("sum")
            expect(f"combine --method {method} is PEFT's", outputs(ours, ids), outputs(theirs.eval(), ids))
            continue
        # PEFT applies the scalings twice here, so this is the best approximation by PyTorch.
        dense = BertModel.from_pretrained(folder / "base").eval()
        with torch.no_grad():
            for name, module in theirs.base_model.model.named_modules():
                if isinstance(module, peft.tuners.lora.Linear):
                    update = 0.7 * module.get_delta_weight("part0") + 0.4 * module.get_delta_weight("part1")
                    u, s, v = torch.linalg.svd(update.double(), full_matrices=False)
                    dense.get_submodule(name).weight += ((u[:, :3] * s[:3]) @ v[:3]).float()
        expect("combine --method svd is the best approximation", outputs(ours, ids), outputs(dense, ids))


def check_weights(checks, lowrank, work):
    torch.manual_seed(5)
    folder = work / "weights"
    base = BertModel(BertConfig(**SIZES)).eval()
    tuned = tuned_copy(base)
    ids = torch.randint(0, 100, (3, 7))
    for name, model in (("base", base), ("tuned", tuned)):
        model.save_pretrained(folder / name, safe_serialization=True, max_shard_size="60KB")
    checks.expect("transformers wrote shards", (folder / "base" / "model.safetensors.index.json").exists())

    def with_adapter(name):
        fresh = BertModel.from_pretrained(folder / "base")
        return peft.PeftModel.from_pretrained(fresh, folder / name).eval()

    def expect(name, ours, theirs):
        found = difference(ours, theirs)
        checks.expect(name, found <= TOLERANCE, f"relative difference {found:.2e}")

    run(lowrank, "extract", folder / "base", folder / "tuned", "--rank", 3, "--out", folder / "extracted")
    expect("PEFT with an extracted adapter is the tuned model", outputs(with_adapter("extracted"), ids),
           outputs(tuned, ids))

    run(lowrank, "resize", folder / "extracted", "--max-error", 0.3, "--out", folder / "resized")
    resized = with_adapter("resized")
    dense = BertModel.from_pretrained(folder / "tuned")
    with torch.no_grad():  # the best approximation of each update, by PyTorch
        for name, module in dense.named_modules():
            if isinstance(module, torch.nn.Linear):
                before = base.get_submodule(name).weight
                u, s, v = torch.linalg.svd((module.weight - before).double(), full_matrices=False)
                rest = (s.square().flip(0).cumsum(0).flip(0) / s.square().sum()).sqrt()
                rank = max(1, int((rest > 0.3).sum()))
                module.weight.copy_(before + ((u[:, :rank] * s[:rank]) @ v[:rank]).float())
    expect("PEFT with a resized adapter is the best approximation", outputs(resized, ids), outputs(dense, ids))

    for name in ("extracted", "resized"):
        place = folder / f"merged-{name}"
        run(lowrank, "merge", folder / "base", "--adapters", folder / name, "--out", place)
        merged = BertModel.from_pretrained(place).eval()
        expect(f"transformers with a merged folder ({name})", outputs(merged, ids), outputs(with_adapter(name), ids))
        run(lowrank, "verify", folder / "base", place, "--adapters", folder / name)

    config = peft.LoraConfig(r=4, lora_alpha=7, target_modules=["query", "dense"], use_rslora=True,
                             rank_pattern={"pooler.dense": 2}, bias="lora_only", modules_to_save=["LayerNorm"])
    theirs = peft.get_peft_model(BertModel.from_pretrained(folder / "base"), config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(folder / "theirs")
    run(lowrank, "merge", folder / "base", "--adapters", folder / "theirs", "--out", folder / "merged-theirs")
    expect("transformers with PEFT's adapter merged", outputs(BertModel.from_pretrained(folder / "merged-theirs"), ids),
           outputs(with_adapter("theirs"), ids))
    check_spectra(checks, lowrank, folder / "base", {name: tensor.detach() for name, tensor in base.state_dict().items()})
    check_combined(checks, lowrank, folder, expect, ids)
