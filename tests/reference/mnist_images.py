"""MNIST's test images as the model sees them, read without lowrank."""

import gzip
import os
import pathlib

import numpy
import torch

MEAN, DEVIATION = 0.1307, 0.3081


def find(data, name):
    """Reads the IDX file `name`, which may be gzip.

    It is in the folder `data`, or for "mnist" in lowrank's cache.
    """
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "lowrank"
    folder = pathlib.Path(os.environ.get("LOWRANK_DATA") or cache) if data == "mnist" else pathlib.Path(data)
    separators = ("-", ".")  # some copies are called t10k-images.idx3-ubyte
    names = [name.replace("-idx", s + "idx") + end for s in separators for end in ("", ".gz")]
    for path in sorted(p for n in names for p in folder.rglob(n)):
        return path
    raise SystemExit(f"interop_test: {folder} must hold {name}. Get it with: lowrank data fetch mnist")


def read_idx(path):
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    shape = numpy.frombuffer(content, ">u4", count=content[3], offset=4)
    return numpy.frombuffer(content, numpy.uint8, offset=4 + 4 * content[3]).reshape(shape)


def test_set(data):
    """Returns the normalised images, float32 (N, 784), and the labels, int64 (N)."""
    images = torch.from_numpy(read_idx(find(data, "t10k-images-idx3-ubyte")).copy())
    labels = torch.from_numpy(read_idx(find(data, "t10k-labels-idx1-ubyte")).copy())
    return ((images.float() / 255 - MEAN) / DEVIATION).flatten(1), labels.long()
