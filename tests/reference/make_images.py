"""Writes tests/fixtures/jpeg_*.jpg and jpeg.safetensors: JPEG images, and what Pillow reads of them.

Run by hand, with Pillow, NumPy and safetensors. README.md in this folder names every tensor.
"""

import io
import pathlib

import numpy
import PIL
from PIL import Image
from safetensors.numpy import save_file

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
SIZE = (21, 13)  # width and height, no multiples of a block


def smooth(channels):
    """A smooth image (height, width, channels): noise would only show how JPEG loses it."""
    y, x = numpy.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    waves = [numpy.sin(x / (3 + c) + c) * numpy.cos(y / (4 - c / 2) - c) for c in range(channels)]
    return (127.5 + 120 * numpy.stack(waves, axis=-1)).astype(numpy.uint8)


def read(jpeg, mode):
    image = Image.open(io.BytesIO(jpeg))
    image.draft(mode, None)  # lets libjpeg convert, as our reader does
    assert image.mode == mode
    return numpy.asarray(image)


def encode(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def main():
    gray = encode(Image.fromarray(smooth(1)[:, :, 0], "L"))
    rgb = encode(Image.fromarray(smooth(3), "RGB"))
    progressive = encode(Image.fromarray(smooth(3), "RGB"), progressive=True, subsampling=0)
    cmyk = encode(Image.fromarray(smooth(4), "CMYK"))
    for name, jpeg in {"gray": gray, "rgb": rgb, "progressive": progressive, "cmyk": cmyk}.items():
        (FIXTURES / f"jpeg_{name}.jpg").write_bytes(jpeg)
    tensors = {
        "gray": read(gray, "L"),
        "rgb": numpy.ascontiguousarray(read(rgb, "RGB").transpose(2, 0, 1)),
        "rgb.luminance": read(rgb, "L"),
        "progressive": numpy.ascontiguousarray(read(progressive, "RGB").transpose(2, 0, 1)),
    }
    save_file(tensors, FIXTURES / "jpeg.safetensors", {"pillow": PIL.__version__})


if __name__ == "__main__":
    main()
