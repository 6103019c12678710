"""A gallery: places with their features, searched as GeoCLIP does (arXiv 2309.16020; reference: GeoCLIP.py, predict).

Shapes: N images, G places, K candidates, D features.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from geo_ray.errors import BundleError
from geo_ray.geo.sphere import check_latlon
from geo_ray.index.refine import Refined

if TYPE_CHECKING:
    from geo_ray.index.on_device import DeviceGallery

FORMAT = 1
DTYPES = ("float16", "float32")
LENGTH_TOLERANCE = 1e-3  # float16 changes a length by up to 2.5e-4
MAX_LOGIT_SCALE = 1e6  # CLIP's is at most 100

QUERY_BLOCK = 256  # images compared at once, each time with
GALLERY_BLOCK = 4096  # so many places: 25 MB with their cosines
NUM_SPARE = 16  # places kept beyond K, so that none is lost by the rounding of cosines (under 4e-7 at 512 features)
# Products of two features are multiples of 2^-52, and float64 holds sums of those up to 2 without rounding.
PRODUCT_BITS = 52
GALLERY_BITS = {"float16": 24, "float32": 26}  # a float16 below 1 is a multiple of 2^-24 already


@dataclass(frozen=True, kw_only=True)
class GallerySearch:
    """Parameters of the search: what cosines are multiplied by, and how many candidates are kept."""

    logit_scale: float
    num_candidates: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.logit_scale <= MAX_LOGIT_SCALE:
            raise ValueError(
                f"gallery search: logit_scale={self.logit_scale} must be above 0, at most {MAX_LOGIT_SCALE}"
            )
        if self.num_candidates < 1:
            raise ValueError(f"gallery search: num_candidates={self.num_candidates} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Located(Refined):
    """The answer for each image; ``cells`` are rows of the gallery, most probable first, equal ones by row.

    The most probable place wins, so ``winner`` is 0 and ``top_latlon`` is ``latlon``. Probabilities are among the whole
    gallery, so those of the candidates sum to less than one.
    """

    cells: Int64[np.ndarray, "N K"]
    top_latlon: Float64[np.ndarray, "N 2"]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The places nearest to each image so far, ascending by row, and the sum of exp(scale * (cosine - peak))."""

    rows: Int64[np.ndarray, "N K"]
    cosine: Float64[np.ndarray, "N K"]
    peak: Float64[np.ndarray, "N 1"]
    total: Float64[np.ndarray, "N 1"]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Places (degrees) and their features of length one, float16 or float32, usually memory-mapped.

    With a torch ``device`` the features are copied there, to be searched with the same answers.
    """

    features: Float[np.ndarray, "G D"]
    latlon: Float64[np.ndarray, "G 2"]
    device: str | None = None

    def __post_init__(self) -> None:
        if self.features.dtype.name not in DTYPES:
            raise ValueError(f"gallery: features are {self.features.dtype}, not one of {DTYPES}")
        if not len(self.features) == len(self.latlon) > 0:
            raise ValueError(f"gallery: {len(self.features)} features for {len(self.latlon)} places")
        _ = self._on_device

    def search(self, features: Float32[np.ndarray, "N D"], parameters: GallerySearch) -> Located:
        """The most probable places for image features of length one, exactly.

        Probabilities are the softmax of ``logit_scale`` times the cosines over the whole gallery; a gallery of fewer
        places than ``num_candidates`` answers with all. An image's answer is the same to the last bit whatever batch it
        comes in. Memory: 40 MB at 512 features, and the answer.
        """
        if odd := np.flatnonzero(_odd_lengths(features)).tolist():
            raise ValueError(f"image features {odd[:3]} of {len(features)} are not of length one")
        k = min(parameters.num_candidates, len(self.latlon))
        cells, probability = np.empty((len(features), k), np.int64), np.empty((len(features), k))
        for start in range(0, len(features), QUERY_BLOCK):
            block = slice(start, start + QUERY_BLOCK)
            cells[block], probability[block] = self._rank(features[block].astype(np.float64), k, parameters.logit_scale)
        return self._located(cells, probability)

    def search_among(
        self, features: Float32[np.ndarray, "N D"], rows: Sequence[Int64[np.ndarray, "_"]], parameters: GallerySearch
    ) -> Located:
        """The same among some places for each image, by their rows, ascending; probabilities are among those.

        Where there are fewer places than candidates, the first is repeated with probability 0. An image with none gets
        the first of all places: that is no answer.
        """
        k = min(parameters.num_candidates, len(self.latlon))
        cells, probability = np.zeros((len(features), k), np.int64), np.zeros((len(features), k))
        for image, among in enumerate(rows):
            if not len(among):
                probability[image, 0] = 1.0
                continue
            logits = parameters.logit_scale * _dots(self.features[among], features[image].astype(np.float64))
            shares = np.exp(logits - logits.max())
            order = np.argsort(-logits, kind="stable")[:k]
            cells[image] = among[order[0]]
            cells[image, : len(order)] = among[order]
            probability[image, : len(order)] = shares[order] / shares.sum()
        return self._located(cells, probability)

    def _located(self, cells: Int64[np.ndarray, "N K"], probability: Float64[np.ndarray, "N K"]) -> Located:
        places = self.latlon[cells]
        return Located(
            cells=cells,
            candidate_latlon=places,
            candidate_probability=probability,
            winner=np.zeros(len(cells), np.int64),
            latlon=places[:, 0],
            top_latlon=places[:, 0],
        )

    def _rank(
        self, features: Float64[np.ndarray, "N D"], k: int, scale: float
    ) -> tuple[Int64[np.ndarray, "N K"], Float64[np.ndarray, "N K"]]:
        """The rows and probabilities of the ``k`` most probable places.

        All cosines come from features rounded to fixed point (``PRODUCT_BITS``); those of the best places, which decide
        the order and most of the sum, then from the features as they are.
        """
        found = self._scan(features, k + NUM_SPARE, scale)
        cosine = np.stack([_dots(self.features[rows], x) for rows, x in zip(found.rows, features, strict=True)])
        order = np.argsort(-cosine, axis=1, kind="stable")
        rounded, exact = (np.exp(scale * (values - found.peak)) for values in (found.cosine, cosine))
        others = np.maximum(found.total - rounded.sum(axis=1, keepdims=True), 0.0)
        probability = exact / (others + exact.sum(axis=1, keepdims=True))
        return (
            np.take_along_axis(found.rows, order, axis=1)[:, :k],
            np.take_along_axis(probability, order, axis=1)[:, :k],
        )

    def _scan(self, features: Float64[np.ndarray, "N D"], count: int, scale: float) -> Ranking:
        """One pass over the gallery.

        The matrix product is exact, so it doesn't matter that BLAS adds in another order for other shapes, and equal
        places get equal cosines.
        """
        n = len(features)
        bits = PRODUCT_BITS - GALLERY_BITS[self.features.dtype.name]
        queries = _fixed_point(features, bits)
        if self._on_device is not None:
            shift = None if self.features.dtype == np.float16 else _shift(GALLERY_BITS[self.features.dtype.name])
            rows, cosine, peak, total = self._on_device.best(queries, shift, count, scale)
            return Ranking(rows=rows, cosine=cosine, peak=peak, total=total)
        found = Ranking(
            rows=np.empty((n, 0), np.int64),
            cosine=np.empty((n, 0)),
            peak=np.full((n, 1), -np.inf),
            total=np.zeros((n, 1)),
        )
        products = np.empty((n, min(GALLERY_BLOCK, len(self.latlon))))
        for start, places in self._blocks():
            cosine = np.matmul(queries, places.T, out=products[:, : len(places)])
            found = _extend(found, cosine, start, count, scale)
        return found

    @cached_property
    def _on_device(self) -> "DeviceGallery | None":
        if self.device is None:
            return None
        from geo_ray.index.on_device import DeviceGallery  # which needs torch

        return DeviceGallery(self.features, self.device)

    def _blocks(self) -> Iterator[tuple[int, Float64[np.ndarray, "_ D"]]]:
        """The gallery's features in fixed point, a block at a time in one buffer, each with its first row."""
        buffer = np.empty((min(GALLERY_BLOCK, len(self.latlon)), self.features.shape[1]))
        for start in range(0, len(self.latlon), GALLERY_BLOCK):
            part = self.features[start : start + GALLERY_BLOCK]
            block = buffer[: len(part)]
            np.copyto(block, part)
            if self.features.dtype != np.float16:
                _fixed_point(block, GALLERY_BITS[self.features.dtype.name], out=block)
            yield start, block


