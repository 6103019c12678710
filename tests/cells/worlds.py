"""Small worlds to build cells on."""

import numpy as np
import shapely
from shapely.affinity import translate

from geo_ray.atlas.boundaries import Boundaries
from geo_ray.cells.check import check_partition
from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import CellSizes
from geo_ray.cells.semantic import Semantic
from geo_ray.geo.sphere import destination

SIZES = CellSizes(min_size=30, max_size=60)
SMALL = Semantic(sizes=SIZES)


def areas(*units):
    """Boundaries of (polygon, country, admin 1)."""
    polygons, countries, admin_1 = zip(*units, strict=True)
    names = np.array([f"unit {number}" for number in range(len(units))], dtype=object)
    return Boundaries(
        polygons=np.array(polygons, dtype=object),
        countries=np.array(countries, dtype=object),
        admin_1=np.array(admin_1, dtype=object),
        admin_2=names,
        source="by hand",
        licence="",
    )


def cluster(number, latitude, longitude, spread_km=5.0, seed=0):
    """Places about a point, on either side of the antimeridian or of a pole where they come to lie there."""
    east, north = np.random.default_rng((seed, number)).normal(0, spread_km, (2, number))
    return destination(np.tile([float(latitude), float(longitude)], (number, 1)), east, north)


def keeps_its_promises(partition, boundaries, latlon):
    """Asserts every finding of the check, and that no point is lost."""
    broken = [f for f in check_partition(partition, boundaries=boundaries, latlon=latlon) if not f.kept]
    assert not broken
    assert partition.counts.sum() == len(latlon)


def groups(partition, latlon):
    """The points' cells, named by the first point in each: the same for equal partitions in any order."""
    cells = cells_of(latlon, partition)
    _, first, number = np.unique(cells, return_index=True, return_inverse=True)
    return first[number]


def turned(boundaries, latlon, degrees):
    """The same world, further east."""
    window = shapely.box(-180, -90, 180, 90)

    def moved(polygon):
        sides = [translate(polygon, degrees + turn) for turn in (-720, -360, 0, 360)]
        return shapely.union_all(shapely.intersection(sides, window))

    units = zip(map(moved, boundaries.polygons), boundaries.countries, boundaries.admin_1, strict=True)
    return areas(*units), np.stack([latlon[:, 0], (latlon[:, 1] + degrees + 180) % 360 - 180], axis=1)
