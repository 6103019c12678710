"""Pictures for tests of decoding, and where real photos may lie."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from geo_ray.models.preprocess import UPRIGHT

# Beside the checkout, or where the variable says; tests that need them skip without.
PHOTOS = Path(os.environ.get("GEO_RAY_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"), "photos")
ORIENTATION = 0x0112  # the EXIF tag
INVERSE = {  # stored pixels that become upright when turned as the EXIF orientation says
    number: {
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    }.get(turn, turn)
    for number, turn in UPRIGHT.items()
}
NO_PHOTOS = "no photos: set GEO_RAY_TEST_DATA to the folder that holds photos/"


def real_photos() -> list[Path]:
    """The photos, by name."""
    return sorted(path for path in PHOTOS.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scene(width: int, height: int) -> Image.Image:
    """Smooth, and different in each corner and channel."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray((np.stack([x, y, (x + (1 - y)) / 2], axis=-1) * 255).round().astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    """Every pixel of its own, so that a shift or another filter shows everywhere."""
    values = np.random.default_rng(width * 10_000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def plain(colour: tuple[int, int, int], width: int = 48, height: int = 48) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds a few bytes of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def samples() -> list[bytes]:
    """A small valid file of many kinds."""
    image = scene(40, 30)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010E] = "a description"
    grey16 = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40))
    frames = {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}
    return [
        encoded(image, "JPEG", exif=exif),
        encoded(image, "JPEG", progressive=True),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(image, "MPO", **frames),
        encoded(image, "PNG", exif=exif),
        encoded(image.convert("P"), "PNG", transparency=3),
        encoded(image.convert("LA"), "PNG"),
        encoded(grey16, "PNG"),
        encoded(image.convert("P"), "GIF", **frames),
        encoded(image, "WEBP", exif=exif),
        encoded(image.convert("RGBA"), "WEBP", lossless=True),
        encoded(image, "TIFF", exif=exif),
        encoded(image, "TIFF", compression="tiff_lzw"),
        encoded(image, "TIFF", compression="tiff_deflate"),
        encoded(grey16, "TIFF"),
        encoded(image, "BMP"),
        encoded(image, "JPEG2000"),
    ]


SAMPLES = samples()
