"""What the numbers of an answer mean, as fitted on images of known places: radii, probabilities, likeness.

Fitted by ``geo_ray.evaluation.calibration``; stored in a bundle's ``calibration.json``.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64

UNCERTAIN = "uncertain"  # the problem of an answer that is less certain than was asked for: no failure
TINY = 1e-12  # probabilities nearer to 0 or 1 than this are taken for it


@dataclass(frozen=True, kw_only=True)
class ErrorScore:
    """The log(1 + km) that half of such answers are off by at most: a number for its order, not for people.

    ``feature_distance`` is how far the image is from the nearest known one, ``spread_km`` how far the alternatives lie
    from the answer, each by its probability. The first tells within a region, the second tells regions apart.
    """

    intercept: float = 0.0
    feature_distance: float = 1.0
    log_spread: float = 0.0

    def __call__(
        self, feature_distance: Float[np.ndarray, "n"], spread_km: Float[np.ndarray, "n"]
    ) -> Float64[np.ndarray, "n"]:
        """The score of each answer; larger is less certain."""
        score = np.full(len(feature_distance), self.intercept)
        if self.feature_distance:
            score += self.feature_distance * feature_distance
        if self.log_spread:
            score += self.log_spread * np.log1p(spread_km)
        return score


@dataclass(frozen=True, kw_only=True)
class RadiusCalibration:
    """A step function: in the bin of an answer's score, half and nine tenths of the validation errors were smaller.

    ``edges`` are the B - 1 inner borders of the bins, ascending.
    """

    score: ErrorScore = field(default_factory=ErrorScore)
    edges: tuple[float, ...]
    radius_km_50: tuple[float, ...]
    radius_km_90: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.edges) + 1 == len(self.radius_km_50) == len(self.radius_km_90):
            raise ValueError(
                f"calibration: {len(self.edges)} edges need {len(self.edges) + 1} radii, not "
                f"{len(self.radius_km_50)} and {len(self.radius_km_90)}"
            )
        if list(self.edges) != sorted(self.edges):
            raise ValueError(f"calibration: edges={self.edges} must ascend")

    def radii_km(
        self, feature_distance: Float[np.ndarray, "n"], spread_km: Float[np.ndarray, "n"]
    ) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
        """The radii that hold the truth with probability 0.5 and 0.9; NaN where the score is."""
        score = self.score(feature_distance, spread_km)
        bins = np.searchsorted(self.edges, score, side="right")
        known = ~np.isnan(score)
        return (
            np.where(known, np.asarray(self.radius_km_50)[bins], np.nan),
            np.where(known, np.asarray(self.radius_km_90)[bins], np.nan),
        )


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """One probability to another: sigmoid(slope x logit(p) + offset) (Platt 1999)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, probability: Float[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """The probabilities; 0 and 1 stay as near to themselves as ``TINY`` allows."""
        p = np.clip(probability.astype(np.float64), TINY, 1 - TINY)
        return np.asarray(1 / (1 + np.exp(-(self.slope * (np.log(p) - np.log1p(-p)) + self.offset))))


@dataclass(frozen=True, kw_only=True)
class ProbabilityCalibration:
    """From what candidates are ranked by to what they are stated with.

    Candidate k has p_k^power / (sum_j p_j^power + other): ``other`` stands for all that is no candidate. ``region`` and
    ``country`` correct the sums of the candidates in the answer's region and country.
    """

    power: float = 1.0
    other: float = 0.0
    region: Logistic = field(default_factory=Logistic)
    country: Logistic = field(default_factory=Logistic)

    def __post_init__(self) -> None:
        if not self.power > 0 or not self.other >= 0:
            raise ValueError(f"calibration: power={self.power} must be positive and other={self.other} not below 0")

    def candidates(self, probability: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
        """The stated probabilities, in the same order of size; nothing has any where nothing had."""
        raised = np.where(probability > 0, np.maximum(probability.astype(np.float64), 0.0) ** self.power, 0.0)
        total = raised.sum(axis=1, keepdims=True) + self.other
        return np.asarray(raised / np.where(total > 0, total, 1.0))


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How like an image is those that the bundle was calibrated on: a conformal test of its feature distance.

    ``distances`` ascend; ``p_values`` are of images at least as far as each of them, and below ``level`` an image is
    unlike them: as unlike as one in 1 / level of their kind, by place (Vovk et al. 2005, section 7).
    """

    level: float
    distances: tuple[float, ...]
    p_values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.p_values) != len(self.distances) + 1:
            raise ValueError(f"likeness: {len(self.distances)} distances need one p-value more")
        if list(self.distances) != sorted(self.distances) or list(self.p_values) != sorted(self.p_values, reverse=True):
            raise ValueError("likeness: distances must ascend and p-values descend")
        if not 0 <= self.level < 1:
            raise ValueError(f"likeness: level={self.level} must be at least 0 and below 1")

    def p_value(self, feature_distance: Float[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """The share of images of the known kind, by place, that are at least as far; NaN for NaN."""
        numbers = np.searchsorted(self.distances, feature_distance, side="left")
        return np.where(np.isnan(feature_distance), np.nan, np.asarray(self.p_values)[numbers])

    def is_unlike(self, p_value: Float64[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Whether nothing should be stated of an image."""
        return np.asarray(p_value < self.level)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """All of these; ``num_places`` is how many groups of images they were fitted on.

    ``index`` names the index that was searched, empty where it was the bundle's own.
    """

    radius: RadiusCalibration
    probability: ProbabilityCalibration
    likeness: Likeness
    num_images: int
    num_places: int
    index: str = ""


def read_calibration(values: dict[str, Any]) -> Calibration:
    """The calibration that ``dataclasses.asdict`` wrote as JSON; ``KeyError``, ``TypeError`` or ``ValueError``."""
    radius, probability, likeness = (dict(values[name]) for name in ("radius", "probability", "likeness"))
    score = ErrorScore(**radius.pop("score"))
    region, country = (Logistic(**probability.pop(name)) for name in ("region", "country"))
    return Calibration(
        radius=RadiusCalibration(score=score, **{name: tuple(value) for name, value in radius.items()}),
        probability=ProbabilityCalibration(region=region, country=country, **probability),
        likeness=Likeness(
            level=likeness["level"], distances=tuple(likeness["distances"]), p_values=tuple(likeness["p_values"])
        ),
        num_images=values["num_images"],
        num_places=values["num_places"],
        index=values.get("index", ""),
    )
