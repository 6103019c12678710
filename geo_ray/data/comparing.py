"""Predictions beside the truth by Ray Data, where there are more than one process should read."""

import os
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray
from jaxtyping import Float64, Int64, Shaped

from geo_ray.evaluation.comparison import CODE, Comparison, Judged, compare, comparison_of, judge, true_places
from geo_ray.evaluation.matching import Matching, match
from geo_ray.evaluation.tables import Part, Predictions, Truth, open_predictions, read_part, read_predictions
from geo_ray.geo.sphere import EARTH_RADIUS_KM
from geo_ray.remote.runtime import connected

MANY = 500_000  # predictions; fewer are compared here sooner than Ray has started
ROWS_A_PART = 50_000
ROW = "row"  # of the matching, that the values of a part belong to


@dataclass(frozen=True, kw_only=True)
class TruePlaces:
    """The matched rows: which prediction each is, by rising number, its true point and country."""

    prediction_rows: Int64[np.ndarray, "n"]
    latlon: Float64[np.ndarray, "n 2"]
    country: Shaped[np.ndarray, "n"] | None


def compare_run(
    path: str, truth: Truth, address: str, earth_radius_km: float = EARTH_RADIUS_KM, with_areas: bool = False
) -> tuple[Predictions, Comparison]:
    """As ``evaluation.comparison.compare`` of what ``read_predictions`` reads; many in parts, by Ray at ``address``.

    Of many, the predictions that are returned have no columns but the ids.
    """
    opened = open_predictions(path)
    if opened is None or len(opened.ids) < MANY:
        predictions = read_predictions(path)
        return predictions, compare(predictions, truth, earth_radius_km, with_areas)
    matching = match(opened, truth)
    with connected(address, num_cpus=os.cpu_count()):  # a process each, of 0.4 GB
        judged = _judge_parts(opened, truth, matching, earth_radius_km, with_areas)
    return opened, comparison_of(opened.ids, truth, matching, judged)


def _judge_parts(
    opened: Predictions, truth: Truth, matching: Matching, earth_radius_km: float, with_areas: bool
) -> Judged:
    latlon, country = true_places(truth, matching.truth_rows)
    named = country if truth.countries is not None else None
    places = TruePlaces(prediction_rows=matching.prediction_rows, latlon=latlon, country=named)
    work = partial(_judge_part, opened.path, opened.manifest, ray.put(places), earth_radius_km, with_areas)
    parts = [{"part": part} for part in opened.parts(ROWS_A_PART)]
    done = ray.data.from_items(parts, override_num_blocks=len(parts)).map(work).iter_batches(
        batch_size=None, batch_format="numpy"
    )  # fmt: skip
    judged: Judged = {"true_latlon": latlon}
    missing: set[str] = set()
    for batch in done:
        for values in batch["judged"]:
            rows = values.pop(ROW)
            missing |= judged.keys() - values.keys() - {"true_latlon"} if len(judged) > 1 else set()
            for name, part in values.items():
                if name not in judged:
                    judged[name] = np.zeros((len(matching), *part.shape[1:]), part.dtype)
                judged[name][rows] = part
    return {name: values for name, values in judged.items() if name not in missing}


def _judge_part(
    path: str,
    manifest: dict[str, Any],
    places: ray.ObjectRef,
    earth_radius_km: float,
    with_areas: bool,
    row: dict[str, Any],
) -> dict[str, Any]:
    """What is judged of the matched predictions of a part."""
    part: Part = row["part"]
    true: TruePlaces = ray.get(places)
    first, last = np.searchsorted(true.prediction_rows, (part.first_row, part.first_row + part.num_rows))
    rows = true.prediction_rows[first:last] - part.first_row
    predictions = read_part(path, part, manifest)
    country = np.zeros(len(rows), CODE) if true.country is None else true.country[first:last]
    values = judge(predictions, rows, true.latlon[first:last], country, earth_radius_km, with_areas)
    del values["true_latlon"]
    return {"judged": values | {ROW: np.arange(first, last)}}
