"""Images of the kinds that people's folders hold, besides good ones."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

READABLE = ("cmyk.jpg", "sixteen_bit.png", "animated.gif", "one_by_one.png", "rotated.jpg", "grey_alpha.png")
UNREADABLE = {
    "empty.jpg": "empty",
    "truncated.jpg": "undecodable",
    "text.jpg": "undecodable",
    "folder.jpg": "not_a_file",
    "bomb.png": "too_large",
}


def write_kind(kind: str, path: Path, crop: bytes) -> None:
    """Write an image of this kind that shows the crop, as far as it can show anything."""
    if kind == "folder.jpg":
        path.mkdir()
        return
    path.write_bytes(MAKERS[kind](crop))


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _open(crop: bytes) -> Image.Image:
    return Image.open(io.BytesIO(crop))


def _sixteen_bit(crop: bytes) -> bytes:
    grey = np.asarray(_open(crop).convert("L")).astype(np.uint16) * 257
    return _saved(Image.fromarray(grey), "PNG")


def _animated(crop: bytes) -> bytes:
    other = Image.new("RGB", (128, 128), "red")
    return _saved(_open(crop), "GIF", save_all=True, append_images=[other, other])


def _rotated(crop: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned back by 90 degrees clockwise
    return _saved(_open(crop).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=98)


def _bomb(_: bytes) -> bytes:
    """A PNG whose header promises 60,000 x 60,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


MAKERS: dict[str, Callable[[bytes], bytes]] = {
    "empty.jpg": lambda _: b"",
    "truncated.jpg": lambda crop: crop[: len(crop) // 3],
    "text.jpg": lambda _: b"This is not an image.\n" * 20,
    "bomb.png": _bomb,
    "cmyk.jpg": lambda crop: _saved(_open(crop).convert("CMYK"), "JPEG"),
    "sixteen_bit.png": _sixteen_bit,
    "animated.gif": _animated,
    "one_by_one.png": lambda _: _saved(Image.new("RGB", (1, 1), "green"), "PNG"),
    "rotated.jpg": _rotated,
    "grey_alpha.png": lambda crop: _saved(_open(crop).convert("LA"), "PNG"),
}
