"""Files of predictions, made of parts when all are there.

What is written is named by what it holds, noted in the ledger, and only then are the parts deleted, so a run that is
cut short anywhere can do all of it again.
"""

import hashlib
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.data.record.blocks import Block
from geo_ray.data.record.ledger import PARTS, PREDICTIONS, SUFFIX, Files, Ledger, Written
from geo_ray.errors import OutputError

BLOCKS_PER_FILE = 100
READ_AT_ONCE = 8  # of a file's parts: each is a request, and waits more than it computes
OURS = re.compile(r"[0-9a-f]{16}\.parquet")  # what a user has put beside them stays
ROWS_PER_GROUP = 10_000  # of a parquet row group: what `index build` reads at a time


@dataclass(frozen=True)
class Segment:
    """Where a block's rows lie: all of its part, or some of the rows of a file that is to be replaced."""

    block: Block
    file: str
    start: int = 0
    num_rows: int | None = None


def plan_files(shard_ids: Iterable[str], ledger: Ledger) -> tuple[Files, list[list[Segment]]]:
    """The files that stay as they are, and those to be made, each of its segments, for the blocks of these shards.

    Blocks of other shards, such as of inputs that have changed since, are left out.
    """
    wanted = dict.fromkeys(shard_ids)
    files, done = ledger.files(), ledger.done()
    kept = {name: held for name, held in files.items() if all(written.block.shard_id in wanted for written in held)}
    settled = {written.block for held in kept.values() for written in held}
    places = {segment.block: segment for name in files.keys() - kept.keys() for segment in _segments(name, files[name])}
    places |= {block: Segment(block, f"{PARTS}/{block.name}{SUFFIX}") for block in ledger.parts()}
    blocks = (block for shard_id in wanted for block in done.blocks(shard_id) if block not in settled)
    segments = [places[block] for block in blocks]
    return kept, [segments[at : at + BLOCKS_PER_FILE] for at in range(0, len(segments), BLOCKS_PER_FILE)]


def _segments(name: str, held: Sequence[Written]) -> Iterator[Segment]:
    starts = itertools.accumulate((written.num_rows for written in held), initial=0)
    for written, start in zip(held, starts, strict=False):
        yield Segment(written.block, f"{PREDICTIONS}/{name}", start, written.num_rows)


def write_file(ledger: Ledger, segments: Sequence[Segment]) -> tuple[str, list[Written]]:
    """Write one file of these segments; its name, and what it holds."""
    with ThreadPoolExecutor(READ_AT_ONCE) as threads:
        tables = list(threads.map(lambda segment: _read(ledger, segment), segments))
    held = [
        Written(block=segment.block, num_rows=len(table), problems=count_problems(table))
        for segment, table in zip(segments, tables, strict=True)
    ]
    name = hashlib.sha256("\n".join(written.block.name for written in held).encode()).hexdigest()[:16]
    content = parquet_bytes(pa.concat_tables(tables))
    ledger.store.write(f"{PREDICTIONS}/{name}{SUFFIX}", content)
    return f"{name}{SUFFIX}", held


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROWS_PER_GROUP)
    return buffer.getvalue()


def count_problems(table: pa.Table) -> dict[str, int]:
    """How many rows have each problem, most frequent first."""
    return dict(Counter(problem for problem in table["problem"].to_pylist() if problem).most_common())


def _read(ledger: Ledger, segment: Segment) -> pa.Table:
    content = ledger.store.read(segment.file)
    if content is None:
        raise OutputError(
            f"output {ledger.output!r} has lost {segment.file} while it was read; run again with --resume"
        )
    return pq.read_table(io.BytesIO(content)).slice(segment.start, segment.num_rows)


def settle(
    ledger: Ledger,
    shard_ids: Iterable[str],
    write_all: Callable[[list[list[Segment]]], Iterable[tuple[str, list[Written]]]],
    before_change: Callable[[], None] = lambda: None,
) -> Files:
    """Make predictions hold the blocks of these shards and no others; what its files hold then.

    ``write_all`` writes the files of these groups of segments. ``before_change`` may raise, and then nothing that was
    there before is changed.
    """
    kept, groups = plan_files(shard_ids, ledger)
    files: dict[str, Any] = kept | dict(write_all(groups))
    before_change()
    ledger.write_files(files)
    replaced = (name for name in ledger.store.names(PREDICTIONS) if OURS.fullmatch(name) and name not in files)
    ledger.store.delete_all(f"{PREDICTIONS}/{name}" for name in replaced)
    ledger.store.delete_all(f"{PARTS}/{block.name}{SUFFIX}" for block in ledger.parts())
    return files
