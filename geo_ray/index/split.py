"""An index in shards: a folder each, of whole cells, and a manifest that says which cell lies where.

A shard is an index with all cells of the whole, of which those of other shards are empty: cells keep their numbers.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int, Int64

from geo_ray.errors import BundleError
from geo_ray.geo.sphere import unit_vectors
from geo_ray.index.index_folder import (
    IndexInfo,
    PrototypeIndex,
    describe,
    empty_cells,
    read_index,
    read_info,
    take_cells,
)
from geo_ray.index.index_folder import write_parts as write_index_parts

FORMAT = 1
MANIFEST = "shards.json"
OWNERS = "owners.npy"


@dataclass(frozen=True, kw_only=True)
class Split:
    """An index in shards: ``owners`` is the shard of each cell, ``generation`` names content and split together."""

    folder: Path
    generation: str
    whole: IndexInfo
    shards: tuple[IndexInfo, ...]
    owners: Int64[np.ndarray, "C"]

    @property
    def folders(self) -> list[Path]:
        """Where each shard lies."""
        return [self.folder / _name(number) for number in range(len(self.shards))]


def split_index(folder: Path, num_shards: int, output: Path, owners: Int[np.ndarray, "C"] | None = None) -> Split:
    """Write the index in ``folder`` to ``output`` as so many shards, cell by cell; the manifest is written last.

    Without ``owners``, by ``near_owners``. The same index and owners are the same generation.
    """
    index = read_index(folder)
    if index.member_ids is None:
        index = dataclasses.replace(index, member_ids=np.arange(len(index.member_latlon)))
    owners = near_owners(index, num_shards) if owners is None else owners.astype(np.int64)
    if len(owners) != index.num_cells or not 0 <= owners.min() <= owners.max() < num_shards:
        raise ValueError(f"owners must name one of {num_shards} shards for each of {index.num_cells} cells")
    output.mkdir(parents=True, exist_ok=True)
    (output / MANIFEST).unlink(missing_ok=True)
    index = dataclasses.replace(index, generation=_generation(index, owners))
    shards = [write_index_parts(_cells_of(index, owners, n), output / _name(n)) for n in range(num_shards)]
    np.save(output / OWNERS, owners)
    split = Split(
        folder=output, generation=index.generation, whole=describe(index), shards=tuple(shards), owners=owners
    )
    manifest = {
        "format": FORMAT,
        "generation": split.generation,
        "whole": dataclasses.asdict(split.whole),
        "shards": [dataclasses.asdict(shard) for shard in shards],
    }
    (output / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return split


def read_split(folder: Path) -> Split:
    """What the manifest says; the shards themselves may lie elsewhere (``check_shards``)."""
    path = folder / MANIFEST
    try:
        says = json.loads(path.read_text())
        if says["format"] != FORMAT:
            raise BundleError(f"{path}: format {says['format']} is not {FORMAT}; split the index again")
        whole, *shards = (
            IndexInfo(**info | {"optional": tuple(info["optional"])}) for info in (says["whole"], *says["shards"])
        )
        owners = np.load(folder / OWNERS, allow_pickle=False)
        split = Split(
            folder=folder, generation=str(says["generation"]), whole=whole, shards=tuple(shards), owners=owners
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise BundleError(f"{path} can't be read ({error}); restore the folder or split the index again") from error
    if len(owners) != whole.num_cells or not 0 <= owners.min() <= owners.max() < len(shards):
        raise BundleError(f"{folder / OWNERS} doesn't fit {MANIFEST}; restore the folder or split the index again")
    return split


def check_shards(split: Split) -> None:
    """Raise ``BundleError`` that names a shard that is missing, damaged, or of another generation; reads no feature."""
    for folder, expected in zip(split.folders, split.shards, strict=True):
        read_index(folder)
        if read_info(folder) != expected:
            raise BundleError(f"shard {folder} is not the one that {MANIFEST} lists; split the index again")


def near_owners(index: PrototypeIndex, num_shards: int) -> Int64[np.ndarray, "C"]:
    """The shard of each cell, with about equal numbers of members and cells that lie near each other together.

    So an image's candidate cells, which are mostly neighbours, lie in few shards. Cells without members are in shard 0.
    """
    if num_shards < 1:
        raise ValueError(f"num_shards={num_shards} must be at least 1")
    owners = np.zeros(index.num_cells, np.int64)
    weights = np.diff(index.cell_members)
    cells = np.flatnonzero(weights)
    firsts = index.cell_offsets[cells]
    sums = np.add.reduceat(unit_vectors(index.prototype_latlon.astype(np.float64)), firsts) if len(cells) else None
    if sums is not None:
        owners[cells] = _halve(sums / np.diff(index.cell_offsets)[cells, None], weights[cells], num_shards)
    return owners


def _halve(
    vectors: Float64[np.ndarray, "n 3"], weights: Int[np.ndarray, "n"], num_shards: int
) -> Int64[np.ndarray, "n"]:
    """Owners by cutting in two along the longest extent, by weight, until each part is a shard."""
    owners = np.zeros(len(vectors), np.int64)
    if num_shards == 1 or len(vectors) == 0:
        return owners
    left = num_shards // 2
    order = np.argsort(vectors[:, np.ptp(vectors, axis=0).argmax()], kind="stable")
    before = np.concatenate([[0], np.cumsum(weights[order])])
    cut = int(np.abs(before - before[-1] * left / num_shards).argmin())
    owners[order[:cut]] = _halve(vectors[order[:cut]], weights[order[:cut]], left)
    owners[order[cut:]] = left + _halve(vectors[order[cut:]], weights[order[cut:]], num_shards - left)
    return owners


def _cells_of(index: PrototypeIndex, owners: Int64[np.ndarray, "C"], shard: int) -> Iterator[PrototypeIndex]:
    """All cells in order, in runs, those of other shards empty."""
    runs = np.flatnonzero(np.diff(owners == shard, prepend=False, append=False))
    edges = np.unique([0, *runs, index.num_cells])
    for first, last in pairwise(edges.tolist()):
        own = owners[first] == shard
        yield take_cells(index, first, last) if own else empty_cells(index, last - first)


def _generation(index: PrototypeIndex, owners: Int64[np.ndarray, "C"]) -> str:
    """A digest of what an index holds, features by their lengths, and of how it is split."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(describe(index))).encode())
    for array in (
        index.cell_offsets, index.member_offsets, index.prototype_latlon, index.member_latlon, index.member_ids,
        index.prototype_features.squared_norms, index.member_features.squared_norms, owners,
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _name(number: int) -> str:
    return f"shard-{number:03d}"
