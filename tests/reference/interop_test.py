"""Checks that lowrank, safetensors and PEFT read what the others wrote; run.sh calls this."""

import argparse
import json
import pathlib
import subprocess
import sys
import warnings

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mnist_images
from interop_broken import check_broken_folders
from interop_language import check_language
from interop_parts import check_parts
from interop_random import Driver, check_random_adapters
from interop_tensorboard import check_log, check_resumed_log
from interop_weights import check_weights
from notebook_net import Mlp

warnings.filterwarnings("ignore")
import peft  # noqa: E402

TOLERANCE = 1e-5  # of ‖ours − theirs‖ / ‖theirs‖
PREFIX = "base_model.model."
SHAPES = {"linear1": (1000, 784), "linear2": (2000, 1000), "linear3": (10, 2000)}


class Checks:
    """Prints one line per check and counts the checks."""

    def __init__(self):
        self.passed = self.failed = 0

    def expect(self, name, ok, detail=""):
        self.passed, self.failed = self.passed + bool(ok), self.failed + (not ok)
        print(f"{'ok    ' if ok else 'FAILED'} {name}{': ' if detail else ''}{detail}", flush=True)

    def expect_near(self, name, ours, theirs):
        error = ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()
        same = (ours.argmax(1) == theirs.argmax(1)).sum().item()
        detail = f"relative difference {error:.2e}, {same} of {len(ours)} predictions equal"
        self.expect(name, error <= TOLERANCE, detail)

    def expect_equal(self, name, ours, theirs):
        self.expect(name, ours == theirs, "" if ours == theirs else f"{ours} is not {theirs}")


class Refused(Exception):
    """The command failed; the text is its message."""


