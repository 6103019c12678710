"""Files of predictions, made of parts: many while a run goes on, what is left when all is answered.

What is written is named by what it holds, noted in the ledger, and only then are the parts deleted, so a run that is
cut short anywhere can do all of it again.
"""

import hashlib
import io
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.data.record.blocks import Block, Done
from geo_ray.data.record.entries import ENTRY_NAME, FileEntry, stretches_of
from geo_ray.data.record.ledger import ENTRIES, PARTS, PREDICTIONS, SUFFIX, Ledger
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


def part_of(block: Block) -> Segment:
    """The block's part."""
    return Segment(block, f"{PARTS}/{block.name}{SUFFIX}")


class Inventory:
    """What the record of a run holds, as far as this process knows: by listing it, and by what it was told since."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.entries: dict[str, FileEntry] = {}
        self.parts: set[Block] = set()  # when it was listed
        self.done = Done()
        self.refresh()

    def refresh(self) -> None:
        """List it anew. Parts before entries, so that a block is seen that moves from one to the other meanwhile."""
        self.parts = self.ledger.parts()
        self.entries = self.ledger.entries(self.entries)
        in_files = (entry.blocks() for entry in self.entries.values())
        self.done = Done(itertools.chain(*in_files, self.parts))

    def add(self, entry: FileEntry) -> None:
        """Note what a file holds that has been written; the parts of its blocks are deleted then."""
        self.ledger.note(entry)
        self.entries[entry.name] = entry
        self.ledger.store.delete_all(part_of(block).file for block in entry.blocks())

    def keep(self, names: set[str]) -> None:
        """Take away all files of predictions that are ours but these, what is noted of them before, and all parts."""
        store = self.ledger.store
        self.entries = {name: entry for name, entry in self.entries.items() if name in names}
        for folder, pattern in ((ENTRIES, ENTRY_NAME), (PREDICTIONS, OURS)):
            found = [name for name in store.names(folder) if pattern.fullmatch(name)]
            store.delete_all(f"{folder}/{name}" for name in found if name.partition(".")[0] not in names)
        store.delete_all(part_of(block).file for block in self.ledger.parts())

    @property
    def num_rows(self) -> int:
        """How many rows the files of predictions have."""
        return sum(entry.num_rows for entry in self.entries.values())

    @property
    def problems(self) -> dict[str, int]:
        """How many rows of these files have each problem, most frequent first."""
        counts: Counter[str] = Counter()
        for entry in self.entries.values():
            counts.update(entry.problems)
        return dict(counts.most_common())

    @property
    def files(self) -> list[str]:
        """The names of the files of predictions, sorted."""
        return sorted(f"{name}{SUFFIX}" for name in self.entries)


class Settler:
    """Hands over blocks whose parts are written, as many as a file has, while the run goes on.

    Blocks of a shard are kept together: those of a shard that is whole, or as many as fill a file.
    """

    def __init__(self, hand_over: Callable[[list[Segment]], None]) -> None:
        self._hand_over = hand_over
        self._begun: dict[str, list[Block]] = defaultdict(list)
        self._ready: list[Block] = []

    def add(self, block: Block, whole: bool) -> None:
        """A block's part has been written; ``whole`` where its shard has all."""
        begun = self._begun[block.shard_id]
        begun.append(block)
        if whole or len(begun) >= BLOCKS_PER_FILE:
            self._ready += sorted(self._begun.pop(block.shard_id))
        while len(self._ready) >= BLOCKS_PER_FILE:
            blocks, self._ready = self._ready[:BLOCKS_PER_FILE], self._ready[BLOCKS_PER_FILE:]
            self._hand_over([part_of(block) for block in blocks])


def plan_files(shard_ids: Iterable[str], inventory: Inventory) -> tuple[list[str], list[list[Segment]]]:
    """The names of files that stay as they are, and those to be made, each of its segments, for blocks of these shards.

    Blocks of other shards, such as of inputs that have changed since, are left out; a block that is in two files, as a
    run that was cut short may leave it, is taken from one.
    """
    wanted, kept, settled = dict.fromkeys(shard_ids), list[str](), Done()
    for name, entry in sorted(inventory.entries.items()):
        if all(block.shard_id in wanted and block not in settled for block in entry.blocks()):
            kept.append(name)
            for block in entry.blocks():
                settled.add(block)
    replaced = inventory.entries.keys() - set(kept)
    places = {segment.block: segment for name in replaced for segment in _segments(inventory.entries[name])}
    places |= {block: part_of(block) for block in inventory.parts}
    left = defaultdict[str, list[Block]](list)
    for block in places:
        if block.shard_id in wanted and block not in settled:
            left[block.shard_id].append(block)
    segments = [places[block] for shard_id in wanted if shard_id in left for block in sorted(left[shard_id])]
    return kept, [segments[at : at + BLOCKS_PER_FILE] for at in range(0, len(segments), BLOCKS_PER_FILE)]


def _segments(entry: FileEntry) -> Iterator[Segment]:
    rows = list(entry.rows())
    for block, start, num_rows in zip(entry.blocks(), itertools.accumulate(rows, initial=0), rows, strict=False):
        yield Segment(block, f"{PREDICTIONS}/{entry.name}{SUFFIX}", start, num_rows)


def write_file(ledger: Ledger, segments: Sequence[Segment]) -> FileEntry:
    """Write one file of these segments; what is to be noted of it. Of what is there before, nothing is changed."""
    by_file = [(file, list(some)) for file, some in itertools.groupby(segments, key=lambda segment: segment.file)]
    with ThreadPoolExecutor(READ_AT_ONCE) as threads:
        tables = list(itertools.chain(*threads.map(lambda one: _read(ledger, *one), by_file)))
    rows = pa.concat_tables(tables)
    name = hashlib.sha256("\n".join(segment.block.name for segment in segments).encode()).hexdigest()[:16]
    ledger.store.write(f"{PREDICTIONS}/{name}{SUFFIX}", parquet_bytes(rows))
    blocks = ((segment.block, len(table)) for segment, table in zip(segments, tables, strict=True))
    return FileEntry(name, stretches_of(blocks), count_problems(rows))


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROWS_PER_GROUP)
    return buffer.getvalue()


def count_problems(table: pa.Table) -> dict[str, int]:
    """How many rows have each problem, most frequent first."""
    return dict(Counter(problem for problem in table["problem"].to_pylist() if problem).most_common())


def _read(ledger: Ledger, file: str, segments: Sequence[Segment]) -> list[pa.Table]:
    """The rows of each of these segments of a file."""
    content = ledger.store.read(file)
    if content is None:
        raise OutputError(f"output {ledger.output!r} has lost {file} while it was read; run again with --resume")
    rows = pq.read_table(io.BytesIO(content))
    return [rows.slice(segment.start, segment.num_rows) for segment in segments]


def settle(
    inventory: Inventory,
    shard_ids: Iterable[str],
    write_all: Callable[[list[list[Segment]]], Iterable[FileEntry]],
    before_change: Callable[[], None] = lambda: None,
) -> None:
    """Make predictions hold the blocks of these shards and no others, when all are answered.

    ``write_all`` writes the files of these groups of segments. ``before_change`` may raise, and then nothing that was
    there before is changed further.
    """
    inventory.refresh()
    kept, groups = plan_files(shard_ids, inventory)
    ours = {*kept}
    for entry in write_all(groups):
        before_change()
        inventory.add(entry)
        ours.add(entry.name)
    before_change()
    inventory.keep(ours)
