"""Checks damaged adapter folders: each is read correctly, or refused in a sentence with the fault.

interop_test.py calls this with folders that PEFT wrote.
"""

import collections
import json
import random
import re
import shutil

import torch
from safetensors.torch import load_file, save_file

from interop_random import TOLERANCE, difference, print_counts

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SAME = "the numbers of the sound folder"
ROUNDING = 1e-6
ANY = "loaded, or refused"  # both are right, as long as nothing crashes or acts like the base
WRONG_TYPES = [3, -1, 2.5, "words", True, [], [1, "two"], {"a": 1}, [[]], {"a": {}}]
UNSUPPORTED = {
    "layer_replication": [[0, 2]], "kasa_config": {"a": 1}, "use_bdlora": True, "alora_invocation_tokens": [1],
    "use_qalora": True, "arrow_config": {"a": 1}, "megatron_config": {"a": 1}, "ensure_weight_tying": True,
}
TYPES = {  # the types that PEFT's fields may have
    "r": int, "lora_alpha": (int, float), "target_modules": (list, str), "exclude_modules": (list, str), "bias": str,
    "use_rslora": bool, "use_dora": bool, "lora_bias": bool, "rank_pattern": dict, "alpha_pattern": dict,
    "modules_to_save": list, "lora_dropout": (int, float), "init_lora_weights": (bool, str), "peft_type": str,
    "layers_to_transform": (list, int), "layers_pattern": (list, str), "target_parameters": list,
}
OUT_OF_RANGE = [(field, value) for field, values in {
    "r": [0, -4, 2**40, 2**63, 10**30],
    "lora_alpha": [0, float("nan"), float("inf")],
    "lora_dropout": [1, -0.5],
    "bias": ["some"],
    "peft_type": ["LOHA"],
    "init_lora_weights": ["bogus"],
    "layers_to_transform": [[99], -1, 2**70],
    "target_modules": [[], "*(", "nothing", ["nothing"], [""]],
    "exclude_modules": [["nothing"], ".*"],
    "modules_to_save": [["nothing"]],
    "rank_pattern": [{"(": 2}, {"nothing": 2}, {".*": 0}, {".*": "2"}, {".*": 2**40}],
    "alpha_pattern": [{".*": 0}, {"(a|a)*$": 2}, {"": 1}],
    "trainable_token_indices": [[-1], [10**6], {"nothing": [0]}, [1.5]],
}.items() for value in values]


# A loaded config may name what the model lacks, as in PEFT. The tensors tell whether it still fits.
UNMATCHED = [
    ("exclude_modules", ["nothing"]),
    ("modules_to_save", ["nothing"]),
    ("rank_pattern", {"nothing": 2}),
    ("alpha_pattern", {"(a|a)*$": 2}),
]


