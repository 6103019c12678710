"""Zips that hold images: OSV-5M's and anybody's, with names as macOS, Windows and others write them."""

import contextlib
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from geo_ray.data.sources.containers import DAMAGE, ContainerShard, DamagedShard, open_binary, size_of
from geo_ray.data.sources.kinds import MAGIC_BYTES, NO_IMAGES, kind_by_name, kind_of_bytes
from geo_ray.data.sources.left_out import IN_SYSTEM_FOLDERS, is_system, reason_of
from geo_ray.data.sources.listing import Found
from geo_ray.data.sources.rows import ROWS_PER_SHARD, Row, Shard
from geo_ray.models.preprocess import MAX_BYTES
from geo_ray.tables.ids import Unique, is_image_name

UTF8_FLAG, UNICODE_PATH = 0x800, 0x7075
DAMAGED_MEMBER = (*DAMAGE, RuntimeError, NotImplementedError)  # the last two: encrypted, or packed in an odd way


@dataclass(frozen=True, kw_only=True)
class ZipShard(ContainerShard):
    """The images of a zip from number ``start`` to before ``stop``, in the order of its directory."""

    start: int
    stop: int

    @property
    def identity(self) -> tuple[Any, ...]:
        """The size and which images."""
        return (self.size_bytes, self.start, self.stop)

    def whole_rows(self) -> Iterator[Row]:
        """A row for each image."""
        with open_binary(self.uri) as file, zipfile.ZipFile(file) as archive:
            members, keys = _members(archive)
            for number in range(self.start, self.stop):
                yield self.row(keys[number], *_unzipped(archive, members[number]))


def _members(archive: zipfile.ZipFile, left_out: Counter[str] | None = None) -> tuple[list[zipfile.ZipInfo], list[str]]:
    """A zip's images and their keys, which are unique within all of it; others are counted."""
    left_out = Counter() if left_out is None else left_out
    unique, members, keys = Unique(), [], []
    for info in archive.infolist():
        name = _name(info)
        if info.is_dir() or name.endswith("/"):
            continue
        if is_system(name):
            left_out[IN_SYSTEM_FOLDERS] += 1
        elif is_image_name(name) or _begins_as_image(archive, info, name):
            members.append(info)
            keys.append(unique(name))
        else:
            left_out[reason_of(name, kind_by_name(name), left_out)] += 1
    return members, keys


def _name(info: zipfile.ZipInfo) -> str:
    """A member's path. Without the flag for UTF-8, zipfile takes cp437, where macOS and others wrote UTF-8 anyway.

    Info-ZIP's field for a name in UTF-8 (0x7075) is believed where its checksum is that of the plain name.
    """
    name = info.orig_filename
    if not info.flag_bits & UTF8_FLAG:
        raw = name.encode("cp437", "replace")
        field = _extra_field(info.extra, UNICODE_PATH)
        if len(field) > 5 and field[0] == 1 and int.from_bytes(field[1:5], "little") == zlib.crc32(raw):
            raw = field[5:]
        with contextlib.suppress(UnicodeDecodeError):
            name = raw.decode("utf-8")
    return name.partition("\0")[0].replace("\\", "/").removeprefix("./").lstrip("/")


def _extra_field(extra: bytes, wanted: int) -> bytes:
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        if kind == wanted:
            return extra[4 : 4 + size]
        extra = extra[4 + size :]
    return b""


def _begins_as_image(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> bool:
    if kind_by_name(name) or name.casefold().endswith(NO_IMAGES):
        return False
    try:
        with archive.open(info) as file:
            return kind_of_bytes(file.read(MAGIC_BYTES)) == "image"
    except DAMAGED_MEMBER:
        return False


def _unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[bytes | None, str]:
    if member.file_size > MAX_BYTES:
        return None, "too_large"
    try:
        with archive.open(member) as file:
            content = file.read(MAX_BYTES + 1)  # no more than its header says comes out of it, and that is checked
    except DAMAGED_MEMBER:
        return None, "damaged_file"
    return content, ""


def zip_shards(
    found: Found, label: str, rows_per_shard: int = ROWS_PER_SHARD, left_out: Counter[str] | None = None
) -> Iterator[Shard]:
    """A zip in parts of about ``rows_per_shard`` images; its directory is read, and how odd members begin.

    What is no image is counted in ``left_out``.
    """
    size = size_of(found)
    try:
        with open_binary(found.uri) as file, zipfile.ZipFile(file) as archive:
            num_images = len(_members(archive, left_out)[0])
    except DAMAGE:
        yield DamagedShard(label=label, uri=found.uri, size_bytes=size, num_rows=1)
        return
    for start in range(0, num_images, rows_per_shard):
        stop = min(start + rows_per_shard, num_images)
        yield ZipShard(label=label, uri=found.uri, size_bytes=size, start=start, stop=stop, num_rows=stop - start)
