from geo_ray.atlas.geonames import english_names
from geo_ray.atlas.subregions import _MEMBERS, subregions


def test_every_country_lies_in_one_part_of_the_world():
    listed = [code for codes in _MEMBERS.values() for code in codes.split()]
    assert len(listed) == len(set(listed))
    assert set(english_names()) - set(listed) <= {"AN", "CS"}  # no longer countries
    assert subregions()["KE"] == "Eastern Africa"
    assert subregions()["MX"] == "Central America"
    assert subregions()["TR"] == "Western Asia"
