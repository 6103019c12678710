"""Tars that hold images, also compressed: WebDataset's, img2dataset's and anybody's."""

import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.data.sources.containers import ContainerShard, open_binary
from geo_ray.data.sources.kinds import MAGIC_BYTES, NO_IMAGES, kind_by_name, kind_of_bytes
from geo_ray.data.sources.left_out import IN_SYSTEM_FOLDERS, is_system, reason_of
from geo_ray.data.sources.rows import Row
from geo_ray.models.preprocess import MAX_BYTES
from geo_ray.remote_files import filesystem
from geo_ray.tables.ids import Unique, is_image_name

BESIDE_MAIN = "beside the main image of a sample"
MAX_ASIDE = 8  # images of one sample that are held until its main one comes


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
