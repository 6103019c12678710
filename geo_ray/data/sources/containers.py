"""Files that hold many images: tar (WebDataset, img2dataset), zip (OSV-5M) and msgpack (MP-16)."""

import contextlib
import gzip
import lzma
import os
import posixpath
import struct
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.data.sources.kinds import MAGIC_BYTES, NO_IMAGES, kind_by_name, kind_of_bytes
from geo_ray.data.sources.left_out import IN_SYSTEM_FOLDERS, is_system, reason_of
from geo_ray.data.sources.listing import Found
from geo_ray.data.sources.rows import ROWS_PER_SHARD, Row, Shard
from geo_ray.models.preprocess import MAX_BYTES
from geo_ray.remote_files import filesystem, open_file
from geo_ray.tables.ids import Unique, container_id, is_image_name, readable

# What the readers raise on damaged files; a plain OSError is the network's or the disk's, and may pass.
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, pa.ArrowInvalid,
    msgpack.UnpackException, UnicodeDecodeError,
)  # fmt: skip
UTF8_FLAG, UNICODE_PATH = 0x800, 0x7075
BESIDE_MAIN = "beside the main image of a sample"
DAMAGED_MEMBER = (*DAMAGE, RuntimeError, NotImplementedError)  # the last two: encrypted, or packed in an odd way
MAX_ASIDE = 8  # images of one sample that are held until its main one comes


def open_binary(uri: str) -> Any:
    """The file's bytes, seekable; what lies elsewhere comes in pieces of 8 MiB as it is read."""
    if "://" not in uri:
        return open(uri, "rb")
    return open_file(uri, block_size=8 * 2**20)


def size_of(found: Found) -> int:
    """The bytes of a file."""
    if found.size is not None:
        return found.size
    if "://" not in found.uri:
        return os.stat(found.uri).st_size
    fs, path = filesystem(found.uri)
    return int(fs.size(path))


@dataclass(frozen=True, kw_only=True)
class ContainerShard(Shard):
    """A container, or a part of one, that lies at ``uri`` and has ``size_bytes``."""

    uri: str
    size_bytes: int
    left_out: Counter[str] = field(
        default_factory=Counter, compare=False, repr=False
    )  # by reason, once rows have ended

    @property
    def identity(self) -> tuple[Any, ...]:
        """The size: the label names the file already."""
        return (self.size_bytes,)

    def rows(self) -> Iterator[Row]:
        """The images, and where the file is damaged a row that says so."""
        try:
            yield from self.whole_rows()
        except DAMAGE:
            yield Row(container_id(self.label, "(damaged)"), (self.uri,), (None,), "damaged_file")

    @abstractmethod
    def whole_rows(self) -> Iterator[Row]:
        """The images; raises one of ``DAMAGE`` where the file is damaged."""

    def row(self, key: str, content: bytes | None, problem: str = "", uri: str | None = None) -> Row:
        """The row of what lies under a key."""
        key = readable(key)
        return Row(container_id(self.label, key), (uri or f"{self.uri}#{key}",), (content,), problem)


@dataclass(frozen=True, kw_only=True)
class DamagedShard(ContainerShard):
    """A file that can't be opened as what its name says."""

    def whole_rows(self) -> Iterator[Row]:
        """No image."""
        raise EOFError


@dataclass(frozen=True, kw_only=True)
class TarShard(ContainerShard):
    """A tar, also compressed.

    Files that share the name up to the first dot are a sample of WebDataset; its image is the one that has nothing but
    an image's suffix after that, and others, such as ``key.depth.png``, are left out. Beside img2dataset's tars lies a
    parquet file that names the URL of each key: those become the rows' ``uri``.
    """

    def whole_rows(self) -> Iterator[Row]:
        """A row for each image."""
        urls, unique = _urls(self.uri), Unique()
        links: dict[str, str] = {}
        self.left_out.clear()
        with _opened_tar(self.uri) as tar:
            for key, content in _images(tar, links, self.left_out):
                yield self.row(unique(key), content, "" if content is not None else "too_large", urls.get(key))
        for key, content, problem in _linked(self.uri, links):
            yield self.row(unique(key), content, problem, urls.get(key))


