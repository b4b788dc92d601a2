"""Checks adapters of random configs on random nets, in both directions; see interop_test.py."""

import collections
import copy
import json
import random
import re
import subprocess
import warnings

import peft
import torch
from peft.utils import load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from random_adapters import add_patterns, draw_options, write_folder
from random_nets import RandomNet

TOLERANCE = 1e-5  # of ‖ours − theirs‖ / ‖theirs‖

TRUNCATED = "PiSSA or OLoRA of a rank above min(out, in)"

# What lowrank refuses although PEFT accepts it, by a part of the message; docs/peft.md says why.
REFUSED_HERE = {
    "use_dora must be for layers without groups": "DoRA of a grouped convolution",
    "at most the smaller of out and in": TRUNCATED,
    "must be even with the init orthogonal": "an odd rank of an Embedding with the init orthogonal",
    "lora_bias must be for layers that have a bias": "lora_bias on a layer without a bias",
}

FLAGS = ["use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "exclude_modules", "layers_to_transform",
         "rank_pattern", "alpha_pattern", "modules_to_save"]


class Driver:
    """Runs lowrank on TorchScript files, by tests/interop/adapter_driver.cc."""

    def __init__(self, binary, work):
        self.binary, self.work = binary, work

    def run(self, jobs):
        """Returns the results by id. All jobs run in one process, which must succeed."""
        (self.work / "jobs.json").write_text(json.dumps(jobs, default=str))
        results = self.work / "results.json"
        subprocess.run([self.binary, self.work / "jobs.json", results], check=True)
        return {result["id"]: result for result in json.loads(results.read_text())}


class Case:
    """One adapter on one net, saved by PEFT, and the jobs for lowrank."""

    def __init__(self, seed, folder):
        rng = random.Random(seed)
        self.seed, self.folder = seed, folder
        self.net = RandomNet(rng, folder)
        self.options, self.kinds = draw_options(rng, self.net.net), set()
        torch.manual_seed(seed)
        self.options, self.kinds = add_patterns(rng, self.net.net, self.options)
        self.plain, self.dtype = write_folder(rng, self.net.net, self.options, folder / "theirs")
        save_file({"x": self.net.x}, folder / "x.safetensors")
        self.expected, self.usual_complaints = self.read_by_peft(folder / "theirs")

    def job(self, way, **what):
        return {"id": f"{self.seed} {way}", "model": self.net.script, "inputs": self.folder / "x.safetensors",
                "logits": self.folder / f"{way}.safetensors", **what}

    def jobs(self):
        ours = {
            "attach": self.folder / "theirs" / "adapter_config.json",
            "seed": self.seed,
            "save": self.folder / "ours",
            "convert": self.seed % 4 == 0,
            "statistics": self.trains_norm(),
        }
        return [self.job("theirs", load=self.folder / "theirs"), self.job("ours", **ours)]

    def is_truncated(self):
        """Returns whether PEFT's factors of some layer may have fewer rows than the config says."""
        ranks = [self.options["r"], *self.options.get("rank_pattern", {}).values()]
        smallest = min(min(w.flatten(1).shape) for w in self.net.net.parameters() if w.dim() > 1)
        is_from_weight = str(self.options["init_lora_weights"]).startswith(("pissa", "olora"))
        return is_from_weight and max(ranks) > smallest

    def trains_norm(self):
        return "norm" in self.options.get("modules_to_save", [])

    @torch.no_grad()
    def read_by_peft(self, folder):
        """Returns PEFT's logits with this folder, and its complaints while it loads the folder."""
        folder = str(folder)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            model = peft.PeftModel.from_pretrained(copy.deepcopy(self.net.net), folder).eval()
            result = set_peft_model_state_dict(model, load_peft_weights(folder))
        complaints = {str(warning.message).replace(folder, "FOLDER") for warning in seen}
        complaints |= {f"unexpected {key}" for key in result.unexpected_keys}
        return model(self.net.x), complaints

    def logits(self, way):
        return load_file(self.folder / f"{way}.safetensors")["y"]

    @torch.no_grad()
    def base_logits(self):
        return self.net.net(self.net.x)

    def variants(self):
        """Returns the variants that the case is an example of."""
        options = self.options
        found = {name for name in FLAGS if options.get(name)}
        found |= {f"bias {options['bias']}", f"init {options['init_lora_weights']}", f"file in {str(self.dtype)[6:]}"}
        targets = options["target_modules"]
        found |= {"running statistics"} if self.trains_norm() else set()
        form = "names" if isinstance(targets, list) else "all-linear" if targets == "all-linear" else "regex"
        return found | {f"targets by {form}"} | ({"converted"} if self.plain else set())


