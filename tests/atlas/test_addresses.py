"""Addresses: their words, their places, files, coarser ones, and those of photos by position."""

from pathlib import Path

import numpy as np
import pytest
import shapely

from geo_ray.atlas.addresses import (
    Labelling,
    address_text,
    addresses_of,
    coarser,
    distance_m,
    label_points,
    nearest_addresses,
    read_addresses,
    within,
    write_addresses,
)
from geo_ray.atlas.street_files import read_streets
from geo_ray.atlas.streets import Cutting, cut_streets, from_local_xy, local_xy
from geo_ray.errors import InputError
from tests.atlas.street_graphs import graph_of, grid
from tests.shared_data import shared


@pytest.fixture
def addresses():
    graph = grid(4, 3)
    return addresses_of(graph, cut_streets(graph, Cutting(min_points=0)))


def points(*xy, addresses):
    return from_local_xy(np.array(xy, np.float64), addresses.center)


def test_the_papers_forms():
    assert address_text("East Carson St.", ("South 10th St.", "12th St."), "South Side Flats") == (
        "located in South Side Flats, specifically on a section of East Carson St. lying between South 10th St. and "
        "12th St."
    )
    assert address_text("Third Avenue", ("Grant Building",), "Downtown") == (
        "located in Downtown, specifically on a section of Third Avenue near Grant Building"
    )
    assert address_text("Main", (), "") == "located on Main"


def test_addresses_have_words_neighbourhood_and_middle(addresses):
    assert len(addresses) == 17
    row = addresses.texts.tolist().index(
        "located in West, specifically on a section of Row 1 lying between Column 0 and Column 1"
    )
    assert addresses.ids[row].startswith("row-1-")
    ends = shapely.get_coordinates(addresses.lines[row])[:, ::-1]
    assert np.allclose(addresses.latlon[row], ends.mean(axis=0), atol=1e-6)
    assert len(set(addresses.ids)) == 17


def test_files_keep_everything(addresses, tmp_path):
    write_addresses(addresses, tmp_path / "a.parquet")
    read = read_addresses(tmp_path / "a.parquet")
    for name in ("ids", "texts", "streets", "neighbourhoods", "latlon", "num_points"):
        assert (getattr(read, name) == getattr(addresses, name)).all()
    assert read.crossings == list(addresses.crossings)
    assert all(a.equals(b) for a, b in zip(read.lines, addresses.lines, strict=True))
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="not a readable GeoParquet file of addresses"):
        read_addresses(tmp_path / "bad.parquet")


def test_some_rows_and_others_beside_them(addresses):
    _ = addresses.local_lines  # what is computed of all is no column
    some = addresses.take(np.array([3, 1]))
    assert some.texts.tolist() == addresses.texts[[3, 1]].tolist()
    assert some.crossings == [addresses.crossings[3], addresses.crossings[1]]
    both = some.and_others(addresses.take(np.array([1, 0])))
    assert both.ids.tolist() == [*some.ids, f"{addresses.ids[1]}-other", addresses.ids[0]]
    assert len(both.crossings) == len(both.latlon) == len(both.lines) == 4


def test_an_empty_list_is_refused(addresses):
    with pytest.raises(InputError, match="list of addresses is empty"):
        addresses.take(np.empty(0, np.int64))


def test_streets_neighbourhoods_and_corners(addresses):
    streets, hoods, corners = (coarser(addresses, level) for level in ("street", "neighbourhood", "corner"))
    assert "located in West, specifically on a section of Row 0" in streets.texts.tolist()
    assert hoods.texts.tolist() == ["located in East", "located in West"]
    assert "at the corner of Column 0 and Row 1" in corners.texts.tolist()
    assert hoods.num_points.sum() == addresses.num_points.sum()
    with pytest.raises(InputError, match="must be street, neighbourhood or corner"):
        coarser(addresses, "house")


def test_a_polygon_restricts(addresses):
    west, north, east, south = (*addresses.latlon.min(axis=0)[::-1], *addresses.latlon.max(axis=0)[::-1])
    area = shapely.box(west - 1e-6, min(north, south) - 1e-6, (west + east) / 2, max(north, south) + 1e-6)
    assert 0 < len(within(addresses, area)) < len(addresses)
    with pytest.raises(InputError, match="none of 17 addresses lies in the area"):
        within(addresses, shapely.box(0, 0, 1, 1))


def test_photos_get_the_nearest_address_if_near(addresses):
    middle = local_xy(addresses.latlon, addresses.center)
    near, far = middle[3] + 2.0, middle.max(axis=0) + 500.0
    rows, counts = label_points(points(near, far, addresses=addresses), addresses)
    assert rows.tolist() == [3, -1]
    assert (counts["photos"], counts["too_far"], counts["labelled"], counts["addresses_seen"]) == (2, 1, 1, 1)
    assert nearest_addresses(points(near, addresses=addresses), addresses).tolist() == [3]
    assert distance_m(points(near, addresses=addresses), np.array([3]), addresses)[0] == pytest.approx(2.0, abs=0.01)


def test_photos_at_a_crossing_go_with_those_about_them():
    graph = graph_of({"a": (0, 0), "b": (200, 0), "c": (0, 200)}, [("a", "b", "East"), ("a", "c", "North")])
    addresses = addresses_of(graph, cut_streets(graph, Cutting(min_points=0)))
    base = local_xy(graph.latlon[:1], addresses.center)[0]  # the corner
    at_corner = base + np.array([3.0, 3.5])
    on_east = [base + np.array([x, 2.0]) for x in (10.0, 14.0, 18.0)]
    alone, _ = label_points(points(at_corner, addresses=addresses), addresses)
    rows, counts = label_points(points(at_corner, *on_east, addresses=addresses), addresses)
    assert addresses.streets[alone].tolist() == ["North"]
    assert addresses.streets[rows].tolist() == ["East"] * 4
    assert counts["changed_by_vote"] == 1
    tie, counts = label_points(points(at_corner, on_east[0], addresses=addresses), addresses, Labelling(vote_m=12.0))
    assert tie.tolist()[0] == -1
    assert counts["undecided"] == 1


# Checked by hand against the table's edges and the names at their nodes, of every form, with and without neighbourhood.
BY_HAND = Path(__file__).with_name("pittsburgh_addresses.txt").read_text().splitlines()


def test_pittsburghs_addresses():
    graph = read_streets([str(shared("pittsburgh/edges.csv")), str(shared("pittsburgh/nodes_hood.csv"))])
    addresses = addresses_of(graph, cut_streets(graph))
    texts = set(addresses.texts)
    assert len(BY_HAND) == 20
    assert [text for text in BY_HAND if text not in texts] == []
    assert len(texts) > 0.98 * len(addresses)
    points = [int(each) for each in np.percentile(addresses.num_points, (25, 50, 75))]
    assert points == [7, 10, 16]
