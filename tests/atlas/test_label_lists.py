"""The lists of labels that ship, and that the faults of StreetCLIP's published re-run can't happen."""

from collections import Counter

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from geo_ray.atlas.boundaries import boundaries
from geo_ray.atlas.geonames import english_names, populated_places, us_states
from geo_ray.atlas.label_lists import streetclip_labels, tree_labels
from geo_ray.atlas.labels import OSV5M_TEMPLATES, STREETCLIP_TEMPLATES, as_read, with_templates
from geo_ray.geo.sphere import great_circle_km, spherical_mean

UNINHABITED = {"AQ", "BV", "HM", "UM"}
OTHER_NAMES = {  # of the paper, where they aren't ours
    "CZ": "Czech Republic",
    "CI": "Côte d'Ivoire",
    "TL": "East Timor",
    "SZ": "Swaziland",
}


@pytest.fixture(scope="module", params=["iso", "paper"])
def streetclip(request):
    return streetclip_labels(request.param)


@pytest.fixture(scope="module")
def iso():
    return streetclip_labels()


@pytest.fixture(scope="module")
def paper():
    return streetclip_labels("paper")


@pytest.fixture(scope="module")
def tree():
    return tree_labels()


def row_of(labels, label_id):
    return labels.ids.tolist().index(label_id)


def children_of(labels, label_id):
    return np.flatnonzero(labels.parents == row_of(labels, label_id))


def test_the_first_level_by_iso_code(iso):
    first = iso.ids[iso.parents == -1]
    expected = {*english_names(), *(f"US-{code}" for code in us_states())} - UNINHABITED - {"US"}
    assert set(first) == expected
    assert len(first) == 296
    assert Counter(iso.levels) == {"country": 245, "region": 51, "city": 6832}


def test_the_first_level_of_the_paper(paper):
    first = np.flatnonzero(paper.parents == -1)
    assert len(first) == 192 + 50
    assert "US" not in paper.ids
    assert "US-DC" not in paper.ids
    assert paper.texts[row_of(paper, "SZ")] == "A Street View photo in Swaziland."
    assert paper.countries[row_of(paper, "PS")] == "PS"
    assert not {"XK", "HK", "MO", "PR", "MC", "MV"} & set(paper.countries), "the paper lists none of these"
    ours = english_names()
    differing = {paper.ids[row]: paper.names[row] for row in first[:192] if paper.names[row] != ours[paper.ids[row]]}
    assert differing == OTHER_NAMES


def test_the_two_georgias_are_two(streetclip):
    country, state = row_of(streetclip, "GE"), row_of(streetclip, "US-GA")
    assert streetclip.names[country] == streetclip.names[state] == "Georgia"
    assert streetclip.texts[country] == "A Street View photo in Georgia."
    assert streetclip.texts[state] == "A Street View photo in Georgia, United States."
    assert great_circle_km(streetclip.latlon[country], streetclip.latlon[state]) > 9000
    caucasian, american = children_of(streetclip, "GE"), children_of(streetclip, "US-GA")
    assert streetclip.names[caucasian][:3].tolist() == ["Tbilisi", "Batumi", "Kutaisi"]
    assert streetclip.names[american][:3].tolist() == ["Atlanta", "Columbus", "Savannah"]
    assert (streetclip.countries[caucasian] == "GE").all()
    assert (streetclip.countries[american] == "US").all()


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("Birmingham", {"GB": (52.48, -1.90), "US-AL": (33.52, -86.80)}),
        ("London", {"GB": (51.51, -0.13), "CA": (42.98, -81.23)}),
        ("Portland", {"US-OR": (45.52, -122.68), "US-ME": (43.66, -70.26)}),
        ("Newcastle", {"AU": (-32.93, 151.78), "ZA": (-27.76, 29.93), "US-WY": (43.85, -104.20)}),
        ("Cordoba", {"AR": (-31.41, -64.18), "ES": (37.89, -4.78)}),
    ],
)
def test_cities_of_one_name_are_each_where_they_are(streetclip, name, where):
    for area, latlon in where.items():
        rows = children_of(streetclip, area)
        row = rows[[text == f"A Street View photo from {name}." for text in streetclip.texts[rows]]].item()
        assert great_circle_km(streetclip.latlon[row], np.array(latlon)) < 5


