"""The label lists that ship: StreetCLIP's countries and cities, and OSV-5M's tree."""

import csv
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from geo_ray.atlas.geonames import PopulatedPlaces, english_names, populated_places, us_states
from geo_ray.atlas.labels import (
    OSV5M_TEMPLATES,
    ROOT,
    STREETCLIP_TEMPLATES,
    Labels,
    as_read,
    mean_of_members,
    to_ascii,
    with_templates,
)
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors

APART_KM = 10.0  # of two cities of one country


@dataclass(frozen=True, kw_only=True)
class Area:
    """A country or region that is a label."""

    id: str
    name: str
    country: str
    region: str = ""
    parent: int = ROOT


def streetclip_labels(countries: Literal["iso", "paper"] = "iso", cities_per_country: int = 30) -> Labels:
    """StreetCLIP's labels (arXiv 2302.00275): countries with the states of the USA in its place, and their cities.

    "iso" lists the 245 countries and territories of ISO 3166, and Kosovo, that have a place in GeoNames, and the states
    with DC; that leaves out AQ, BV, HM and UM. "paper" lists the 192 of the paper's appendix B.3.1 under the names they
    have there, and the 50 states, but each state has its own most populous cities, where the re-run
    (zilunzhang/StreetCLIP-Repoduce, eval_img2gps.py) gives every state the nation's. Cities are GeoNames' (the paper's
    are SimpleMaps'), each a child of the country whose code it has, never found by name. Of cities with one caption in
    one country, the most populous is kept. A country or state lies at the spherical mean of all its places.
    """
    if countries not in ("iso", "paper"):
        raise ValueError(f"countries={countries!r} must be 'iso' or 'paper'")
    _check_count("cities_per_country", cities_per_country)
    places = populated_places()
    american = places.countries == "US"
    keys = np.where(american, "US-" + places.divisions, places.countries)
    held = set(keys)
    areas = [area for area in (_iso_areas() if countries == "iso" else _paper_areas()) if area.id in held]
    row_of = {area.id: row for row, area in enumerate(areas)}
    groups = np.array([row_of.get(key, ROOT) for key in keys], np.int64)
    chosen = most_populous(places, groups, cities_per_country)
    latlon = mean_of_members(places.latlon, groups, len(areas))
    levels = ["region" if area.region else "country" for area in areas]
    return with_templates(area_labels(areas, levels, latlon, places, chosen, groups), STREETCLIP_TEMPLATES)


def tree_labels(cities_per_region: int = 3) -> Labels:
    """Countries, their first-order divisions, and the most populous cities of each, as in OSV-5M's zero-shot baseline.

    Captions are "France", "France, Ile-de-France", "France, Ile-de-France, Paris", of GeoNames' places; a country
    without divisions has no children. Countries and regions lie at the spherical mean of all their places. Reference:
    scripts/retrieval/street-clip-zero-shot.py, which has a level of counties between, takes arithmetic means of
    degrees, and goes down from the true country and region, stopping where a guess is wrong.
    """
    _check_count("cities_per_region", cities_per_region)
    places = populated_places()
    held = sorted(set(places.countries))
    areas = [Area(id=code, name=english_names()[code], country=code) for code in held]
    country_of = {code: row for row, code in enumerate(held)}
    countries = np.array([country_of[code] for code in places.countries], np.int64)
    # By caption: two divisions of one caption are one label.
    keys = list(zip(places.countries, map(as_read, map(to_ascii, places.regions)), strict=True))
    name_of = {key: name for key, name in zip(keys[::-1], places.regions[::-1], strict=True) if key[1]}
    row_of = {}
    for key in sorted(name_of):
        row_of[key] = len(areas)
        code, name = key[0], name_of[key]
        areas.append(Area(id=f"{code}/{name}", name=name, country=code, region=name, parent=country_of[code]))
    regions = np.array([row_of.get(key, ROOT) for key in keys], np.int64)
    chosen = most_populous(places, regions, cities_per_region)
    latlon = mean_of_members(places.latlon, countries, len(areas))
    latlon[len(held) :] = mean_of_members(places.latlon, regions, len(areas))[len(held) :]
    levels = ["country"] * len(held) + ["region"] * len(row_of)
    return with_templates(area_labels(areas, levels, latlon, places, chosen, regions), OSV5M_TEMPLATES)


def _iso_areas() -> list[Area]:
    names = {code: name for code, name in english_names().items() if code != "US"}
    return [Area(id=code, name=name, country=code) for code, name in names.items()] + _states(us_states())


def _paper_areas() -> list[Area]:
    text = (files("geo_ray.atlas") / "streetclip_countries.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    countries = [Area(id=row["country"], name=row["name"], country=row["country"]) for row in rows]
    return countries + _states({code: name for code, name in us_states().items() if code != "DC"})


def _states(names: dict[str, str]) -> list[Area]:
    return [Area(id=f"US-{code}", name=name, country="US", region=name) for code, name in names.items()]


def _check_count(name: str, count: int) -> None:
    if count < 1:
        raise ValueError(f"{name}={count} must be at least 1")


def most_populous(places: PopulatedPlaces, groups: Int64[np.ndarray, "p"], per_group: int) -> Int64[np.ndarray, "c"]:
    """The most populous places of each group, group by group; a group of -1 is left out.

    They have different names in ASCII (what has none is passed over), and none lies within ``APART_KM`` of a more
    populous one: GeoNames lists districts of cities as places too.
    """
    names: dict[int, set[str]] = {}
    kept: dict[int, list[np.ndarray]] = {}
    vectors, too_near = unit_vectors(places.latlon), np.cos(APART_KM / EARTH_RADIUS_KM)
    chosen = []
    for row, group in enumerate(groups.tolist()):
        taken, others = names.setdefault(group, set()), kept.setdefault(group, [])
        if group == ROOT or len(taken) == per_group:
            continue
        name = as_read(to_ascii(places.names[row]))
        if (
            name.isascii()
            and name not in {"", *taken}
            and not (others and np.max(np.array(others) @ vectors[row]) > too_near)
        ):
            taken.add(name)
            others.append(vectors[row])
            chosen.append(row)
    rows = np.array(chosen, np.int64)
    return rows[np.argsort(groups[rows], kind="stable")]


def area_labels(
    areas: list[Area],
    levels: list[str],
    latlon: Float64[np.ndarray, "a 2"],
    places: PopulatedPlaces,
    chosen: Int64[np.ndarray, "c"],
    groups: Int64[np.ndarray, "p"],
) -> Labels:
    """Areas and then cities as labels; captions are their names until templates are given."""

    def column(of_areas: list[str], of_cities: Shaped[np.ndarray, "c"]) -> Shaped[np.ndarray, "l"]:
        return np.array([*of_areas, *of_cities], dtype=object)

    ids = column([area.id for area in areas], np.array([f"geonames:{n}" for n in places.numbers[chosen]], object))
    return Labels(
        ids=ids,
        names=column([area.name for area in areas], places.names[chosen]),
        levels=column(levels, np.full(len(chosen), "city", dtype=object)),
        parents=np.concatenate([np.array([area.parent for area in areas], np.int64), groups[chosen]]),
        latlon=np.concatenate([latlon, places.latlon[chosen]]),
        countries=column([area.country for area in areas], places.countries[chosen]),
        regions=column([area.region for area in areas], places.regions[chosen]),
        texts=ids,
    )
