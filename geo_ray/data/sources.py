"""From what the user names to rows: one row an image, ``image_id``, ``uri`` and, once fetched, ``bytes``."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa

from geo_ray.errors import REMOTE_ERRORS, InputError
from geo_ray.pipeline.columns import Batch

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".jp2"})


@dataclass(frozen=True, kw_only=True)
class Input:
    """One image that was asked for: its id within the run and where it lies."""

    image_id: str
    uri: str


def list_inputs(inputs: Sequence[str]) -> list[Input]:
    """The images that folders, files, glob patterns or URIs name, each once, sorted within each input.

    A folder gives every file below it with an image suffix, and every folder so named, which will be answered as a
    problem; a file that is named outright needs no suffix. ``image_id`` is the path below the input, or the whole URI
    where two inputs would give the same id. Raises ``InputError`` that names an input which holds nothing.
    """
    listed: dict[str, str] = {}
    for text in inputs:
        found = list(_list_one(text))
        if not found:
            raise InputError(
                f"no images in {text!r}: name a folder, a file, a glob pattern or a URI with "
                f"{', '.join(sorted(SUFFIXES))} files"
            )
        listed |= {uri: listed.get(uri, image_id) for image_id, uri in found}
    ids = list(listed.values())
    clash = len(set(ids)) < len(ids)
    return [Input(image_id=uri if clash else image_id, uri=uri) for uri, image_id in listed.items()]


def _list_one(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of id and URI."""
    if "://" in text:
        yield from _list_remote(text)
        return
    path = Path(text)
    if path.is_dir():
        for item in sorted(path.rglob("*")):
            if item.suffix.lower() in SUFFIXES:
                yield item.relative_to(path).as_posix(), str(item.absolute())
    elif path.exists():
        yield path.name, str(path.absolute())
    elif glob.has_magic(text):
        for name in sorted(glob.glob(text, recursive=True)):
            yield name, str(Path(name).absolute())
    else:
        raise InputError(f"{text!r} does not exist; name a folder, a file, a glob pattern or a URI")


def _list_remote(text: str) -> Iterator[tuple[str, str]]:
    try:
        fs, root = fsspec.core.url_to_fs(text)
        if glob.has_magic(root):
            for name in sorted(fs.glob(root)):
                yield name, fs.unstrip_protocol(name)
            return
        names = sorted(fs.find(root))
    except REMOTE_ERRORS as error:
        raise InputError(f"{text!r} can't be listed ({error}); check the address and your credentials") from error
    for name in names:
        if name == root or Path(name).suffix.lower() in SUFFIXES:
            yield name.removeprefix(root).strip("/") or Path(name).name, fs.unstrip_protocol(name)


def input_blocks(inputs: Sequence[Input], rows_per_block: int) -> list[pa.Table]:
    """The inputs as tables of ``image_id`` and ``uri``."""
    table = pa.table(
        {
            "image_id": pa.array([i.image_id for i in inputs], pa.string()),
            "uri": pa.array([i.uri for i in inputs], pa.string()),
        }
    )
    return [table.slice(start, rows_per_block) for start in range(0, len(inputs), rows_per_block)]


def fetch(batch: Batch) -> Batch:
    """The batch with ``bytes`` read from each ``uri``, or with the ``problem`` that stopped it."""
    contents, problems = np.empty(len(batch["uri"]), object), np.empty(len(batch["uri"]), object)
    for row, uri in enumerate(batch["uri"]):
        contents[row], problems[row] = read_bytes(uri)
    return batch | {"bytes": contents, "problem": problems}


def read_bytes(uri: str) -> tuple[bytes | None, str]:
    """The bytes behind a path or URI and an empty string, or None and the code of the problem."""
    try:
        if "://" not in uri:
            return Path(uri).read_bytes(), ""
        with fsspec.open(uri, "rb") as file:
            return file.read(), ""
    except IsADirectoryError:
        return None, "not_a_file"
    except REMOTE_ERRORS:
        return None, "fetch_failed"