def _extend(found: Ranking, cosine: Float64[np.ndarray, "N B"], start: int, count: int, scale: float) -> Ranking:
    """The ranking with the cosines of a further block, which begins at row ``start``; overwrites them."""
    rows, best = _best_of(found, cosine, start, count)
    peak = best.max(axis=1, keepdims=True)
    cosine -= peak
    cosine *= scale
    added = np.exp(cosine, out=cosine).sum(axis=1, keepdims=True)
    return Ranking(
        rows=rows,
        cosine=best,
        peak=peak,
        total=found.total * np.exp(scale * (found.peak - peak)) + added,
    )


def _best_of(
    found: Ranking, cosine: Float64[np.ndarray, "N B"], start: int, count: int
) -> tuple[Int64[np.ndarray, "N K"], Float64[np.ndarray, "N K"]]:
    """Rows and cosines of the best so far and of a further block, ascending by row; of equal ones the first."""
    if found.rows.shape[1] < count:
        columns = _largest(cosine, count)
        better = np.take_along_axis(cosine, columns, axis=1)
    else:  # few are better than all that are kept, and to find those takes a tenth of finding the block's largest
        columns, better = _above(cosine, found.cosine.min(axis=1))
    rows = np.concatenate([found.rows, columns + start], axis=1)
    best = np.concatenate([found.cosine, better], axis=1)
    kept = _largest(best, count)
    return np.take_along_axis(rows, kept, axis=1), np.take_along_axis(best, kept, axis=1)


