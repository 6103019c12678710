"""Crops are where they say they are, and splits hold whole blocks."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geo_ray.datasets import earth
from geo_ray.errors import MissingDataError
from geo_ray.geo.blocks import block_ids
from geo_ray.geo.sphere import check_latlon, destination, from_unit_vectors, great_circle_km, unit_vectors

bounded = settings(max_examples=30, deadline=None, derandomize=True)
PLACES = [(0.0, 0.0), (48.0, 11.0), (-17.0, 180.0), (-17.0, -179.99), (66.0, 179.0), (78.2, 15.6), (-80.0, -180.0)]


def views(places, width_km=400.0, rotation=0.0):
    n = len(places)
    return earth.Views(
        latlon=np.array(places, np.float64).reshape(n, 2),
        width_km=np.full(n, width_km),
        rotation_degrees=np.full(n, rotation),
    )


def pixel_places(place, size, width_km, rotation):
    """Where the pixel centres of a view lie, by the sphere's own projection in float64."""
    step = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(step, -step)
    turn = np.radians(rotation)
    east, north = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    origin = np.broadcast_to(np.array(place, np.float64), (size, size, 2))
    return destination(origin, east * width_km, north * width_km)


def direction_raster(height=900):
    """A raster whose channels are x, y and z of every place, with the wrapped columns that ``raster`` adds."""
    lat = 90 - (np.arange(height) + 0.5) * 180 / height
    lon = -180 + (np.arange(2 * height) + 0.5) * 180 / height
    xyz = unit_vectors(np.stack(np.meshgrid(lat, lon, indexing="ij"), axis=-1))
    pixels = torch.from_numpy(xyz).float().permute(2, 0, 1)
    return torch.cat([pixels[..., -1:], pixels, pixels[..., :1]], dim=-1)


@pytest.mark.parametrize("rotation", [0.0, 10.0, -90.0])
def test_the_grid_is_the_spheres_projection(rotation):
    grid = earth.view_grid(views(PLACES, 420.0, rotation), 17).double().numpy()
    for row, place in enumerate(PLACES):
        assert great_circle_km(grid[row], pixel_places(place, 17, 420.0, rotation)).max() < 0.02


def test_the_grid_near_the_poles():
    for place in [(89.9, 30.0), (-89.9, -180.0), (90.0, 0.0)]:
        grid = earth.view_grid(views([place]), 16).double().numpy()
        assert great_circle_km(grid[0], pixel_places(place, 16, 400.0, 0.0)).max() < 3


@given(st.floats(-75, 75), st.floats(-180, 180), st.floats(-360, 360))
@bounded
def test_the_grid_turns_with_the_sphere(lat, lon, turn):
    still, turned = (earth.view_grid(views([(lat, east)]), 8).double().numpy() for east in (lon, lon + turn))
    assert great_circle_km(still + np.array([0, turn]), turned).max() < 0.02
    assert (np.abs(turned[..., 1]) <= 180).all()


