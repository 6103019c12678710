"""What an answer is called: the candidates' ids, and the country, region and place of a point."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int, Shaped

from geo_ray.atlas.cities import Places, gazetteer
from geo_ray.atlas.labels import Labels, load_labels
from geo_ray.cells.partition_file import read_partition
from geo_ray.index.gallery import read_gallery
from geo_ray.models.bundle import CELLS, GALLERY, LABELS, Bundle


@runtime_checkable
class Naming(Protocol):
    """Names of a bundle's candidates."""

    @property
    def ids(self) -> Shaped[np.ndarray, "c"]:
        """The id of every candidate there is."""
        ...

    def places_of(self, answered: Int[np.ndarray, "n"], latlon: Float64[np.ndarray, "n 2"]) -> Places:
        """Where each answer lies, by its candidate's number and its point in degrees."""
        ...


@dataclass(frozen=True)
class NearestPlace:
    """Answers are called by the nearest populated place."""

    ids: Shaped[np.ndarray, "c"]

    def places_of(self, answered: Int[np.ndarray, "n"], latlon: Float64[np.ndarray, "n 2"]) -> Places:
        """See ``Naming.places_of``."""
        return gazetteer().places_of(latlon)


@dataclass(frozen=True)
class ProbedLabel:
    """Answers are called by the label that was found: its point may be the middle of a country."""

    labels: Labels

    @property
    def ids(self) -> Shaped[np.ndarray, "c"]:
        """The labels' ids."""
        return self.labels.ids

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


def open_naming(bundle: Bundle) -> Naming:
    """The names of a bundle's candidates; the gazetteer and the files are loaded here, once a worker."""
    if bundle.kind == "zero-shot":
        return ProbedLabel(load_labels(bundle.path(LABELS)))
    gazetteer()
    if bundle.kind == "gallery":
        num_places = len(read_gallery(bundle.path(GALLERY)).latlon)
        return NearestPlace(np.array([f"gallery:{row}" for row in range(num_places)], dtype=object))
    return NearestPlace(read_partition(bundle.path(CELLS)).cell_ids)
