"""Layouts of TIFF that Pillow opens but would read wrongly: mended where that is sure, refused otherwise.

Found by comparing Pillow 13.0 with tifffile over photometric interpretations, depths, sample formats, planes, byte
orders, compressions, predictors, strips and tiles.
"""

import struct

import numpy as np
from PIL import Image, TiffImagePlugin

WHITE_IS_ZERO, BITS = "geo_ray white is zero", "geo_ray bits"  # of the pixels, in ``image.info``
BITS_PER_SAMPLE, PHOTOMETRIC, PLANES, COLORMAP, INKS, EXTRA, FORMAT = 258, 262, 284, 320, 332, 338, 339
SUBSAMPLING, SEPARATE, SIGNED, YCBCR = 530, 2, 2, 6
FAX = ("tiff_ccitt", "group3", "group4")  # which may leave out what zero means
BIG_ENDIAN, WIDE = b"MM", 32
MAX_SCALE = 65535
# From the size to the transfer function, from the predictor to the inks, JPEG's, and YCbCr's.
PIXEL_TAGS = frozenset((*range(256, 267), *range(273, 280), 284, 292, 293, 301, *range(317, 326), *range(332, 348),
                        *range(512, 522), *range(529, 533)))  # fmt: skip
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes, by type


def without_lost_tags(content: bytes) -> bytes:
    """The TIFF without what pixels don't need of its first directory and lies outside of it: Pillow wouldn't open it.

    All other bytes stay where they are.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None or len(content) < 8:
        return content
    (at,) = struct.unpack_from(f"{order}I", content, 4)
    if at + 2 > len(content):
        return content
    (count,) = struct.unpack_from(f"{order}H", content, at)
    entries = [content[start : start + 12] for start in range(at + 2, at + 2 + 12 * count, 12)]
    kept = [entry for entry in entries if len(entry) == 12 and _lies_inside(entry, order, len(content))]
    if len(kept) in (0, count):
        return content
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return b"".join((content[:at], directory, content[at + len(directory) :]))


def _lies_inside(entry: bytes, order: str, size: int) -> bool:
    tag, kind, count, start = struct.unpack(f"{order}HHII", entry)
    num_bytes = SIZES.get(kind, 0) * count
    return tag in PIXEL_TAGS or num_bytes <= 4 or start + num_bytes <= size


def settle_layout(image: TiffImagePlugin.TiffImageFile) -> None:
    """Make an opened TIFF load right pixels; ``ValueError`` where they would be wrong or nobody could say."""
    tags = image.tag_v2
    bits, signed = set(tags.get(BITS_PER_SAMPLE, (1,))), SIGNED in tags.get(FORMAT, ())
    raw, separate = not image.use_load_libtiff, tags.get(PLANES, 1) == SEPARATE
    photometric = tags.get(PHOTOMETRIC)
    wrong = {
        "nothing says whether zero is black": photometric is None and image.info["compression"] not in FAX,
        "nothing says which signed value is black": signed and bits != {WIDE},
        "its byte order would be swapped twice": (
            image.mode in ("I", "F") and not raw and tags.prefix == BIG_ENDIAN),
        "its bits would be read as if unpacked": 12 in bits and not raw,
        "its colours would be read as if each pixel had them": (
            photometric == YCBCR and raw and tags.get(SUBSAMPLING, (2, 2)) != (1, 1)),
        "its alpha lies apart": separate and image.mode in ("LA", "La", "PA"),
        "its inks are others than CMYK": image.mode == "CMYK" and tags.get(INKS, 1) != 1,
        "its colours have the wrong scale": image.mode in ("P", "PA") and max(tags.get(COLORMAP, (0,))) < 256,
    }  # fmt: skip
    for why, is_so in wrong.items():
        if is_so:
            raise ValueError(why)
    if bits == {16} and raw and separate:
        _read_by_libtiff(image)
    image.info[BITS] = max(bits)
    image.info[WHITE_IS_ZERO] = photometric == 0 and image.mode in ("I;16", "F")


def _read_by_libtiff(image: TiffImagePlugin.TiffImageFile) -> None:
    """Have libtiff read planes of 16 bits; Pillow's own way takes each of their bytes for a pixel."""
    if 1 in image.tag_v2.get(EXTRA, ()):
        raise ValueError("colours multiplied by their alpha, in planes")
    size = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    arguments = (f"{image.mode};16N", False, image.tag_v2.offset)
    image.tile = [image.tile[0]._replace(codec_name="libtiff", extents=(0, 0, *size), offset=0, args=arguments)]
    image.use_load_libtiff = True


def check_values(image: Image.Image) -> None:
    """Raise ``ValueError`` for numbers of 32 bits that lie on none of the scales that they are read on.

    Those end at 1, 255 or 65535, and what is a little beyond counts as black or white. Pillow takes large numbers
    without sign for negative ones.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode not in ("I", "F"):
        return
    values = np.asarray(image)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if image.mode == "F":
        known = low >= -0.01 * max(1.0, high) and high <= MAX_SCALE
    elif SIGNED in image.tag_v2.get(FORMAT, ()):
        known = high - low <= 16 * MAX_SCALE
    else:
        known = low >= 0 and high <= MAX_SCALE
    if not known:
        raise ValueError("nothing says which value is white")
