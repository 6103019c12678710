"""Rows of two tables that are of the same image: the one way in which ids are joined, wherever that is done."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from geo_ray.tables.ids import SUFFIXES

# Only what is surely an extension: ids such as "2014.07" keep their dot.
IMAGE_EXTENSION = f"(?i)({'|'.join(map(re.escape, sorted(SUFFIXES)))})$"
# Before the first "#", which a container's own path never has: it is written %23 there.
CONTAINER = r"(?i)^[^#]*\.(tar|tgz|tar\.\w+|zip|parquet|pq|msg|msgpack)#"


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Pairs of rows, by rising row of the first table; ``by`` says what was compared."""

    rows: Int64[np.ndarray, "n"]
    other_rows: Int64[np.ndarray, "n"]
    by: str

    def __len__(self) -> int:
        return len(self.rows)


def _composed(ids: pa.Array) -> pa.Array:
    """Letters in one piece each, where macOS takes accents apart, and folders told by the one kind of slash."""
    return pc.replace_substring(pc.utf8_normalize(ids, form="NFC"), "\\", "/")


def _without_extension(ids: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(_composed(ids), IMAGE_EXTENSION, "")


def _key(ids: pa.Array) -> pa.Array:
    """Without what names the container that an image lies in."""
    return _without_extension(pc.replace_substring_regex(_composed(ids), CONTAINER, ""))


def _flat(ids: pa.Array) -> pa.Array:
    """As MP16-Pro and others make file names of Flickr's paths: '/' becomes '_'."""
    return pc.replace_substring(pc.utf8_trim(_key(ids), "/"), "/", "_")


def _file_name(ids: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(_key(ids), r"^.*/", "")


# From the strictest; a looser way is taken only where it matches more.
WAYS: tuple[tuple[str, Callable[[pa.Array], pa.Array]], ...] = (
    ("image id", lambda ids: ids),
    ("image id, letters composed", _composed),
    ("image id without extension", _without_extension),
    ("key within the container, without extension", _key),
    ("image id without extension, '/' as '_'", _flat),
    ("file name without extension", _file_name),
)


def join(ids: pa.Array, others: pa.Array) -> tuple[Joined | None, str]:
    """Pairs of rows with the same id, compared in the way of ``WAYS`` that matches most; None where nothing matches.

    Then the text says which ids would stand for several images, where that is why. Each way is right for all rows or
    isn't taken: what is ambiguous is never matched by luck.
    """
    best, ambiguous = None, ""
    for by, normal in WAYS:
        ours, theirs = normal(ids), normal(others)
        common = ours.filter(pc.is_in(ours, value_set=theirs))
        distinct = pc.count_distinct(common).as_py()
        if not distinct == len(common) == len(theirs.filter(pc.is_in(theirs, value_set=ours))):
            ambiguous = ambiguous or f"by {by}, {examples(_repeated(common, theirs))} stand for several images"
        elif distinct > (len(best) if best else 0):
            best = _pairs(ours, theirs, by)
            if len(best) == min(len(ids), len(others)):
                break  # no looser way can match more
    return best, ambiguous


def _pairs(ids: pa.Array, others: pa.Array, by: str) -> Joined:
    found = pc.index_in(ids, value_set=others)
    rows = np.flatnonzero(pc.is_valid(found).to_numpy(zero_copy_only=False))
    return Joined(rows=rows, other_rows=found.drop_null().to_numpy().astype(np.int64), by=by)


def _repeated(common: pa.Array, others: pa.Array) -> pa.Array:
    counts = pc.value_counts(pa.concat_arrays([common, others.filter(pc.is_in(others, value_set=common))]))
    return counts.filter(pc.greater(counts.field("counts"), 2)).field("values")


def examples(ids: pa.Array) -> str:
    """The first of some ids, for a message."""
    return ", ".join(repr(value) for value in ids[:3].to_pylist()) or "none"
