"""Parts: one parquet file a block of rows. That the file is there says that the block is done.

A block is a run of at most so many rows of one shard, in the shard's order, so that its number means the same rows in
every run. Its file appears whole or not at all; written twice, it holds the same rows.
"""

import re
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
    """The blocks that are done: of a whole shard only how many it has, so that it grows with the number of shards."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._whole: dict[str, int] = {}
        self._begun: dict[str, dict[int, bool]] = {}  # by number, whether it is the shard's last
        self._num_blocks = 0
        for block in blocks:
            self.add(block)

    def __len__(self) -> int:
        return self._num_blocks

    def __contains__(self, block: Block) -> bool:
        return block.number in self._begun.get(block.shard_id, ()) or self.whole(block.shard_id)

    def add(self, block: Block) -> bool:
        """Note a block as done; whether it wasn't yet."""
        if block in self:
            return False
        begun = self._begun.setdefault(block.shard_id, {})
        begun[block.number] = block.last
        self._num_blocks += 1
        if begun.get(len(begun) - 1):  # the last of so many, so that none is missing
            self._whole[block.shard_id] = len(self._begun.pop(block.shard_id))
        return True

    def numbers(self, shard_id: str) -> frozenset[int]:
        """The numbers of the shard's blocks that are done."""
        return frozenset(block.number for block in self.blocks(shard_id))

    def blocks(self, shard_id: str) -> list[Block]:
        """The shard's blocks that are done, in order."""
        if (count := self._whole.get(shard_id)) is not None:
            return [Block(shard_id, number, number == count - 1) for number in range(count)]
        return [Block(shard_id, number, last) for number, last in sorted(self._begun.get(shard_id, {}).items())]

    def whole(self, shard_id: str) -> bool:
        """Whether the shard's blocks are done from the first to the last."""
        return shard_id in self._whole
