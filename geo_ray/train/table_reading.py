"""A training table as it is read, row group by row group, on whatever CPUs are free.

Light to import, without torch: each process that reads does it anew.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from ray.data.extensions import ArrowTensorArray

from geo_ray.errors import InputError
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.stage import Runtime, run_stage
from geo_ray.pipeline.stages import Decode
from geo_ray.remote_files import again, filesystem, open_file, remote_errors
from geo_ray.tables.training import MANIFEST

MAX_PIXELS = 200_000_000
ROWS_APART = 64  # that a task decodes at a time


@dataclass(frozen=True, kw_only=True)
class Group:
    """A row group of a table: its file, its number there, and which rows of all it has."""

    path: str
    number: int
    first_row: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class TrainingTable:
    """The rows of one split of a training table, by their numbers."""

    uri: str
    split: str
    groups: tuple[Group, ...]
    digest: str

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return sum(group.num_rows for group in self.groups)


def open_table(uri: str, split: str = "train", columns: Sequence[str] = ()) -> TrainingTable:
    """The table's rows of a split.

    ``InputError`` where it isn't a training table, lacks a column, or has no row of the split.
    """
    with remote_errors(lambda error: InputError(f"training table {uri} can't be read ({error})")):
        fs, root = filesystem(uri)
        if not fs.exists(f"{root}/{MANIFEST}"):
            raise InputError(f"{uri} is no training table: it has no {MANIFEST}; build one with geo-ray table")
        digest = json.loads(fs.cat_file(f"{root}/{MANIFEST}"))["digest"]
        paths = sorted(fs.glob(f"{root}/split={split}/*.parquet"))
        groups, first = [], 0
        for path in paths:
            with fs.open(path, "rb") as file:
                metadata = _opened(file, path).metadata
                missing = set(columns) - set(metadata.schema.to_arrow_schema().names)
            if missing:
                raise InputError(f"training table {uri} has no column {', '.join(sorted(missing))}; build it again")
            for number in range(metadata.num_row_groups):
                count = metadata.row_group(number).num_rows
                groups.append(Group(path=fs.unstrip_protocol(path), number=number, first_row=first, num_rows=count))
                first += count
    if not first:
        raise InputError(f"training table {uri} has no images of the split {split}; build it with more")
    return TrainingTable(uri=uri, split=split, groups=tuple(groups), digest=digest)


def _opened(file: Any, path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path} is damaged ({' '.join(str(error).split())}); build the training table again"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read of a table, and made of it: columns, and where ``encoder`` is given the pixels it sees."""

    table: TrainingTable
    columns: tuple[str, ...]
    seed: int
    encoder: EncoderSpec | None = None

    def read(self, group: Group) -> pa.Table:
        """A row group, with the number of each row and, where its files lie elsewhere, their bytes."""
        with again(lambda: open_file(group.path)) as file:
            table = _opened(file, group.path).read_row_group(group.number, columns=list(self._read))
        return table.append_column("row", pa.array(np.arange(group.num_rows) + group.first_row))

    @property
    def _read(self) -> tuple[str, ...]:
        images = ("bytes", "uri") if self.encoder is not None else ()
        return tuple(dict.fromkeys((*self.columns, "image_id", *images)))

    def finished(self, table: pa.Table) -> pa.Table:
        """The columns that training wants; of images that can't be decoded, no row."""
        names = [name for name in table.column_names if name in (*self.columns, "image_id", "row", "epoch")]
        if self.encoder is None:
            return plain(table.select(names))
        decoded = decode_rows(table, self.encoder)
        kept = np.flatnonzero(decoded["problem"] == "")
        pixels = ArrowTensorArray.from_numpy(decoded["pixels"][kept, 0])
        return plain(table.select(names).take(pa.array(kept))).append_column("pixels", pixels)


def plain(table: pa.Table) -> pa.Table:
    """The columns as arrays have them: what is missing is -1, NaN or empty, and lists are rows of a matrix."""
    blanks = {pa.int64(): -1, pa.float64(): np.nan, pa.string(): ""}
    columns: dict[str, Any] = {}
    for entry in table.schema:
        column = table[entry.name].combine_chunks()
        if pa.types.is_fixed_size_list(entry.type):
            width = entry.type.list_size
            column = ArrowTensorArray.from_numpy(column.flatten().to_numpy().reshape(len(column), width))
        elif entry.type in blanks:
            column = pc.fill_null(column, blanks[entry.type])
        columns[entry.name] = column
    return pa.table(columns)


def decode_rows(table: pa.Table, encoder: EncoderSpec) -> dict[str, np.ndarray]:
    """``pixels`` (n, 1, S, S, 3) and ``problem`` of rows with ``bytes`` or ``uri``, by the graph's stage."""
    spec = Decode(image_size=encoder.image_size, max_pixels=MAX_PIXELS, preprocessing=encoder.preprocessing)
    contents = [content_of(row) for row in table.select(["bytes", "uri"]).to_pylist()]
    problems = ["" if content is not None else "not_found" for content in contents]
    names = table["image_id"].to_pylist()
    return run_stage(spec, spec.build(Runtime()), source_batch(names, names, contents, problems))


def content_of(row: dict[str, Any]) -> bytes | None:
    """A row's file: its bytes, or what lies at its address; None where nothing does."""
    if row["bytes"] is not None:
        return bytes(row["bytes"])

    def read() -> bytes:
        with open_file(row["uri"]) as file:
            return bytes(file.read())

    try:
        return again(read)
    except OSError:
        return None


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A task's work: the rows of a row group that have not been taken in its epoch, in random order."""

    reading: Reading
    consumed: Any

    def __call__(self, units: pa.Table) -> Iterator[pa.Table]:
        """The rows of the epochs and row groups that ``units`` name."""
        for unit in units.to_pylist():
            epoch, group = unit["epoch"], self.reading.table.groups[unit["group"]]
            table = self.reading.read(group)
            taken = ray.get(self.consumed).get(epoch)
            if taken is not None:
                table = table.filter(pa.array(~taken[table["row"].to_numpy()]))
            order = np.random.default_rng((self.reading.seed, epoch, unit["group"])).permutation(len(table))
            table = table.take(pa.array(order))
            table = table.append_column("epoch", pa.array(np.full(len(table), epoch)))
            for start in range(0, len(table), ROWS_APART):
                yield self.reading.finished(table.slice(start, ROWS_APART))


def read_rows(table: TrainingTable, columns: Sequence[str], most: int = 0, part: tuple[int, int] = (0, 1)) -> pa.Table:
    """The first rows of a table, of which this is part ``part[0]`` of ``part[1]``, row by row in turn."""
    reading, held, count = Reading(table=table, columns=tuple(columns), seed=0), [], 0
    for group in table.groups:
        rows = reading.read(group).select([*dict.fromkeys((*columns, "row"))])
        held.append(rows)
        count += len(rows)
        if most and count >= most:
            break
    whole = pa.concat_tables(held).slice(0, most or None)
    return whole.filter(pc.equal(pa.array(np.arange(len(whole)) % part[1]), part[0]))
