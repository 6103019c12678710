"""Metrics as tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from geo_ray.evaluation.benchmarks import Benchmark
from geo_ray.evaluation.bootstrap import LEVEL
from geo_ray.evaluation.comparison import Comparison
from geo_ray.evaluation.evaluate import COVERAGES, INTERVALS, at_path, few_groups_text
from geo_ray.evaluation.published_results import Published
from geo_ray.geo.metrics import MAIN_THRESHOLDS_KM

WIDTH, LABEL_WIDTH = 12, 18
ALWAYS = ("median_error_km", "mean_error_km", "country_accuracy")  # shown even where there is no value
INTERVAL_WIDTH = 19


def format_table(metrics: Mapping[str, Any], comparison: Comparison | None = None) -> str:
    """The metrics as a short table, by place first; with the comparison, also what was matched."""
    place = metrics["by_place"]
    columns: list[tuple[str, Mapping[str, Any], str]] = [("by place", place, ""), ("by photo", metrics, "")]
    if metrics["cell_centre"]:
        columns += [("cell centre", place, "cell_centre/")]
    heads = [
        f"{name:>{WIDTH}}" + ("" if prefix else f"{f'{LEVEL} % interval':>{INTERVAL_WIDTH}}")
        for name, _, prefix in columns
    ]
    lines = ["".join([f"{'':<{LABEL_WIDTH}}", *heads]).rstrip()]
    for label, path, text in table_rows():
        if path not in ALWAYS and at_path(metrics, path) is None:
            continue
        cells = [_cell(column, prefix + path, text, not prefix) for _, column, prefix in columns]
        lines.append("".join([f"{label:<{LABEL_WIDTH}}", *cells]).rstrip())
    return "\n".join([*lines, "", *_notes(metrics, comparison)])


def table_rows() -> list[tuple[str, str, str]]:
    """The table's rows: what they are called, the figure's path and how it is written."""
    shares = [(f"within {km:g} km", f"accuracy_at_km/{km:g}", "percent") for km in MAIN_THRESHOLDS_KM]
    rights = [
        ("right region", "region_accuracy"),
        ("right cell", "geocell_accuracy"),
        ("among candidates", "top_k_accuracy"),
        *((f"inside {level}", f"inside/{level}") for level in ("country", "region", "city")),
    ]
    radii = [(f"in {share} % radius", f"radius_coverage/{share}", "percent") for share in COVERAGES]
    return [
        ("median error", "median_error_km", "km"),
        ("mean error", "mean_error_km", "km"),
        *shares,
        ("GeoGuessr score", "geoguessr_score", "points"),
        ("right country", "country_accuracy", "percent"),
        *((label, path, "percent") for label, path in rights),
        *radii,
        ("has a radius", "radius_stated", "percent"),
    ]


def _cell(column: Mapping[str, Any], path: str, kind: str, with_interval: bool) -> str:
    value = at_path(column, path)
    cell = f"{'' if value is None and not with_interval else written(value, kind):>{WIDTH}}"
    if not with_interval:
        return cell
    bounds = at_path(column[INTERVALS], path)
    return cell + f"{'' if bounds is None else interval_text(bounds, kind):>{INTERVAL_WIDTH}}"


def written(value: float | None, kind: str) -> str:
    """A figure for a person: percent of a share, km, or points."""
    if value is None:
        return "-"
    return {"percent": f"{100 * value:.2f} %", "km": f"{value:,.1f} km", "points": f"{value:,.0f}"}[kind]


def interval_text(bounds: list[float], kind: str) -> str:
    """Where a figure may lie, without its unit."""
    scale, digits = {"percent": (100, 1), "km": (1, 1), "points": (1, 0)}[kind]
    low, high = (f"{scale * bound:,.{digits}f}" for bound in bounds)
    return f"{low} to {high}"


def format_published(metrics: Mapping[str, Any], benchmark: Benchmark) -> str:
    """What others report on a benchmark, beside this run by photo, as they count."""
    heads = [f"{km:g} km" for km in MAIN_THRESHOLDS_KM] + ["median", "points", "country"]
    ours = Published(
        "this run",
        tuple(_hundredfold(metrics["accuracy_at_km"][f"{km:g}"]) for km in MAIN_THRESHOLDS_KM),
        metrics["median_error_km"],
        metrics["geoguessr_score"],
        _hundredfold(metrics["country_accuracy"]),
    )
    title = f"{benchmark.title}, % within, by photo"
    width = max(len(text) for text in (title, *(row.method for row in benchmark.results))) + 1
    lines = [title.ljust(width) + "".join(f"{head:>9}" for head in heads)]
    for row in (*benchmark.results, ours):
        figures = [*row.percent, row.median_km, row.geoguessr_score, row.country_percent]
        digits = [1] * (len(figures) - 2) + [0, 1]
        cells = ("-" if value is None else f"{value:,.{d}f}" for value, d in zip(figures, digits, strict=True))
        lines.append(
            row.method.ljust(max(width, len(lines[0]) - 9 * len(heads))) + "".join(f"{cell:>9}" for cell in cells)
        )
    return "\n".join([*lines, "Others' figures are as their papers report them, without intervals."])


def _hundredfold(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _probabilities(reliability: Mapping[str, Any]) -> list[str]:
    """A line each on what is stated of cell, region and country."""
    return [
        f"probability of the {level}: {found['stated']:.3f} stated, {found['right']:.3f} right, "
        f"calibration error {found['ece']:.3f}" + _between(found["ece_interval_95"])
        for level, found in reliability.items()
        if found is not None
    ]


def _between(bounds: list[float] | None) -> str:
    return f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""


def _notes(metrics: Mapping[str, Any], comparison: Comparison | None) -> list[str]:
    place = metrics["by_place"]
    counts = f"{metrics['num_images']:,} images in {place['num_places']:,} places ({place['grouped_by']})"
    if metrics["num_problems"]:
        uncertain = f", {metrics['num_uncertain']:,} of them uncertain" if metrics["num_uncertain"] else ""
        counts += (
            f", {metrics['num_problems']:,} without an answer{uncertain} (misses in the shares, not in median and mean)"
        )
    if "images_per_second" in metrics:
        counts += f"; {metrics['images_per_second']:,.0f} images/s"
    notes = [counts, *_probabilities(place["reliability"])]
    if place[INTERVALS]["accuracy_at_km"]["25"] is None:
        notes.append(few_groups_text(place["num_places"]))
    if metrics["cell_centre"]:
        notes.append("cell centre: the answer without refinement, by place")
    if comparison:
        notes.append(comparison.matching.describe())
    if comparison and comparison.num_places_as_country:
        notes.append(f"true country of {comparison.num_places_as_country:,} images: that of the nearest place")
    return notes
