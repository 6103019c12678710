"""What of a WebP file decides its pixels (RFC 9649)."""

import struct
from collections.abc import Iterator

PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
METADATA_FLAGS = 0b101100  # ICC profile, EXIF, XMP


def is_webp(content: bytes) -> bool:
    """Whether these are the bytes of a WebP file."""
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def webp_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk; the last may be cut."""
    at = 12
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, at)
        yield kind, content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def webp_data(content: bytes) -> tuple[bytes, bytes]:
    """The WebP without all that doesn't decide its pixels, and its EXIF (empty where there is none)."""
    kept, exif = list[bytes](), b""
    for kind, body in webp_chunks(content):
        if kind == b"VP8X" and body:
            kept.append(_chunk(kind, bytes((body[0] & ~METADATA_FLAGS,)) + body[1:]))
        elif kind in PIXELS:
            kept.append(_chunk(kind, body))
        elif kind == b"EXIF":
            exif = exif or body
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body, exif


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
