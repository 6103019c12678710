"""Rasters at points: edges, the antimeridian, poles, what is missing, and projections."""

import numpy as np
import pytest
from scipy.io import netcdf_file

from geo_ray.atlas.rasters import monthly_values, raster_values
from geo_ray.errors import InputError

rasterio = pytest.importorskip("rasterio")


def write_tiff(path, pixels, west=-180.0, north=90.0, step=1.0, crs="EPSG:4326", nodata=None):
    transform = rasterio.Affine(step, 0.0, west, 0.0, -step, north)
    height, width = pixels.shape
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=1, dtype=str(pixels.dtype),
                       crs=crs, transform=transform, nodata=nodata) as file:  # fmt: skip
        file.write(pixels, 1)
    return path


@pytest.fixture
def world(tmp_path):
    """Each pixel of a degree holds 1000 times its row, and its column."""
    rows, columns = np.mgrid[0:180, 0:360]
    return write_tiff(tmp_path / "world.tif", (rows * 1000 + columns).astype(np.float32), nodata=-1)


@pytest.mark.parametrize(
    ("point", "value"),
    [((89.5, -179.5), 0), ((0.5, 0.5), 89180), ((-89.5, 179.5), 179359), ((90.0, 0.5), 180), ((-90.0, 0.5), 179180),
     ((0.5, 180.0), 89000), ((0.5, -180.0), 89000), ((0.5, 180.5), 89000), ((0.5, -180.5), 89359)],
)  # fmt: skip
def test_pixels_of_the_whole_earth(world, point, value):
    assert raster_values(world, np.array([point]))[0] == value


def test_a_part_of_the_earth_has_nothing_beyond_it(tmp_path):
    path = write_tiff(tmp_path / "part.tif", np.array([[1, 2], [3, -9]], np.int16), west=10.0, north=50.0, nodata=-9)
    points = np.array([[49.5, 10.5], [48.5, 10.5], [48.5, 11.5], [49.5, 9.9], [50.1, 10.5], [49.5, 12.1], [0, 0]])
    np.testing.assert_array_equal(raster_values(path, points), [1, 3, np.nan, np.nan, np.nan, np.nan, np.nan])


def test_a_projected_raster(tmp_path):
    """Mollweide, as GHSL's population has it."""
    pixels = np.arange(36 * 18, dtype=np.float64).reshape(18, 36)
    path = write_tiff(tmp_path / "m.tif", pixels, west=-18_000_000, north=9_000_000, step=1_000_000, crs="ESRI:54009")
    assert raster_values(path, np.array([[0.01, 0.01]]))[0] == 8 * 36 + 18
    assert raster_values(path, np.array([[-0.01, -0.01]]))[0] == 9 * 36 + 17


def test_netcdf_of_longitudes_from_0_to_360(tmp_path):
    """As ETOPO5: the middles of pixels, from south to north."""
    path = tmp_path / "etopo.cdf"
    with netcdf_file(path, "w") as file:
        for name, values in (("X", np.arange(0, 360, 5.0)), ("Y", np.arange(-90, 90.1, 5.0))):
            file.createDimension(name, len(values))
            file.createVariable(name, "d", (name,))[:] = values
        rose = file.createVariable("ROSE", "d", ("Y", "X"))
        rose[:] = np.arange(37)[:, None] * 1000 + np.arange(72)[None]
    points = np.array([[-90.0, 0.0], [90.0, 0.0], [0.0, -180.0], [0.0, 180.0], [2.4, 2.4], [2.6, -2.6], [0, -0.1]])
    np.testing.assert_array_equal(raster_values(path, points), [0, 36000, 18036, 18036, 18000, 19071, 18000])


def test_months_must_be_twelve(tmp_path, world):
    months = [write_tiff(tmp_path / f"t_{m:02}.tif", np.full((180, 360), float(m))) for m in range(1, 13)]
    np.testing.assert_array_equal(monthly_values(months[::-1], np.zeros((1, 2)))[0], np.arange(1, 13))
    with pytest.raises(InputError, match="2 rasters of months were found"):
        monthly_values(months[:2], np.zeros((1, 2)))


def test_what_is_no_raster_is_named(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"no")
    with pytest.raises(InputError, match=r"a\.tif can't be read as a raster"):
        raster_values(tmp_path / "a.tif", np.zeros((1, 2)))
    (tmp_path / "a.cdf").write_bytes(b"no")
    with pytest.raises(InputError, match=r"a\.cdf can't be read as a raster"):
        raster_values(tmp_path / "a.cdf", np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"a\.csv is no raster; give a GeoTIFF"):
        raster_values(tmp_path / "a.csv", np.zeros((1, 2)))
