"""Partitions and their files."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from geo_ray.atlas.geoparquet import geoparquet_metadata
from geo_ray.cells.partition import CellSizes, Partition, from_polygons
from geo_ray.cells.partition_file import read_partition, write_partition
from geo_ray.errors import InputError
from geo_ray.geo.sphere import great_circle_km

FIJI = np.array(
    [shapely.box(170, -30, 180, -10), shapely.box(-180, -30, -170, -10), shapely.box(0, 0, 8, 4)], dtype=object
)


def example():
    latlon = np.array([[-20.0, 179.0], [-20.0, 180.0], [-20.0, -180.0]])
    return from_polygons(FIJI, latlon, np.array([0, 0, 1]), CellSizes())


def test_counts_and_centres():
    partition = example()
    assert partition.counts.tolist() == [2, 1, 0]
    assert great_circle_km(partition.centers[0], np.array([-20.0, 179.5])) < 0.1
    assert great_circle_km(partition.centers[1], np.array([-20.0, 180.0])) < 1e-6
    assert shapely.covers(FIJI[2], shapely.Point(partition.centers[2, 1], partition.centers[2, 0]))
    assert partition.cell_ids.tolist() == ["c00000", "c00001", "c00002"]
    assert len(partition) == 3


def test_a_partition_has_cells_and_each_its_own_id():
    one = example()
    with pytest.raises(ValueError, match=r"not unique: \['c00000'\]"):
        Partition(**(vars(one) | {"cell_ids": np.array(["c00000", "c00000", "x"], dtype=object)}))
    with pytest.raises(ValueError, match="at least one cell"):
        Partition(**({name: value[:0] for name, value in vars(one).items() if name != "sizes"} | {"sizes": one.sizes}))


def test_written_and_read_again(tmp_path):
    partition = example()
    write_partition(partition, tmp_path / "cells.parquet")
    again = read_partition(tmp_path / "cells.parquet")
    for name, value in vars(partition).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    metadata = pq.read_schema(tmp_path / "cells.parquet").metadata
    assert metadata[b"geo"] == geoparquet_metadata(["Polygon", "MultiPolygon"])


def test_unreadable_files_are_named(tmp_path):
    path = tmp_path / "cells.parquet"
    with pytest.raises(InputError, match=r"cells\.parquet"):
        read_partition(path)
    write_partition(example(), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cells\.parquet"):
        read_partition(path)
    path.write_bytes(content)
    pq.write_table(pq.read_table(path).drop_columns(["latitude", "count"]), path)
    with pytest.raises(InputError, match=r"lacks the columns \['count', 'latitude'\]"):
        read_partition(path)
