"""Two runs on the same images as one HTML file that opens offline: what differs, where, and on which images most."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from geo_ray.errors import InputError
from geo_ray.evaluation import figures
from geo_ray.evaluation.bootstrap import LEVEL
from geo_ray.evaluation.comparison import Comparison, compare
from geo_ray.evaluation.differences import common_images, compare_runs
from geo_ray.evaluation.evaluate import at_path
from geo_ray.evaluation.pages import write_page
from geo_ray.evaluation.report import NUM_CARDS, TRUTH, cards_of, nearest_labels, render
from geo_ray.evaluation.tables import Predictions, read_predictions, read_truth
from geo_ray.evaluation.text import table_rows
from geo_ray.geo.metrics import none_if_nan

REPORT = "comparison.html"


def write_comparison_report(
    first: str,
    second: str,
    truth: str | Path | None = None,
    images: str | Path | None = None,
    output: Path = Path(REPORT),
) -> Path:
    """Write the report of two output folders of geotag to ``output``; returns it.

    ``truth`` and ``images`` are as ``report.write_report`` has them, ``truth.csv`` that of either folder. Raises
    ``InputError`` where a table can't be used and ``OutputError`` where the file can't be written.
    """
    beside = [path for path in (Path(first) / TRUTH, Path(second) / TRUTH) if path.is_file()]
    if truth is None and not beside:
        raise InputError("two runs are compared by their errors; give the true places with --truth")
    found = read_truth(truth or beside[0])
    runs = read_predictions(first), read_predictions(second)
    compared = compare(runs[0], found), compare(runs[1], found)
    content = comparison_content(*runs, *compared, None if images is None else Path(images))
    write_page(render(content), output)
    return output


def comparison_content(
    first: Predictions, second: Predictions, of_first: Comparison, of_second: Comparison, images: Path | None
) -> dict[str, Any]:
    """All that the page shows, as values for JSON."""
    a, b = common_images(of_first, of_second)
    compared = compare_runs(a, b)
    runs = first.take(a.matching.prediction_rows), second.take(b.matching.prediction_rows)
    both = figures.sample_rows(a.answered & b.answered)
    gained = np.where(a.answered & b.answered, b.error_km - a.error_km, 0.0)
    order = np.argsort(-gained, kind="stable")
    return {
        "kind": "comparison",
        "runs": [_run(run, metrics) for run, metrics in zip((first, second), _metrics(compared), strict=True)],
        "metrics": compared["first"],
        "num_places_as_country": a.num_places_as_country,
        "num_images": len(a),
        "num_drawable": int((a.answered & b.answered).sum()),
        "rows": _rows(compared),
        "world": figures.base_layer(),
        "map": _map(runs, a, b, both),
        "distributions": {"names": ["first", "second"], **figures.distributions(a.error_km, b.error_km)},
        "first_nearer": _cards(runs, a, order[:NUM_CARDS][gained[order[:NUM_CARDS]] > 0], images),
        "second_nearer": _cards(runs, a, order[::-1][:NUM_CARDS][gained[order[::-1][:NUM_CARDS]] < 0], images),
    }


def _metrics(compared: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return compared["first"], compared["second"]


def _run(run: Predictions, metrics: dict[str, Any]) -> dict[str, Any]:
    bundle = run.manifest.get("bundle")
    fingerprints = ", ".join(sorted(set(run.texts("bundle_fingerprint")[run.answered])))
    return {
        "path": run.path,
        "finished": run.finished,
        "bundle": {"fingerprint": fingerprints} | (bundle if isinstance(bundle, dict) else {}),
        "median_error_km": metrics["by_place"]["median_error_km"],
    }


def _rows(compared: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of differences by place, as ``evaluate A B`` prints it."""
    rows = []
    for label, path, kind in table_rows():
        one = at_path(compared["difference"]["by_place"], path)
        if one is not None:
            values = {name: one[name] for name in ("first", "second", "value", "shown")}
            rows.append({"label": label, "unit": kind, "interval": one[f"interval_{LEVEL}"], **values})
    return rows


def _map(
    runs: tuple[Predictions, Predictions], a: Comparison, b: Comparison, rows: Int[np.ndarray, "m"]
) -> dict[str, Any]:
    true_latlon = a.true_latlon[rows]
    drawn = figures.map_points(runs[0].take(rows), true_latlon, nearest_labels(true_latlon), a.error_km[rows])
    return drawn | {"other_km": [none_if_nan(round(float(km), 2)) for km in b.error_km[rows]]}


def _cards(
    runs: tuple[Predictions, Predictions], a: Comparison, rows: Int[np.ndarray, "m"], images: Path | None
) -> list[dict[str, Any]]:
    """A card an image, with the second run's answer as ``other``."""
    truth: Float64[np.ndarray, "m 2"] = a.true_latlon[rows]
    first, second = (cards_of(run.take(rows), truth, images) for run in runs)
    return [card | {"other": other["answer"]} for card, other in zip(first, second, strict=True)]
