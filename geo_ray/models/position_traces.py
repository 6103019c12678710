"""Whether anything in a photo looks like the position it was taken at, wherever it stands and however odd it is.

For decisions that spare such photos; a position to rely on is ``exif.gps_position``. The file is searched as bytes, so
that its format doesn't matter: for EXIF (TIFF directories, CIPA DC-008) in any of its pieces, and for XMP. What PNG
packs is unpacked, and what JPEG splits is joined. Makers' own notes don't count.

These are true positions of people's photos: nothing here logs them, returns them or puts them into a message.
"""

import math
import re
import struct
from collections.abc import Iterator
from itertools import islice

from geo_ray.models import png_data

TIFF_STARTS = (b"II*\0", b"MM\0*")
GPS_POINTER, LATITUDE, LONGITUDE = 0x8825, 2, 4
OTHER_DIRECTORIES = (0x014A, 0x8769)  # pointers to further ones: SubIFDs, Exif
MAX_BLOCKS, MAX_DIRECTORIES, MAX_ENTRIES = 256, 16, 512  # of a file, a block, a directory: made-up ones cost no more
NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d"}  # struct's letters by EXIF's types
RATIONALS = {5: "I", 10: "i"}  # with a sign, too, where none belongs
TEXTS = (2, 7)

RDF = b"22-rdf-syntax-ns#"  # of the namespace that all XMP declares, first of all
WIDE_RDF = {encoding: RDF.decode().encode(encoding) for encoding in ("utf-16-le", "utf-16-be")}
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
EXTENSION_HEADER = struct.Struct(">32sII")  # digest of the whole, its length, where this piece begins
MAX_XMP_BYTES, MAX_PIECES = 2**24, 1024

# By the last part of their names, in any namespace: exif:GPSLatitude, geo:lat, drone-dji:GpsLongtitude (so spelled).
NAMES = {
    "latitude": rb"(?:gps[-_]?)?lat(?:itude)?",
    "longitude": rb"(?:gps[-_]?)?(?:lon(?:g(?:t?itude)?)?|lng)",
    "both": rb"gps[-_]?(?:position|coordinates?)",
}
PROPERTY = rb"""(?is)(?<![\w-])%(name)s(?:\s{0,9}=\s{0,9}["']([^"'<>]{0,200})|(?:\s[^<>]{0,400})?>(.{0,400}?)</)"""
PROPERTIES = {kind: re.compile(PROPERTY.replace(b"%(name)s", b"(?:" + name + b")")) for kind, name in NAMES.items()}
NUMBER = re.compile(rb"\d")
NOT_ZERO = re.compile(rb"(?<![/\d])\d*[1-9]|[.,]\d*[1-9]")  # of 0/1, the 1 doesn't count


def position_traces(content: bytes) -> tuple[str, ...]:
    """``exif`` or ``xmp`` for each piece of the file that looks like a position."""
    traces = list[str]()
    for piece in _pieces(content):
        starts = ((piece, at) for start in TIFF_STARTS for at in islice(_found(piece, start), MAX_BLOCKS))
        traces += ["exif" for block in starts if _has_position(*block)]
        traces += ["xmp" for text in _xmp_texts(piece) if _says_position(text)]
    return tuple(traces)


def _pieces(content: bytes) -> Iterator[bytes]:
    """The file, and what is packed or split in it."""
    yield content
    if content.startswith(png_data.START):
        properties = [RDF]
        for key, text in png_data.png_texts(content):
            yield text
            yield png_data.raw_profile(text)
            properties.append(b' %s="%s"' % (key, text[:200]))
        yield b"".join(properties)  # ImageMagick writes exif:GPSLatitude and others as texts of these names
    pieces = sorted(_extensions(content))
    if len(pieces) > 1:
        yield b"".join(body for *_, body in pieces)


