"""A log of the work of a run, also of what is done in vain; only where an environment variable names a file for it.

A worker that is killed has no chance to count what it did. What it has begun is therefore written down before, by one
appended line, which stays when the process dies.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Literal

from geo_ray.data.record.blocks import Block

WORK_LOG = "GEO_RAY_WORK_LOG"  # a file on the machine that all workers run on

Act = Literal["read", "begun", "committed"]


def note(act: Act, block: Block, num_rows: int) -> None:
    """Write down that so many rows of a block were read, or are about to be answered, or are committed."""
    path = os.environ.get(WORK_LOG)
    if path:
        with open(path, "ab", buffering=0) as file:  # one write: lines of several processes don't mix
            file.write(f"{act} {block.name} {num_rows}\n".encode())


def rows_by_act(path: Path) -> Counter[str]:
    """How many rows were read, begun and committed, each as often as it was; ``done`` are those committed, once."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    counts: Counter[str] = Counter()
    for act, _, num_rows in lines:
        counts[act] += int(num_rows)
    committed = {name: int(num_rows) for act, name, num_rows in lines if act == "committed"}
    counts["done"] = sum(committed.values())
    return counts
