"""Files that hold many images: what tars, zips and parquet files have in common, and msgpack (MP-16)."""

import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pyarrow as pa

from geo_ray.data.sources.listing import Found
from geo_ray.data.sources.rows import Row, Shard
from geo_ray.models.preprocess import MAX_BYTES
from geo_ray.remote_files import filesystem, open_file
from geo_ray.tables.ids import Unique, container_id, readable

# What the readers raise on damaged files; a plain OSError is the network's or the disk's, and may pass.
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, pa.ArrowInvalid,
    msgpack.UnpackException, UnicodeDecodeError,
)  # fmt: skip


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
    left_out: Counter[str] = field(default_factory=Counter, compare=False, repr=False)  # by reason, once rows end

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
