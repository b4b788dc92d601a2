"""Writes tests/fixtures/peft_matching.json: the layers that PEFT adapts for a config, with ranks.

Run by hand, with the interpreter that environment.sh prints:

    "$(tests/reference/environment.sh)" tests/reference/make_matching.py
"""

import json
import pathlib

from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"

PATHS = [f"model.layers.{i}.{part}" for i in range(3)
         for part in ("attn.query", "attn.value", "mlp.up", "mlp.experts.0.up", "mlp.experts.1.up")]
PATHS += ["query", "extra_query", "model.blocks.h.1.query", "score", "pooler.dense"]

CONFIGS = [
    dict(target_modules=["query"]),
    dict(target_modules=["query", "0.up"]),
    dict(target_modules=["model.layers.1.attn.query", "pooler.dense"]),
    dict(target_modules=r".*\.(query|up)"),
    dict(target_modules=r"model\.layers\.[02]\..*up|score"),
    dict(target_modules=r"(?:.*\.)?query(?<!extra_query)"),
    dict(target_modules=["query", "up"], exclude_modules=["experts.0.up", "query"]),
    dict(target_modules=["query", "up"], exclude_modules=r".*\.1\..*"),
    dict(target_modules=["query", "score"], modules_to_save=["score"]),
    dict(target_modules=["up", "value"], layers_to_transform=[1]),
    dict(target_modules=["up", "query"], layers_to_transform=1, layers_pattern="h"),
    dict(target_modules=["up"], layers_to_transform=[0], layers_pattern=["experts"]),
    dict(target_modules=["model.layers.0.mlp.up", "value"], layers_to_transform=[2]),
    dict(target_modules=["query", "value"], rank_pattern={"1.attn.query": 2, "query": 4, r".*\.2\..*": 6}),
    dict(target_modules=["query", "extra_query"], rank_pattern={"^model.layers.0.attn.query": 3, "extra_.*": 5}),
    dict(target_modules=["up"], rank_pattern={r"experts\.\d+\.up": 2}, alpha_pattern={"up": 16}),
]


def case(fields):
    config = LoraConfig(r=8, lora_alpha=8, **fields)
    adapted = []
    for path in PATHS:
        if check_target_module_exists(config, path):
            rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), path), config.r)
            alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), path), config.lora_alpha)
            adapted.append([path, rank, alpha])
    return {"config": {"peft_type": "LORA", "r": 8, "lora_alpha": 8, **fields}, "adapted": adapted}


if __name__ == "__main__":
    text = json.dumps({"paths": PATHS, "cases": [case(fields) for fields in CONFIGS]})
    (FIXTURES / "peft_matching.json").write_text(text + "\n")
    print(f"peft_matching.json: {len(CONFIGS)} cases, {len(text)} bytes")