def difference(ours, theirs):
    return ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()


def draw_cases(work, count, seed):
    """Draws `count` cases that PEFT accepts; also returns how many it refused, by its message."""
    cases, refused = [], collections.Counter()
    while len(cases) < count:
        number = seed * 1_000_000 + len(cases) + sum(refused.values())
        try:
            cases.append(Case(number, work / str(number)))
        except Exception as error:  # PEFT may raise anything for a config; the table below shows it
            first_line = re.sub(r"\d+", "N", str(error).splitlines()[0])
            refused[f"{type(error).__name__}: {first_line[:110]}"] += 1
    return cases, refused


def check_case(checks, case, results, refused):
    """Compares in both directions; returns how many comparisons were made."""
    usual = case.usual_complaints
    compared = 0
    for way in ("theirs", "ours"):
        result = results[f"{case.seed} {way}"]
        error = result.get("error", result.get("unforeseen"))
        if error is not None:
            known = next((name for sentence, name in REFUSED_HERE.items() if sentence in error), None)
            # PEFT saves fewer rows than the rank then.
            if case.is_truncated() and "the rank of a layer must be that of its tensors" in error:
                known = TRUNCATED
            if known is not None:
                refused[known] += 1
            else:
                checks.expect(f"adapter {case.seed}, {way}", False, f"{error} {case.options}")
            continue
        expected, complaints = (case.expected, usual) if way == "theirs" else case.read_by_peft(case.folder / "ours")
        error = difference(case.logits(way), expected)
        compared += 1
        if not error <= TOLERANCE:
            checks.expect(f"adapter {case.seed}, {way}", False, f"relative difference {error:.2e} {case.options}")
        if complaints - usual:
            checks.expect(f"adapter {case.seed}: PEFT's complaints", False, f"{complaints - usual} {case.options}")
    return compared


def print_counts(title, counts):
    print(f"{title}:")
    for name, number in sorted(counts.items()):
        print(f"  {number:5d} {name}")


def print_variants(cases):
    """Prints how many of the cases adapt a layer of each kind, and with which options."""
    print("adapters compared, by kind of layer and variant:")
    for kind in ("Linear", "Conv1D", "Conv1d", "Conv2d", "Embedding", "head"):
        of_kind = [case for case in cases if kind in case.kinds]
        variants = collections.Counter(variant for case in of_kind for variant in case.variants())
        print(f"  {kind} {len(of_kind)}: " + ", ".join(f"{name} {count}" for name, count in sorted(variants.items())))


def check_random_adapters(checks, driver, count, seed):
    """Checks `count` random adapters; returns the cases that lowrank reads."""
    cases, refused_there = draw_cases(driver.work, count, seed)
    results = driver.run([job for case in cases for job in case.jobs()])
    refused_here, failed = collections.Counter(), checks.failed
    compared = {case: check_case(checks, case, results, refused_here) for case in cases}
    print_variants([case for case, number in compared.items() if number])
    print_counts("refused by PEFT", refused_there)
    print_counts("refused here (comparisons)", refused_here)
    both_ways = sum(number == 2 for number in compared.values())
    ok = failed == checks.failed and both_ways >= count * 2 // 3
    checks.expect(f"{both_ways} of {count} random adapters (seed {seed}) agree both ways", ok)
    return [case for case in cases if "error" not in results[f"{case.seed} theirs"]]
