"""The complete settings of one training run of a small CLIP on overhead crops with captions."""

from dataclasses import dataclass
from typing import Literal

from geo_ray.models.contrastive import Contrast
from geo_ray.train.config import TowerConfig

SHARES = ("town_share", "region_share", "country_share", "subregion_share")


@dataclass(frozen=True, kw_only=True)
class CaptionConfig(TowerConfig):
    """Which countries are held out, what captions say, and how the two towers are trained.

    Held out are ``num_held_out`` of the countries with at least ``min_photos`` photo locations, and every place less
    than ``apart_km`` from one of them. ``pairs_per_step`` images and captions meet in a step of each worker.
    """

    num_held_out: int = 18
    draw: int = 0  # of the countries held out; no country is in two draws
    min_photos: int = 50
    # Beyond the corner of the widest view (400 km x 1.05 / sqrt 2 = 297 km): no pixel of a held-out country is seen.
    apart_km: float = 300.0

    pairs_per_step: int = 192
    text_width: int = 128
    text_layers: int = 2
    context_length: int = 48

    # The shares of the captions that name each; one that would name nothing names the country (after PIGEON, appendix
    # B.2, where the country is always named).
    town_share: float = 0.4
    region_share: float = 0.4
    country_share: float = 0.6
    subregion_share: float = 0.6

    jitter: float = 0.05
    rotation_degrees: float = 10.0
    strength: float = 0.25  # of the augmentation, from 0 to 1

    # Which captions count as an image's own: all that say nothing but what is true of it, or those equal to its own.
    positives: Literal["subsumed", "equal"] = "subsumed"
    negatives: Literal["global", "local"] = "global"  # of all workers, or of each worker's own pairs
    loss: Literal["infonce", "sigmoid"] = "infonce"
    reference_size: int = 0  # pairs that are contrasted at a time, as in a paper's batch on one GPU; 0: all
    chunk: int = 1024  # rows that are compared at once

    towns_per_label: int = 30

    @property
    def contrast(self) -> Contrast:
        """How pairs are told apart."""
        return Contrast(loss=self.loss, negatives=self.negatives, reference_size=self.reference_size, chunk=self.chunk)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("num_held_out", "min_photos", "pairs_per_step", "text_layers", "towns_per_label")
        for name in ("apart_km", "draw"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.positives not in ("subsumed", "equal"):
            raise ValueError(f"positives={self.positives!r} must be 'subsumed' or 'equal'")
        _ = self.contrast  # checks its own
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be from 0 to 1")
