"""The settings of training runs: what every run has, and those of a geocell model on overhead crops."""

from dataclasses import dataclass
from typing import Literal

from geo_ray.cells.partition import CellSizes
from geo_ray.datasets.splits import SplitKind


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What every training run has: an image tower, the workers, and the optimiser's schedule in steps."""

    tower: str = "residual-tiny"
    image_size: int = 48
    num_features: int = 128
    seed: int = 330
    split_seed: int = 7

    num_workers: int = 1
    threads_per_worker: int = 2
    num_steps: int = 3300
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    log_every: int = 50

    def __post_init__(self) -> None:
        self._check_positive("num_workers", "num_steps", "learning_rate")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share={self.warmup_share} must be from 0 to below 1")

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    """What is trained, on which places, for how long, and with which loss.

    ``num_steps`` counts optimiser steps; each worker takes ``places_per_step`` places a step, two views of each.
    """

    min_cell_size: int = 60
    max_cell_size: int = 120
    places_per_step: int = 96
    split: SplitKind = "blocks"  # what is held out (``datasets.splits``)

    tau_km: float = 75.0
    target_reference: Literal["nearest", "true"] = "nearest"
    normalize_targets: bool = True
    contrastive_weight: float = 1.0
    sigma_km: float = 6.0

    # A step's places come in groups about one photo location, moved by as much (standard deviations): the near ones are
    # each other's hardest negatives, the far ones fill what lies between photos.
    offsets_km: tuple[float, ...] = (0.0, 15.0, 35.0, 90.0)
    jitter: float = 0.10
    rotation_degrees: float = 10.0
    first_strength: float = 0.25  # of the augmentation of a place's first view, from 0 to 1
    second_strength: float = 0.8
    other_raster_share: float = 0.3  # of the second views that are blended with another picture of the Earth

    head_epochs: int = 6
    head_batch_size: int = 512
    head_learning_rate: float = 0.1
    head_share: float = 0.3  # of the way from the head trained on augmented views to the one fitted on clean ones

    gallery_apart_km: float = 6.0  # one member image a square of this side; a pixel of the imagery has 7.4
    gallery_reach_km: float = 120.0  # members are also made of translated views, up to this far from a photo location
    gallery_step_km: float = 41.0  # and this far from each other

    @property
    def cell_sizes(self) -> CellSizes:
        """The limits of the cells' sizes."""
        return CellSizes(min_size=self.min_cell_size, max_size=self.max_cell_size)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("places_per_step", "tau_km", "sigma_km")
        if not self.offsets_km or min(self.offsets_km) < 0:
            raise ValueError(f"offsets_km={self.offsets_km} must be one or more distances")
        if self.places_per_step % len(self.offsets_km):
            raise ValueError(
                f"places_per_step={self.places_per_step} must be a multiple of the {len(self.offsets_km)} offsets_km"
            )
        if self.target_reference not in ("nearest", "true"):
            raise ValueError(f"target_reference={self.target_reference!r} must be 'nearest' or 'true'")
