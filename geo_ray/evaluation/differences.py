"""Two runs on the same images: what differs, and whether the places at hand can show it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from geo_ray.errors import InputError
from geo_ray.evaluation.bootstrap import LEVEL, Bootstrap, Measure, interval
from geo_ray.evaluation.comparison import Comparison
from geo_ray.evaluation.evaluate import at_path, comparison_metrics, few_groups_text, measures_of, nested
from geo_ray.evaluation.text import LABEL_WIDTH, WIDTH, interval_text, table_rows, written
from geo_ray.geo.metrics import none_if_nan


def common_images(first: Comparison, second: Comparison) -> tuple[Comparison, Comparison]:
    """The images that both runs have, in the same order; ``InputError`` where there are none."""
    _, a, b = np.intersect1d(first.matching.truth_rows, second.matching.truth_rows, return_indices=True)
    if len(a) == 0:
        raise InputError("the two runs have no image in common; give two runs of the same images")
    return first.take(a), second.take(b)


def compare_runs(first: Comparison, second: Comparison) -> dict[str, Any]:
    """Both runs' metrics on their common images, and what the first has more than the second.

    Draws are of the same places for both, so the interval of a difference is that of pairs. ``shown`` says whether it
    leaves out 0: nothing is claimed where it does not.
    """
    a, b = common_images(first, second)
    return {
        "first": comparison_metrics(a),
        "second": comparison_metrics(b),
        "difference": {"by_place": _differences(a, b, True), "by_photo": _differences(a, b, False)},
    }


def _differences(a: Comparison, b: Comparison, by_place: bool) -> dict[str, Any]:
    weights = a.groups.weights if by_place else None
    return nested(paired(*_of_both(measures_of(a), measures_of(b)), Bootstrap(groups=a.groups), weights))


def paired(
    measures: Mapping[str, Measure],
    others: Mapping[str, Measure],
    bootstrap: Bootstrap,
    weights: Float64[np.ndarray, "n"] | None,
) -> dict[str, dict[str, Any]]:
    """Each figure of both sides, what the first has more, and where that may lie by draws that both share."""
    draws, other_draws = (bootstrap.replicates(each, weights) for each in (measures, others))
    found = {}
    for name, measure in measures.items():
        first, second = measure.estimate(weights), others[name].estimate(weights)
        low, high = interval(draws[name] - other_draws[name], bootstrap.groups.count)
        found[name] = {
            "first": none_if_nan(first),
            "second": none_if_nan(second),
            "value": none_if_nan(first - second),
            f"interval_{LEVEL}": None if np.isnan(low) else [low, high],
            "shown": not (np.isnan(low) or low <= 0 <= high),
        }
    return found


def _of_both(
    measures: Mapping[str, Measure], others: Mapping[str, Measure]
) -> tuple[dict[str, Measure], dict[str, Measure]]:
    """The figures that both have; medians, means and coverages of the images that have a value in both runs."""
    ours, theirs = {}, {}
    for name in [name for name in measures if name in others]:
        a, b = measures[name], others[name]
        lost = np.isnan(a.values) | np.isnan(b.values)
        if lost.any():
            a, b = (replace(one, values=np.where(lost, np.nan, one.values)) for one in (a, b))
        ours[name], theirs[name] = a, b
    return ours, theirs


def format_differences(compared: Mapping[str, Any], first: str, second: str) -> str:
    """A table of both runs by place, with the difference."""
    names = ("first", "second", "difference", f"{LEVEL} % interval")
    lines = ["by place".ljust(LABEL_WIDTH) + "".join(f"{name:>{WIDTH + 4}}" for name in names)]
    for label, path, kind in table_rows():
        one = at_path(compared["difference"]["by_place"], path)
        if one is None:
            continue
        values = [written(one[run], kind) for run in ("first", "second")]
        bounds = one[f"interval_{LEVEL}"]
        cells = [*values, written(one["value"], kind), "" if bounds is None else interval_text(bounds, kind)]
        verdict = "" if one["shown"] else "   no difference shown"
        lines.append((label.ljust(LABEL_WIDTH) + "".join(f"{cell:>{WIDTH + 4}}" for cell in cells) + verdict).rstrip())
    place = compared["first"]["by_place"]
    note = f"{compared['first']['num_images']:,} images of both runs in {place['num_places']:,} places"
    lines += [
        "",
        f"first: {first}",
        f"second: {second}",
        f"{note} ({place['grouped_by']}); draws are paired by place; median, mean and radii "
        "of the images that both runs answer",
    ]
    if at_path(compared["difference"]["by_place"], f"mean_error_km/interval_{LEVEL}") is None:
        lines.append(few_groups_text(place["num_places"]))
    return "\n".join(lines)