def test_paris_in_france_and_paris_in_texas():
    """Texas's is its 107th: with a list long enough it is there, at its own place and under its own parent."""
    labels = streetclip_labels(cities_per_country=200)
    rows = np.flatnonzero(labels.texts == "A Street View photo from Paris.")
    found = {labels.ids[labels.parents[row]]: labels.latlon[row] for row in rows}
    assert {"FR", "US-TX"} <= set(found)
    assert great_circle_km(found["FR"], np.array([48.857, 2.352])) < 5
    assert great_circle_km(found["US-TX"], np.array([33.661, -95.556])) < 5
    assert len(found) == len(rows)


def test_each_state_has_its_own_cities(streetclip):
    """By their points, in boundaries of another source; Bellows Falls, Vermont, is on a river's wrong bank there."""
    cities = np.flatnonzero((streetclip.levels == "city") & (streetclip.countries == "US"))
    states = streetclip.parents[cities]
    assert len(set(states)) == sum(label.startswith("US-") for label in streetclip.ids)
    found = boundaries().place_of(streetclip.latlon[cities])
    elsewhere = (found.country != "US") | (found.admin_1 != streetclip.names[states])
    assert elsewhere.mean() < 0.005
    assert (streetclip.regions[cities] == streetclip.names[states]).all()
    counts = {streetclip.ids[state]: int((states == state).sum()) for state in set(states.tolist())}
    assert {label_id for label_id, count in counts.items() if count < 30} <= {"US-DC", "US-RI", "US-DE"}  # small states
    assert max(counts.values()) == 30


def test_cities_lie_in_their_country(paper):
    cities = np.flatnonzero(paper.levels == "city")
    found = boundaries().areas.covering(paper.latlon[cities])
    ashore = found >= 0  # of the coarse coast
    assert ashore.mean() > 0.95
    assert (boundaries().countries[found] != paper.countries[cities])[ashore].mean() < 0.01
    assert (paper.countries[cities] == paper.countries[paper.parents[cities]]).all()


def test_no_two_captions_that_compete_are_equal(streetclip, tree):
    for labels in (streetclip, tree):
        keys = Counter(zip(labels.parents.tolist(), map(as_read, labels.texts), strict=True))
        assert max(keys.values()) == 1


def test_a_country_has_its_most_populous_cities(iso):
    rows = children_of(iso, "FR")
    assert len(rows) == 30
    assert iso.texts[rows[0]] == "A Street View photo from Paris."
    assert iso.ids[rows[0]] == "geonames:2988507"
    places = populated_places()
    french = np.flatnonzero(places.countries == "FR")
    ids = np.array([f"geonames:{number}" for number in places.numbers[french]])
    ranks = [ids.tolist().index(label_id) for label_id in iso.ids[rows]]
    assert ranks == sorted(ranks)
    for passed in set(range(ranks[-1])) - set(ranks):  # a district or suburb of one that is there
        nearest = great_circle_km(np.repeat(places.latlon[french[passed : passed + 1]], 30, axis=0), iso.latlon[rows])
        assert nearest.min() <= 10.01


def test_captions_of_cities_are_in_ascii(iso):
    assert iso.texts[row_of(iso, "geonames:3448439")] == "A Street View photo from Sao Paulo."
    assert iso.names[row_of(iso, "geonames:3448439")] == "São Paulo"
    assert all(text.isascii() for text in iso.texts)


def test_of_two_places_of_one_caption_the_more_populous_stays(iso):
    """Buenaventura is twice in Colombia; Iran has Kashan and Kāshān, of as many people: the lower number stays."""
    for kept, left in ((3688452, 3688451), (3621849, 3621841), (128476, 6861211)):
        assert f"geonames:{kept}" in iso.ids
        assert f"geonames:{left}" not in iso.ids
    assert len(children_of(iso, "CO")) == 30


