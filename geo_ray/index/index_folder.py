"""The files of a prototype index: plain .npy arrays, memory-mapped when read.

``cell_offsets`` (C + 1) point into the prototypes, which are ordered by cell; ``member_offsets`` (P + 1) point into the
members, which are ordered by prototype. ``index.json`` names the sizes, how features are stored, the metric and the
encoder. Format 2 stores those and the features' squared lengths; format 1 (int8, l2) has neither, and is read too.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int, Int64

from geo_ray.errors import BundleError
from geo_ray.index.appender import ArrayFile
from geo_ray.index.features import DTYPES, Dtype, StoredFeatures, encode_features

__all__ = ["PrototypeIndex", "StoredFeatures", "encode_features", "read_index", "write_index"]

Metric = Literal["l2", "ip"]

FORMAT = 2
FORMATS = (1, 2)
METRICS = ("l2", "ip")
DESCRIPTION = "index.json"
OPTIONAL = ("member_ids", "member_hubness")


@dataclass(frozen=True, kw_only=True)
class PrototypeIndex:
    """Prototypes by cell and members by prototype. Shapes: C1 cells and one, P prototypes, M members, D features.

    ``metric``: ``l2``, Euclidean distance, or ``ip``, one minus the inner product, which is the cosine distance of
    features of length one. ``member_ids`` say which image a member was, and decide between equal distances; without
    them its row does. ``member_hubness`` is the mean cosine similarity of a member to its nearest others (``hubness``).
    A ``generation`` names the split that a shard belongs to. ``filed_by`` is the rule by which members are in their
    cells (``cells.labels.FILINGS``), ``partition_digest`` whose cells they are; empty where nobody said.
    """

    cell_offsets: Int64[np.ndarray, "C1"]
    prototype_features: StoredFeatures
    prototype_latlon: Float32[np.ndarray, "P 2"]
    member_offsets: Int64[np.ndarray, "P+1"]
    member_features: StoredFeatures
    member_latlon: Float32[np.ndarray, "M 2"]
    member_ids: Int64[np.ndarray, "M"] | None = None
    member_hubness: Float32[np.ndarray, "M"] | None = None
    metric: Metric = "l2"
    encoder_fingerprint: str = ""
    generation: str = ""
    filed_by: str = ""
    partition_digest: str = ""

    @property
    def member_prototypes(self) -> Int[np.ndarray, "M"]:
        """The prototype of each member."""
        return np.repeat(np.arange(len(self.prototype_latlon)), np.diff(self.member_offsets))

    @property
    def member_counts(self) -> Int[np.ndarray, "P"]:
        """How many members each prototype has."""
        return np.diff(self.member_offsets)

    @property
    def cell_members(self) -> Int[np.ndarray, "C1"]:
        """Where each cell's members start, and the last one's end."""
        return np.asarray(self.member_offsets[self.cell_offsets])

    @property
    def num_cells(self) -> int:
        """How many cells there are, the empty ones included."""
        return len(self.cell_offsets) - 1


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """What ``index.json`` says."""

    num_cells: int
    num_prototypes: int
    num_members: int
    num_features: int
    dtype: Dtype = "int8"
    metric: Metric = "l2"
    encoder_fingerprint: str = ""
    generation: str = ""
    filed_by: str = ""
    partition_digest: str = ""
    optional: tuple[str, ...] = ()
    format: int = FORMAT


def write_index(index: PrototypeIndex, folder: Path) -> IndexInfo:
    """Write the arrays and ``index.json``."""
    return write_parts([index], folder)


def write_parts(parts: Iterable[PrototypeIndex], folder: Path) -> IndexInfo:
    """Write one index of the parts' cells, in their order; a part is forgotten when it is written.

    All must agree in how features are stored, metric, encoder and optional arrays, as ``ValueError`` says otherwise.
    ``index.json`` is written last: a folder that was left half-written doesn't open. Never write over an index that is
    being searched: its files are memory-mapped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    files: dict[str, ArrayFile] = {}
    first: IndexInfo | None = None
    prototypes, members = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)]  # offsets, part by part
    num_prototypes, num_members = 0, 0
    try:
        for part in parts:
            first = first or describe(part)
            _check_alike(describe(part), first)
            for name, array in _arrays(part).items():
                if name not in files:
                    files[name] = ArrayFile(folder / f"{name}.npy", array)
                files[name].append(array)
            prototypes.append(num_prototypes + part.cell_offsets[1:])
            members.append(num_members + part.member_offsets[1:])
            num_prototypes += len(part.prototype_latlon)
            num_members += len(part.member_latlon)
    finally:
        for file in files.values():
            file.close()
    if first is None:
        raise ValueError("an index needs at least one part, if only one of cells without members")
    cell_offsets, member_offsets = np.concatenate(prototypes), np.concatenate(members)
    np.save(folder / "cell_offsets.npy", cell_offsets)
    np.save(folder / "member_offsets.npy", member_offsets)
    whole = dataclasses.replace(
        first, num_cells=len(cell_offsets) - 1, num_prototypes=num_prototypes, num_members=num_members
    )
    (folder / DESCRIPTION).write_text(json.dumps(dataclasses.asdict(whole), indent=1) + "\n")
    return whole


