"""Checks that PEFT and transformers read what extract, resize and merge wrote. interop_test.py calls
this."""

import subprocess

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