def _above(
    values: Float64[np.ndarray, "N B"], least: Float64[np.ndarray, "N"]
) -> tuple[Int64[np.ndarray, "N M"], Float64[np.ndarray, "N M"]]:
    """Columns and values of what is above a number of each row, ascending; rows that have fewer end with -inf."""
    at, columns = np.nonzero(values > least[:, None])
    sizes = np.bincount(at, minlength=len(values))
    place = np.arange(len(at)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found = np.zeros((len(values), int(sizes.max(initial=0))), np.int64)
    above = np.full(found.shape, -np.inf)
    found[at, place], above[at, place] = columns, values[at, columns]
    return found, above


def _largest(values: Float64[np.ndarray, "N B"], count: int) -> Int64[np.ndarray, "N K"]:
    """Columns of the largest values of each row, ascending; of equal values the first ones."""
    n, width = values.shape
    if width <= count:
        return np.broadcast_to(np.arange(width), (n, width))
    last = np.partition(values, width - count, axis=1)[:, width - count, None]
    chosen = values >= last
    crowded = np.flatnonzero(np.count_nonzero(chosen, axis=1) > count)
    tied = values[crowded] == last[crowded]
    room = count - np.count_nonzero(values[crowded] > last[crowded], axis=1)
    chosen[crowded] &= ~tied | (tied.cumsum(axis=1) <= room[:, None])
    return np.asarray(np.flatnonzero(chosen) % width).reshape(n, count)  # 10 x faster than by rows


def _fixed_point(
    values: Float64[np.ndarray, "_ D"], bits: int, out: Float64[np.ndarray, "_ D"] | None = None
) -> Float64[np.ndarray, "_ D"]:
    """Values about one or less rounded to multiples of 2^-bits: float64 has no finer digits beside ``shift``."""
    return np.asarray(np.subtract(np.add(values, _shift(bits), out=out), _shift(bits), out=out))


def _shift(bits: int) -> float:
    """What, added and taken away again, rounds values about one or less to multiples of 2^-bits."""
    return float(1.5 * 2.0 ** (PRODUCT_BITS - bits))


def _dots(places: Float[np.ndarray, "K D"], features: Float64[np.ndarray, "D"]) -> Float64[np.ndarray, "K"]:
    """Each place's product with one image, a row at a time: equal places have equal ones."""
    return np.asarray((places.astype(np.float64) * features).sum(axis=1))


def _odd_lengths(features: Float[np.ndarray, "_ D"]) -> np.ndarray:
    """Which vectors are not of length one, or not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.square(features, dtype=np.float32).sum(axis=1))
    return np.asarray(~(np.abs(lengths - 1) <= LENGTH_TOLERANCE))


def write_gallery(folder: Path, features: Float[np.ndarray, "G D"], latlon: Float64[np.ndarray, "G 2"]) -> None:
    """Write the arrays and ``gallery.json``, which names the sizes; ``ValueError`` where a row can't be searched."""
    gallery = Gallery(features=features, latlon=latlon)
    check_values(gallery)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "features.npy", gallery.features)
    np.save(folder / "latlon.npy", gallery.latlon)
    sizes = {"format": FORMAT, "num_places": len(latlon), "num_features": features.shape[1]}
    (folder / "gallery.json").write_text(json.dumps(sizes, indent=1))


