"""Writes tests/fixtures/*.pt: small TorchScript files, as torch.jit.script and torch.jit.trace save them.

Run by hand; it needs only Debian's PyTorch (python3-torch):

    /usr/bin/python3 tests/reference/make_scripts.py

README.md in this folder says what each file holds.
"""

import pathlib

import torch
from torch import nn

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"


class Tagger(nn.Module):
    """Every kind of layer that is recognized by name, and two others (an LSTM, a batch norm)."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.conv = nn.Conv1d(8, 6, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm1d(6)
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.layers = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5, bias=False)])
        self.head = nn.Linear(5, 3)

    def forward(self, tokens):
        x = self.norm(self.conv(self.embedding(tokens).transpose(1, 2)))
        x, _ = self.lstm(x.transpose(1, 2))
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


class Conv1D(nn.Module):
    """Like the class of transformers, and with its name: weight (in, out)."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return torch.matmul(x, self.weight) + self.bias


Conv1D.__module__ = "transformers.pytorch_utils"


class TinyForSequenceClassification(nn.Module):
    """The parts of a language model: tied input and output embeddings, and a classifier."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(7, 4)
        self.c_attn = Conv1D(4, 4)
        self.decoder = nn.Linear(4, 7, bias=False)
        self.decoder.weight = self.wte.weight
        self.score = nn.Linear(7, 2, bias=False)

    def forward(self, tokens):
        return self.score(self.decoder(self.c_attn(self.wte(tokens))))


class Reader(nn.Module):
    """Embedding, convolution, LSTM and two linear layers: token ids (N, T) to logits (N, 5)."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.conv = nn.Conv1d(6, 8, 3, padding=1)
        self.lstm = nn.LSTM(8, 7, batch_first=True)
        self.linear1 = nn.Linear(7, 9)
        self.linear2 = nn.Linear(9, 5)

    def forward(self, ids):
        x = self.embedding(ids).transpose(1, 2)
        x = torch.relu(self.conv(x)).transpose(1, 2)
        x, _ = self.lstm(x)
        return self.linear2(self.linear1(x[:, -1]))


class Encoder(nn.Module):
    """Maps (N, T, 8) to (N, T, 8); in eval(), it uses LibTorch's fused form."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.layer(x)


def save(name, module):
    module.save(str(FIXTURES / name))
    print(f"{name}: {(FIXTURES / name).stat().st_size} bytes")


if __name__ == "__main__":
    torch.manual_seed(0)
    tagger = Tagger()
    save("scripted.pt", torch.jit.script(tagger))
    save("traced.pt", torch.jit.trace(tagger.eval(), torch.zeros(2, 4, dtype=torch.long)))
    save("scripted_tied.pt", torch.jit.script(TinyForSequenceClassification()))
    ids = torch.randint(0, 20, (3, 4))
    reader = Reader()
    save("reader_scripted.pt", torch.jit.script(reader))
    save("reader_traced.pt", torch.jit.trace(reader, ids))
    save("reader_frozen.pt", torch.jit.freeze(torch.jit.script(Reader().eval())))
    encoder = Encoder()
    save("encoder_scripted.pt", torch.jit.script(encoder))
    save("encoder_traced.pt", torch.jit.trace(encoder, torch.randn(2, 3, 8)))
