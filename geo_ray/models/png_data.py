"""What of a PNG file decides its pixels (PNG specification, third edition, chapters 5 and 11)."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

START = b"\x89PNG\r\n\x1a\n"
CRITICAL = (b"IHDR", b"PLTE", b"IDAT")
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
EXIF_KEYWORDS = (b"Raw profile type exif", b"Raw profile type APP1")
MAX_TEXT_BYTES = 2**24
MAX_TEXTS_BYTES = 2**26
GREY = 0


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A chunk's kind and content, and its bytes in the file."""

    kind: bytes
    body: bytes
    raw: bytes


def png_chunks(content: bytes) -> Iterator[Chunk]:
    """The chunks up to the last one, whatever their checksums; what follows one of a wrong length is looked for in it.

    The last may be cut.
    """
    at = len(START)
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        end = at + size + 12
        if kind not in CRITICAL and kind != b"IEND" and not _is_chunk(content, end):
            found = [place for name in (b"PLTE", b"IDAT") if (place := content.find(name, at + 8)) > 0]
            if found:
                at = min(found) - 4
                continue
        yield Chunk(kind=kind, body=content[at + 8 : min(end, len(content) + 4) - 4], raw=content[at:end])
        if kind == b"IEND":
            return
        at = end


def _is_chunk(content: bytes, at: int) -> bool:
    return at + 8 <= len(content) and content[at + 4 : at + 8].isalpha()


def png_data(content: bytes) -> bytes:
    """The PNG without all that doesn't decide its pixels: texts, profiles, times, further frames.

    Of chunks that may be left out no checksum is looked at. Where one of the pixels' own is wrong, that of the packed
    data in them decides; ``ValueError`` where it is wrong too.
    """
    kept, depth, colour = [START], 8, -1
    packed, doubtful = list[bytes](), False
    for chunk in png_chunks(content):
        if chunk.kind == b"IHDR" and len(chunk.body) >= 10:
            depth, colour = chunk.body[8], chunk.body[9]
        if chunk.kind == b"IDAT":
            packed.append(chunk.body)
            kept.append(_chunk(chunk.kind, chunk.body))
            doubtful |= len(chunk.raw) == len(kept[-1]) and chunk.raw[-4:] != kept[-1][-4:]
        elif chunk.kind in CRITICAL:
            kept.append(chunk.raw)
        elif chunk.kind == b"tRNS":
            kept.append(_chunk(b"tRNS", _transparency(chunk.body, depth, colour)))
    if doubtful:
        _check_packed(b"".join(packed))
    return b"".join([*kept, _chunk(b"IEND", b"")])


def _check_packed(data: bytes) -> None:
    """Raise ``ValueError`` unless the packed data end with the checksum of what is in them."""
    stream = zlib.decompressobj()
    try:
        while data and not stream.eof:
            stream.decompress(data, MAX_TEXT_BYTES)
            data = stream.unconsumed_tail
    except zlib.error as error:
        raise ValueError("damaged data") from error
    if not stream.eof:
        raise ValueError("damaged data")


def _transparency(body: bytes, depth: int, colour: int) -> bytes:
    """The transparent grey on the scale of 8 bits, on which Pillow compares it, though it is stored in fewer."""
    if colour != GREY or depth not in (2, 4) or len(body) < 2:
        return body
    (value,) = struct.unpack_from(">H", body)
    return struct.pack(">H", (value & (2**depth - 1)) * 255 // (2**depth - 1))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_texts(content: bytes, keywords: tuple[bytes, ...] = ()) -> Iterator[tuple[bytes, bytes]]:
    """Keyword and text of each text in a PNG, or of those of some keywords; unpacked, of all no more than 64 MiB."""
    left = MAX_TEXTS_BYTES
    for chunk in png_chunks(content):
        key, _, value = chunk.body.partition(b"\0")
        if chunk.kind in TEXTS and (not keywords or key in keywords) and left > 0:
            text = _unpacked(chunk.kind, value)
            left -= len(text)
            yield key, text


def _unpacked(kind: bytes, value: bytes) -> bytes:
    packed = kind == b"zTXt"
    if kind == b"zTXt":
        value = value[1:]
    elif kind == b"iTXt":
        packed = value[:1] == b"\x01"
        value = value[2:].split(b"\0", 2)[-1]  # behind the language and the keyword in it
    if not packed:
        return value
    try:
        return zlib.decompressobj().decompress(value, MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def png_exif(content: bytes) -> bytes:
    """The EXIF of a PNG: in its own chunk, or in a text as ImageMagick writes it; empty where there is none."""
    for chunk in png_chunks(content):
        if chunk.kind == b"eXIf":
            return chunk.body
    for _, text in png_texts(content, EXIF_KEYWORDS):
        profile = raw_profile(text)
        if profile.startswith(b"Exif\0\0"):
            return profile
    return b""


def raw_profile(text: bytes) -> bytes:
    """The bytes of a profile that ImageMagick wrote as text: its name, its length, and hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.strip().split(b"\n")[2:]).decode("ascii"))
    except ValueError:
        return b""
