"""What the report draws, as values for JSON: distributions, calibration, the map's points."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int, Shaped

from geo_ray.atlas.world import world
from geo_ray.evaluation.comparison import Comparison
from geo_ray.evaluation.tables import Predictions
from geo_ray.geo.metrics import none_if_nan, weighted_mean

AXIS_KM = (0.1, 20100.0)  # half the Earth's circumference is 20,015 km
BINS_A_DECADE = 8
CURVE_POINTS = 240
MAP_LIMIT = 10_000  # more points make the file heavy and the map no clearer
NUM_GROUPS = 5


def histogram(km: Float64[np.ndarray, "n"]) -> list[int]:
    """Counts in the bins of ``bin_edges``; values beyond the axis fall in the outermost bins."""
    known = np.clip(km[np.isfinite(km)], *AXIS_KM)
    return [int(count) for count in np.histogram(known, bin_edges())[0]]


def bin_edges() -> Float64[np.ndarray, "b"]:
    """Equal steps of the logarithm over ``AXIS_KM``."""
    low, high = np.log10(AXIS_KM)
    return np.logspace(low, high, round((high - low) * BINS_A_DECADE) + 1)


def cumulative(km: Float64[np.ndarray, "n"]) -> list[float]:
    """The share of all images with less than each of ``curve_km``; an image without a value is never counted."""
    ordered = np.sort(km[np.isfinite(km)])
    below = np.searchsorted(ordered, curve_km(), side="left")
    return [round(float(share), 5) for share in below / max(len(km), 1)]


def curve_km() -> Float64[np.ndarray, "p"]:
    """Where the cumulative curves are evaluated."""
    low, high = np.log10(AXIS_KM)
    return np.logspace(low, high, CURVE_POINTS)


def distributions(km: Float64[np.ndarray, "n"], cell_km: Float64[np.ndarray, "n"] | None) -> dict[str, Any]:
    """Histograms and cumulative curves of the answers, and of the cells' centres where they are known."""
    answer = {"histogram": histogram(km), "cumulative": cumulative(km)}
    centre = None
    if cell_km is not None and np.isfinite(cell_km).any():
        centre = {"histogram": histogram(cell_km), "cumulative": cumulative(cell_km)}
    return {
        "edges": [round(float(edge), 4) for edge in bin_edges()],
        "km": [round(float(km), 4) for km in curve_km()],
        "answer": answer,
        "cell_centre": centre,
    }


def calibration(comparison: Comparison) -> list[dict[str, Any]]:
    """For groups of equally many answers by their stated radius: how many of them hold the truth in it."""
    known = np.flatnonzero(comparison.answered & np.isfinite(comparison.radius_km_90))
    order = known[np.argsort(comparison.radius_km_90[known], kind="stable")]
    if len(order) == 0:
        return []
    groups = [group for group in np.array_split(order, NUM_GROUPS) if len(group) > 1]
    named = [(f"group {number}", group) for number, group in enumerate(groups, 1)]
    return [_coverage(name, rows, comparison) for name, rows in [("all", order), *named]]


def _coverage(name: str, rows: Int[np.ndarray, "n"], comparison: Comparison) -> dict[str, Any]:
    most = comparison.radius_km_90[rows]
    covered = {share: none_if_nan(weighted_mean(values[rows])) for share, values in comparison.covered.items()}
    return {
        "name": name,
        "num_images": len(rows),
        "from_km": float(most.min()),
        "to_km": float(most.max()),
        "covered_50": covered["50"],
        "covered_90": covered["90"],
    }


def problem_counts(problems: Shaped[np.ndarray, "n"], ids: Shaped[np.ndarray, "n"]) -> list[dict[str, Any]]:
    """Each code with its count and three examples, the most frequent first."""
    codes, counts = np.unique(problems[problems != ""].astype(str), return_counts=True)
    return [
        {"code": str(codes[i]), "count": int(counts[i]), "examples": ids[problems == codes[i]][:3].tolist()}
        for i in np.argsort(-counts, kind="stable")
    ]


def sample_rows(shown: Bool[np.ndarray, "n"], limit: int = MAP_LIMIT) -> Int[np.ndarray, "m"]:
    """The rows to draw: all that can be, or a random choice of ``limit``, the same every time."""
    rows = np.flatnonzero(shown)
    if len(rows) <= limit:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))


def map_points(
    predictions: Predictions,
    true_latlon: Float64[np.ndarray, "m 2"] | None,
    true_labels: list[str] | None,
    km: Float64[np.ndarray, "m"],
) -> dict[str, Any]:
    """The map's points by column: places in degrees, what colours them, and what is shown on hover."""
    labels, label_rows = _numbered(answer_labels(predictions))
    true_names, true_label_rows = _numbered(true_labels or [])
    return {
        "id": predictions.ids.to_pylist(),
        "latlon": _rounded(predictions.latlon),
        "true_latlon": None if true_latlon is None else _rounded(true_latlon),
        "km": [none_if_nan(round(float(value), 2)) for value in km],
        **{
            name: [none_if_nan(round(float(value), 1)) for value in predictions.numbers(name)]
            for name in ("radius_km_50", "radius_km_90")
        },
        "labels": labels,
        "label": label_rows,
        "true_labels": true_names,
        "true_label": true_label_rows,
    }


def answer_labels(predictions: Predictions) -> list[str]:
    """Place, region and country of the answers."""
    return place_labels(*(predictions.texts(name) for name in ("place", "region", "country")))


def place_labels(
    place: Shaped[np.ndarray, "m"], region: Shaped[np.ndarray, "m"], country: Shaped[np.ndarray, "m"]
) -> list[str]:
    """``Lyon, Auvergne-Rhône-Alpes, FR``, without what is empty or repeats the part before."""
    parts = zip(place, region, country, strict=True)
    return [", ".join(dict.fromkeys(part for part in row if part)) for row in parts]


def base_layer() -> dict[str, Any]:
    """The world's land and borders as GeoJSON, and whose they are.

    Outer rings run clockwise: to d3-geo, which draws on the sphere, a ring the other way around holds all else.
    """
    rings = shapely.multilinestrings([shapely.LineString(ring[:, ::-1]) for ring in world().land])
    land = shapely.multipolygons(shapely.get_parts(shapely.build_area(rings)))
    borders = shapely.multilinestrings([shapely.LineString(line[:, ::-1]) for line in world().borders])
    shapes = {"land": shapely.orient_polygons(land, exterior_cw=True), "borders": borders}
    drawn = {name: json.loads(shapely.to_geojson(_to_hundredths(shape))) for name, shape in shapes.items()}
    return drawn | {"source": world().source, "licence": world().licence}


def _to_hundredths(shape: shapely.Geometry) -> shapely.Geometry:
    return shapely.transform(shape, lambda lonlat: lonlat.round(2))


def _rounded(latlon: Float64[np.ndarray, "m 2"]) -> list[list[float]]:
    return [[round(lat, 3), round(lon, 3)] for lat, lon in latlon.tolist()]  # about 100 m


def _numbered(labels: Iterable[str]) -> tuple[list[str], list[int]]:
    """The distinct labels, and each label's number among them."""
    numbers: dict[str, int] = {}
    rows = [numbers.setdefault(label, len(numbers)) for label in labels]
    return list(numbers), rows
