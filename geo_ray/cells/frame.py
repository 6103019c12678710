"""A frame of longitudes for one region, turned so that the region does not lie across the frame's edge."""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64, Shaped

from geo_ray.atlas.areas import polygonal
from geo_ray.geo.sphere import spherical_mean, wrap_longitude

WINDOW = shapely.box(-180, -90, 180, 90)
GRID_DEGREES = 2.0**-14  # binary, so that sums with a frame's longitude are exact: parts that meet at its edge join
DECIMALS = 9  # a tenth of a millimetre: turning the Earth must not change which of two equal distances is smaller


@dataclass(frozen=True)
class Frame:
    """Degrees as seen from the meridian ``longitude``: it has longitude 0, and the edge lies opposite."""

    longitude: float

    @classmethod
    def about(cls, polygons: Shaped[np.ndarray, "p"], latlon: Float64[np.ndarray, "n 2"]) -> "Frame":
        """The frame whose edge lies in the middle of the widest stretch of longitude that the polygons leave free.

        For a region all around the Earth it lies opposite the mean of its points.
        """
        west, _, east, _ = shapely.bounds(shapely.get_parts(polygons)).T
        order = np.argsort(west, kind="stable")
        reached = np.maximum.accumulate(east[order])
        gaps = np.round(np.append(west[order][1:], west[order][0] + 360) - reached, DECIMALS)
        widest = int(np.argmax(gaps))
        middle = reached[widest] + gaps[widest] / 2 + 180
        if gaps[widest] <= 0:
            middle = spherical_mean(latlon[np.lexsort(latlon.T)])[1]
        return cls(float(wrap_longitude(np.asarray(np.round(middle / GRID_DEGREES) * GRID_DEGREES))))

    def polygons(self, polygons: Shaped[np.ndarray, "p"]) -> Shaped[np.ndarray, "p"]:
        """Polygons of the Earth in this frame."""
        return _turned(polygons, -self.longitude)

    def on_earth(self, polygons: Shaped[np.ndarray, "p"]) -> Shaped[np.ndarray, "p"]:
        """Polygons of this frame on the Earth, cut at longitude 180."""
        return _turned(polygons, self.longitude)

    def points(self, latlon: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Points of the Earth in this frame."""
        turned = wrap_longitude(latlon[:, 1] - self.longitude)
        return np.round(np.stack([latlon[:, 0], turned], axis=1), DECIMALS)


def _turned(polygons: Shaped[np.ndarray, "p"], degrees: float) -> Shaped[np.ndarray, "p"]:
    """Polygons moved east, what passes the edge coming in again on the other side; parts that meet there are joined."""
    west, _, east, _ = shapely.bounds(polygons).T
    turns = -360 * np.floor((west + degrees + 180) / 360)
    moved = _shifted(polygons, degrees + turns)
    across = east + degrees + turns > 180
    if across.any():
        both = [_shifted(moved[across], np.full(across.sum(), turn)) for turn in (-360.0, 0.0)]
        moved[across] = polygonal(shapely.union_all(shapely.intersection(np.stack(both), WINDOW), axis=0))
    broken = ~shapely.is_valid(moved)  # a needle may have closed: the sum is rounded
    moved[broken] = polygonal(shapely.make_valid(moved[broken]))
    return moved


def _shifted(polygons: Shaped[np.ndarray, "p"], degrees: Float64[np.ndarray, "p"]) -> Shaped[np.ndarray, "p"]:
    coords = shapely.get_coordinates(polygons)
    coords[:, 0] += np.repeat(degrees, shapely.get_num_coordinates(polygons))
    return np.asarray(shapely.set_coordinates(polygons.copy(), coords))
