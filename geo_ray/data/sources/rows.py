"""The row contract, and shards: the pieces of an input that are read, answered and committed as one.

**What stays the same between runs.** A shard's id is a digest of what determines its rows: of a slice of named images
their ids and places, of a container its name below the input, its size and which part of it. The ids of a shard's rows
depend on the shard's own content alone. So an input that did not change gives the same shards with the same rows, in
whatever order or process they are read; and an image that is added to a folder or a table changes one shard or two,
because slices are cut where the images' ids say, not by counting (``slices``).
"""

import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from geo_ray.pipeline.columns import Batch, view_columns

ROWS_PER_SHARD = 1000
ROWS_PER_BATCH = 256
BYTES_PER_BATCH = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Input:
    """One item that was asked for: its id within the run, where its image lies, and those of further views of it."""

    image_id: str
    uri: str
    more_views: tuple[str, ...] = ()

    @property
    def views(self) -> tuple[str, ...]:
        """Where all its images lie."""
        return (self.uri, *self.more_views)


@dataclass(frozen=True, slots=True)
class Row:
    """One item: its id, where its views lie, their bytes (None where they can't be read), and then the problem."""

    image_id: str
    uris: tuple[str, ...]
    contents: tuple[bytes | None, ...]
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Shard(ABC):
    """A piece of an input, small and picklable; reading happens in ``rows``, wherever the shard was sent.

    ``label`` is its name below the input, for people and in ids; ``num_rows`` is None where only reading tells.
    """

    label: str
    num_rows: int | None = None

    @property
    @abstractmethod
    def identity(self) -> tuple[Any, ...]:
        """What determines the shard's rows, as values that JSON knows."""

    @property
    def shard_id(self) -> str:
        """20 hexadecimal digits that name this content, between runs and machines."""
        text = json.dumps([type(self).__name__, self.label, *self.identity])
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """The rows, in an order that stays; a row that can't be read is there with its problem.

        Raises ``OSError`` where the shard itself can't be read now; trying again may help. A container that is damaged
        gives what lies before the damage, and then one row with the problem ``damaged_file``.
        """

    def rows_but(self, skip: Callable[[int], bool]) -> Iterator[Row | None]:
        """The rows, of which those whose numbers are to be skipped may come as None, unread.

        What is read through from its start, as a tar is, comes whole.
        """
        return self.rows()


def batches(
    rows: Iterable[Row], num_views: int = 1, max_rows: int = ROWS_PER_BATCH, max_bytes: int = BYTES_PER_BATCH
) -> Iterator[Batch]:
    """Rows as batches of the source columns (``image_id``, ``uri`` ..., ``bytes`` ..., ``problem``).

    A batch ends with the row that fills it; with one row's bytes that is what a reader holds. Views that an item has
    beyond ``num_views`` are a ``ValueError``.
    """
    held: list[Row] = []
    size = 0
    for row in rows:
        held.append(row)
        size += sum(len(content) for content in row.contents if content is not None)
        if len(held) >= max_rows or size >= max_bytes:
            yield batch_of(held, num_views)
            held, size = [], 0
    if held:
        yield batch_of(held, num_views)


def batch_of(rows: list[Row], num_views: int) -> Batch:
    """Rows as one batch; None stands for the views that an item has not."""
    if wide := next((row for row in rows if len(row.uris) > num_views), None):
        raise ValueError(f"{wide.image_id!r} has {len(wide.uris)} views, more than num_views={num_views}")
    batch = {"image_id": _column(row.image_id for row in rows)}
    for view, name in enumerate(view_columns(num_views)):
        batch[name.replace("bytes", "uri")] = _column(row.uris[view] if view < len(row.uris) else None for row in rows)
        batch[name] = _column(row.contents[view] if view < len(row.contents) else None for row in rows)
    return batch | {"problem": _column(row.problem for row in rows)}


def _column(values: Iterable[Any]) -> np.ndarray:
    listed = list(values)
    column = np.empty(len(listed), dtype=object)
    column[:] = listed
    return column


def slices(inputs: Iterable[Input], rows_per_shard: int = ROWS_PER_SHARD) -> Iterator[tuple[Input, ...]]:
    """Inputs in slices of half to twice ``rows_per_shard``, about that on average.

    A slice ends where the CRC of an image's id says, so one more image changes its own slice, not all that follow.
    """
    least, held = max(1, rows_per_shard // 2), []
    for item in inputs:
        held.append(item)
        ends = len(held) >= least and zlib.crc32(item.image_id.encode("utf-8", "surrogatepass")) % least == 0
        if ends or len(held) >= 2 * rows_per_shard:
            yield tuple(held)
            held = []
    if held:
        yield tuple(held)
