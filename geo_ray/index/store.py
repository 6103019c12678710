"""The files of a prototype index: plain .npy arrays, memory-mapped when read.

``cell_offsets`` (C + 1) point into the prototypes, which are ordered by cell; ``member_offsets`` (P + 1) point into the
members, which are ordered by prototype. Features are stored as int8 with one scale a vector.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Int8, Int64

from geo_ray.errors import BundleError

FORMAT = 1
ARRAYS = ("cell_offsets", "prototype_latlon", "member_offsets", "member_latlon")


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Vectors as int8 codes times a scale each; the error of a component is at most half the scale."""

    codes: Int8[np.ndarray, "n D"]
    scales: Float32[np.ndarray, "n"]

    def decode(self) -> Float32[np.ndarray, "n D"]:
        """The vectors."""
        return np.asarray(self.codes.astype(np.float32) * self.scales[:, None])


def encode_features(features: Float32[np.ndarray, "n D"]) -> StoredFeatures:
    """Vectors stored as int8; NaN and infinite values are refused."""
    if num_bad := int((~np.isfinite(features).all(axis=1)).sum()):
        raise ValueError(f"{num_bad} of {len(features)} feature vectors are not finite")
    scales = (np.abs(features).max(axis=1, initial=1e-12) / 127).astype(np.float32)
    return StoredFeatures(codes=np.rint(features / scales[:, None]).astype(np.int8), scales=scales)


@dataclass(frozen=True, kw_only=True)
class PrototypeIndex:
    """Prototypes by cell and members by prototype. Shapes: C1 cells and one, P prototypes, M members, D features."""

    cell_offsets: Int64[np.ndarray, "C1"]
    prototype_features: StoredFeatures
    prototype_latlon: Float32[np.ndarray, "P 2"]
    member_offsets: Int64[np.ndarray, "P+1"]
    member_features: StoredFeatures
    member_latlon: Float32[np.ndarray, "M 2"]

    @property
    def member_prototypes(self) -> Int[np.ndarray, "M"]:
        """The prototype of each member."""
        return np.repeat(np.arange(len(self.prototype_latlon)), np.diff(self.member_offsets))

    @property
    def member_counts(self) -> Int[np.ndarray, "P"]:
        """How many members each prototype has."""
        return np.diff(self.member_offsets)


def write_index(index: PrototypeIndex, folder: Path) -> None:
    """Write the arrays and ``index.json``, which names the sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(index, name))
    for name in ("prototype", "member"):
        stored: StoredFeatures = getattr(index, f"{name}_features")
        np.save(folder / f"{name}_codes.npy", stored.codes)
        np.save(folder / f"{name}_scales.npy", stored.scales)
    sizes = {
        "format": FORMAT,
        "num_cells": len(index.cell_offsets) - 1,
        "num_prototypes": len(index.prototype_latlon),
        "num_members": len(index.member_latlon),
        "num_features": int(index.member_features.codes.shape[1]),
    }
    (folder / "index.json").write_text(json.dumps(sizes, indent=1))


def read_index(folder: Path) -> PrototypeIndex:
    """Open an index; ``BundleError`` names the file that is missing, truncated or of the wrong size."""
    sizes = _read_sizes(folder)
    lengths = {
        "cell_offsets": sizes["num_cells"] + 1,
        "prototype_latlon": sizes["num_prototypes"],
        "prototype_codes": sizes["num_prototypes"],
        "prototype_scales": sizes["num_prototypes"],
        "member_offsets": sizes["num_prototypes"] + 1,
        "member_latlon": sizes["num_members"],
        "member_codes": sizes["num_members"],
        "member_scales": sizes["num_members"],
    }
    arrays = {name: _open(folder / f"{name}.npy", length) for name, length in lengths.items()}
    return PrototypeIndex(
        cell_offsets=arrays["cell_offsets"],
        prototype_features=StoredFeatures(codes=arrays["prototype_codes"], scales=arrays["prototype_scales"]),
        prototype_latlon=arrays["prototype_latlon"],
        member_offsets=arrays["member_offsets"],
        member_features=StoredFeatures(codes=arrays["member_codes"], scales=arrays["member_scales"]),
        member_latlon=arrays["member_latlon"],
    )


def _read_sizes(folder: Path) -> dict[str, int]:
    """What ``index.json`` says, checked for its version."""
    path = folder / "index.json"
    try:
        sizes = json.loads(path.read_text())
        names = ("format", "num_cells", "num_prototypes", "num_members", "num_features")
        checked = {name: int(sizes[name]) for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} can't be read ({error}); restore the folder or build it again") from error
    if checked["format"] != FORMAT:
        raise BundleError(f"{folder}: index format {checked['format']} is not {FORMAT}; rebuild the index")
    return checked


def _open(path: Path, length: int) -> np.ndarray:
    """The array in a file, which must have this many rows."""
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:  # EOFError: a file of no bytes
        raise BundleError(f"{path} can't be read ({error}); restore the folder or build it again") from error
    if len(array) != length:
        raise BundleError(f"{path} has {len(array)} rows, index.json says {length}; restore the folder")
    return array
