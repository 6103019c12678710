"""Map tiles: what is held out lies apart, what is drawn stays the same, and shows the streets about its position."""

import numpy as np
import pytest
import shapely

from geo_ray.atlas.addresses import addresses_of, distance_m, write_addresses
from geo_ray.atlas.streets import Cutting, cut_streets, local_xy
from geo_ray.datasets.street_map import (
    ADDRESSES,
    SPLITS,
    STREETS,
    Tiling,
    held_out_stretches,
    open_street_map,
    write_streets,
)
from geo_ray.errors import InputError
from tests.atlas.street_graphs import graph_of, grid

FEW = Tiling(num_train=6, num_validation=2, num_test=3, size=32)


def write_city(folder, graph):
    """The folder that geo-ray address build writes."""
    folder.mkdir()
    write_addresses(addresses_of(graph, cut_streets(graph, Cutting(min_points=0))), folder / ADDRESSES)
    write_streets(graph, folder / STREETS)
    return folder


@pytest.fixture
def city(tmp_path):
    return open_street_map(write_city(tmp_path / "city", grid(4, 3, step=120.0)))


def test_tiles_lie_on_their_street_and_stay_the_same(city):
    tiles = list(city.positions(3, FEW))
    assert [tile.split for tile in tiles] == ["train"] * 6 + ["validation"] * 2 + ["test"] * 3
    assert len({tile.tile_id for tile in tiles}) == 11
    latlon = np.stack([tile.latlon for tile in tiles])
    assert distance_m(latlon, np.full(11, 3), city.addresses).max() <= FEW.offset_m * np.sqrt(2)
    np.testing.assert_allclose(local_xy(latlon, city.addresses.center), [tile.xy for tile in tiles], atol=1e-6)
    again = list(city.positions(3, FEW))
    assert all((city.drawn(a) == city.drawn(b)).all() for a, b in zip(tiles, again, strict=True))
    assert city.drawn(tiles[0]).shape == (32, 32, 3)
    assert len({city.drawn(tile).tobytes() for tile in tiles}) == 11
    assert tiles[0].caption.startswith("a map tile of a straight street from ")


def test_what_is_held_out_lies_apart_from_what_is_trained_on(city):
    tiling = Tiling(num_train=40, num_validation=5, num_test=5, offset_m=0.0)
    for address in range(len(city.addresses)):
        at = {split: [] for split in SPLITS}
        for tile in city.positions(address, tiling):
            at[tile.split].append(tile.xy)
        train, held = np.array(at["train"]), np.array(at["validation"] + at["test"])
        assert np.hypot(*(train[:, None] - held[None]).transpose(2, 0, 1)).min() >= tiling.apart_m - 1e-6


@pytest.mark.parametrize("length", [1e-3, 3.0, 20.0, 80.0, 5000.0])
def test_every_split_has_a_stretch_of_any_street(length):
    for seed in range(20):
        found = held_out_stretches(length, FEW, np.random.default_rng(seed))
        assert set(found) == set(SPLITS)
        for stretches in found.values():
            assert stretches
            assert all(-1e-9 <= a <= b <= length + 1e-9 for a, b in stretches)


def test_a_tile_shows_its_street_in_the_middle():
    """A lone street from west to east is a line of its colour through the middle row."""
    graph = graph_of({"a": (-4000, 0), "b": (4000, 0)}, [("a", "b", "Main")])
    addresses = addresses_of(graph, cut_streets(graph))
    from geo_ray.atlas.streets import local_lines
    from geo_ray.datasets.street_map import StreetMap

    city = StreetMap(addresses=addresses, lines=local_lines(graph.lines, addresses.center), named=np.array([True]))
    tiling = Tiling(num_train=1, num_validation=0, num_test=0, offset_m=0.0, rotation_degrees=0.0)
    (tile,) = city.positions(0, tiling)
    pixels = city.drawn(tile).astype(int)
    apart = np.abs(pixels - pixels[0, 0]).sum(axis=2)
    assert (apart[31:33, 4:60] > 60).all()
    assert (apart[:25] == 0).all()


def test_an_address_without_a_course_has_no_tiles(tmp_path):
    loop = graph_of({"a": (0, 0), "b": (90, 0)}, [("a", "b", "Main"), ("b", "b", "Loop")])
    city = open_street_map(write_city(tmp_path / "city", loop))
    row = city.addresses.streets.tolist().index("Loop")
    assert list(city.positions(row, FEW)) == []
    with pytest.raises(InputError, match="make the folder with geo-ray address build"):
        open_street_map(tmp_path)


def test_files_keep_the_streets(tmp_path):
    graph = grid(3, 2)
    city = open_street_map(write_city(tmp_path / "city", graph))
    assert len(city.lines) == len(graph.lines)
    assert city.named.all()
    assert shapely.length(city.lines) == pytest.approx(np.full(7, 100.0), rel=1e-3)
