"""Names of files below folders and globs, in a fixed order, while they are still being listed."""

import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal

import fsspec
from fsspec.utils import glob_translate

from geo_ray.data.sources.left_out import (
    IN_SYSTEM_FOLDERS,
    OF_RUNS,
    is_of_run,
    is_output,
    is_system,
    is_system_folder,
)
from geo_ray.errors import InputError
from geo_ray.remote_files import again, filesystem, is_url, reason, redacted, remote_errors
from geo_ray.tables.ids import is_image_name


@dataclass(frozen=True, slots=True)
class Found:
    """A file: its path below what was named, where it lies, and its bytes where the listing said."""

    path: str
    uri: str
    size: int | None = None


@contextmanager
def listing_errors(text: str) -> Iterator[None]:
    """What listing can raise as an ``InputError`` that names the input."""

    def unlisted(error: Exception) -> InputError:
        shown, why = redacted(text), reason(error, text)
        return InputError(f"{shown!r} can't be listed ({why}); check the address and your credentials")

    with remote_errors(unlisted):
        yield


def named_inputs(text: str) -> list[str]:
    """What an input names by ``{000..102}`` or ``{a,b}``; itself where a local file or folder is called so."""
    return [text] if "://" not in text and os.path.lexists(text) else expand_braces(text)


def expand_braces(text: str) -> list[str]:
    """``{000..102}`` and ``{a,b}`` written out, as WebDataset's URLs and shells have them."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", text)
    if match is None:
        return [text]
    first, last, choices = match.groups()
    parts = choices.split(",") if choices else [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    rest = expand_braces(text[match.end() :])
    return [text[: match.start()] + part + tail for part, tail in itertools.product(parts, rest)]


def kind_of(text: str) -> Literal["file", "folder", "pattern"]:
    """What an input names; raises ``InputError`` where nothing is there or that can't be told."""
    if is_url(text):
        return "file"
    if "://" in text:
        with listing_errors(text):
            return again(lambda: _kind_elsewhere(text))
    if os.path.isdir(text):
        return "folder"
    if os.path.exists(text):
        return "file"
    if glob.has_magic(text):
        return "pattern"
    raise InputError(f"{text!r} does not exist; name a folder, a file, a glob pattern or a URI")


def _kind_elsewhere(uri: str) -> Literal["file", "folder", "pattern"]:
    """What a URI names; one with wildcards is a pattern only where nothing is called so."""
    fs, path = filesystem(uri)
    if fs.isfile(path):
        return "file"
    return "pattern" if glob.has_magic(path) and not fs.exists(path) else "folder"


def root_of(text: str, of_pattern: bool) -> str:
    """The folder that a folder's or a pattern's files lie below, in a form to compare."""
    if "://" in text:
        fs, path = filesystem(text)
        return str(fs.unstrip_protocol(_split(path)[0] if of_pattern else path.rstrip("/")))
    return os.path.abspath(_split(text)[0] or "." if of_pattern else text)


def single(text: str) -> Found:
    """A file that is named outright, under its own name."""
    if is_url(text):
        return Found(PurePosixPath(redacted(text)).name, text)
    if "://" not in text:
        return Found(os.path.basename(text), os.path.abspath(text))
    fs, path = filesystem(text)
    return Found(PurePosixPath(path).name, fs.unstrip_protocol(path))


def walk(uri: str, left_out: Counter[str] | None = None) -> Iterator[Found]:
    """All files below a folder or prefix, in an order that stays, a folder or a page of a listing at a time.

    Local folders with an image's suffix are there too, as files that can't be read. Links to folders are not followed.
    What systems keep for themselves and what runs of ours have written below it is counted in ``left_out`` instead.
    """
    left_out = Counter() if left_out is None else left_out
    with listing_errors(uri):
        if "://" not in uri:
            root = os.path.abspath(uri)
            yield from (Found(path, f"{root}/{path}") for path in _walk_local(root, "", left_out))
            return
        fs, root = filesystem(uri)
        for found in _found(fs, root.rstrip("/"), deep=True):
            if why := IN_SYSTEM_FOLDERS if is_system(found.path) else OF_RUNS if is_of_run(found.path) else "":
                left_out[why] += 1
            else:
                yield found