def write_hubness(folder: Path, hubness: Float32[np.ndarray, "M"]) -> IndexInfo:
    """Add the members' hubness to an index that nobody searches yet; what it says of itself then."""
    info = read_info(folder)
    (folder / DESCRIPTION).unlink()
    np.save(folder / "member_hubness.npy", hubness)
    info = dataclasses.replace(
        info, optional=tuple(name for name in OPTIONAL if name in {*info.optional, "member_hubness"})
    )
    (folder / DESCRIPTION).write_text(json.dumps(dataclasses.asdict(info), indent=1) + "\n")
    return info


def describe(index: PrototypeIndex) -> IndexInfo:
    """What ``index.json`` would say of an index."""
    return IndexInfo(
        num_cells=index.num_cells,
        num_prototypes=len(index.prototype_latlon),
        num_members=len(index.member_latlon),
        num_features=index.member_features.codes.shape[1],
        dtype=index.member_features.dtype,
        metric=index.metric,
        encoder_fingerprint=index.encoder_fingerprint,
        generation=index.generation,
        filed_by=index.filed_by,
        partition_digest=index.partition_digest,
        optional=tuple(name for name in OPTIONAL if getattr(index, name) is not None),
    )


def concat(parts: Iterable[PrototypeIndex]) -> PrototypeIndex:
    """The index of the parts' cells, in their order, in memory."""
    parts = list(parts)
    first = describe(parts[0])
    for part in parts:
        _check_alike(describe(part), first)
    arrays = [_arrays(part) for part in parts]
    joined = {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}
    for name in ("cell_offsets", "member_offsets"):
        counts = [np.diff(getattr(part, name)) for part in parts]
        joined[name] = np.concatenate([[0], np.cumsum(np.concatenate(counts), dtype=np.int64)])
    return _assemble(first, joined)


def take_cells(index: PrototypeIndex, first: int, last: int) -> PrototypeIndex:
    """The cells from ``first`` to before ``last`` as an index of their own; its arrays are views."""
    p, q = index.cell_offsets[first], index.cell_offsets[last]
    m, n = index.member_offsets[p], index.member_offsets[q]
    rows = {"prototype": slice(p, q), "member": slice(m, n)}
    arrays = {name: array[rows[name.split("_")[0]]] for name, array in _arrays(index).items()}
    arrays["cell_offsets"] = index.cell_offsets[first : last + 1] - p
    arrays["member_offsets"] = index.member_offsets[p : q + 1] - m
    return _assemble(describe(index), arrays)


