"""Lists of candidates, annotations, and places in file names."""

import json

import numpy as np
import pytest

from geo_ray.atlas.address_lists import candidates_of, places_named, places_of_names, read_annotations, read_list
from geo_ray.atlas.addresses import addresses_of
from geo_ray.atlas.streets import Cutting, cut_streets
from geo_ray.errors import InputError
from tests.atlas.street_graphs import grid


@pytest.fixture
def known():
    graph = grid(4, 3)
    return addresses_of(graph, cut_streets(graph, Cutting(min_points=0)))


def test_levels_and_lists(known, tmp_path):
    assert candidates_of(known, "sub-street") is known
    assert len(candidates_of(known, "neighbourhood")) == 2
    (tmp_path / "mine.csv").write_text(
        "id,address,latitude,longitude\nx,the old mill,40.45,-79.95\n,at the corner of Row 1 and Column 2,,\n"
    )
    mine = candidates_of(known, str(tmp_path / "mine.csv"))
    assert mine.ids.tolist() == ["x", "2"]
    assert mine.texts.tolist() == ["the old mill", "at the corner of Row 1 and Column 2"]
    assert mine.latlon[0].tolist() == [40.45, -79.95]
    at = places_named("at the corner of Row 1 and Column 2", known)
    assert {known.streets[row] for row in at} == {"Row 1", "Column 2"}


def test_a_text_is_placed_by_street_crossings_and_neighbourhood(known):
    (row,) = places_named("Row 1 between Column 0 and Column 1, West", known)
    assert known.crossings[row] == ("Column 0", "Column 1")
    assert {known.neighbourhoods[row] for row in places_named("somewhere in East", known)} == {"East"}
    assert not len(places_named("Row 11", known))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("address\n", "lists no addresses"),
        ("address,x\nRow 1,1\n,2\n", "row 2 has no address"),
        ("address\nthe old mill\n", "'the old mill' names no street or neighbourhood that is known"),
        ("address,latitude,longitude\nmill,a,b\n", "are no degrees"),
        ("address,latitude,longitude\nmill,95,0\n", "not finite degrees in range"),
    ],
)
def test_bad_lists_are_named(known, tmp_path, content, message):
    (tmp_path / "mine.csv").write_text(content)
    with pytest.raises((InputError, ValueError), match=message):
        read_list(str(tmp_path / "mine.csv"), known)


def test_annotations_of_pitts_ial(tmp_path):
    path = tmp_path / "pitts_train.json"
    path.write_text(json.dumps({
        "000/000001_pitch1_yaw1.jpg": [
            "a street view of a brick house", "This photo is located in the Downtown.", "located in the Downtown",
        ],
        "b.jpg": ["located in Elliott"],
    }))  # fmt: skip
    first, second = read_annotations(str(path))
    assert (first.image, first.caption, first.address) == (
        "000/000001_pitch1_yaw1.jpg", "a street view of a brick house", "located in the Downtown",
    )  # fmt: skip
    assert (second.caption, second.address) == ("", "located in Elliott")


@pytest.mark.parametrize("content", ["[]", "{}", "no", '{"a.jpg": "x"}', '{"a.jpg": []}', '{"a.jpg": [1]}'])
def test_bad_annotations_are_named(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"bad\.json"):
        read_annotations(str(path))


def test_places_in_file_names():
    names = [
        "train/@0543256.96@4178906.70@10@S@037.75554@-122.50897@pano@@90@@@@201311@@.jpg",
        "@0584595.90@4477256.48@17@T@@@id@@@@@@@@.jpg",
        "@0258000.00@6245000.00@34@H@@@id@@@@@@@@.jpg",
        "000/000001_pitch1_yaw1.jpg",
        "@a@b@c@d@@@.jpg",
    ]
    places = places_of_names(names)
    assert places[0].tolist() == [37.75554, -122.50897]
    assert np.allclose(places[1], [40.44, -80.0], atol=0.01)
    assert places[2][0] < 0
    assert np.isnan(places[3:]).all()
