"""Writes tests/fixtures/blocks.gguf, whose tensors are random valid blocks of every type that we
read, and blocks.safetensors, what Python's gguf reads of them.

Run by hand, with gguf, NumPy and safetensors. README.md in this folder names every tensor.
"""

import pathlib

import gguf
import numpy
from safetensors.numpy import save_file

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
SHAPE = (3, 96)  # rows of three blocks
BLOCK = 32


def random_blocks(generator, kind):
    """Bytes (rows, bytes of a row): scales of all sizes and signs, all other bits at random."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = generator.integers(0, 256, (SHAPE[0], SHAPE[1] // BLOCK, size), dtype=numpy.uint8)
    scales = 2 if kind == gguf.GGMLQuantizationType.Q4_1 else 1
    exponents = generator.uniform(-20, 8, (*blocks.shape[:2], scales))
    signs = generator.choice([-1.0, 1.0], exponents.shape)
    halves = (signs * 2.0**exponents).astype(numpy.float16)
    blocks[..., : 2 * scales] = halves.view(numpy.uint8).reshape(*blocks.shape[:2], -1)
    return blocks.reshape(SHAPE[0], -1)


def main():
    generator = numpy.random.default_rng(0)
    types = gguf.GGMLQuantizationType
    path = FIXTURES / "blocks.gguf"
    writer = gguf.GGUFWriter(path, "test")
    writer.add_array("test.words", ["a", "bc", ""])
    writer.add_array("test.numbers", [1, 2, 3])
    writer.add_float32("test.float", 0.5)
    writer.add_bool("test.bool", True)
    numbers = generator.standard_normal(SHAPE)
    expected = {}
    for name, kind, array in [
        ("f32", types.F32, numbers.astype(numpy.float32)),
        ("f16", types.F16, numbers.astype(numpy.float16)),
        ("f64", types.F64, numbers),
        ("bf16", types.BF16, gguf.quants.quantize(numbers.astype(numpy.float32), types.BF16)),
        ("i32", types.I32, generator.integers(-9, 9, SHAPE, dtype=numpy.int32)),
        ("q8_0", types.Q8_0, random_blocks(generator, types.Q8_0)),
        ("q4_0", types.Q4_0, random_blocks(generator, types.Q4_0)),
        ("q4_1", types.Q4_1, random_blocks(generator, types.Q4_1)),
    ]:
        writer.add_tensor(name, array, raw_dtype=kind)
        is_plain = kind in (types.F32, types.F16, types.F64, types.I32)
        expected[name] = array if is_plain else gguf.quants.dequantize(array, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, FIXTURES / "blocks.safetensors", {"gguf": "0.19.0"})


if __name__ == "__main__":
    main()