def test_a_country_lies_at_the_mean_of_its_places(iso):
    places = populated_places()
    fiji = places.latlon[places.countries == "FJ"]
    assert np.ptp(fiji[:, 1]) > 350, "on both sides of the antimeridian"
    found = iso.latlon[row_of(iso, "FJ")]
    assert great_circle_km(found, spherical_mean(fiji)) < 1e-6
    assert great_circle_km(found, np.array([-17.5, 178.5])) < 150


def test_the_tree(tree):
    assert Counter(tree.levels) == {"country": 246, "region": 3772, "city": 9035}
    assert len(tree) <= 15_000
    region = row_of(tree, "FR/Île-de-France")
    paris = row_of(tree, "geonames:2988507")
    assert tree.parents[paris] == region
    assert tree.parents[region] == row_of(tree, "FR")
    assert tree.texts[[row_of(tree, "FR"), region, paris]].tolist() == [
        "France",
        "France, Ile-de-France",
        "France, Ile-de-France, Paris",
    ]
    assert set(tree.levels[tree.parents[tree.levels == "city"]]) == {"region"}
    assert set(tree.levels[tree.parents[tree.levels == "region"]]) == {"country"}
    assert (tree.parents[tree.levels == "country"] == -1).all()
    below = tree.parents >= 0
    assert (tree.countries[below] == tree.countries[tree.parents[below]]).all()


def test_the_tree_has_two_georgias(tree):
    country, state = row_of(tree, "GE"), row_of(tree, "US/Georgia")
    assert (tree.texts[country], tree.texts[state]) == ("Georgia", "United States, Georgia")
    assert great_circle_km(tree.latlon[country], tree.latlon[state]) > 9000
    assert tree.names[children_of(tree, "US/Georgia")].tolist() == ["Atlanta", "Columbus", "Savannah"]


def test_the_tree_s_regions_lie_at_the_mean_of_their_places(tree):
    places = populated_places()
    alaska = places.latlon[(places.countries == "US") & (places.divisions == "AK")]
    assert great_circle_km(tree.latlon[row_of(tree, "US/Alaska")], spherical_mean(alaska)) < 1e-6


def test_a_country_without_regions_stays_a_leaf(tree):
    assert len(children_of(tree, "SG")) == 0
    assert great_circle_km(tree.latlon[row_of(tree, "SG")], np.array([1.35, 103.82])) < 20


def test_templates_give_the_same_captions_again(streetclip, tree):
    np.testing.assert_array_equal(with_templates(streetclip, STREETCLIP_TEMPLATES).texts, streetclip.texts)
    np.testing.assert_array_equal(with_templates(tree, OSV5M_TEMPLATES).texts, tree.texts)


def test_states_without_their_country_in_the_caption_are_refused(streetclip):
    """The fault of the re-run: both Georgias with one caption, of which argmax takes the first."""
    with pytest.raises(ValueError, match=r"'GE' and 'US-GA' have the same parent and the same caption"):
        with_templates(streetclip, {"region": "A Street View photo in {name}."})


def test_bad_arguments():
    with pytest.raises(ValueError, match="cities_per_country=0"):
        streetclip_labels(cities_per_country=0)
    with pytest.raises(ValueError, match="cities_per_region=0"):
        tree_labels(cities_per_region=0)
    with pytest.raises((ValueError, TypeCheckError), match="world"):
        streetclip_labels("world")


def test_no_city_is_a_district_of_another(streetclip):
    """GeoNames has the arrondissements of Paris as places of their own."""
    names = streetclip.names[children_of(streetclip, "FR")]
    assert "Paris" in names
    assert not any("Paris" in name for name in names if name != "Paris")
    for label_id in ("FR", "US-NY", "SG", "JP"):
        latlon = streetclip.latlon[children_of(streetclip, label_id)]
        for row in range(1, len(latlon)):
            assert great_circle_km(np.repeat(latlon[row : row + 1], row, axis=0), latlon[:row]).min() >= 9.99