def empty_cells(index: PrototypeIndex, num_cells: int) -> PrototypeIndex:
    """So many cells without members, stored as ``index`` is."""
    return dataclasses.replace(take_cells(index, 0, 0), cell_offsets=np.zeros(num_cells + 1, np.int64))


def read_index(folder: Path) -> PrototypeIndex:
    """Open an index without reading its features.

    ``BundleError`` names the file that is missing, truncated, of the wrong size, or that can't be right.
    """
    info = read_info(folder)
    prototypes, members, features = info.num_prototypes, info.num_members, info.num_features
    expected: dict[str, tuple[tuple[int, ...], Any]] = {
        "cell_offsets": ((info.num_cells + 1,), np.int64),
        "member_offsets": ((prototypes + 1,), np.int64),
        "member_ids": ((members,), np.int64),
        "member_hubness": ((members,), np.float32),
    }
    for name, rows in (("prototype", prototypes), ("member", members)):
        expected |= {
            f"{name}_latlon": ((rows, 2), np.float32),
            f"{name}_codes": ((rows, features), DTYPES[info.dtype]),
            f"{name}_scales": ((rows,), np.float32),
            f"{name}_squared": ((rows,), np.float32),
        }
    unused = {name for name in OPTIONAL if name not in info.optional}
    unused |= {"prototype_scales", "member_scales"} if info.dtype != "int8" else set()
    unused |= {"prototype_squared", "member_squared"} if info.format == 1 else set()
    wanted = {name: what for name, what in expected.items() if name not in unused}
    arrays = {name: _open(folder / f"{name}.npy", *what) for name, what in wanted.items()}
    _check_offsets(folder / "cell_offsets.npy", arrays["cell_offsets"], prototypes)
    _check_offsets(folder / "member_offsets.npy", arrays["member_offsets"], members)
    for name, array in arrays.items():
        if name.endswith(("_scales", "_squared", "_hubness")) and not np.isfinite(array).all():
            raise BundleError(f"{folder / name}.npy holds values that are not finite; build the index again")
    return _assemble(info, arrays)


def read_info(folder: Path) -> IndexInfo:
    """What ``index.json`` says, checked for its version."""
    path = folder / DESCRIPTION
    try:
        says = json.loads(path.read_text())
        names = ("format", "num_cells", "num_prototypes", "num_members", "num_features")
        sizes = {name: int(says[name]) for name in names}
        named = ("metric", "dtype", "encoder_fingerprint", "generation", "filed_by", "partition_digest")
        words = {name: str(says[name]) for name in named if name in says}
        info = IndexInfo(**sizes, **words, optional=tuple(says.get("optional", ())))  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} can't be read ({error}); restore the folder or build it again") from error
    if info.format not in FORMATS:
        raise BundleError(f"{folder}: index format {info.format} is not 1 or 2; rebuild the index")
    if info.metric not in METRICS or info.dtype not in DTYPES:
        raise BundleError(f"{path}: metric {info.metric!r}, dtype {info.dtype!r} are not known; rebuild the index")
    return info


def check_index(folder: Path, **wanted: Any) -> IndexInfo:
    """What ``index.json`` says, once the index is known to open and to be what is wanted (see ``check_info``).

    ``BundleError`` otherwise. No feature is read.
    """
    read_index(folder)
    info = read_info(folder)
    check_info(str(folder), info, **wanted)
    return info


