"""Where a run writes: a folder, or a prefix in an object store. A file appears there whole or not at all."""

import contextlib
import inspect
import itertools
import os
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fsspec.asyn import sync

from geo_ray.errors import OutputError
from geo_ray.remote_files import PAUSE_S, Verdict, again, filesystem, judge, local_path, reason, redacted, remote_errors

NUM_TRIES = 5  # of a remote write; s3fs tries again by itself, but not after every error
NAMES_PER_DELETE = 1000  # what S3 deletes in a request
PARTIAL = ".partial-"  # begins the names of files that are being written


class Store(ABC):
    """Files by name below one address. All methods raise ``OutputError`` that names the address and what went wrong."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.uri,)

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Put a file there, in place of one of the same name."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Put a file there unless there is one of the same name, of all that try at a time for one only."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A file's bytes, or None where there is none."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """The files directly in a folder, sorted; none where the folder isn't there."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Take a file away, if it is there."""

    def delete_all(self, names: Iterable[str]) -> None:
        """Take files away, those that are there."""
        for name in names:
            self.delete(name)

    @abstractmethod
    def sweep(self, folder: str) -> None:
        """Take away what writers that were killed have left in a folder."""

    @abstractmethod
    def age_s(self, name: str) -> float | None:
        """Seconds since a file was written, or None where there is none."""

    def room_bytes(self) -> int | None:
        """How many bytes there is room for, or None where nobody knows."""
        return None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        with remote_errors(self._unwritable):
            yield

    def _unwritable(self, error: Exception) -> OutputError:
        shown, why = redacted(self.uri), reason(error, self.uri)
        return OutputError(f"output {shown!r} can't be written ({why}); mend it, or name another --output")


def open_store(uri: str) -> Store:
    """The store at a path or URI; nothing is touched yet."""
    return FolderStore(uri) if local_path(uri) is not None else ObjectStore(uri)


class FolderStore(Store):
    """A folder of a file system: files are renamed into place."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._root = Path(os.path.abspath(local_path(uri) or uri))

    def write(self, name: str, content: bytes) -> None:
        """See ``Store.write``."""
        with self._errors(), self._partial(name, content) as (partial, path):
            os.replace(partial, path)

    def create(self, name: str, content: bytes) -> bool:
        """See ``Store.create``."""
        with self._errors(), self._partial(name, content) as (partial, path):
            try:
                os.link(partial, path)
            except FileExistsError:
                return False
            return True

    @contextlib.contextmanager
    def _partial(self, name: str, content: bytes) -> Iterator[tuple[Path, Path]]:
        """A file with the content beside the one that it is to become; what is left of it is deleted."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
        try:
            partial.write_bytes(content)
            yield partial, path
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """See ``Store.read``."""
        with self._errors():
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        """See ``Store.names``."""
        with self._errors():
            try:
                with os.scandir(self._root / folder) as entries:
                    found = [entry.name for entry in entries if entry.is_file()]
            except FileNotFoundError:
                return []
            return sorted(name for name in found if not name.startswith(PARTIAL))

    def delete(self, name: str) -> None:
        """See ``Store.delete``."""
        with self._errors():
            (self._root / name).unlink(missing_ok=True)

    def sweep(self, folder: str) -> None:
        """See ``Store.sweep``."""
        with self._errors():
            for partial in (self._root / folder).glob(f"{PARTIAL}*"):
                partial.unlink(missing_ok=True)

    def age_s(self, name: str) -> float | None:
        """See ``Store.age_s``."""
        with self._errors():
            try:
                return time.time() - (self._root / name).stat().st_mtime
            except FileNotFoundError:
                return None

    def room_bytes(self) -> int | None:
        """See ``Store.room_bytes``: what is free on its disk for this user."""
        with self._errors():
            there = next(path for path in (self._root, *self._root.parents) if path.exists())
            return shutil.disk_usage(there).free


class ObjectStore(Store):
    """A prefix of an object store, through fsspec: an object is there when its upload has ended, and not before."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        with self._errors():
            self._fs, root = filesystem(uri)
        self._root = root.rstrip("/")
        # s3fs asks for the size first, and then for pieces of what is large: two requests where one will do.
        known = inspect.signature(getattr(self._fs, "_cat_file", self._fs.cat_file)).parameters
        self._at_once = {"max_concurrency": 1} if "max_concurrency" in known else {}

    def write(self, name: str, content: bytes) -> None:
        """See ``Store.write``."""
        with self._errors():
            self._again(lambda: self._fs.pipe_file(f"{self._root}/{name}", content))

    def create(self, name: str, content: bytes) -> bool:
        """See ``Store.create``; by the store's conditional writes where it has them, as S3 does."""
        with self._errors():
            try:
                self._fs.pipe_file(f"{self._root}/{name}", content, mode="create")
            except Exception as error:  # libraries say in ways of their own that there is one
                held = None if judge(error) is Verdict.BUG else self.read(name)
                if held is None:
                    raise
                return held == content  # ours, if an answer was lost and the request made again
            return True

    def read(self, name: str) -> bytes | None:
        """See ``Store.read``."""
        with self._errors():
            try:
                return bytes(self._again(lambda: self._fs.cat_file(f"{self._root}/{name}", **self._at_once)))
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        """See ``Store.names``."""
        with self._errors():
            try:
                found = self._again(lambda: self._fs.ls(f"{self._root}/{folder}", detail=True))
            except FileNotFoundError:
                return []
            return sorted(str(entry["name"]).rpartition("/")[2] for entry in found if entry["type"] == "file")

    def delete(self, name: str) -> None:
        """See ``Store.delete``."""
        with self._errors(), contextlib.suppress(FileNotFoundError):
            self._again(lambda: self._fs.rm_file(f"{self._root}/{name}"))

    def delete_all(self, names: Iterable[str]) -> None:
        """See ``Store.delete_all``; many in a request where the store can."""
        if not callable(getattr(self._fs, "_bulk_delete", None)):  # S3's own; others delete one by one in any case
            super().delete_all(names)
            return
        left = (f"{self._root}/{name}" for name in names)
        while batch := list(itertools.islice(left, NAMES_PER_DELETE)):
            with self._errors(), contextlib.suppress(FileNotFoundError):
                # The file system's own ``rm`` would take brackets in a name for a pattern.
                self._again(lambda paths=batch: sync(self._fs.loop, self._fs._bulk_delete, paths))

    def sweep(self, folder: str) -> None:
        """See ``Store.sweep``: objects come whole or not at all."""

    def age_s(self, name: str) -> float | None:
        """See ``Store.age_s``; by the store's clock and this machine's."""
        with self._errors():
            try:
                written = self._again(lambda: self._fs.modified(f"{self._root}/{name}"))
                return time.time() - float(written.timestamp())
            except FileNotFoundError:
                return None

    def _again(self, act: Any) -> Any:
        """What ``act`` answers; an error that may pass is waited for."""
        return again(act, NUM_TRIES, 2 * PAUSE_S)
