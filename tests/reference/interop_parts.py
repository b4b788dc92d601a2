"""Checks what random adapters leave out, in both directions: weights of experts, rows of an
embedding, attentions, and folders of several adapters. interop_test.py calls this."""

import copy

import peft
import torch
from safetensors.torch import load_file, save_file

from interop_random import TOLERANCE, difference
from make_experts import CELLS, Net, trained_by_peft
from random_adapters import count_updates_once

OTHERS = ["second", "third"]


class Attending(torch.nn.Module):
    """Maps token ids (N, T) to logits (N, T, 3)."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 8)
        self.attn = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, ids):
        x = self.embed(ids)
        return self.head(x + self.attn(x, x, x)[0])


ATTENTION_CELLS = {
    "alone": dict(target_modules=["attn"]),
    "patterns": dict(
        target_modules=["attn", "head"], rank_pattern={"attn": 3}, alpha_pattern={"attn": 7}, bias="lora_only"
    ),
    "all": dict(target_modules=["attn", "embed", "head"], use_rslora=True, bias="all"),
}
NETS = {
    "experts": (lambda: Net(is_transposed=False), CELLS),
    "transposed": (lambda: Net(is_transposed=True), CELLS),
    "attention": (Attending, ATTENTION_CELLS),
}


class Part:
    """One config on the net of make_experts.py, saved by PEFT."""

    def __init__(self, folder, net, options, seed):
        folder.mkdir()
        self.folder, self.net = folder, net.eval()
        torch.manual_seed(seed)
        self.x = torch.randint(0, 7, (4, 5))
        torch.jit.script(net).save(str(folder / "net.pt"))
        save_file({"x": self.x}, folder / "x.safetensors")
        model = trained_by_peft(net, options).eval()
        count_updates_once(model)
        model.save_pretrained(folder / "theirs")
        with torch.no_grad():
            self.expected = model(self.x)

    def job(self, way, **what):
        return {"id": f"{self.folder.name} {way}", "model": self.folder / "net.pt", "inputs": self.folder / "x.safetensors",
                "logits": self.folder / f"{way}.safetensors", **what}

    def jobs(self):
        config = self.folder / "theirs" / "adapter_config.json"
        made = dict(attach=config, seed=7)
        return [
            self.job("theirs", load=self.folder / "theirs"),
            self.job("ours", save=self.folder / "ours", **made),
            self.job("several", save=self.folder / "several", others=OTHERS, **made),
        ]

    def logits(self, way, name="y"):
        return load_file(self.folder / f"{way}.safetensors")[name]

    @torch.no_grad()
    def read_by_peft(self, folder):
        model = peft.PeftModel.from_pretrained(copy.deepcopy(self.net), str(folder)).eval()
        count_updates_once(model)
        return model(self.x)

    def compared(self):
        """Yields a name, lowrank's logits and PEFT's logits for each folder."""
        yield "PEFT's folder", self.logits("theirs"), self.expected
        yield "our folder", self.logits("ours"), self.read_by_peft(self.folder / "ours")
        several = self.folder / "several"
        yield "the first of several", self.logits("several"), self.read_by_peft(several)
        for name in OTHERS:
            yield f"{name} of several", self.logits("several", name), self.read_by_peft(several / name)


def check_parts(checks, driver):
    parts = []
    for kind, (make, cells) in NETS.items():
        for seed, (cell, options) in enumerate(cells.items()):
            torch.manual_seed(600 + seed)
            parts.append(Part(driver.work / f"{kind}_{cell}", make(), options, seed))
    results = driver.run([job for part in parts for job in part.jobs()])
    errors = [result for result in results.values() if "error" in result or "unforeseen" in result]
    checks.expect("experts, rows, attentions and several adapters: lowrank reads and writes them", not errors, str(errors or ""))
    for part in parts if not errors else []:
        differences = {}
        for name, ours, theirs in part.compared():
            differences[name] = difference(ours, theirs)
            if difference(ours, part.net(part.x).detach()) < 1e-3:
                checks.expect(f"{part.folder.name}, {name}: it does something", False)
        worst = max(differences.values())
        checks.expect(f"{part.folder.name}: {len(differences)} folders agree", worst <= TOLERANCE, f"{worst:.2e}")
