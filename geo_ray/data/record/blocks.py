"""Parts: one parquet file a block of rows. That the file is there says that the block is done.

A block is a run of at most so many rows of one shard, in the shard's order, so that its number means the same rows in
every run. Its file appears whole or not at all; written twice, it holds the same rows.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

NAME = re.compile(r"([0-9a-f]{20})-(\d{6})(-last)?")


@dataclass(frozen=True, order=True)
class Block:
    """The ``number``-th block of a shard's rows; ``last`` where none follow."""

    shard_id: str
    number: int
    last: bool

    @property
    def name(self) -> str:
        """The name of its file, without suffix."""
        return f"{self.shard_id}-{self.number:06d}{'-last' if self.last else ''}"


def block_of(name: str) -> Block | None:
    """The block that a file's name without suffix says, or None where it says none."""
    found = NAME.fullmatch(name)
    return Block(found[1], int(found[2]), found[3] is not None) if found else None


class Done:
    """The blocks that are done."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._shards: dict[str, dict[int, Block]] = defaultdict(dict)
        for block in blocks:
            self._shards[block.shard_id][block.number] = block

    def __len__(self) -> int:
        return sum(len(blocks) for blocks in self._shards.values())

    def numbers(self, shard_id: str) -> frozenset[int]:
        """The numbers of the shard's blocks that are done."""
        return frozenset(self._shards.get(shard_id, ()))

    def blocks(self, shard_id: str) -> list[Block]:
        """The shard's blocks that are done, in order."""
        return [block for _, block in sorted(self._shards.get(shard_id, {}).items())]

    def whole(self, shard_id: str) -> bool:
        """Whether the shard's blocks are done from the first to the last."""
        blocks = self.blocks(shard_id)
        return bool(blocks) and blocks[-1].last and len(blocks) == blocks[-1].number + 1
