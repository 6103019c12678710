"""How good predictions are: the numbers of ``metrics.json``, by photo and by place, with their intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from geo_ray.evaluation.bootstrap import LEAST_GROUPS, LEVEL, Bootstrap, Measure, interval
from geo_ray.evaluation.breakdown import by_continent, by_country, confused_countries, coverage_by_fifth
from geo_ray.evaluation.comparison import Comparison, compare
from geo_ray.evaluation.reliability import answered_curve, reliability
from geo_ray.evaluation.tables import Predictions, Truth
from geo_ray.geo.metrics import THRESHOLDS_KM, geoguessr_points, is_within, none_if_nan

INTERVALS = f"intervals_{LEVEL}"
COVERAGES = ("50", "90")


def evaluate(predictions: Predictions, truth: Truth, comparison: Comparison | None = None) -> dict[str, Any]:
    """The metrics over all images that both tables have, as ``metrics.json`` holds them.

    At the top each image has one vote; under ``by_place`` each group of images has one, as the many photos of a city
    say little of other places. An image without an answer is a miss in the shares and 0 points in ``geoguessr_score``;
    it is left out of median, mean and ``radius_coverage``, and ``num_problems`` counts it. What the predictions'
    columns can't tell is None. ``comparison`` is that of both, where it was made already.
    """
    metrics = comparison_metrics(comparison or compare(predictions, truth))
    rate = predictions.manifest.get("images_per_second")
    return metrics if rate is None else metrics | {"images_per_second": rate}


def comparison_metrics(comparison: Comparison) -> dict[str, Any]:
    """As ``evaluate``, without the rate."""
    measures, groups = measures_of(comparison), comparison.groups
    bootstrap = Bootstrap(groups=groups)
    return {
        "num_images": len(comparison),
        "num_problems": int((~comparison.answered).sum()),
        "num_uncertain": int(comparison.is_uncertain.sum()),
        **_figures(measures, bootstrap, None),
        "by_place": {
            "grouped_by": groups.described,
            "num_places": groups.count,
            "effective_num_images": round(groups.effective_count, 1),
            **_figures(measures, bootstrap, groups.weights),
            "reliability": {level: reliability(*pair, bootstrap) for level, pair in comparison.stated.items()},
            "coverage_by_fifth": coverage_by_fifth(comparison),
            "answered_curve": _curve(comparison, bootstrap),
            "by_continent": by_continent(comparison),
            "by_country": by_country(comparison),
            "confused_countries": confused_countries(comparison),
        },
    }


def _curve(comparison: Comparison, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """What accuracy is where only answers with small radii are given; empty where no radius is known."""
    radius = comparison.radius_km_90 + 1e-6 * comparison.radius_km_50  # equal ones by the other
    if np.isnan(radius).all():
        return []
    hits = {f"within_{km:g}_km": is_within(comparison.error_km, km) for km in (25.0, 200.0)}
    return answered_curve(-radius, hits, bootstrap)


def measures_of(comparison: Comparison) -> dict[str, Measure]:
    """Each figure by its path in ``metrics.json``."""
    c = comparison
    measures = _error_measures(c.error_km)
    if c.right_country is not None:
        measures["country_accuracy"] = Measure(values=c.right_country)
    if np.isfinite(c.cell_error_km).any():
        measures |= {f"cell_centre/{name}": one for name, one in _error_measures(c.cell_error_km).items()}
    rights = {"region_accuracy": c.right_region, "geocell_accuracy": c.right_cell, "top_k_accuracy": c.among_candidates}
    inside = {"country": c.inside_country, "region": c.inside_region, "city": c.inside_city}
    rights |= {f"inside/{name}": right for name, right in inside.items()}
    measures |= {name: Measure(values=right) for name, right in rights.items() if right is not None}
    measures |= {f"radius_coverage/{share}": Measure(values=covered) for share, covered in c.covered.items()}
    if np.isfinite(c.radius_km_90).any():
        measures["radius_stated"] = Measure(values=np.where(c.answered, np.isfinite(c.radius_km_90), np.nan))
    return measures


def _error_measures(error_km: Float64[np.ndarray, "n"]) -> dict[str, Measure]:
    shares = {f"accuracy_at_km/{km:g}": Measure(values=is_within(error_km, km)) for km in THRESHOLDS_KM}
    return {
        "median_error_km": Measure(values=error_km, is_median=True),
        "mean_error_km": Measure(values=error_km),
        **shares,
        "geoguessr_score": Measure(values=geoguessr_points(error_km)),
    }


def _figures(
    measures: Mapping[str, Measure], bootstrap: Bootstrap, weights: Float64[np.ndarray, "n"] | None
) -> dict[str, Any]:
    """The figures, None for what isn't known, and where they may lie."""
    num_groups, draws = bootstrap.groups.count, bootstrap.replicates(measures, weights)
    values = {name: none_if_nan(measure.estimate(weights)) for name, measure in measures.items()}
    ranges = {name: _range(draws[name], num_groups) if values[name] is not None else None for name in measures}
    return {"country_accuracy": None, "cell_centre": None, **nested(values), INTERVALS: nested(ranges)}


def _range(draws: Float64[np.ndarray, "R"], num_groups: int) -> list[float] | None:
    low, high = interval(draws, num_groups)
    return None if np.isnan(low) else [low, high]


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Values by paths with slashes, as dictionaries in each other."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *above, name = path.split("/")
        at = tree
        for part in above:
            at = at.setdefault(part, {})
        at[name] = value
    return tree


def at_path(tree: Mapping[str, Any], path: str) -> Any:
    """The value at a path with slashes; None where there is none."""
    at: Any = tree
    for part in path.split("/"):
        at = at.get(part) if isinstance(at, Mapping) else None
    return at


def few_groups_text(num_groups: int) -> str:
    """Why there are no intervals."""
    return f"no intervals: {num_groups} places are too few to draw from (at least {LEAST_GROUPS})"
