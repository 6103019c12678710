"""TIFF files of any layout, written by hand from the specification (Adobe, TIFF 6.0)."""

import struct
import zlib

import numpy as np

NUMPY_FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(
    values: np.ndarray,
    photometric: int | None,
    *,
    order: str = "<",
    planes: int = 1,
    packed: bool = False,
    rows_per_strip: int = 16,
    bits: int | None = None,
    more: dict[int, tuple[int, ...]] | None = None,
) -> bytes:
    """A TIFF of (height, width) or (height, width, samples), in strips; with ``bits``, values are bytes as they are."""
    height, width, *samples = values.shape
    count = samples[0] if samples else 1
    stored = values.astype(values.dtype.newbyteorder(order))
    layers = [stored[..., number] for number in range(count)] if planes == 2 else [stored]
    strips = [layer[at : at + rows_per_strip].tobytes() for layer in layers for at in range(0, height, rows_per_strip)]
    if packed:
        strips = [zlib.compress(strip) for strip in strips]
    tags = {
        256: (width if bits is None else width * 8 // bits,), 257: (height,),
        258: (values.itemsize * 8 if bits is None else bits,) * count, 259: (8 if packed else 1,), 277: (count,),
        278: (rows_per_strip,), 279: tuple(map(len, strips)), 284: (planes,),
        339: (NUMPY_FORMATS[values.dtype.kind],) * count,
    } | ({} if photometric is None else {262: (photometric,)}) | (more or {})  # fmt: skip
    starts = tuple(8 + sum(map(len, strips[:number])) for number in range(len(strips)))
    return _file(b"".join(strips), tags | {273: starts}, order)


def _file(data: bytes, tags: dict[int, tuple[int, ...]], order: str) -> bytes:
    data += bytes(len(data) % 2)
    at = 8 + len(data)
    beyond, entries, far = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, values in sorted(tags.items()):
        kind, letter = (4, "I") if tag in (273, 279) else (3, "H")
        body = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(body) > 4:
            body, far = struct.pack(f"{order}I", beyond + len(far)), far + body
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + far
