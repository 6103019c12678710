"""A JPEG with a position in its EXIF: one segment is replaced or added, all others stay byte for byte.

But for a position in its XMP, which is blanked: a photo must not have two.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from geo_ray.data.exports.gps_directory import NotWritableError, with_position
from geo_ray.data.exports.position import Position
from geo_ray.models.exif import gps_position
from geo_ray.models.position_traces import position_traces

START = b"\xff\xd8"
EXIF = b"Exif\0\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
APP0, APP1, APP2, SCAN = 0xE0, 0xE1, 0xE2, 0xDA
MAX_SEGMENT = 0xFFFF - 2
# GPS properties of XMP as attributes and as elements, but for time and direction, which are true whatever the position.
GPS_NAME = rb"[\w.-]+:gps(?!TimeStamp|DateStamp|ImgDirection)\w+"
GPS_ATTRIBUTE = re.compile(rb"(?is)(?<=\s)%s\s{0,9}=\s{0,9}(?:\"[^\"<>]*\"|'[^'<>]*')" % GPS_NAME)
GPS_ELEMENT = re.compile(rb"(?is)<(%s)(?:\s[^<>]*)?(?:/>|(?<!/)>.{0,4000}?</\1\s*>)" % GPS_NAME)


@dataclass(frozen=True)
class Segment:
    """A segment before the image data: its marker, and where it begins, its content begins, and it ends."""

    marker: int
    start: int
    body: int
    end: int


def is_jpeg(content: bytes) -> bool:
    """Whether these are the bytes of a JPEG file."""
    return content.startswith(START + b"\xff")


def jpeg_with_position(content: bytes, position: Position) -> bytes:
    """The JPEG with this position and no other.

    Raises ``NotWritableError`` where its EXIF is damaged, full or in an odd place, or another position would stay.
    """
    if "xmp" in position_traces(content):
        content = _without_xmp_position(content)
    header = list(_segments(content))
    held = [one for one in header if one.marker == APP1 and content.startswith(EXIF, one.body)]
    if len(held) > 1:
        raise NotWritableError("its EXIF is in several pieces")
    exif = content[held[0].body + len(EXIF) : held[0].end] if held else b""
    body = EXIF + with_position(exif, position)
    if len(body) > MAX_SEGMENT:
        raise NotWritableError("its EXIF is full")
    start, end = (held[0].start, held[0].end) if held else (_behind_app0(header),) * 2
    # Further pictures in the file (MPF) are found by their distance from this segment, which must not grow.
    if any(one.marker == APP2 and content.startswith(b"MPF\0", one.body) and one.start < start for one in header):
        raise NotWritableError("its EXIF follows its list of pictures")
    written = content[:start] + struct.pack(">BBH", 0xFF, APP1, len(body) + 2) + body + content[end:]
    _check(written, position)
    return written


def _without_xmp_position(content: bytes) -> bytes:
    """The JPEG with blanks for each GPS property of its XMP, so that nothing moves."""
    for segment in _segments(content):
        if segment.marker == APP1 and content.startswith(XMP, segment.body):
            packet = content[segment.body : segment.end]
            for pattern in (GPS_ATTRIBUTE, GPS_ELEMENT):
                packet = pattern.sub(lambda found: b" " * len(found[0]), packet)
            content = content[: segment.body] + packet + content[segment.end :]
    return content


def _segments(content: bytes) -> Iterator[Segment]:
    at = len(START)
    while at + 4 <= len(content) and content[at] == 0xFF:
        start = at
        while content[at + 1] == 0xFF and at + 4 < len(content):  # fill bytes
            at += 1
        marker = content[at + 1]
        if marker == SCAN:
            return
        (length,) = struct.unpack_from(">H", content, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(content) or marker < 0xC0 or 0xD0 <= marker <= 0xD9:
            break
        yield Segment(marker, start, at + 4, end)
        at = end
    raise NotWritableError("it is damaged")


def _behind_app0(header: list[Segment]) -> int:
    """Where EXIF goes: first, but JFIF's own segment and its thumbnail wants to be that."""
    at = len(START)
    for segment in header:
        if segment.marker != APP0:
            break
        at = segment.end
    return at


def _check(written: bytes, position: Position) -> None:
    """Read back what was written; a block with odd contents may lead readers elsewhere."""
    found = gps_position(written)
    if found is None or max(abs(found[0] - position.latitude), abs(found[1] - position.longitude)) > 1e-8:
        raise NotWritableError("its EXIF is damaged")
    if position_traces(written) != ("exif",):
        raise NotWritableError("it has another position, which can't be replaced")
