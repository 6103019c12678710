"""Bytes behind paths and URIs, many at a time, and what a manifest may make us read."""

import errno
import itertools
import os
import random
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from geo_ray.data.fetch.policy import DEFAULT_POLICY, FetchPolicy
from geo_ray.data.fetch.prefetch import Content, in_order
from geo_ray.data.sources.rows import Input, Row, Shard
from geo_ray.models.preprocess import MAX_BYTES
from geo_ray.remote_files import PAUSE_S, Verdict, again, filesystem, is_url, judge, local_path
from geo_ray.tables.ids import readable

if TYPE_CHECKING:
    from geo_ray.data.fetch.fetcher import Fetcher

NUM_THREADS = 16  # reads of files and objects under way at a time; a GET from S3 takes 20 to 100 ms
FILES_PER_READ = 8
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf", "memory"})
CHAIN = re.compile(r"::[^/]*://")  # how fsspec writes a file system within another


@dataclass(frozen=True, kw_only=True)
class Access:
    """What rows of a manifest may name: URLs, objects in object stores, and local files below ``root`` only.

    None as ``root`` allows no local file, as for a manifest that lies elsewhere. Links and ``..`` are followed before
    the path is judged. Schemes that could reach this machine in other ways (``file::``, ``local:``, ``sftp:``, chains
    of them) are refused.
    """

    root: str | None = None

    def allowed(self, uri: str) -> bool:
        """Whether a row may name this place; URLs are judged when they are fetched."""
        if is_url(uri):
            return True
        path = local_path(uri)
        if path is None:
            return CHAIN.search(uri) is None and uri.split("://", 1)[0].lower() in OBJECT_STORES
        if self.root is None:
            return False
        root = os.path.realpath(self.root)
        return os.path.realpath(path).startswith(root.rstrip("/") + "/")


def place_of(uri: str) -> str:
    """Where an image lies, as a text that can be written as UTF-8: a path with odd bytes becomes a ``file://`` URI."""
    path = local_path(uri)
    return readable(uri) if path is None or readable(uri) == uri else f"file://{quote(os.fsencode(path))}"


@dataclass(frozen=True, kw_only=True)
class FilesShard(Shard):
    """Images that each have a place of their own. ``access`` is None where the user named them, not a manifest."""

    inputs: tuple[Input, ...]
    policy: FetchPolicy = DEFAULT_POLICY
    access: Access | None = None

    @property
    def identity(self) -> tuple[Any, ...]:
        """Ids and places."""
        return tuple((item.image_id, *item.views) for item in self.inputs)

    def rows(self) -> Iterator[Row]:
        """A row for each image."""
        with Reader(self.policy, self.access) as reader:
            yield from reader.rows(self.inputs)

    def rows_but(self, skip: Callable[[int], bool]) -> Iterator[Row | None]:
        """A row for each image; None for those to be skipped, which are not read."""
        wanted = [not skip(number) for number in range(len(self.inputs))]
        with Reader(self.policy, self.access) as reader:
            rows = reader.rows(itertools.compress(self.inputs, wanted))
            yield from (next(rows) if one else None for one in wanted)


def read_bytes(uri: str) -> Content:
    """The bytes behind a path or URI and an empty string, or None and the code of the problem.

    A URL is fetched as ``FetchPolicy`` allows by default. What is read was named by the user: no ``Access`` is asked.
    """
    with Reader(DEFAULT_POLICY) as reader:
        return reader.submit([uri]).result()[0]


class Reader:
    """Reads files, objects and URLs while it is entered, many at a time."""

    def __init__(self, policy: FetchPolicy, access: Access | None = None) -> None:
        self._policy = policy
        self._access = access
        self._fetcher: Fetcher | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "Reader":
        self._threads = ThreadPoolExecutor(NUM_THREADS, "reader")
        self._stack.callback(self._threads.shutdown, wait=True, cancel_futures=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def submit(self, uris: Sequence[str]) -> Future[list[Content]]:
        """Start to read what is behind paths and URIs, one after another; a URL comes alone."""
        if is_url(uris[0]):
            if self._fetcher is None:
                from geo_ray.data.fetch.fetcher import (
                    Fetcher,  # aiohttp takes 0.3 s to import, and most inputs are no URLs
                )

                self._fetcher = self._stack.enter_context(Fetcher(self._policy))
            return self._fetcher.submit(uris[0])
        return self._threads.submit(_read_all, uris, self._access)

    def rows(self, inputs: Iterable[Input]) -> Iterator[Row]:
        """The rows of these inputs, in order; later ones are read while earlier ones are taken."""
        for near, group in itertools.groupby(inputs, key=_is_near):
            reads = ((items, [self.submit(uris) for uris in together]) for items, together in _reads(group, near))
            for items, contents in in_order(reads, 2 * NUM_THREADS if near else 4 * self._policy.num_connections):
                left = iter(contents)
                for item in items:
                    yield _row(item, tuple(itertools.islice(left, len(item.views))))


def _is_near(item: Input) -> bool:
    return all(local_path(uri) is not None for uri in item.views)


def _reads(inputs: Iterator[Input], near: bool) -> Iterator[tuple[list[Input], list[list[str]]]]:
    """Inputs with the URIs of each of their reads: files several at a time, all else one by one.

    To hand a read to a thread and back costs ten times what a small file takes that is in the page cache.
    """
    while items := list(itertools.islice(inputs, FILES_PER_READ if near else 1)):
        uris = [uri for item in items for uri in item.views]
        yield items, [uris] if near else [[uri] for uri in uris]


def _row(item: Input, contents: tuple[Content, ...]) -> Row:
    problem = next((problem for _, problem in contents if problem), "")
    uris = tuple(place_of(uri) for uri in item.views)
    return Row(readable(item.image_id), uris, tuple(content for content, _ in contents), problem)


def _read_all(uris: Sequence[str], access: Access | None) -> list[Content]:
    return [_read_allowed(uri, access) for uri in uris]


def _read_allowed(uri: str, access: Access | None) -> Content:
    if not uri:
        return None, "no_image"
    if access is not None and not access.allowed(uri):
        return None, "blocked_path"
    path = local_path(uri)
    return _read_remote(uri) if path is None else _read_local(path if access is None else os.path.realpath(path))


def _read_local(path: str) -> Content:
    """A regular file's bytes; a pipe or a device is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                return None, "not_a_file"
            if about.st_size > MAX_BYTES:
                return None, "too_large"
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(), ""
        finally:
            os.close(descriptor)
    except (OSError, ValueError):  # ValueError: a name with a null byte
        return None, "fetch_failed"


def _read_remote(uri: str) -> Content:
    """An object's bytes in one request, if it is no larger than allowed; passing errors are tried again."""
    try:
        content = again(lambda: first_bytes(uri, MAX_BYTES + 1), pause_s=PAUSE_S * random.uniform(0.5, 1.0))
    except IsADirectoryError:
        return None, "not_a_file"
    except Exception as error:
        if judge(error) is Verdict.BUG:
            raise
        return None, "fetch_failed"
    return (None, "too_large") if len(content) > MAX_BYTES else (content, "")


def first_bytes(uri: str, count: int) -> bytes:
    """The first bytes of a file or object; raises what reading does."""
    if "://" not in uri:
        with open(uri, "rb") as file:
            return file.read(count)
    fs, path = filesystem(uri)
    try:
        return bytes(fs.cat_file(path, start=0, end=count))
    except OSError as error:
        if error.errno == errno.EINVAL and fs.size(path) == 0:  # S3 has no first byte of an empty object to give
            return b""
        raise
