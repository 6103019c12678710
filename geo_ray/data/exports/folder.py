"""Where exports go: a folder of one file an image, named by ids that may be anything; or one file anywhere."""

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from geo_ray.data.record.storage import PARTIAL, FolderStore
from geo_ray.errors import InputError, OutputError
from geo_ray.remote_files import filesystem, local_path, reason, redacted, remote_errors

MARKER = "geo-ray-export.json"
MAX_NAME, MAX_PATH = 200, 1000  # bytes; file systems allow 255, of which a suffix and a name while writing take some
# What a part of an id can't have as a part of a path: control characters, Windows' separator, the end of a scheme or
# a drive, and what could be read as one of these codes.
UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]|:$|%(?=[0-9A-F]{2})")


def file_name(image_id: str) -> str:
    """The path below the output folder for an image: the id itself, where that is a plain relative path.

    Different ids have different paths, none of which is absolute or goes up; what is cut for its length ends with a
    digest of the id.
    """
    parts, before = list[str](), ""
    for part in image_id.split("/"):
        if part:
            parts.append(before + _safe(part))
            before = ""
        else:
            before += "%2F"
    name = "/".join([*parts, before] if before else parts)
    if len(name.encode()) <= MAX_PATH and all(len(part.encode()) <= MAX_NAME for part in name.split("/")):
        return name
    suffix = PurePosixPath(name).suffix
    digest = hashlib.sha256(image_id.encode()).hexdigest()
    return f"%long/{digest}{suffix if len(suffix.encode()) <= 16 else ''}"


def _safe(part: str) -> str:
    if not part.strip("."):  # . and .., and what Windows takes for them
        return "%2E" * len(part)
    return UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part)


class ExportFolder:
    """A local folder of files named by image ids, which holds nothing but one export.

    Methods raise ``OutputError`` where it can't be written, or something would be changed that is not the export's.
    """

    def __init__(self, output: str, settings: dict[str, Any]) -> None:
        path = local_path(output)
        if path is None:
            raise InputError(f"files for single images are written to a local folder, not to {redacted(output)!r}; "
                             "name one with --output")  # fmt: skip
        self._root = Path(os.path.realpath(path))
        self._store = FolderStore(str(self._root))
        self._claim(output, json.dumps(settings, sort_keys=True).encode())
        self._check_inside = lru_cache(maxsize=4096)(self._check_folder)

    def _claim(self, output: str, settings: bytes) -> None:
        """Make the folder this export's; one with other files could hold the originals."""
        held = self._store.read(MARKER) if self._root.is_dir() else None
        if held not in (None, settings):
            raise OutputError(f"{output!r} holds another export ({_said(held)}); name another --output, or delete it")
        if held is None and self._root.exists() and not _is_empty(self._root):
            raise OutputError(f"{output!r} holds other files; name a new folder with --output")
        self._store.write(MARKER, settings)

    def write(self, image_id: str, content: bytes, suffix: str = "", original: str | None = None) -> None:
        """Write an image's file, which must not be the ``original`` (a path or URI)."""
        name = file_name(image_id) + suffix
        path = self._root / name
        self._check_inside(path.parent)
        source = local_path(original) if original is not None else None
        if source is not None and path.exists() and os.path.samefile(source, path):
            raise OutputError(f"{str(path)!r} is the original of {image_id!r}; name a new folder with --output")
        self._store.write(name, content)

    def _check_folder(self, folder: Path) -> None:
        """A link in the folder could lead out of it."""
        if not Path(os.path.realpath(folder)).is_relative_to(self._root):
            raise OutputError(f"{str(folder)!r} leads out of the output folder; name a new one with --output")


def _is_empty(path: Path) -> bool:
    try:
        return not any(os.scandir(path))
    except OSError:  # a file, or a folder that may not be listed
        return False


def _said(settings: bytes | None) -> str:
    return (settings or b"").decode(errors="replace")[:300]


@contextlib.contextmanager
def whole_file(folder: str, name: str) -> Iterator[Any]:
    """A file to write to, local or remote, which is there when all of it is, and not before.

    What it replaces stays where writing fails. Raises ``OutputError``.
    """
    shown, path = redacted(folder), local_path(folder)

    def unwritable(error: Exception) -> OutputError:
        why = reason(error, folder)
        return OutputError(f"{name} can't be written to {shown!r} ({why}); mend it, or name another --output")

    with (
        remote_errors(unwritable),
        _local_file(Path(path), name) if path is not None else _remote_file(folder, name) as file,
    ):
        yield file


@contextlib.contextmanager
def _local_file(folder: Path, name: str) -> Iterator[Any]:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, folder / name)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _remote_file(folder: str, name: str) -> Iterator[Any]:
    fs, root = filesystem(folder)
    file = fs.open(f"{root.rstrip('/')}/{name}", "wb", autocommit=False)
    try:
        yield file
        file.close()
    except BaseException:
        with contextlib.suppress(Exception):  # the error that is under way is the one to tell
            file.discard()
        file.closed = True  # or the garbage collector would close it, which begins to write anew
        raise
    file.commit()
