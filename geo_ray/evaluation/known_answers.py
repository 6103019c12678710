"""Answers to images of known places, from what a graph located: what calibration is fitted on."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from geo_ray.atlas.cities import gazetteer
from geo_ray.evaluation.bootstrap import Groups
from geo_ray.evaluation.calibration import KnownAnswers
from geo_ray.geo.sphere import great_circle_km
from geo_ray.models.naming import Naming

# The columns that are asked for, of those that every way of finding a place writes.
LOCATED = ("latlon", "cells", "winner", "candidate_probability", "feature_distance", "spread_km")


def known_answers(
    naming: Naming, located: Mapping[str, np.ndarray], latlon: Float64[np.ndarray, "n 2"], groups: Groups
) -> KnownAnswers:
    """The answers in columns ``LOCATED`` beside the true places (degrees), which are named by the nearest town."""
    cells, winner = located["cells"], located["winner"]
    answered = naming.places_of(cells[np.arange(len(cells)), winner], located["latlon"])
    true = gazetteer().places_of(latlon)
    same_region, same_country = naming.regions.same(cells, winner, answered)
    right_country = answered.country == true.country
    return KnownAnswers(
        groups=groups,
        error_km=great_circle_km(located["latlon"], latlon),
        feature_distance=located["feature_distance"],
        spread_km=located["spread_km"],
        candidate_probability=located["candidate_probability"].astype(np.float64),
        winner=winner,
        true_candidate=_place_of_each(cells, located["candidate_probability"], naming.right_candidates(latlon)),
        same_region=same_region,
        same_country=same_country,
        right_region=right_country & (answered.region == true.region),
        right_country=right_country,
    )


def _place_of_each(cells: np.ndarray, probability: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which candidate each wanted number is, -1 where it is none; one of no probability stands for nothing."""
    is_wanted = (cells == wanted[:, None]) & (probability > 0)
    return np.where(is_wanted.any(axis=1), is_wanted.argmax(axis=1), -1).astype(np.int64)
