"""A run as one HTML file that opens offline: map, errors, calibration, the best and the worst images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from geo_ray.atlas.cities import gazetteer
from geo_ray.cells.partition_file import read_partition
from geo_ray.errors import InputError
from geo_ray.evaluation import figures
from geo_ray.evaluation.comparison import Comparison, compare
from geo_ray.evaluation.evaluate import comparison_metrics
from geo_ray.evaluation.pages import page, write_page
from geo_ray.evaluation.tables import Predictions, read_predictions, read_truth
from geo_ray.evaluation.thumbnails import find_image, thumbnail
from geo_ray.evaluation.true_cells import fingerprint_of, local_folder
from geo_ray.geo.metrics import none_if_nan
from geo_ray.geo.sphere import great_circle_km
from geo_ray.models.bundle import CELLS

NUM_CARDS = 12
NUM_CANDIDATES = 5
REPORT = "report.html"
TRUTH = "truth.csv"


def write_report(output_dir: str | Path, truth: str | Path | None = None, images: str | Path | None = None) -> Path:
    """Write ``report.html`` into an output folder of geotag; returns its path.

    ``truth`` is a table of the true places; without it, ``truth.csv`` in the folder is used where there is one.
    ``images`` is a folder that holds the images under their ids or names, if they aren't where the run found them.
    Raises ``InputError`` where a table can't be used and ``OutputError`` where the file can't be written.
    """
    path, beside = Path(output_dir) / REPORT, Path(output_dir) / TRUTH
    if truth is None and beside.is_file():
        truth = beside
    predictions = read_predictions(output_dir)
    content = report_content(predictions, truth, None if images is None else Path(images))
    write_page(render(content, cells_of_bundle(predictions.manifest.get("bundle"))), path)
    return path


def cells_of_bundle(bundle: Any) -> str:
    """The section on the cells of a run's bundle, by its entry in the manifest; empty where its kind has none.

    A report must not need the bundle: where it is remote, gone or no longer the same, the section says so.
    """
    if not isinstance(bundle, dict) or bundle.get("kind") != "cells":
        return ""
    from geo_ray.evaluation.cell_map import cells_section, no_cells_section

    ref = str(bundle.get("ref"))
    folder = local_folder(ref)
    if fingerprint_of(folder) != bundle.get("fingerprint"):
        return no_cells_section(f"Bundle {ref} is not in reach, or not the one of this run: its cells are not shown.")
    try:
        return cells_section(read_partition(folder / CELLS), title=f"Geocells of {Path(ref).name}")
    except InputError as error:
        return no_cells_section(f"The cells of bundle {ref} can't be shown: {error}.")


def report_content(predictions: Predictions, truth: str | Path | None, images: Path | None) -> dict[str, Any]:
    """All that the page shows, as values for JSON."""
    comparison = None if truth is None else compare(predictions, read_truth(truth))
    rows = np.arange(len(predictions.ids)) if comparison is None else comparison.matching.prediction_rows
    radius = np.where(predictions.answered, predictions.numbers("radius_km_90"), np.nan)
    km = radius if comparison is None else comparison.error_km
    shown = figures.sample_rows(predictions.answered[rows])
    return {
        **_heading(predictions, comparison),
        "world": figures.base_layer(),
        "num_drawable": int(predictions.answered[rows].sum()),
        "map": _map(predictions, comparison, rows[shown], km[shown], shown),
        "distributions": figures.distributions(km, comparison.cell_error_km if comparison else None),
        "calibration": figures.calibration(comparison) if comparison else [],
        **_cards(predictions, comparison, rows, km, images),
        "problems": figures.problem_counts(predictions.texts("problem"), np.array(predictions.ids.to_pylist(), object)),
    }


def _heading(predictions: Predictions, comparison: Comparison | None) -> dict[str, Any]:
    """What was run, how it ended, and the numbers."""
    fingerprints = sorted(set(predictions.texts("bundle_fingerprint")[predictions.answered]))
    bundle = predictions.manifest.get("bundle")
    return {
        "path": predictions.path,
        "finished": predictions.finished,
        "bundle": {"fingerprint": ", ".join(fingerprints)} | (bundle if isinstance(bundle, dict) else {}),
        "num_images": len(predictions.ids),
        "num_answered": int(predictions.answered.sum()),
        "images_per_second": predictions.manifest.get("images_per_second"),
        "metrics": comparison_metrics(comparison) if comparison else None,
        "matching": comparison.matching.describe() if comparison else None,
        "num_places_as_country": comparison.num_places_as_country if comparison else 0,
    }


def _map(
    predictions: Predictions,
    comparison: Comparison | None,
    rows: Int[np.ndarray, "m"],
    km: Float64[np.ndarray, "m"],
    shown: Int[np.ndarray, "m"],
) -> dict[str, Any]:
    true_latlon = None if comparison is None else comparison.true_latlon[shown]
    true_labels = None if true_latlon is None else nearest_labels(true_latlon)
    return figures.map_points(predictions.take(rows), true_latlon, true_labels, km)


def nearest_labels(latlon: Float64[np.ndarray, "n 2"]) -> list[str]:
    """Names of the nearest places."""
    if len(latlon) == 0:
        return []
    places = gazetteer().places_of(latlon)
    return figures.place_labels(places.city, places.region, places.country)


def _cards(
    predictions: Predictions,
    comparison: Comparison | None,
    rows: Int[np.ndarray, "n"],
    km: Float64[np.ndarray, "n"],
    images: Path | None,
) -> dict[str, Any]:
    """The images with the smallest and the largest error, or radius (then probability) where there is no truth.

    An answer without a radius is taken for the least certain.
    """
    probability = np.nan_to_num(predictions.numbers("probability")[rows], nan=0.0)
    order = np.lexsort((-probability, np.nan_to_num(km, nan=np.inf)))
    order = order[predictions.answered[rows][order]]
    num = min(NUM_CARDS, len(order) // 2) or len(order)
    chosen = {"best": order[:num], "worst": order[::-1][:num] if len(order) > 1 else order[:0]}
    cards = {}
    for name, group in chosen.items():
        true_latlon = None if comparison is None else comparison.true_latlon[group]
        cards[name] = cards_of(predictions.take(rows[group]), true_latlon, images)
    return cards


def cards_of(
    predictions: Predictions, true_latlon: Float64[np.ndarray, "m 2"] | None, images: Path | None
) -> list[dict[str, Any]]:
    """One card for each of these few predictions."""
    ids, uris = predictions.ids.to_pylist(), predictions.texts("uri")
    candidates = predictions.candidates(ids)
    labels = figures.answer_labels(predictions)
    true_labels = None if true_latlon is None else nearest_labels(true_latlon)
    radii = {name: predictions.numbers(name) for name in ("probability", "radius_km_50", "radius_km_90")}
    cards = []
    for row, image_id in enumerate(ids):
        truth = None if true_latlon is None else true_latlon[row]
        source = find_image(uris[row], image_id, images)
        card = {
            "id": image_id,
            "picture": thumbnail(source) if source else None,
            "answer": _place(predictions.latlon[row], labels[row], truth),
            "truth": None if truth is None or true_labels is None else _place(truth, true_labels[row], None),
            "candidates": _candidates(candidates.get(image_id, [])[:NUM_CANDIDATES], truth),
        }
        cards.append(card | {name: none_if_nan(values[row]) for name, values in radii.items()})
    return cards


def _candidates(found: list[dict[str, Any]], true_latlon: Float64[np.ndarray, "2"] | None) -> list[dict[str, Any]]:
    points = np.array([(one["latitude"], one["longitude"]) for one in found], np.float64).reshape(-1, 2)
    finite = np.isfinite(points.sum(axis=1))
    labels = iter(nearest_labels(points[finite]))
    return [
        {"probability": one["probability"], **_place(point, next(labels), true_latlon)}
        for one, point, known in zip(found, points, finite, strict=True)
        if known
    ]


def _place(
    latlon: Float64[np.ndarray, "2"], label: str, true_latlon: Float64[np.ndarray, "2"] | None
) -> dict[str, Any]:
    error = None if true_latlon is None else round(float(great_circle_km(latlon, true_latlon)), 2)
    return {"label": label, "latlon": [round(value, 4) for value in latlon.tolist()], "error_km": error}


def render(content: dict[str, Any], cells: str = "") -> str:
    """The page of this content, with a section on the cells."""
    return page("report.html", script="report.js", CONTENT=json_for_script(content), CELLS=cells)


def json_for_script(content: Any) -> str:
    """JSON that can't end the script element it stands in, whatever the texts in it: names of files are untrusted."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate, of an undecodable name, as \udcxx
