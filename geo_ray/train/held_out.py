"""Countries held out of training, for zero-shot tests, and the places that are left."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from jaxtyping import Bool, Float64, Int, Shaped
from scipy.spatial import cKDTree

from geo_ray.atlas.boundaries import Boundaries, boundaries
from geo_ray.atlas.place_names import place_names
from geo_ray.datasets import earth
from geo_ray.datasets.splits import order_by_hash, splits
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors
from geo_ray.train.caption_config import CaptionConfig

OUTLINE_STEP_DEGREES = 0.1  # between points on a country's outline, at most: distances to it are exact to 6 km


@dataclass(frozen=True, kw_only=True)
class NamedPlaces:
    """Places (degrees) and what captions say of them: ISO 3166 alpha-2 country, region and nearest town.

    Region and town are empty where unknown.
    """

    latlon: Float64[np.ndarray, "n 2"]
    countries: Shaped[np.ndarray, "n"]
    regions: Shaped[np.ndarray, "n"]
    towns: Shaped[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.latlon)

    def take(self, rows: Int[np.ndarray, "m"] | Bool[np.ndarray, "n"]) -> "NamedPlaces":
        """The places of these rows."""
        return NamedPlaces(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def name_places(latlon: Float64[np.ndarray, "n 2"], areas: Boundaries) -> NamedPlaces:
    """The places with their names (``atlas.place_names``)."""
    return NamedPlaces(latlon=latlon, **place_names(latlon, areas)._asdict())


def held_out_countries(countries: Shaped[np.ndarray, "n"], config: CaptionConfig) -> tuple[str, ...]:
    """The countries that are never trained on, by the countries of all photo locations.

    Those with enough photos stand in the order of the SHA-256 of seed and code ("330DK", for one); a draw takes
    ``num_held_out`` of them, the first draw the first, so that no country is in two draws of a seed.
    """
    codes, counts = np.unique(countries.astype(str), return_counts=True)
    enough = codes[counts >= config.min_photos].tolist()
    if len(enough) <= config.num_held_out:
        raise ValueError(f"num_held_out={config.num_held_out} leaves none of {len(enough)} countries to train on")
    first = config.draw * config.num_held_out
    drawn = order_by_hash(enough, config.seed)[first : first + config.num_held_out]
    if len(drawn) < config.num_held_out:
        raise ValueError(f"draw={config.draw} is too many: {len(enough)} countries have {config.min_photos} photos")
    return tuple(sorted(drawn))


def distance_to_countries_km(
    latlon: Float64[np.ndarray, "n 2"], codes: tuple[str, ...], areas: Boundaries
) -> Float64[np.ndarray, "n"]:
    """Great-circle km from each point to the nearest outline of these countries' areas, within 6 km."""
    polygons = shapely.segmentize(areas.polygons[np.isin(areas.countries, codes)], OUTLINE_STEP_DEGREES)
    outline = shapely.get_coordinates(polygons)[:, ::-1].copy()
    chord, _ = cKDTree(unit_vectors(outline)).query(unit_vectors(latlon))
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1)))


def photo_places() -> NamedPlaces:
    """All photo locations, named by the boundaries that ship."""
    return name_places(earth.locations(), boundaries())


def training_places(photos: NamedPlaces, config: CaptionConfig) -> NamedPlaces:
    """The photo locations of the training split that are neither in a held-out country nor near one."""
    held_out = held_out_countries(photos.countries, config)
    kept = ~np.isin(photos.countries, held_out) & (splits(photos.latlon, config.split_seed) == "train")
    places = photos.take(kept)
    return places.take(distance_to_countries_km(places.latlon, held_out, boundaries()) >= config.apart_km)


def write_places(places: NamedPlaces, path: Path) -> None:
    """Write one row a place as parquet."""
    names = {name: pa.array(getattr(places, name), pa.string()) for name in ("countries", "regions", "towns")}
    latitude, longitude = places.latlon.T
    pq.write_table(pa.table({"latitude": latitude, "longitude": longitude} | names), path)


def read_places(path: Path) -> NamedPlaces:
    """Read what ``write_places`` wrote."""
    table = pq.read_table(path)
    names = {name: table.column(name).to_numpy() for name in ("countries", "regions", "towns")}
    latlon = np.stack([table.column("latitude").to_numpy(), table.column("longitude").to_numpy()], axis=1)
    return NamedPlaces(latlon=latlon, **names)
