"""The figures of parts of the images: continents, countries, and fifths of the stated certainty."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped

from geo_ray.atlas.geonames import continents
from geo_ray.evaluation.bootstrap import Bootstrap, Groups, Measure, interval
from geo_ray.evaluation.comparison import Comparison
from geo_ray.geo.metrics import is_within, none_if_nan

NUM_FIFTHS = 5
PARTS_KM = (25.0, 200.0)  # of the accuracies that are given of each part


def by_continent(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Figures by place of the images of each continent, the one with most places first."""
    known = continents()
    codes, numbers = _numbered(comparison.true_country)
    names, of_code = np.unique([known.get(code, "unknown") for code in codes], return_inverse=True)
    return _by_part(comparison, names.tolist(), of_code[numbers])


def by_country(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """The same of each country, by code."""
    return _by_part(comparison, *_numbered(comparison.true_country))


def _numbered(codes: Shaped[np.ndarray, "n"]) -> tuple[list[str], Int[np.ndarray, "n"]]:
    """The distinct country codes, and each image's number among them."""
    _, first, numbers = np.unique(codes.view(np.int64), return_index=True, return_inverse=True)  # compares as numbers
    return codes[first].tolist(), numbers


def _by_part(comparison: Comparison, names: list[str], numbers: Int[np.ndarray, "n"]) -> dict[str, dict[str, Any]]:
    """The same of the images that share a number, by its name."""
    c = comparison
    columns: dict[str, Shaped[np.ndarray, "n"]] = {"median_error_km": c.error_km}
    columns |= {f"within_{km:g}_km": is_within(c.error_km, km) for km in PARTS_KM}
    columns |= {f"radius_coverage_{share}": covered for share, covered in c.covered.items()}
    if c.right_country is not None:
        columns["country_accuracy"] = c.right_country
    order = np.argsort(numbers, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(numbers, minlength=len(names)))[:-1])
    parts = {name: _figures(columns, c.groups, part) for name, part in zip(names, rows, strict=True)}
    return dict(sorted(parts.items(), key=lambda part: (-part[1]["num_places"], part[0])))


def _figures(
    columns: Mapping[str, Shaped[np.ndarray, "n"]], groups: Groups, rows: Int[np.ndarray, "m"]
) -> dict[str, Any]:
    """Means of these rows, one vote a place, and the median of what is called so."""
    part = groups.take(rows)
    found: dict[str, Any] = {"num_images": len(rows), "num_places": part.count}
    for name, values in columns.items():
        measure = Measure(values=values[rows], is_median=name.startswith("median"))
        found[name] = none_if_nan(measure.estimate(part.weights))
    return found


def confused_countries(comparison: Comparison, num_pairs: int = 10) -> list[dict[str, Any]]:
    """The countries that are most often taken for another, by place: of all places of a country so many are."""
    weights = comparison.groups.weights
    (true_codes, true), (codes, answered) = _numbered(comparison.true_country), _numbered(comparison.country)
    places = np.bincount(true * len(codes) + answered, weights, len(true_codes) * len(codes))
    of_country = dict(zip(true_codes, np.bincount(true, weights).tolist(), strict=True))
    pairs = {
        (true_codes[number // len(codes)], codes[number % len(codes)]): float(places[number])
        for number in np.flatnonzero(places)
    }
    pairs = {pair: held for pair, held in pairs.items() if all(pair) and pair[0] != pair[1]}
    most = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:num_pairs]
    return [
        {"true": true, "answered": answered, "num_places": held, "share_of_country": held / of_country[true]}
        for (true, answered), held in most
    ]


def coverage_by_fifth(comparison: Comparison) -> list[dict[str, Any]]:
    """How often radii hold the truth in fifths of equal weight by place, from the smallest radii to the largest."""
    known = np.flatnonzero(~np.isnan(comparison.covered["90"]))
    if len(known) == 0:
        return []
    covered = {share: values[known] for share, values in comparison.covered.items()}
    bootstrap = Bootstrap(groups=comparison.groups.take(known))
    radius = comparison.radius_km_90[known]
    by_chance = np.random.default_rng(0).permutation(len(known))  # not the files' order, where radii are equal
    order = np.lexsort((by_chance, comparison.radius_km_50[known], radius))
    fifths = fifths_of(order, bootstrap.groups.weights)
    return [_fifth(covered, radius, bootstrap, fifths == number) for number in np.unique(fifths)]


def fifths_of(order: Int[np.ndarray, "n"], weights: Float64[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The fifth of the weight, from 0, that each of these rows is in when they stand in this order."""
    before = np.cumsum(weights[order]) - weights[order] / 2
    fifths = np.zeros(len(order), np.int64)
    fifths[order] = np.minimum(before / weights.sum() * NUM_FIFTHS, NUM_FIFTHS - 1).astype(np.int64)
    return fifths


def _fifth(
    covered: Mapping[str, Float64[np.ndarray, "n"]],
    radius_km: Float64[np.ndarray, "n"],
    bootstrap: Bootstrap,
    inside: Bool[np.ndarray, "n"],
) -> dict[str, Any]:
    weights = np.where(inside, bootstrap.groups.weights, 0.0)
    measures = {share: Measure(values=values) for share, values in covered.items()}
    draws = bootstrap.replicates(measures, weights)
    found: dict[str, Any] = {
        "num_images": int(inside.sum()),
        "from_km": float(radius_km[inside].min()),
        "to_km": float(radius_km[inside].max()),
    }
    num_groups = int(np.count_nonzero(np.bincount(bootstrap.groups.numbers, weights)))
    for share, measure in measures.items():
        bounds = [none_if_nan(bound) for bound in interval(draws[share], num_groups)]
        found |= {f"covered_{share}": none_if_nan(measure.estimate(weights)), f"covered_{share}_interval_95": bounds}
    return found
