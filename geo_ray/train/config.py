"""The settings of training runs: what every run has, and those of a geocell model on overhead crops."""

from dataclasses import dataclass
from typing import Literal

from geo_ray.cells.partition import CellSizes
from geo_ray.datasets.splits import SplitKind


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What every training run has: the optimiser, its schedule in steps, and what is kept of it on the way.

    All of it decides what is learned, so a run that was begun goes on with the same; where it runs does not, and is
    ``Scale``.
    """

    seed: int = 330
    num_steps: int = 3300
    learning_rate: float = 3e-3
    weight_decay: float = 0.05  # of matrices and kernels alone, not of norms, biases and the logit scale
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float = 1.0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # after the warm-up
    warmup_share: float = 0.05  # of all steps
    final_share: float = 0.0  # of the peak learning rate, at the last step
    accumulation: int = 1  # batches whose gradients make one step
    ema_decay: float = 0.0  # of the mean of weights that the run ends with; 0: the weights themselves
    frozen: tuple[str, ...] = ()  # patterns of names of parameters that stay ("tower.transformer.*")
    trained: tuple[str, ...] = ()  # patterns of names that are trained all the same

    precision: Literal["bf16", "fp32"] = "bf16"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    recompute: bool = False  # activations of each block in the backward pass (activation checkpointing)
    compile: bool = False

    log_every: int = 50
    checkpoint_every: int = 1000
    validate_every: int = 0  # steps; 0: at the end alone
    num_kept: int = 2  # checkpoints, beside the best one

    def __post_init__(self) -> None:
        self._check_positive("num_steps", "learning_rate", "accumulation", "log_every", "checkpoint_every", "num_kept")
        self._check_positive("max_grad_norm", "eps")
        for name in ("warmup_share", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be from 0 to below 1")
        choices = {"schedule": ("cosine", "linear", "constant"), "precision": ("bf16", "fp32"),
                   "parallel": ("ddp", "fsdp")}  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(known)}")

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Where a run runs: with how many workers, and what each has.

    With ``max_workers`` above ``num_workers`` it starts with as many as there is room for, and after a loss goes on
    with those that are left.
    """

    num_workers: int = 1
    max_workers: int = 0  # 0: num_workers
    threads_per_worker: int = 2
    max_failures: int = 3  # workers or nodes that may be lost; each time the run goes on from its last checkpoint

    def __post_init__(self) -> None:
        if self.num_workers < 1 or self.threads_per_worker < 1:
            raise ValueError(f"{self} must have a worker or more, with a thread or more")
        if self.max_workers and self.max_workers < self.num_workers:
            raise ValueError(f"max_workers={self.max_workers} must be at least num_workers={self.num_workers}")

    @property
    def workers(self) -> int | tuple[int, int]:
        """As Ray's ``ScalingConfig`` has it."""
        return (self.num_workers, self.max_workers) if self.max_workers > self.num_workers else self.num_workers


@dataclass(frozen=True, kw_only=True)
class TowerConfig(LoopConfig):
    """A small image tower with fresh weights."""

    tower: str = "residual-tiny"
    image_size: int = 48
    num_features: int = 128
    split_seed: int = 7


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TowerConfig):
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