def read_gallery(folder: Path, device: str | None = None) -> Gallery:
    """Open a gallery, its features memory-mapped, and on a ``device`` too where one is named.

    ``BundleError`` names the file that is missing or damaged.
    """
    sizes = _read_sizes(folder)
    gallery = Gallery(
        features=_open(folder / "features.npy", (sizes["num_places"], sizes["num_features"]), DTYPES),
        latlon=np.array(_open(folder / "latlon.npy", (sizes["num_places"], 2), ("float64",))),
        device=device,
    )
    try:
        check_values(gallery)
    except ValueError as error:
        raise BundleError(f"{folder}: {error}; restore the folder or build it again") from error
    return gallery


def check_values(gallery: Gallery) -> None:
    """Raise ``ValueError`` where a place is not on Earth or its features are not of length one."""
    check_latlon(gallery.latlon, "latlon.npy")
    starts = range(0, len(gallery.latlon), GALLERY_BLOCK)
    odd = np.concatenate([_odd_lengths(gallery.features[start : start + GALLERY_BLOCK]) for start in starts])
    if odd.any():
        raise ValueError(f"features.npy: {odd.sum()} of {len(odd)} vectors are not finite and of length one")


def _read_sizes(folder: Path) -> dict[str, int]:
    """What ``gallery.json`` says, checked for its version."""
    path = folder / "gallery.json"
    try:
        sizes = json.loads(path.read_text())
        checked = {name: int(sizes[name]) for name in ("format", "num_places", "num_features")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} can't be read ({error}); restore the folder or build it again") from error
    if checked["format"] != FORMAT:
        raise BundleError(f"{folder}: gallery format {checked['format']} is not {FORMAT}; build it again")
    if checked["num_places"] < 1:
        raise BundleError(f"{folder}: the gallery has no places; build it again")
    return checked


def _open(path: Path, shape: tuple[int, int], dtypes: tuple[str, ...]) -> np.ndarray:
    """The array in a file, which must have this shape and one of these types."""
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:  # EOFError: a file of no bytes
        raise BundleError(f"{path} can't be read ({error}); restore the folder or build it again") from error
    if array.shape != shape or array.dtype.name not in dtypes:
        found = f"{array.dtype} {array.shape}"
        raise BundleError(f"{path} holds {found}, gallery.json says {' or '.join(dtypes)} {shape}; restore the folder")
    return array