def check_info(
    address: str,
    info: IndexInfo,
    *,
    num_features: int | None = None,
    num_cells: int | None = None,
    metric: Metric | None = None,
    encoder_fingerprint: str = "",
    filed_by: str = "",
    partition_digest: str = "",
    with_hubness: bool = False,
) -> None:
    """Raise ``BundleError`` where the index is of another encoder or partition, or lacks what is wanted.

    An index that doesn't name its encoder, its partition or how members are filed is taken for any.
    """
    for name, value in (("num_features", num_features), ("num_cells", num_cells), ("metric", metric)):
        if value is not None and getattr(info, name) != value:
            found = f"{name}={getattr(info, name)}"
            raise BundleError(f"index {address}: {found} is not {value}; build it for this bundle")
    if encoder_fingerprint and info.encoder_fingerprint not in ("", encoder_fingerprint):
        raise BundleError(
            f"index {address} was built with encoder {info.encoder_fingerprint}, not {encoder_fingerprint}; build it "
            "again from features of this bundle"
        )
    if partition_digest and info.partition_digest not in ("", partition_digest):
        raise BundleError(
            f"index {address} was built on the cells {info.partition_digest}, not {partition_digest}; build it again "
            "with this bundle's"
        )
    if filed_by and info.filed_by not in ("", filed_by):
        raise BundleError(
            f"index {address} has its members filed by {info.filed_by}, this bundle's head ranks cells by {filed_by}; "
            f"build it again with --filed-by {filed_by}"
        )
    if with_hubness and "member_hubness" not in info.optional:
        raise BundleError(
            f"index {address} doesn't hold its members' hubness, which CSLS needs; build it with --hubness"
        )


def _arrays(index: PrototypeIndex) -> dict[str, np.ndarray]:
    """All arrays with a row a prototype or a member, by the names of their files."""
    arrays = {"prototype_latlon": index.prototype_latlon, "member_latlon": index.member_latlon}
    for name in ("prototype", "member"):
        stored: StoredFeatures = getattr(index, f"{name}_features")
        arrays |= {f"{name}_codes": stored.codes, f"{name}_squared": stored.squared_norms}
        if stored.scales is not None:
            arrays[f"{name}_scales"] = stored.scales
    return arrays | {name: getattr(index, name) for name in OPTIONAL if getattr(index, name) is not None}


def _assemble(info: IndexInfo, arrays: dict[str, np.ndarray]) -> PrototypeIndex:
    """The index of these arrays."""
    prototypes, members = (
        StoredFeatures(
            codes=arrays[f"{name}_codes"], scales=arrays.get(f"{name}_scales"), squared=arrays.get(f"{name}_squared")
        )
        for name in ("prototype", "member")
    )
    return PrototypeIndex(
        cell_offsets=arrays["cell_offsets"],
        prototype_latlon=arrays["prototype_latlon"],
        member_offsets=arrays["member_offsets"],
        member_latlon=arrays["member_latlon"],
        member_ids=arrays.get("member_ids"),
        member_hubness=arrays.get("member_hubness"),
        prototype_features=prototypes,
        member_features=members,
        metric=info.metric,
        encoder_fingerprint=info.encoder_fingerprint,
        generation=info.generation,
        filed_by=info.filed_by,
        partition_digest=info.partition_digest,
    )


def _check_alike(info: IndexInfo, first: IndexInfo) -> None:
    for name in (
        "num_features",
        "dtype",
        "metric",
        "encoder_fingerprint",
        "generation",
        "filed_by",
        "partition_digest",
        "optional",
    ):
        if getattr(info, name) != getattr(first, name):
            raise ValueError(f"parts of an index differ in {name}: {getattr(first, name)!r}, {getattr(info, name)!r}")


def _check_offsets(path: Path, offsets: np.ndarray, end: int) -> None:
    if offsets[0] != 0 or offsets[-1] != end or (np.diff(offsets) < 0).any():
        raise BundleError(f"{path}: offsets must rise from 0 to {end}; restore the folder or build it again")


def _open(path: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The array in a file, which must be of this shape and type."""
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:  # EOFError: a file of no bytes
        raise BundleError(f"{path} can't be read ({error}); restore the folder or build it again") from error
    if array.shape != shape or array.dtype != dtype:
        found = f"{array.dtype} of {array.shape}"
        raise BundleError(f"{path} is {found}, index.json says {np.dtype(dtype)} of {shape}; restore the folder")
    return array
