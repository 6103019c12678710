"""How often the address is right (AddressCLIP, arXiv 2407.08156, section 5.1).

SSA-k: the sub-street's address is among the first k candidates, word for word. SA-k: one of them has its main street
and neighbourhood.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from geo_ray.atlas.addresses import Addresses, distance_m, nearest_addresses
from geo_ray.errors import InputError
from geo_ray.evaluation.bootstrap import Bootstrap, Groups, Measure, interval
from geo_ray.evaluation.comparison import Comparison
from geo_ray.evaluation.tables import Predictions, Truth, read_texts
from geo_ray.geo.metrics import none_if_nan
from geo_ray.geo.sphere import great_circle_km

DEPTHS = (1, 5)


@dataclass(frozen=True, kw_only=True)
class AddressAnswers:
    """Of each image: which of its candidates, best first, are right, and how far the first is, NaN without an answer.

    ``to_street_m`` are the metres from the true position to the course of the answered sub-street, and ``to_middle_m``
    those to its middle.
    """

    right_address: Bool[np.ndarray, "n k"]
    right_street: Bool[np.ndarray, "n k"]
    to_street_m: Float64[np.ndarray, "n"]
    to_middle_m: Float64[np.ndarray, "n"]
    groups: Groups

    @classmethod
    def of(
        cls,
        addresses: Addresses,
        candidates: Int64[np.ndarray, "n k"],
        latlon: Float64[np.ndarray, "n 2"],
        truth: Shaped[np.ndarray, "n"],
        groups: Groups,
    ) -> "AddressAnswers":
        """Of candidates by row, -1 for none, beside true positions (degrees) and the texts of the true addresses."""
        row_of = {text: row for row, text in enumerate(addresses.texts)}
        if unknown := [text for text in truth.tolist() if text not in row_of]:
            raise InputError(
                f"{len(unknown)} true addresses are none of the {len(addresses):,} candidates, such as {unknown[0]!r}"
            )
        true = np.array([row_of[text] for text in truth.tolist()], np.int64)
        there = candidates >= 0
        main = np.array(
            [f"{street}\n{hood}" for street, hood in zip(addresses.streets, addresses.neighbourhoods, strict=True)],
            dtype=object,
        )
        first = candidates[:, 0]
        to_middle = 1000 * great_circle_km(addresses.latlon[first], latlon)
        return cls(
            right_address=there & (addresses.texts[candidates] == truth[:, None]),
            right_street=there & (main[candidates] == main[true][:, None]),
            to_street_m=np.where(there[:, 0], distance_m(latlon, first, addresses), np.nan),
            to_middle_m=np.where(there[:, 0], to_middle, np.nan),
            groups=groups,
        )

    def measures(self) -> dict[str, Measure]:
        """Each figure by its name."""
        found = {}
        for name, right in (("ssa", self.right_address), ("sa", self.right_street)):
            for k in DEPTHS:
                found[f"{name}_{k}"] = Measure(values=np.asarray(right[:, :k].any(axis=1)))
        return found | {
            "median_to_street_m": Measure(values=self.to_street_m, is_median=True),
            "median_to_middle_m": Measure(values=self.to_middle_m, is_median=True),
        }


def compare_addresses(
    predictions: Predictions, truth: Truth, comparison: Comparison, addresses: Addresses
) -> AddressAnswers:
    """The answers of a run by a bundle of addresses, beside the truth's column ``address``, or else its positions.

    ``InputError`` where the predictions are not in parquet, or of other candidates.
    """
    pairs = comparison.matching
    if predictions.dataset is None or "address" not in predictions.dataset.schema.names:
        raise InputError(f"{predictions.path} has no addresses; answer the images with a bundle of kind address")
    listed = predictions.dataset.to_table(columns=["candidates"])["candidates"].to_pylist()
    row_of = {key: row for row, key in enumerate(addresses.ids)}
    candidates = np.full((len(pairs), max(DEPTHS)), -1, np.int64)
    for at, row in enumerate(pairs.prediction_rows.tolist()):
        for place, candidate in enumerate((listed[row] or [])[: max(DEPTHS)]):
            if candidate["cell_id"] not in row_of:
                raise InputError(
                    f"{predictions.path} answers {candidate['cell_id']!r}, which is none of these {len(addresses):,} "
                    "addresses; name the bundle that answered with --addresses"
                )
            candidates[at, place] = row_of[candidate["cell_id"]]
    latlon = truth.latlon[pairs.truth_rows]
    told = np.array(read_texts(truth.path, {"address": ("address",)}).get("address", []), dtype=object)
    true = told[pairs.truth_rows] if len(told) else addresses.texts[nearest_addresses(latlon, addresses)]
    return AddressAnswers.of(addresses, candidates, latlon, true, comparison.groups)


def address_metrics(answers: AddressAnswers) -> dict[str, Any]:
    """The figures by image and by place, with 95 % intervals of draws of whole places."""
    measures, groups = answers.measures(), answers.groups
    bootstrap = Bootstrap(groups=groups)

    def figures(weights: Float64[np.ndarray, "n"] | None) -> dict[str, Any]:
        draws = bootstrap.replicates(measures, weights)
        found: dict[str, Any] = {name: none_if_nan(one.estimate(weights)) for name, one in measures.items()}
        bounds = {name: interval(draws[name], groups.count) for name in measures}
        found["intervals_95"] = {
            name: None if np.isnan(low) else [float(low), float(high)] for name, (low, high) in bounds.items()
        }
        return found

    by_place = {"grouped_by": groups.described, "num_places": groups.count, **figures(groups.weights)}
    return {"num_images": len(answers.to_street_m), **figures(None), "by_place": by_place}


def address_table(metrics: dict[str, Any]) -> str:
    """The figures as lines for a terminal, by place first."""
    place = metrics["by_place"]
    lines = [f"{'':<20}{'by place':>10}{'95 % interval':>18}{'by photo':>10}"]
    for name, label in LABELS.items():
        scale, unit = (100, " %") if name.startswith("s") else (1, " m")
        value, bounds = place[name], place["intervals_95"][name]
        if value is None:
            continue
        between = "" if bounds is None else f"{scale * bounds[0]:,.1f} to {scale * bounds[1]:,.1f}"
        lines.append(f"{label:<20}{scale * value:>8,.1f}{unit}{between:>18}{scale * metrics[name]:>8,.1f}{unit}")
    lines.append(f"{metrics['num_images']:,} images in {place['num_places']:,} places ({place['grouped_by']})")
    return "\n".join(lines)


LABELS = {
    "ssa_1": "SSA-1", "ssa_5": "SSA-5", "sa_1": "SA-1", "sa_5": "SA-5", "median_to_street_m": "to the sub-street",
    "median_to_middle_m": "to its middle",
}  # fmt: skip
