"""Makes random small nets of the layers that PEFT adapts, in files that torch.jit.script reads."""

import importlib.util

import torch

# name: (the members, the expression that they add to x (N, T, width)).
PARTS = {
    "query": ({"query": "nn.Linear({d}, {d})"}, "self.query(x)"),
    "value": ({"value": "nn.Linear({d}, {d}, bias=False)"}, "self.value(x)"),
    "mlp": ({"up": "nn.Linear({d}, {d} * 2)", "down": "nn.Linear({d} * 2, {d})"}, "self.down(self.up(x))"),
    "c_attn": ({"c_attn": "Conv1D({d} + 2, {d})", "c_proj": "Conv1D({d}, {d} + 2)"}, "self.c_proj(self.c_attn(x))"),
    "conv": (
        {"conv": "nn.Conv1d({d}, {d}, 3, padding=1, groups={groups})"},
        "self.conv(x.transpose(1, 2)).transpose(1, 2)",
    ),
    "norm": ({"norm": "nn.BatchNorm1d({d})"}, "self.norm(x.transpose(1, 2)).transpose(1, 2)"),
    "image": (
        {"image": "nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(1, 0), groups={groups})"},
        "self.image(x.reshape(x.size(0), 2, x.size(1), -1)).reshape(x.size())",
    ),
}
EMBEDDINGS = {"embed": "nn.Embedding(11, {d})", "kinds": "nn.Embedding(3, {d})"}

NET = '''
class Net(nn.Module):
    def __init__(self):
        super().__init__()
{tables}
        self.{container} = nn.ModuleList([{blocks}])
        self.head = nn.Linear({d}, 3)

    def forward(self, x):
{stem}
        for block in self.{container}:
            x = block(x)
        return self.head(x.mean(1))
'''
BLOCK = '''
class Block{number}(nn.Module):
    def __init__(self):
        super().__init__()
{members}

    def forward(self, x):
{steps}
        return x
'''
OUTER = '''
class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Net()

    def forward(self, x):
        return self.model(x)
'''


def _lines(lines):
    return "\n".join(f"        {line}" for line in lines)


def _block(rng, number, width):
    members, steps = [], []
    for name in rng.sample(sorted(PARTS), rng.randint(2, 4)):
        made, added = PARTS[name]
        groups = rng.choice([1, 1, 2])
        members += [f"self.{member} = {code.format(d=width, groups=groups)}" for member, code in made.items()]
        steps.append(f"x = x + torch.tanh({added})")
    return BLOCK.format(number=number, members=_lines(members), steps=_lines(steps))


def source_of(rng):
    """Returns the text of a file with `make()`, TOKENS and WIDTH.

    The net takes token ids if TOKENS is true, otherwise vectors of WIDTH.
    """
    width, count = rng.choice([4, 8, 12]), rng.randint(1, 3)
    has_tokens, is_wrapped = rng.random() < 0.4, rng.random() < 0.6
    tables = [f"self.{name} = {code.format(d=width)}" for name, code in EMBEDDINGS.items()] if has_tokens else []
    text = "import torch\nfrom torch import nn\nfrom transformers.pytorch_utils import Conv1D\n\n"
    text += "\n".join(_block(rng, number, width) for number in range(count))
    text += NET.format(
        d=width,
        container=rng.choice(["layers", "blocks", "h"]),
        blocks=", ".join(f"Block{number}()" for number in range(count)),
        tables=_lines(tables),
        stem=_lines(["x = self.embed(x) + self.kinds(x % 3)"] if has_tokens else ["x = x * 1.0"]),
    )
    make = "Outer" if is_wrapped else "Net"
    return text + (OUTER if is_wrapped else "") + f"\n\nmake, TOKENS, WIDTH = {make}, {has_tokens}, {width}\n"


class RandomNet:
    """A net with its weights and its input, and its TorchScript file in a folder."""

    def __init__(self, rng, folder):
        folder.mkdir(parents=True)
        source = folder / "net.py"
        source.write_text(source_of(rng))
        spec = importlib.util.spec_from_file_location(f"random_net_{folder.name}", source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        torch.manual_seed(rng.getrandbits(32))
        self.net = module.make().eval()
        self.x = torch.randint(0, 11, (4, 5)) if module.TOKENS else torch.randn(4, 5, module.WIDTH)
        self.script = folder / "net.pt"
        # transformers' Conv1D adds a tuple to a size, which TorchScript does not support.
        is_traced = "Conv1D(" in source.read_text() or rng.random() < 0.3
        made = torch.jit.trace(self.net, self.x) if is_traced else torch.jit.script(self.net)
        made.save(str(self.script))