class _StrictInfo(tarfile.TarInfo):
    """Headers of which a damaged one is an error: tarfile takes it for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictInfo":
        try:
            return super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error


@contextmanager
def _opened_tar(uri: str) -> Iterator[tarfile.TarFile]:
    """A tar that is read through once, compressed or not."""
    with open_binary(uri) as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictInfo) as tar:
        yield tar


def _linked(uri: str, links: dict[str, str]) -> Iterator[tuple[str, bytes | None, str]]:
    """Keys, contents and problems of the images that are links to others in the tar, which is read again for them."""
    targets = {name: _target(name, links) for name in links}
    wanted, found = set(targets.values()), dict[str, tuple[bytes | None, str]]()
    if wanted:
        with _opened_tar(uri) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]
                name = posixpath.normpath(member.name)
                if name in wanted and member.isreg():
                    content = _content(tar, member)
                    found[name] = content, "" if content is not None else "too_large"
    for name, target in targets.items():
        content, problem = found.get(target, (None, "fetch_failed"))
        yield name.rpartition(".")[0], content, problem


def _target(name: str, links: dict[str, str]) -> str:
    """What a link leads to in the end; a circle of links leads to itself."""
    seen = {name}
    target = links[name]
    while target in links and target not in seen:
        seen.add(target)
        target = links[target]
    return target


def _images(tar: tarfile.TarFile, links: dict[str, str], left_out: Counter[str]) -> Iterator[tuple[str, bytes | None]]:
    """Keys and contents of a tar's images; None where one is too large.

    Links to other members come into ``links``, by their paths, and what is no image is counted.
    """
    sample, has_main = "", False
    aside: list[tuple[str, bytes | None]] = []
    for name, content in _members_of(tar, links, left_out):
        start = name.rfind("/") + 1
        key = name[: name.find(".", start)] if "." in name[start:] else name
        stem = name.rpartition(".")[0] if is_image_name(name) else key
        if key != sample:
            yield from aside
            sample, aside, has_main = key, [], False
        if key == stem:
            if aside:
                left_out[BESIDE_MAIN] += len(aside)
            aside, has_main = [], True
            yield key, content
        elif has_main:
            left_out[BESIDE_MAIN] += 1
        else:
            aside.append((stem, content))
            if len(aside) > MAX_ASIDE:  # no sample: a folder's files whose names have dots
                yield from aside
                aside = []
    yield from aside


def _members_of(
    tar: tarfile.TarFile, links: dict[str, str], left_out: Counter[str]
) -> Iterator[tuple[str, bytes | None]]:
    """Paths and contents of a tar's images: by their names, or by how they begin where a name says nothing."""
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # or it would remember them all
        name = member.name.removeprefix("./")
        known = kind_by_name(name)
        if member.isdir():
            continue
        if is_system(name):
            left_out[IN_SYSTEM_FOLDERS] += 1
        elif (member.islnk() or member.issym()) and known == "image":
            folder = posixpath.dirname(name) if member.issym() else ""
            links[name] = posixpath.normpath(posixpath.join(folder, member.linkname))
        elif not member.isreg() or (known and known != "image") or name.casefold().endswith(NO_IMAGES):
            left_out[reason_of(name, known, left_out)] += 1
        else:
            content = _content(tar, member)
            if known or (content is not None and kind_of_bytes(content[:MAGIC_BYTES]) == "image"):
                yield name, content
            else:
                left_out[reason_of(name, "", left_out)] += 1


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    file = tar.extractfile(member) if member.size <= MAX_BYTES else None
    if file is None:
        return None
    with file:
        return file.read()


def _urls(uri: str) -> dict[str, str]:
    """Where img2dataset had the images of a tar from, by their keys; empty for tars of others."""
    beside = uri.removesuffix(".tar") + ".parquet"
    fs, path = filesystem(beside)
    if not uri.endswith(".tar") or not fs.exists(path):
        return {}
    try:
        with fs.open(path, "rb") as file, closing(pq.ParquetFile(file)) as table:
            if not {"key", "url"} <= set(table.schema_arrow.names):
                return {}
            columns = table.read(["key", "url"])
    except pa.ArrowInvalid:  # the images don't depend on it
        return {}
    pairs = zip(columns["key"].to_pylist(), columns["url"].to_pylist(), strict=True)
    return {str(key): url for key, url in pairs if isinstance(url, str)}


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


@dataclass(frozen=True, kw_only=True)
class MsgpackShard(ContainerShard):
    """A file of msgpack records with an ``image`` and an ``id``, as GeoEstimation has MP-16 (4096 a file)."""

    def whole_rows(self) -> Iterator[Row]:
        """A row for each record."""
        unique = Unique()
        with open_binary(self.uri) as file:
            records = msgpack.Unpacker(file, raw=True, max_buffer_size=MAX_BYTES + 2**20)
            try:
                for record in records:
                    yield self._row(record, unique)
            except ValueError as error:
                raise EOFError from error
            if records.tell() < self.size_bytes:  # it takes a cut record for the end
                raise EOFError

    def _row(self, record: Any, unique: Unique) -> Row:
        content = record.get(b"image") if isinstance(record, dict) else None
        if not isinstance(content, bytes):
            return self.row(unique("(no image)"), None, "damaged_file")
        key = record.get(b"id", b"")
        text = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
        return self.row(unique(text), content)