class Folder:
    """The parts of a valid folder, to be changed. Each change returns the expected result.

    That is SAME, ANY, or a list of words, one of which the refusal must contain.
    """

    def __init__(self, rng, sound):
        self.rng = rng
        self.tensors = load_file(sound / WEIGHTS)
        self.config = json.loads((sound / CONFIG).read_text())
        self.after = lambda folder: None  # called after the files are written

    def write(self, folder):
        folder.mkdir()
        save_file(self.tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(self.config))
        self.after(folder)

    def some(self):
        """Returns a tensor that matters.

        With bias="all" and modules_to_save, PEFT writes some biases three times.
        """
        repeats = any("original_module" in name for name in self.tensors)
        return self.rng.choice(sorted(name for name in self.tensors if not (repeats and name.endswith(".bias"))))

    # Tensors.

    def tensor_missing(self):
        name = self.some()
        del self.tensors[name]
        return [name]

    def tensor_unexpected(self):
        other = self.some().replace("lora_A", "lora_C") + "x"
        name = self.rng.choice([other, "base_model.model.lora_A.weight", "x", ""])
        self.tensors[name] = torch.zeros(2, 2)
        return [f'"{name}"']

    def tensor_misspelt(self):
        name = self.some()
        at = self.rng.randrange(len(name))
        other = name[:at] + "Z" + name[at + 1 :]
        self.tensors[other] = self.tensors.pop(name)
        return [name, other]

    def tensor_misshapen(self):
        name = self.some()
        old = self.tensors[name]
        scalar = old.reshape(-1)[:1].reshape(())
        shapes = [old.unsqueeze(0), old.flatten(), torch.cat([old, old]), old[:0], scalar, old.reshape(-1, 1)]
        shapes.append(old.transpose(0, -1))
        self.tensors[name] = self.rng.choice([new for new in shapes if new.shape != old.shape]).contiguous()
        return [name]

    def tensor_of_wrong_dtype(self):
        name = self.some()
        wrong = self.rng.choice([torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool])
        self.tensors[name] = self.tensors[name].to(wrong)
        return [name]

    def tensor_not_finite(self):
        name = self.some()
        self.tensors[name] = self.tensors[name].clone()
        self.tensors[name].view(-1)[0] = self.rng.choice([float("nan"), float("inf"), float("-inf")])
        return [name]

    def all_b_zero(self):
        if self.config["use_dora"] and isinstance(self.config["init_lora_weights"], str):
            return SAME  # PiSSA of full rank leaves only rounding errors, which DoRA scales up
        for name in self.tensors:
            if "lora_B" in name or "lora_embedding_A" in name:
                self.tensors[name] = torch.zeros_like(self.tensors[name])
        return ANY

    def tensor_twice(self):
        name = next(name for name in sorted(self.tensors) if "lora_" in name)
        self.tensors[re.sub(r"(lora_\w+)", r"\1.default", name)] = self.tensors[name].clone()
        return [name]

    def older_names(self):
        """Removes PEFT's prefix, or adds the adapter's name."""
        older = (r"^base_model\.model\.", ""), (r"(lora_(embedding_)?[AB]|lora_magnitude_vector)", r"\1.default")
        self.tensors = {re.sub(*self.rng.choice(older), name): tensor for name, tensor in self.tensors.items()}
        return SAME

    # Fields.

    def field_of_wrong_type(self):
        field = self.rng.choice(sorted(TYPES))
        takes_bool = field in ("init_lora_weights", "use_rslora", "use_dora", "lora_bias")
        wrong = [value for value in WRONG_TYPES
                 if not (takes_bool if isinstance(value, bool) else isinstance(value, TYPES[field]))]
        self.config[field] = self.rng.choice(wrong)
        return [field]

    def field_null_or_absent(self):
        field = self.rng.choice(sorted(TYPES))
        if self.rng.random() < 0.5:
            self.config[field] = None
        else:
            self.config.pop(field, None)
        return ANY

    def field_out_of_range(self):
        field, value = self.rng.choice(OUT_OF_RANGE)
        was_used = bool(self.config.get(field))
        self.config[field] = value
        if (field, value) in UNMATCHED:
            return ANY if was_used else SAME
        return [field, field.replace("lora_", ""), "rank", "valid JSON", "target_modules"]

    def field_that_cannot_be_honoured(self):
        field = self.rng.choice(sorted(UNSUPPORTED))
        self.config[field] = UNSUPPORTED[field]
        return [field]

    def field_unknown(self):
        self.config[self.rng.choice(["", "new_field", "ünknown", "a" * 1000])] = self.rng.choice([*WRONG_TYPES, None])
        return SAME

    def switch_turned(self):
        field = self.rng.choice(["use_dora", "lora_bias"])
        self.config[field] = not self.config[field]
        return ["lora_", "use_dora"]

    # Files.

    def file_cut(self):
        name = self.rng.choice([CONFIG, WEIGHTS])

        def cut(folder):
            whole = (folder / name).read_bytes()
            (folder / name).write_bytes(whole[: self.rng.randrange(len(whole))])

        self.after = cut
        return [name]

    def file_of_noise(self):
        name = self.rng.choice([CONFIG, WEIGHTS])
        noise = self.rng.choice([b"", b"\0" * 64, b"[" * 100_000, b"[]", b'"x"', b"null", self.rng.randbytes(500)])
        self.after = lambda folder: (folder / name).write_bytes(noise)
        return [name]

    def bytes_changed(self):
        name = self.rng.choice([CONFIG, WEIGHTS])

        def change(folder):
            data = bytearray((folder / name).read_bytes())
            for _ in range(self.rng.randint(1, 3)):
                data[self.rng.randrange(min(len(data), 2000))] = self.rng.randrange(256)
            (folder / name).write_bytes(data)

        self.after = change
        return ANY

    def file_missing(self):
        name = self.rng.choice([CONFIG, WEIGHTS])
        self.after = lambda folder: (folder / name).unlink()
        return [name]

    def file_a_pickle(self):
        def pickle(folder):
            torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
            (folder / WEIGHTS).unlink()

        self.after = pickle
        return ["adapter_model.bin is a pickle"]