class Lowrank:
    """The command under test."""

    def __init__(self, binary, work, data):
        self.binary, self.work, self.data = binary, work, data

    def eval(self, base, *arguments):
        """Returns what `lowrank eval` gives on the test set: logits (N, 10), labels (N), JSON."""
        out = self.work / "logits.safetensors"
        flags = ["--data", self.data, "--logits", out, "--force", "--json", "--threads", 1]
        command = [self.binary, "eval", *map(str, [base, *arguments, *flags])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(done.stderr.strip())
        tensors = load_file(out)
        return tensors["logits"], tensors["labels"], json.loads(done.stdout)


def notebook_net(folder):
    net = Mlp()
    net.load_state_dict(load_file(folder / "model.safetensors"))
    return net.eval()


@torch.no_grad()
def forward(model, images):
    return torch.cat([model(batch) for batch in images.split(1000)])


def load_with_peft(base, folder):
    """Returns the adapted net, and PEFT's complaints while it loaded the folder."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(notebook_net(base), folder)
        result = model.load_adapter(folder, adapter_name="again")
    model.set_adapter("default")
    complaints = [str(w.message) for w in seen if "key" in str(w.message).lower()]
    missing = [key for key in result.missing_keys if "lora_" in key]
    return model.eval(), complaints + list(result.unexpected_keys) + missing


def tensors_of(path):
    with safe_open(path, "pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}
        return {key: (tuple(t.shape), t.dtype) for key, t in found.items()}, file.metadata()


def check_files(checks, work):
    base, _ = tensors_of(work / "base" / "model.safetensors")
    wanted = {f"{n}.weight": (s, torch.float32) for n, s in SHAPES.items()}
    wanted.update({f"{n}.bias": (s[:1], torch.float32) for n, s in SHAPES.items()})
    checks.expect_equal("safetensors reads the base: names, shapes, dtypes", base, wanted)

    for folder, rank, targets in (("two", 1, SHAPES), ("seven", 4, ("linear1", "linear3"))):
        found, metadata = tensors_of(work / folder / "adapter_model.safetensors")
        wanted = {}
        for name in targets:
            n_out, n_in = SHAPES[name]
            wanted[f"{PREFIX}{name}.lora_A.weight"] = ((rank, n_in), torch.float32)
            wanted[f"{PREFIX}{name}.lora_B.weight"] = ((n_out, rank), torch.float32)
        checks.expect_equal(f"safetensors reads adapter {folder}: names, shapes, dtypes", found, wanted)
        checks.expect_equal(f"adapter {folder} says its format", (metadata or {}).get("format"), "pt")


def check_theirs_reads_ours(checks, lowrank, images, labels):
    base = lowrank.work / "base"
    net = notebook_net(base)
    ours, our_labels, report = lowrank.eval(base)
    checks.expect("the test labels are the same", torch.equal(our_labels, labels))
    checks.expect_near("base: logits beside PyTorch's", ours, forward(net, images))
    accuracy = (ours.argmax(1) == labels).double().mean().item()
    checks.expect("base: accuracy is that of the logits", abs(report["accuracy"] - accuracy) < 1e-9, f"{accuracy:.4f}")

    for folder in ("two", "seven"):
        adapter = lowrank.work / folder
        model, complaints = load_with_peft(base, adapter)
        checks.expect_equal(f"{folder}: PEFT loads it without a complaint", complaints, [])
        theirs = forward(model, images)
        adapted = lowrank.eval(base, "--adapter", adapter)[0]
        checks.expect_near(f"{folder}: logits beside PEFT's", adapted, theirs)
        checks.expect(f"{folder}: the adapter does something", not torch.equal(adapted, ours))
        off = lowrank.eval(base, "--adapter", adapter, "--no-adapter")[0]
        checks.expect(f"{folder}: switched off, bit-identical to the base", torch.equal(off, ours))
        merged = lowrank.eval(base, "--adapter", adapter, "--merge")[0]
        model.delete_adapter("again")
        theirs = forward(model.merge_and_unload(), images)
        checks.expect_near(f"{folder}: merged, beside PEFT's merged", merged, theirs)


# The options of the adapters that PEFT writes, by name. MAY_REFUSE holds those that lowrank may
# refuse, and the option that its message must then name.
PEFT_ADAPTERS = {
    "rank 1, all layers": dict(r=1, lora_alpha=1, target_modules=list(SHAPES)),
    "rank 8, alpha 16, linear2": dict(r=8, lora_alpha=16, target_modules=["linear2"]),
    "rank 4, alpha 3, linear3 and linear1": dict(r=4, lora_alpha=3, target_modules=["linear3", "linear1"]),
    "rank 3, gaussian": dict(r=3, lora_alpha=5, target_modules=["linear1"], init_lora_weights="gaussian"),
    "rank 16, all-linear": dict(r=16, lora_alpha=8, target_modules="all-linear"),
    "alpha 2.5, not a whole number": dict(r=2, lora_alpha=2.5, target_modules=list(SHAPES)),
    "a regular expression": dict(r=3, lora_alpha=5, target_modules="linear[12]"),
    "rank-stabilized scaling": dict(r=4, lora_alpha=4, target_modules=list(SHAPES), use_rslora=True),
    "a rank and alpha for one layer": dict(
        r=2, lora_alpha=4, target_modules=list(SHAPES), rank_pattern={"linear2": 5}, alpha_pattern={"linear1": 7}
    ),
}
MAY_REFUSE = {"a regular expression": "target_modules", "a rank and alpha for one layer": "_pattern"}


def write_with_peft(base, folder, seed, options):
    """Saves a PEFT adapter with random factors on our base; returns the adapted net."""
    torch.manual_seed(seed)
    model = peft.get_peft_model(notebook_net(base), peft.LoraConfig(**options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    return model.eval()


def check_ours_reads_theirs(checks, lowrank, images):
    base = lowrank.work / "base"
    for seed, (name, options) in enumerate(PEFT_ADAPTERS.items()):
        folder = lowrank.work / f"peft{seed}"
        model = write_with_peft(base, folder, seed, options)
        try:
            ours = lowrank.eval(base, "--adapter", folder)[0]
        except Refused as refusal:
            ok = name in MAY_REFUSE and MAY_REFUSE[name] in str(refusal)
            checks.expect(f"PEFT wrote {name}: refused by name", ok, str(refusal))
            continue
        checks.expect_near(f"PEFT wrote {name}: logits", ours, forward(model, images))


def check_ours_reads_a_python_base(checks, lowrank, images):
    folder = lowrank.work / "python-base"
    folder.mkdir()
    torch.manual_seed(5)
    net = Mlp().eval()
    save_file(net.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_bytes((lowrank.work / "base" / "config.json").read_bytes())
    checks.expect_near("a base that Python wrote: logits", lowrank.eval(folder)[0], forward(net, images))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lowrank", required=True)
    parser.add_argument("--driver", required=True, help="tests/interop/adapter_driver.cc, built")
    parser.add_argument("--adapters", type=int, default=300, help="how many random ones")
    parser.add_argument("--broken", type=int, default=500, help="how many damaged folders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--data", default="mnist")
    args = parser.parse_args()

    checks = Checks()
    lowrank = Lowrank(args.lowrank, args.work, args.data)
    images, labels = mnist_images.test_set(args.data)
    try:
        check_files(checks, args.work)
        check_log(checks, args.work / "log")
        check_resumed_log(checks, args.lowrank, args.work, args.data)
        check_theirs_reads_ours(checks, lowrank, images, labels)
        check_ours_reads_theirs(checks, lowrank, images)
        check_ours_reads_a_python_base(checks, lowrank, images)
        check_weights(checks, args.lowrank, args.work)
        check_language(checks, args.lowrank, args.work)
        work = args.work / "random"
        work.mkdir()
        driver = Driver(args.driver, work)
        check_parts(checks, driver)
        cases = check_random_adapters(checks, driver, args.adapters, args.seed)
        check_broken_folders(checks, driver, cases, args.broken, args.seed)
    except Refused as refusal:
        checks.expect("lowrank eval ends with 0", False, str(refusal))
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
