"""How good predictions are: the numbers of ``metrics.json``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from geo_ray.atlas.cities import country_names, gazetteer
from geo_ray.evaluation.matching import Matching, match
from geo_ray.evaluation.tables import Predictions, Truth, read_predictions, read_truth
from geo_ray.geo.metrics import error_metrics, none_if_nan
from geo_ray.geo.sphere import great_circle_km


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Predictions beside the truth: one entry a matched image, NaN or False where there is no answer.

    ``num_places_as_country`` counts images whose true country is that of the nearest place, since the truth's table has
    none that is known.
    """

    matching: Matching
    true_latlon: Float64[np.ndarray, "n 2"]
    latlon: Float64[np.ndarray, "n 2"]
    error_km: Float64[np.ndarray, "n"]
    cell_error_km: Float64[np.ndarray, "n"]
    radius_km_50: Float64[np.ndarray, "n"]
    radius_km_90: Float64[np.ndarray, "n"]
    right_country: Bool[np.ndarray, "n"] | None
    num_places_as_country: int

    @property
    def answered(self) -> Bool[np.ndarray, "n"]:
        """Whether an image has an answer."""
        answered: Bool[np.ndarray, "n"] = ~np.isnan(self.error_km)
        return answered


def load(predictions_path: str | Path, truth_path: str | Path) -> tuple[Predictions, Truth]:
    """Both tables; raises ``InputError`` where one can't be used."""
    return read_predictions(predictions_path), read_truth(truth_path)


def compare(predictions: Predictions, truth: Truth) -> Comparison:
    """The errors of all images that both tables have; raises ``InputError`` where they have none in common."""
    matching = match(predictions, truth)
    rows, true_latlon = matching.prediction_rows, truth.latlon[matching.truth_rows]
    unanswered = ~predictions.answered[rows]
    latlon, cell_latlon = predictions.latlon[rows], predictions.cell_latlon[rows]
    latlon[unanswered], cell_latlon[unanswered] = np.nan, np.nan
    countries, num_places = true_countries(truth, matching)
    answers = country_codes(predictions.texts("country")[rows])
    return Comparison(
        matching=matching,
        true_latlon=true_latlon,
        latlon=latlon,
        error_km=great_circle_km(true_latlon, latlon),
        cell_error_km=great_circle_km(true_latlon, cell_latlon),
        radius_km_50=np.where(unanswered, np.nan, predictions.numbers("radius_km_50")[rows]),
        radius_km_90=np.where(unanswered, np.nan, predictions.numbers("radius_km_90")[rows]),
        right_country=(answers == countries) & ~unanswered if predictions.has("country") else None,
        num_places_as_country=num_places,
    )


def evaluate(predictions: Predictions, truth: Truth) -> dict[str, Any]:
    """The metrics over all images that both tables have, as ``metrics.json`` holds them.

    An image without an answer is a miss in the shares and 0 points in ``geoguessr_score``; it is left out of median,
    mean and ``radius_coverage``, and ``num_problems`` counts it. What the predictions' columns can't tell is None.
    """
    metrics = comparison_metrics(compare(predictions, truth))
    rate = predictions.manifest.get("images_per_second")
    return metrics if rate is None else metrics | {"images_per_second": rate}


def comparison_metrics(comparison: Comparison) -> dict[str, Any]:
    """As ``evaluate``, without the rate."""
    c, right = comparison, comparison.right_country
    has_cells = bool(np.isfinite(c.cell_error_km).any())
    return {
        "num_images": len(c.error_km),
        "num_problems": int((~c.answered).sum()),
        **error_metrics(c.error_km),
        "country_accuracy": None if right is None else none_if_nan(float(right.mean())),
        "cell_centre": error_metrics(c.cell_error_km) if has_cells else None,
        "radius_coverage": {
            "50": radius_coverage(c.error_km, c.radius_km_50),
            "90": radius_coverage(c.error_km, c.radius_km_90),
        },
    }


def radius_coverage(error_km: Float64[np.ndarray, "n"], radius_km: Float64[np.ndarray, "n"]) -> float | None:
    """The share of answers whose radius holds the truth; None where no answer has one."""
    known = np.isfinite(error_km) & np.isfinite(radius_km)
    return float((error_km <= radius_km)[known].mean()) if known.any() else None


def true_countries(truth: Truth, matching: Matching) -> tuple[Shaped[np.ndarray, "n"], int]:
    """Codes of the true countries: the table's, or else the nearest place's; and how many are the latter."""
    rows = matching.truth_rows
    codes = np.full(len(rows), "", dtype=object) if truth.countries is None else country_codes(truth.countries[rows])
    unknown = codes == ""
    if unknown.any():
        codes[unknown] = gazetteer().places_of(truth.latlon[rows][unknown]).country
    return codes, int(unknown.sum())


def country_codes(countries: Shaped[np.ndarray, "n"]) -> Shaped[np.ndarray, "n"]:
    """ISO 3166 alpha-2 codes of countries given by code or English name; empty for what is neither."""
    known = {name.casefold(): code for code, name in country_names().items()}
    known |= {code.casefold(): code for code in country_names()}
    codes = np.full(len(countries), "", dtype=object)
    codes[:] = [known.get(country.strip().casefold(), "") for country in countries]
    return codes


def format_table(metrics: dict[str, Any], comparison: Comparison | None = None) -> str:
    """The metrics as a short table for a terminal; with the comparison, also what was matched."""
    centre = metrics["cell_centre"]
    columns = [("answer", metrics)] + ([("cell centre", centre)] if centre else [])
    lines = [f"{'':<18}" + "".join(f"{name:>14}" for name, _ in columns)]
    for label, key in (("median error", "median_error_km"), ("mean error", "mean_error_km")):
        lines.append(f"{label:<18}" + "".join(f"{_km(column[key]):>14}" for _, column in columns))
    for km in metrics["accuracy_at_km"]:
        shares = (_percent(column["accuracy_at_km"][km]) for _, column in columns)
        lines.append(f"{f'within {km} km':<18}" + "".join(f"{share:>14}" for share in shares))
    points = (column["geoguessr_score"] for _, column in columns)
    lines.append(f"{'GeoGuessr score':<18}" + "".join(f"{_number(value, 0):>14}" for value in points))
    lines.append(f"{'right country':<18}{_percent(metrics['country_accuracy']):>14}")
    for share, covered in metrics["radius_coverage"].items():
        lines.append(f"{f'in {share} % radius':<18}{_percent(covered):>14}")
    lines += ["", *_notes(metrics, comparison)]
    return "\n".join(lines)


def _notes(metrics: dict[str, Any], comparison: Comparison | None) -> list[str]:
    counts = f"{metrics['num_images']:,} images"
    if metrics["num_problems"]:
        counts += f", {metrics['num_problems']:,} without an answer (misses in the shares, not in median and mean)"
    if "images_per_second" in metrics:
        counts += f"; {metrics['images_per_second']:,.0f} images/s"
    notes = [counts]
    if comparison:
        notes.append(comparison.matching.describe())
    if comparison and comparison.num_places_as_country:
        notes.append(f"true country of {comparison.num_places_as_country:,} images: that of the nearest place")
    return notes


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _km(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} km"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