@pytest.mark.parametrize("rotation", [0.0, 5.0])
def test_sampled_colours_are_those_of_the_place(rotation):
    """At the centre, the corners and everywhere else, across the antimeridian and at high latitude."""
    size = 24
    crops = earth.sample(direction_raster(), earth.view_grid(views(PLACES, 400.0, rotation), size))
    seen = from_unit_vectors(crops.permute(0, 2, 3, 1).double().numpy())
    for row, place in enumerate(PLACES):
        expected = pixel_places(place, size, 400.0, rotation)
        assert great_circle_km(seen[row], expected).max() < 0.5
        middle = seen[row, size // 2 - 1 : size // 2 + 1, size // 2 - 1 : size // 2 + 1].reshape(4, 2)
        assert great_circle_km(middle, np.tile(np.array(place), (4, 1))).max() < 13


def test_north_is_up_and_east_is_right():
    crops = earth.sample(direction_raster(), earth.view_grid(views([(50.0, 179.9)]), 9))
    seen = from_unit_vectors(crops[0].permute(1, 2, 0).double().numpy())
    assert (np.diff(seen[:, 4, 0]) < 0).all()
    assert seen[4, 0, 1] > 0 > seen[4, 8, 1]


def test_a_raster_of_ones_own_is_rendered(tmp_path):
    """Red grows to the north, green is white east of Greenwich: through the file, the resampling and the rounding."""
    height = 360
    pixels = np.zeros((height, 2 * height, 3), np.uint8)
    pixels[..., 0] = np.linspace(255, 0, height).round()[:, None]
    pixels[:, height:, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "own.png")
    crops = earth.render(views([(45.0, 90.0), (-45.0, -90.0), (0.0, 180.0), (0.0, 0.0)]), 16, str(tmp_path / "own.png"))
    assert crops.shape == (4, 16, 16, 3)
    assert crops.dtype == np.uint8
    np.testing.assert_allclose(crops[:, 7:9, 7:9, 0].mean(axis=(1, 2)), [191, 64, 127, 127], atol=2)
    assert (crops[0, ..., 1] == 255).all()
    assert (crops[1, ..., 1] == 0).all()
    assert crops[2, :, 0, 1].min() == 255
    assert crops[2, :, -1, 1].max() == 0
    assert crops[3, :, 0, 1].max() == 0
    assert crops[3, :, -1, 1].min() == 255


def test_a_raster_is_wrapped_by_a_column_at_each_side(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    wrapped = earth.raster(str(tmp_path / "own.png")).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(wrapped[:, 1:-1], pixels)
    np.testing.assert_array_equal(wrapped[:, 0], pixels[:, -1])
    np.testing.assert_array_equal(wrapped[:, -1], pixels[:, 0])


def test_a_crop_does_not_depend_on_its_batch():
    raster = direction_raster(180)
    whole = earth.sample(raster, earth.view_grid(views(PLACES), 12))
    for row in range(len(PLACES)):
        alone = earth.sample(raster, earth.view_grid(views(PLACES).take(slice(row, row + 1)), 12))
        torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=1e-6)
    assert earth.sample(raster, earth.view_grid(views([]), 12)).shape == (0, 3, 12, 12)


def test_jitter_stays_within_its_bounds_and_follows_the_seed():
    latlon = np.zeros((500, 2))
    drawn, again = (earth.jittered_views(latlon, np.random.default_rng(1)) for _ in range(2))
    assert len(drawn) == 500
    assert np.abs(drawn.width_km / earth.CROP_KM - 1).max() <= earth.JITTER
    assert np.abs(drawn.rotation_degrees).max() <= earth.ROTATION_DEGREES
    np.testing.assert_array_equal(drawn.width_km, again.width_km)
    plain = earth.jittered_views(latlon, np.random.default_rng(1), jitter=0.0, rotation_degrees=0.0)
    assert set(plain.width_km) == {earth.CROP_KM}
    assert set(plain.rotation_degrees) == {0.0}


def test_locations_are_places_without_duplicates():
    latlon = earth.locations()
    assert latlon.shape == (94123, 2)
    check_latlon(latlon)
    assert len(np.unique(latlon, axis=0)) == len(latlon)
    assert (np.lexsort((latlon[:, 1], latlon[:, 0])) == np.arange(len(latlon))).all()


def test_blocks_by_hand():
    ids = block_ids(np.array([[0.0, 0.0], [0.24, 0.24], [0.25, 0.0], [0.0, -0.01], [10.0, 180.0], [10.0, -180.0]]))
    assert ids[0] == ids[1]
    assert len({ids[0], ids[2], ids[3]}) == 3
    assert ids[4] == ids[5]
    assert ids[3] == ids[0] - 1
    assert block_ids(np.array([[-90.0, -180.0], [90.0, 180.0]])).tolist() == [0, 720 * 1440]


@given(st.floats(-90, 90), st.floats(-180, 179.9))
@bounded
def test_points_of_a_block_are_near(lat, lon):
    points = np.array([[lat, lon], [min(lat + 0.3, 90.0), lon], [lat, min(lon + 0.3, 180.0)]])
    ids = block_ids(points)
    if lat <= 89.5:
        assert ids[0] != ids[1]
    assert ids[0] != ids[2] or lon + 0.3 > 180


def test_a_jpeg_is_the_crop_without_metadata():
    pixels = earth.render(views([(45.0, 7.0)]), 64, earth.RASTERS[0])[0]
    content = earth.encode_jpeg(pixels)
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))
        assert not image.getexif()
        assert np.abs(np.asarray(image, int) - pixels).mean() < 5
    assert earth.encode_jpeg(pixels) == content


def test_data_that_is_not_installed_says_how_to_get_it():
    for package in ("geoclip", "no_such_package.data"):
        with pytest.raises(MissingDataError, match=r"nothing\.csv is not installed: pip install it"):
            earth.package_file(package, "nothing.csv", "pip install it")