def match(pattern: str) -> Iterator[Found]:
    """All files that a glob pattern matches, sorted; their paths are below the pattern's part without wildcards."""
    with listing_errors(pattern):
        if "://" not in pattern:
            root, _ = _split(pattern)
            for name in sorted(glob.iglob(pattern, recursive=True)):
                yield Found(name.removeprefix(root).lstrip("/"), os.path.abspath(name))
            return
        fs, path = filesystem(pattern)
        root, rest = _split(path)
        wanted = re.compile(glob_translate(path))
        for found in _found(fs, root, deep="/" in rest or "**" in rest):
            if wanted.match(f"{root}/{found.path}"):
                yield found


def _split(pattern: str) -> tuple[str, str]:
    """The folder that a pattern starts from, and the rest, which has its wildcards."""
    fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    root = fixed[: fixed.rfind("/") + 1]
    return root.rstrip("/"), pattern[len(root) :]


def _walk_local(root: str, below: str, left_out: Counter[str]) -> Iterator[str]:
    """Paths below a folder in a fixed order; a folder's names, some 70 bytes each, are held while it is walked."""
    with os.scandir(f"{root}/{below}") as entries:
        names = [f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries]
    if below and is_output(f"{root}/{below}", {name.rstrip("/") for name in names}):
        left_out[OF_RUNS] += _num_files(f"{root}/{below}")
        return
    names.sort()
    for name in names:
        if not name.endswith("/"):
            if is_system(name):
                left_out[IN_SYSTEM_FOLDERS] += 1
            else:
                yield below + name
        elif is_system_folder(name[:-1]):
            left_out[IN_SYSTEM_FOLDERS] += _num_files(f"{root}/{below}{name}")
        else:
            if is_image_name(name[:-1]):
                yield below + name[:-1]
            yield from _walk_local(root, below + name, left_out)


def _num_files(folder: str) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _found(fs: fsspec.AbstractFileSystem, root: str, deep: bool) -> Iterator[Found]:
    """The files below a prefix, or with ``deep`` false at least those that lie directly in it."""
    pages = _walk_s3(fs, root, "" if deep else "/") if hasattr(fs, "call_s3") else _walk_any(fs, root)
    start = fs.unstrip_protocol(root).removesuffix(root)
    for name, size in pages:
        yield Found(name.removeprefix(root).lstrip("/"), start + name, size)


def _walk_s3(fs: Any, root: str, delimiter: str) -> Iterator[tuple[str, int]]:
    """Keys below a prefix, a page of 1000 at a time; s3fs's own ``find`` would hold them all before the first."""
    bucket, _, prefix = root.partition("/")
    arguments = {"Bucket": bucket, "Prefix": prefix + "/" if prefix else "", "Delimiter": delimiter}
    while True:
        page = again(partial(fs.call_s3, "list_objects_v2", **arguments))
        for item in page.get("Contents", ()):
            if not item["Key"].endswith("/"):
                yield f"{bucket}/{item['Key']}", item["Size"]
        if not page.get("IsTruncated"):
            return
        arguments["ContinuationToken"] = page["NextContinuationToken"]


def _walk_any(fs: fsspec.AbstractFileSystem, root: str) -> Iterator[tuple[str, int | None]]:
    for entry in sorted(again(lambda: fs.ls(root, detail=True)), key=lambda entry: str(entry["name"]).rstrip("/")):
        name = str(entry["name"]).rstrip("/")
        if entry["type"] == "directory" and name != root:
            yield from _walk_any(fs, name)
        elif entry["type"] != "directory":
            yield name, entry.get("size")
