"""A GPS directory for an EXIF block that exists: what is in the block stays where it is, byte for byte.

Writing a block anew, as libraries do, moves the camera's own notes, whose offsets nobody else can mend, and loses what
the library doesn't know. Here the new directory is appended, and one pointer is turned to it.
"""

import struct
from dataclasses import dataclass

from geo_ray.data.exports.position import METHOD, Position, Rational, sexagesimal

GPS_POINTER = 0x8825
KEPT = (7, 16, 17, 29)  # time, direction of the image, date: true whatever the position
BYTE, ASCII, LONG, RATIONAL, UNDEFINED = 1, 2, 4, 5, 7
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
NOTHING = b"II*\0\x08\0\0\0" + b"\0\0" + b"\0\0\0\0"  # a block whose first directory is empty


class NotWritableError(Exception):
    """The position can't be put into this file; the message says why."""


@dataclass(frozen=True)
class Entry:
    """An entry of a directory, as its 12 bytes, and what of it lies elsewhere in the block (offset and bytes)."""

    tag: int
    raw: bytes
    elsewhere: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Directory:
    """The entries of a directory at an offset, and where the next one lies (0 for none)."""

    at: int
    entries: tuple[Entry, ...]
    next: int


class Block:
    """An EXIF block (a TIFF file without images) to which directories can be appended."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        if content[:4] not in (b"II*\0", b"MM\0*") or len(content) < 8:
            raise NotWritableError("its EXIF is damaged")
        self._order = "<" if content[:2] == b"II" else ">"
        self.first = self.directory(self._number(4))

    def directory(self, at: int) -> Directory:
        """The directory at an offset; raises ``NotWritableError`` where it doesn't lie in the block."""
        if not 8 <= at <= len(self.content) - 2:
            raise NotWritableError("its EXIF is damaged")
        (count,) = struct.unpack_from(f"{self._order}H", self.content, at)
        end = at + 2 + 12 * count
        if end > len(self.content):
            raise NotWritableError("its EXIF is damaged")
        entries = tuple(self._entry(start) for start in range(at + 2, end, 12))
        return Directory(at, entries, self._number(end) if end + 4 <= len(self.content) else 0)

    def _entry(self, at: int) -> Entry:
        tag, kind, count = struct.unpack_from(f"{self._order}HHI", self.content, at)
        size = SIZES.get(kind, 0) * count
        start = self._number(at + 8)
        outside = size > 4 and 8 <= start <= len(self.content) - size
        return Entry(tag, bytes(self.content[at : at + 12]), (start, size) if outside else (0, 0))

    def _number(self, at: int) -> int:
        return int(struct.unpack_from(f"{self._order}I", self.content, at)[0])

    def append(self, kept: tuple[Entry, ...], values: dict[int, tuple[int, bytes]], following: int = 0) -> int:
        """Append a directory of entries that are there and new ones (tag: type and bytes); its offset."""
        self.content += bytes(len(self.content) % 2)
        at = len(self.content)
        beyond = at + 2 + 12 * (len(kept) + len(values)) + 4
        raws, data = {entry.tag: entry.raw for entry in kept}, b""
        for tag, (kind, value) in values.items():
            head = struct.pack(f"{self._order}HHI", tag, kind, len(value) // SIZES[kind])
            if len(value) <= 4:
                raws[tag] = head + value.ljust(4, b"\0")
            else:
                raws[tag] = head + struct.pack(f"{self._order}I", beyond + len(data))
                data += value + bytes(len(value) % 2)
        table = b"".join(raw for _, raw in sorted(raws.items()))
        self.content += struct.pack(f"{self._order}H", len(raws)) + table
        self.content += struct.pack(f"{self._order}I", following) + data
        return at

    def point_to_gps(self, at: int) -> None:
        """Make the first directory name the GPS directory at this offset."""
        number = struct.pack(f"{self._order}I", at)
        for place, entry in enumerate(self.first.entries):
            if entry.tag == GPS_POINTER:
                start = self.first.at + 2 + 12 * place + 8
                self.content[start : start + 4] = number
                return
        moved = self.append(self.first.entries, {GPS_POINTER: (LONG, number)}, self.first.next)
        self.content[4:8] = struct.pack(f"{self._order}I", moved)

    def erase(self, entry: Entry) -> None:
        """Overwrite what an entry holds elsewhere: a position that was replaced must not stay in the file."""
        start, size = entry.elsewhere
        self.content[start : start + size] = bytes(size)

    def gps(self) -> Directory | None:
        """The GPS directory that is there, or None; a pointer that leads nowhere counts as none."""
        pointers = [entry for entry in self.first.entries if entry.tag == GPS_POINTER]
        if len(pointers) > 1 or len({entry.tag for entry in self.first.entries}) < len(self.first.entries):
            raise NotWritableError("its EXIF is damaged")
        if not pointers:
            return None
        try:
            return self.directory(struct.unpack(f"{self._order}I", pointers[0].raw[8:])[0])
        except NotWritableError:
            return None

    def rationals(self, *values: Rational) -> tuple[int, bytes]:
        """An entry's type and bytes."""
        return RATIONAL, b"".join(struct.pack(f"{self._order}II", *value) for value in values)


def with_position(exif: bytes, position: Position) -> bytes:
    """An EXIF block (b"" for none) with this position; the one it had, and what described that, is overwritten.

    Raises ``NotWritableError`` where the block is damaged.
    """
    block = Block(exif or NOTHING)
    old = block.gps()
    kept = tuple({entry.tag: entry for entry in old.entries if entry.tag in KEPT}.values()) if old else ()
    if old:
        for entry in old.entries:
            if entry.tag not in KEPT:
                block.erase(entry)
        table = slice(old.at + 2, old.at + 2 + 12 * len(old.entries))
        block.content[table] = bytes(12 * len(old.entries))
    block.point_to_gps(block.append(kept, _values(block, position)))
    return bytes(block.content)


def _values(block: Block, position: Position) -> dict[int, tuple[int, bytes]]:
    north, east = (letter.encode() + b"\0" for letter in position.hemispheres)
    values = {
        0: (BYTE, bytes((2, 3, 0, 0))),
        1: (ASCII, north),
        2: block.rationals(*sexagesimal(position.latitude)),
        3: (ASCII, east),
        4: block.rationals(*sexagesimal(position.longitude)),
        18: (ASCII, b"WGS-84\0"),
        27: (UNDEFINED, b"ASCII\0\0\0" + METHOD.encode()),
    }
    return values if position.error_m is None else values | {31: block.rationals((position.error_m, 1))}