CHANGES = [name for name in vars(Folder) if not name.startswith("_") and name not in ("write", "some")]


def break_folder(rng, case, folder):
    """Writes a damaged copy of a case's folder; returns the change, what to expect, and the job."""
    change = rng.choice(CHANGES)
    damaged = Folder(rng, case.folder / "theirs")
    wanted = getattr(damaged, change)()
    shutil.rmtree(folder, ignore_errors=True)
    damaged.write(folder)
    job = {"id": folder.name, "model": case.net.script, "inputs": case.folder / "x.safetensors",
           "load": folder, "logits": folder / "logits.safetensors"}
    return change, wanted, job


def read_by_peft(case, folder):
    """Returns PEFT's logits, or None if PEFT refuses the folder as well."""
    try:
        return case.read_by_peft(folder)[0]
    except Exception:  # PEFT raises many types of exceptions for bad files
        return None


def fault_of(case, wanted, result, folder):
    """Returns what is wrong with lowrank's answer, or None."""
    error = result.get("error")
    if "unforeseen" in result:
        return f"not a sentence of ours: {result['unforeseen'][:300]}"
    if error is not None:
        if wanted == SAME:
            return f"refused: {error}"
        if not re.fullmatch(r"\[\w+\] [^\n]+\. Got [^\n]+[.?](?: \(in [^\n]+\))?", error):
            return f"not one sentence: {error}"
        named = wanted == ANY or any(word in error for word in wanted)
        return None if named else f"does not name {wanted}: {error}"
    if wanted not in (SAME, ANY):
        return f"loaded, although {wanted}"
    y = load_file(folder / "logits.safetensors")["y"]
    if wanted == SAME and not torch.equal(y, case.logits("theirs")):
        return "other numbers"
    theirs = read_by_peft(case, folder) if wanted == ANY else None
    if theirs is not None and theirs.isfinite().all() and not difference(y, theirs) <= TOLERANCE:
        return f"PEFT's logits are {difference(y, theirs):.1e} off"
    # Compared up to rounding, because other kernels compute an adapter that is on.
    if (difference(y, case.base_logits()) <= ROUNDING) != result["acts_like_base"]:
        return f"acts like the base: {not result['acts_like_base']}, reported: {result['acts_like_base']}"
    return None


def check_broken_folders(checks, driver, cases, count, seed):
    """Damages the folders of `cases`, which are valid: they load, and change the logits."""
    rng = random.Random(seed)
    root = driver.work / "broken"
    root.mkdir()
    broken = []
    for number in range(count):
        case = rng.choice(cases)
        broken.append((case, *break_folder(rng, case, root / str(number))))
    results = driver.run([job for _, _, _, job in broken])
    counts, failed = collections.Counter(), checks.failed
    for case, change, wanted, job in broken:
        result = results[job["id"]]
        counts[f"{change}: {'refused' if 'error' in result else 'loaded'}"] += 1
        fault = fault_of(case, wanted, result, job["load"])
        if fault is not None:
            checks.expect(f"broken folder {job['id']}, {change} of adapter {case.seed}", False, fault)
    print_counts("broken folders", counts)
    ok = failed == checks.failed
    checks.expect(f"{count} broken folders (seed {seed}): read right, or refused in a sentence", ok)
