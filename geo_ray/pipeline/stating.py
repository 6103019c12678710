"""What is stated of an answer: probabilities, radii, and whether the image is like those the bundle knows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from geo_ray.atlas.cities import Places
from geo_ray.geo.calibration import Calibration
from geo_ray.models.naming import Naming
from geo_ray.pipeline.columns import Batch


@dataclass(frozen=True, kw_only=True)
class Stated:
    """For each image; NaN where nothing is known, or nothing may be stated of an image that is unlike all known ones.

    ``unlike`` is the share of images of the known kind, by place, that are as far from the known ones.
    """

    candidates: Float64[np.ndarray, "n k"]
    region: Float64[np.ndarray, "n"]
    country: Float64[np.ndarray, "n"]
    radius_km_50: Float64[np.ndarray, "n"]
    radius_km_90: Float64[np.ndarray, "n"]
    unlike: Float64[np.ndarray, "n"]


def stating(calibration: Calibration | None, naming: Naming) -> Callable[[Batch, Places], Stated]:
    """What says it, of the columns that were located and the places that the answers are called by.

    Without a calibration probabilities are those that candidates are ranked by, and nothing else is known.
    """

    def state(batch: Batch, places: Places) -> Stated:
        if calibration is None:
            ranked = batch["candidate_probability"].astype(np.float64)
            unknown = np.full(len(ranked), np.nan)
            return Stated(candidates=ranked, region=unknown, country=unknown, radius_km_50=unknown,
                          radius_km_90=unknown, unlike=unknown)  # fmt: skip
        probability = calibration.probability
        candidates = probability.candidates(batch["candidate_probability"])
        in_region, in_country = naming.regions.same(batch["cells"], batch["winner"], places)
        region = probability.region((candidates * in_region).sum(axis=1))
        country = np.maximum(region, probability.country((candidates * in_country).sum(axis=1)))
        p_value = calibration.likeness.p_value(batch["feature_distance"])
        half, most = calibration.radius.radii_km(batch["feature_distance"], batch["spread_km"])
        mute = calibration.likeness.is_unlike(p_value)
        return Stated(
            candidates=np.where(mute[:, None], np.nan, candidates),
            region=np.where(mute, np.nan, region),
            country=np.where(mute, np.nan, country),
            radius_km_50=np.where(mute, np.nan, half),
            radius_km_90=np.where(mute, np.nan, most),
            unlike=p_value,
        )

    return state
