"""The geocell head, on features or with the tower, and beside it what else is known of a place (PIGEON, 3.2 and 3.3).

Shapes: B batch, S image side, D features, C cells, R regressions.
"""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray.train
import torch
from jaxtyping import Float
from torch import nn

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import Partition
from geo_ray.cells.partition_file import read_partition
from geo_ray.errors import InputError
from geo_ray.geo.blocks import block_ids
from geo_ray.geo.sphere import great_circle_km
from geo_ray.models.bundle import WEIGHTS, open_bundle
from geo_ray.models.clip import TOWER, load_tower, read_weights, token_mean
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.losses import haversine_targets, soft_cross_entropy
from geo_ray.train.clip_model import normalized
from geo_ray.train.clip_task import validation_rows
from geo_ray.train.config import LoopConfig
from geo_ray.train.covariates import OFFSETS, PHOTO_OFFSETS, REGRESSIONS, CovariateHeads, Scaler
from geo_ray.train.crop_task import CELLS
from geo_ray.train.run_folder import RunFolder
from geo_ray.train.table_reading import Reading, open_table, plain, read_rows
from geo_ray.train.table_stream import TableStream, batch_sizes, with_steps
from geo_ray.train.task import Stream

PLACE = ("latitude", "longitude")
COVARIATES = ("climate", "month", *REGRESSIONS)
SCALERS = "scalers.json"
FEATURES = "features"


@dataclass(frozen=True, kw_only=True)
class CellConfig(LoopConfig):
    """How cells are told from images: haversine smoothing, what is learned beside them, and which part is trained.

    ``batch_size`` are the images of a step over all workers and parts. With ``with_tower`` the encoder is trained too,
    but for what ``frozen`` names; without, the table has ``features`` that were embedded once.
    """

    epochs: float = 0.0  # above 0, they make num_steps
    batch_size: int = 256
    shuffled_rows: int = 8192
    with_tower: bool = False
    num_validation: int = 20_000

    tau_km: float = 75.0
    target_reference: Literal["nearest", "true"] = "nearest"
    normalize_targets: bool = False  # as in PIGEON, where dense regions weigh more
    smoothing: bool = True  # False: the true cell alone is right

    covariates: bool = True  # the heads for climate, month and regressions, with PIGEON's weights
    photo_offsets: bool = False  # PIGEOTTO's offset of the elevation

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("batch_size", "tau_km", "num_validation")
        if self.target_reference not in ("nearest", "true"):
            raise ValueError(f"target_reference={self.target_reference!r} must be 'nearest' or 'true'")

    @property
    def offsets(self) -> dict[str, float]:
        """What is added to each variable before its logarithm."""
        return PHOTO_OFFSETS if self.photo_offsets else OFFSETS


class CellModel(nn.Module):
    """Cell logits of features, or of pixels through a tower; and heads for covariates. Heads compute in float32."""

    def __init__(
        self,
        num_features: int,
        num_cells: int,
        tower: nn.Module | None = None,
        encoder: EncoderSpec | None = None,
        with_covariates: bool = True,
    ) -> None:
        super().__init__()
        self.tower, self._encoder = tower, encoder
        self.head = nn.Linear(num_features, num_cells)
        self.heads = CovariateHeads(num_features) if with_covariates else None

    def forward(self, seen: torch.Tensor) -> tuple[Float[torch.Tensor, "B C"], dict[str, torch.Tensor]]:
        """Cell logits, and the covariate heads' outputs by name; ``seen`` are features (B, D), or pixels."""
        features = self._features(seen)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            return self.head(features), {} if self.heads is None else self.heads(features)

    def _features(self, seen: torch.Tensor) -> Float[torch.Tensor, "B D"]:
        if self.tower is None:
            return seen
        assert self._encoder is not None
        features = token_mean(self.tower, seen) if self._encoder.features == "tokens" else self.tower(seen)
        return nn.functional.normalize(features.float(), dim=1) if self._encoder.normalize else features