def _extensions(content: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Digest, place and content of each piece of XMP that was too long for a segment of a JPEG."""
    for at in islice(_found(content, EXTENSION), MAX_PIECES):
        start = at + len(EXTENSION)
        if at >= 2 and start + EXTENSION_HEADER.size <= len(content):
            digest, _, place = EXTENSION_HEADER.unpack_from(content, start)
            end = at - 2 + int.from_bytes(content[at - 2 : at])
            yield digest, place, content[start + EXTENSION_HEADER.size : end]


def _found(content: bytes, part: bytes) -> Iterator[int]:
    at = content.find(part)
    while at >= 0:
        yield at
        at = content.find(part, at + 1)


def _xmp_texts(content: bytes) -> Iterator[bytes]:
    """What follows each declaration of XMP's namespace, up to the next zero byte."""
    stop = 0
    for at in _found(content, RDF):
        if at >= stop:
            zero = content.find(b"\0", at, at + MAX_XMP_BYTES)
            stop = zero if zero >= 0 else at + MAX_XMP_BYTES
            yield content[at:stop]
    for encoding, part in WIDE_RDF.items():
        at = content.find(part)
        if at >= 0:
            yield content[at : at + MAX_XMP_BYTES].decode(encoding, "ignore").encode("utf-8", "ignore")


def _says_position(text: bytes) -> bool:
    values = {kind: [a or b for a, b in pattern.findall(text)] for kind, pattern in PROPERTIES.items()}
    latitude, longitude, both = ([value for value in values[kind] if NUMBER.search(value)] for kind in NAMES)
    pairs = [latitude + longitude] if latitude and longitude else []
    return any(NOT_ZERO.search(value) for pair in [*pairs, both] for value in pair)


def _has_position(content: bytes, at: int) -> bool:
    """Whether one of the directories of a TIFF structure that begins here has a latitude and a longitude."""
    order = "<" if content[at : at + 1] == b"I" else ">"
    waiting, seen = [_number(content, at + 4, order)], set[int]()
    while waiting and len(seen) < MAX_DIRECTORIES:
        offset = waiting.pop()
        if offset in seen or not offset:
            continue
        seen.add(offset)
        entries, following = _directory(content, at, offset, order)
        waiting.append(following)
        for tag, values in entries:
            if tag == GPS_POINTER:
                if any(_is_position(dict(_directory(content, at, int(value), order)[0])) for value in values[:1]):
                    return True
            elif tag in OTHER_DIRECTORIES:
                waiting += [int(value) for value in values[:MAX_DIRECTORIES]]
    return False


def _is_position(entries: dict[int, list[float]]) -> bool:
    """Whether both axes have numbers, and not zero alone, which cameras without a fix write."""
    latitude, longitude = entries.get(LATITUDE, []), entries.get(LONGITUDE, [])
    return bool(latitude and longitude) and any(latitude + longitude)


def _directory(content: bytes, at: int, offset: int, order: str) -> tuple[list[tuple[int, list[float]]], int]:
    """Tag and numbers of each entry of the directory at an offset, and where the next one is; none outside the file."""
    start = at + offset + 2
    if not offset >= 0 or start > len(content):
        return [], 0
    (count,) = struct.unpack_from(f"{order}H", content, start - 2)
    if count > MAX_ENTRIES:
        return [], 0
    whole = min(count, (len(content) - start) // 12)
    entries = [_entry(content, at, start + 12 * number, order) for number in range(whole)]
    return entries, _number(content, start + 12 * count, order)


def _entry(content: bytes, at: int, start: int, order: str) -> tuple[int, list[float]]:
    tag, kind, count = struct.unpack_from(f"{order}HHI", content, start)
    if tag not in (GPS_POINTER, LATITUDE, LONGITUDE, *OTHER_DIRECTORIES):
        return tag, []
    letter = NUMBERS.get(kind) or RATIONALS.get(kind, "") * 2 or "s" * (kind in TEXTS)
    count = min(count, 64)
    size = struct.calcsize(f"{order}{letter}") * count
    place = start + 8 if size <= 4 else at + _number(content, start + 8, order)
    raw = content[place : place + size]
    if not letter or len(raw) < size:
        return tag, []
    if kind in TEXTS:
        return tag, [float(digits) for digits in re.findall(rb"\d+(?:\.\d+)?", raw)]
    values = struct.unpack(f"{order}{letter * count}", raw)
    if kind in RATIONALS:
        return tag, [above / below for above, below in zip(values[::2], values[1::2], strict=True) if below]
    return tag, [float(value) for value in values if math.isfinite(value)]


def _number(content: bytes, at: int, order: str) -> int:
    return int(struct.unpack_from(f"{order}I", content, at)[0]) if at + 4 <= len(content) else 0
