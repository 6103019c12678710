"""What candidates are called: their ids, the country, region and place of a point, and which candidate is right."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int, Shaped
from scipy.spatial import cKDTree

from geo_ray.atlas.addresses import Addresses, nearest_addresses, read_addresses
from geo_ray.atlas.cities import Places, gazetteer
from geo_ray.atlas.labels import Labels, load_labels
from geo_ray.cells.labels import file_points
from geo_ray.cells.partition import Partition
from geo_ray.cells.partition_file import read_partition
from geo_ray.geo.sphere import unit_vectors
from geo_ray.index.gallery import read_gallery
from geo_ray.models.bundle import ADDRESSES, CELLS, GALLERY, LABELS, Bundle


@runtime_checkable
class Naming(Protocol):
    """Names of a bundle's candidates."""

    @property
    def ids(self) -> Shaped[np.ndarray, "c"]:
        """The id of every candidate there is."""
        ...

    @property
    def regions(self) -> "Regions":
        """Country and region of every candidate."""
        ...

    def places_of(self, answered: Int[np.ndarray, "n"], latlon: Float64[np.ndarray, "n 2"]) -> Places:
        """Where each answer lies, by its candidate's number and its point in degrees."""
        ...

    def right_candidates(self, latlon: Float64[np.ndarray, "n 2"]) -> Int[np.ndarray, "n"]:
        """The number of the candidate that is right for a photo taken at each point (degrees)."""
        ...


class Regions:
    """Country and region of candidates, as numbers that compare faster than texts."""

    def __init__(self, country: Shaped[np.ndarray, "c"], region: Shaped[np.ndarray, "c"]) -> None:
        self._known = dict.fromkeys(country) | dict.fromkeys(zip(country, region, strict=True))
        self._numbers = {name: number for number, name in enumerate(self._known)}
        self.countries = np.array([self._numbers[name] for name in country], np.int64)
        self.regions = np.array([self._numbers[pair] for pair in zip(country, region, strict=True)], np.int64)

    def same(
        self, cells: Int[np.ndarray, "n k"], winner: Int[np.ndarray, "n"], places: Places
    ) -> tuple[Shaped[np.ndarray, "n k"], Shaped[np.ndarray, "n k"]]:
        """Which candidates lie in the region, and in the country, of each answer; the answer itself always does."""
        pairs = zip(places.country, places.region, strict=True)
        country = np.array([self._numbers.get(name, -1) for name in places.country], np.int64)
        region = np.array([self._numbers.get(pair, -1) for pair in pairs], np.int64)
        found = self.regions[cells] == region[:, None], self.countries[cells] == country[:, None]
        for same in found:
            same[np.arange(len(cells)), winner] = True
        return found


@dataclass(frozen=True)
class NearestPlace:
    """Answers are called by the nearest populated place."""

    ids: Shaped[np.ndarray, "c"]
    latlon: Float64[np.ndarray, "c 2"]
    partition: Partition | None = None
    filed_by: str = ""

    @cached_property
    def regions(self) -> Regions:
        """See ``Naming.regions``."""
        places = gazetteer().places_of(self.latlon)
        return Regions(places.country, places.region)

    def places_of(self, answered: Int[np.ndarray, "n"], latlon: Float64[np.ndarray, "n 2"]) -> Places:
        """See ``Naming.places_of``."""
        return gazetteer().places_of(latlon)

    def right_candidates(self, latlon: Float64[np.ndarray, "n 2"]) -> Int[np.ndarray, "n"]:
        """The cell that a member at this point is filed in, or the nearest place of a gallery."""
        if self.partition is not None:
            return file_points(latlon, self.partition, self.filed_by)
        return nearest_rows(latlon, self.latlon)


@dataclass(frozen=True)
class ProbedLabel:
    """Answers are called by the label that was found: its point may be the middle of a country."""

    labels: Labels

    @property
    def ids(self) -> Shaped[np.ndarray, "c"]:
        """The labels' ids."""
        return self.labels.ids

    @cached_property
    def regions(self) -> Regions:
        """See ``Naming.regions``."""
        return Regions(self.labels.countries, self.labels.regions)

    def places_of(self, answered: Int[np.ndarray, "n"], latlon: Float64[np.ndarray, "n 2"]) -> Places:
        """See ``Naming.places_of``; what is above a city has no city."""
        labels = self.labels
        is_city = labels.levels[answered] == "city"
        return Places(
            country=labels.countries[answered],
            region=labels.regions[answered],
            city=np.where(is_city, labels.names[answered], ""),
            distance_km=np.zeros(len(answered)),
        )

    def right_candidates(self, latlon: Float64[np.ndarray, "n 2"]) -> Int[np.ndarray, "n"]:
        """The nearest label that has none below it."""
        leaves = np.setdiff1d(np.arange(len(self.labels.ids)), self.labels.parents)
        return np.asarray(leaves[nearest_rows(latlon, self.labels.latlon[leaves])])


@dataclass(frozen=True)
class CandidateAddress:
    """Answers are called by the nearest populated place, as cells are; their addresses are columns of their own."""

    addresses: Addresses

    @property
    def ids(self) -> Shaped[np.ndarray, "c"]:
        """The addresses' ids."""
        return self.addresses.ids

    @cached_property
    def regions(self) -> Regions:
        """See ``Naming.regions``."""
        places = gazetteer().places_of(self.addresses.latlon)
        return Regions(places.country, places.region)

    def places_of(self, answered: Int[np.ndarray, "n"], latlon: Float64[np.ndarray, "n 2"]) -> Places:
        """See ``Naming.places_of``."""
        return gazetteer().places_of(latlon)

    def right_candidates(self, latlon: Float64[np.ndarray, "n 2"]) -> Int[np.ndarray, "n"]:
        """The address whose course is nearest."""
        return nearest_addresses(latlon, self.addresses)


def nearest_rows(latlon: Float64[np.ndarray, "n 2"], places: Float64[np.ndarray, "c 2"]) -> Int[np.ndarray, "n"]:
    """The row of the place that is nearest to each point (degrees)."""
    return np.asarray(cKDTree(unit_vectors(places)).query(unit_vectors(latlon))[1], np.int64)


def open_naming(bundle: Bundle) -> Naming:
    """The names of a bundle's candidates; the gazetteer and the files are loaded here, once a worker."""
    return read_naming(bundle.folder, bundle.kind, bundle.filed_by)


def read_naming(folder: Path, kind: str, filed_by: str) -> Naming:
    """The same of a bundle's folder, whose other files aren't looked at."""
    if kind == "zero-shot":
        return ProbedLabel(load_labels(folder / LABELS))
    gazetteer()
    if kind == "address":
        return CandidateAddress(read_addresses(folder / ADDRESSES))
    if kind == "gallery":
        latlon = read_gallery(folder / GALLERY).latlon
        return NearestPlace(np.array([f"gallery:{row}" for row in range(len(latlon))], dtype=object), latlon)
    partition = read_partition(folder / CELLS)
    return NearestPlace(partition.cell_ids, partition.centers, partition, filed_by)