class CellTask:
    """The model of cells, and its losses: ``cells``, and the covariates' where they are learned."""

    best = "cell_accuracy"

    def __init__(
        self,
        config: CellConfig,
        partition: Partition,
        scalers: dict[str, Scaler],
        validation: dict[str, np.ndarray],
        model: CellModel,
        encoder: EncoderSpec,
    ) -> None:
        self._config, self._partition, self._scalers = config, partition, scalers
        self._validation, self._encoder = validation, encoder
        self._centers = torch.from_numpy(partition.centers)
        self.model: nn.Module = model

    def losses(self, model: nn.Module, rows: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """The haversine-smoothed loss, eq. 3; with covariates, eq. 4."""
        logits, others = self._answers(model, rows)
        latlon = np.stack([rows[name] for name in PLACE], axis=1)
        terms = {"cells": self._in_cells(logits, latlon)}
        if others:
            terms |= self._in_covariates(others, rows)
        return terms | {"total": torch.stack(list(terms.values())).sum()}

    def _answers(self, model: nn.Module, rows: dict[str, np.ndarray]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        device = next(model.parameters()).device
        if not self._config.with_tower:
            seen = torch.from_numpy(np.array(rows[FEATURES], np.float32)).to(device)
        else:
            pixels = torch.from_numpy(np.array(rows["pixels"])).to(device)
            seen = normalized(pixels, self._encoder.image_mean, self._encoder.image_std)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
            logits, others = model(seen)
        return logits, others

    def _in_cells(self, logits: torch.Tensor, latlon: np.ndarray) -> torch.Tensor:
        config, device = self._config, logits.device
        needed = not config.smoothing or (config.target_reference == "true" and not config.normalize_targets)
        cells = cells_of(latlon, self._partition) if needed else np.zeros(len(latlon), np.int64)
        true = torch.from_numpy(cells).to(device)
        if not config.smoothing:
            return nn.functional.cross_entropy(logits, true)
        places, centers = torch.from_numpy(latlon).to(device), self._centers.to(device)
        targets = haversine_targets(
            places, centers, true, config.tau_km, config.target_reference, config.normalize_targets
        )
        return soft_cross_entropy(logits, targets)

    def _in_covariates(self, outputs: dict[str, torch.Tensor], rows: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        device = next(iter(outputs.values())).device
        scaled = [
            self._scalers[name].scaled(rows[name]) if name in self._scalers else np.full(len(rows[name]), np.nan)
            for name in REGRESSIONS
        ]
        month = np.where(rows["month"] > 0, rows["month"] - 1, -1)
        climate, months = (torch.from_numpy(np.array(v)).to(device) for v in (rows["climate"], month))
        regressions = torch.from_numpy(np.stack(scaled, axis=1)).float().to(device)
        return CovariateHeads.losses(outputs, climate, months, regressions)

    def ids(self, rows: dict[str, np.ndarray]) -> list[str]:
        """The images' ids."""
        found: list[str] = rows["image_id"].tolist()
        return found

    def validate(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Whether the most probable cell is the image's own, and how far its centre is; by blocks of 0.25 degrees."""
        rows, tops = self._validation, []
        count = len(rows["latitude"])
        for start in range(0, count, 256):
            logits, _ = self._answers(model, {name: v[start : start + 256] for name, v in rows.items()})
            tops.append(logits.argmax(dim=1).cpu().numpy())
        top = np.concatenate(tops) if tops else np.zeros(0, np.int64)
        latlon = np.stack([rows[name] for name in PLACE], axis=1)
        return {
            "cell_accuracy": (top == cells_of(latlon, self._partition)).astype(np.float64),
            "error_km": great_circle_km(self._partition.centers[top], latlon),
            "place": block_ids(latlon),
        }


@dataclass(frozen=True, kw_only=True)
class CellWork:
    """The training of a ``CellTask``: on a table with features, or of images where the tower is trained too.

    ``encoder`` is the bundle whose tower made the features, or goes on learning; the cells are in the run's folder.
    """

    config: CellConfig
    table: str
    encoder: str

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read of the table."""
        features = () if self.config.with_tower else (FEATURES,)
        return (*PLACE, *(COVARIATES if self.config.covariates else ()), *features)

    def with_steps(self, num_rows: int) -> "CellWork":
        """The same, with as many steps as its epochs of so many rows have."""
        return dataclasses.replace(self, config=with_steps(self.config, num_rows))

    def reading(self) -> Reading:
        """What is read of the table; ``InputError`` where it can't be."""
        images = ("bytes", "uri") if self.config.with_tower else ()
        return Reading(
            table=open_table(self.table, columns=(*self.columns, *images)),
            columns=self.columns,
            seed=self.config.seed,
            encoder=open_bundle(self.encoder).encoder if self.config.with_tower else None,
        )

    def open(self, folder: RunFolder, states: Sequence[dict[str, Any]]) -> tuple[CellTask, Stream]:
        """The task, and this worker's batches."""
        bundle, reading = open_bundle(self.encoder), self.reading()
        with tempfile.TemporaryDirectory() as here:
            partition = read_partition(folder.fetch(CELLS, Path(here, CELLS)))
        torch.manual_seed(self.config.seed)
        tower = load_tower(bundle.encoder, read_weights(bundle.path(WEIGHTS), TOWER)) if reading.encoder else None
        model = CellModel(
            bundle.num_features, len(partition), tower, bundle.encoder, with_covariates=self.config.covariates
        )
        rows = validation_rows(self.table, self.columns, self.config.num_validation, reading.encoder)
        scalers = {name: Scaler(**values) for name, values in (folder.read_json(SCALERS) or {}).items()}
        task = CellTask(self.config, partition, scalers, rows, model, bundle.encoder)
        shard = ray.train.get_dataset_shard("train")
        size = batch_sizes(self.config.batch_size, self.config.accumulation)
        return task, TableStream(reading, size, self.config.shuffled_rows, states, shard)


def fit_scalers(table: str, config: CellConfig) -> dict[str, Scaler]:
    """The scalers of the regressions that a table's training images know enough of to learn."""
    rows = plain(read_rows(open_table(table), REGRESSIONS, most=1_000_000))
    scalers = {}
    for name in REGRESSIONS:
        try:
            scalers[name] = Scaler.fit(rows[name].to_numpy(), config.offsets.get(name), name)
        except InputError:
            continue  # the table has none, or too few that differ
    return scalers


def write_scalers(scalers: dict[str, Scaler], folder: RunFolder) -> None:
    """Write the scalers for the workers, and for whoever reads the heads' numbers later."""
    folder.write_json(SCALERS, {name: dataclasses.asdict(scaler) for name, scaler in scalers.items()})


def read_scalers(text: str) -> dict[str, Scaler]:
    """What ``write_scalers`` wrote."""
    return {name: Scaler(**values) for name, values in json.loads(text).items()}
