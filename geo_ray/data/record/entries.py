"""Entries of the ledger: which blocks a file of predictions holds, in order, with how many rows and problems."""

import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from geo_ray.data.record.blocks import Block, block_of
from geo_ray.errors import OutputError

ENTRY_SUFFIX = ".json"
ENTRY_NAME = re.compile(r"[0-9a-f]{16}\.json")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive blocks of a shard: the number of the first, the rows of each, whether the last is the shard's."""

    shard_id: str
    first: int
    rows: tuple[int, ...]
    ends: bool

    def blocks(self) -> Iterator[Block]:
        """Its blocks, in order."""
        stop = self.first + len(self.rows)
        return (Block(self.shard_id, number, self.ends and number == stop - 1) for number in range(self.first, stop))


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the file of predictions of this name (without suffix) holds, and how many of its rows have each problem."""

    name: str
    stretches: tuple[Stretch, ...]
    problems: dict[str, int] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """How many rows the file has."""
        return sum(sum(stretch.rows) for stretch in self.stretches)

    def blocks(self) -> Iterator[Block]:
        """The file's blocks, in order."""
        return itertools.chain.from_iterable(stretch.blocks() for stretch in self.stretches)

    def rows(self) -> Iterator[int]:
        """How many rows each block has, in order."""
        return itertools.chain.from_iterable(stretch.rows for stretch in self.stretches)

    def content(self) -> bytes:
        """The entry as it is written."""
        stretches = [[one.shard_id, one.first, one.rows, one.ends] for one in self.stretches]
        return json.dumps({"blocks": stretches, "problems": self.problems}).encode()


def stretches_of(held: Iterable[tuple[Block, int]]) -> tuple[Stretch, ...]:
    """Blocks with their numbers of rows, as they lie in a file, as stretches."""
    found: list[Stretch] = []
    for block, num_rows in held:
        before = found[-1] if found else None
        if before and (before.shard_id, before.first + len(before.rows)) == (block.shard_id, block.number):
            found[-1] = Stretch(before.shard_id, before.first, (*before.rows, num_rows), block.last)
        else:
            found.append(Stretch(block.shard_id, block.number, (num_rows,), block.last))
    return tuple(found)


def read_entry(name: str, content: bytes) -> FileEntry:
    """The entry of this name as it was written; ``OutputError`` where it is none."""
    try:
        held: dict[str, Any] = json.loads(content)
        stretches = tuple(
            Stretch(sys.intern(shard_id), first, tuple(rows), ends) for shard_id, first, rows, ends in held["blocks"]
        )
        return FileEntry(name, stretches, dict(held["problems"]))
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"ledger/{name}{ENTRY_SUFFIX} is damaged; delete it, and run again with --resume") from error


def entries_before(content: bytes) -> Iterator[FileEntry]:
    """The entries of a ``ledger.json`` of earlier versions: by file, each block's name, rows and problems."""
    held: dict[str, list[tuple[str, int, dict[str, int]]]] = json.loads(content)
    for file, written in held.items():
        blocks = [(block, num_rows) for name, num_rows, _ in written if (block := block_of(name)) is not None]
        if len(blocks) != len(written):
            raise OutputError(f"ledger.json names blocks of {file} that none of ours is called; delete the output")
        problems: Counter[str] = Counter()
        for _, _, some in written:
            problems.update(some)
        yield FileEntry(file.removesuffix(".parquet"), stretches_of(blocks), dict(problems))
