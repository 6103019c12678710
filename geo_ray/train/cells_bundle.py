"""The end of every training of geocells: index, refinement and calibration, and the bundle that answers."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64
from safetensors.torch import save_file

from geo_ray.cells.labels import file_points
from geo_ray.cells.partition import Partition
from geo_ray.cells.partition_file import read_partition, write_partition
from geo_ray.evaluation.bootstrap import groups_by_block
from geo_ray.evaluation.calibration import fit_calibration
from geo_ray.evaluation.known_answers import known_answers
from geo_ray.evaluation.refinement import known_images
from geo_ray.geo.metrics import error_metrics
from geo_ray.index.index_folder import write_index
from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.index.refine import Refinement
from geo_ray.models.bundle import CALIBRATION, Bundle, open_bundle
from geo_ray.models.bundle_writing import Words, copy_bundle, write_cells_bundle
from geo_ray.models.naming import open_naming


@dataclass(frozen=True, kw_only=True)
class KnownFeatures:
    """Features (n, D) of images whose places (degrees) are known."""

    features: Float32[np.ndarray, "n D"]
    latlon: Float64[np.ndarray, "n 2"]


@dataclass(frozen=True, kw_only=True)
class Answering:
    """How a bundle is to answer: how members are filed and clustered, where its refinement starts, what is fitted."""

    start: Refinement
    fitted: tuple[str, ...]
    clustering: Clustering
    filed_by: str = "center"  # or "polygon"


def write_answering(
    output: Path,
    *,
    encoder: Bundle,
    partition: Partition,
    head: dict[str, torch.Tensor],
    members: KnownFeatures,
    validation: KnownFeatures,
    answering: Answering,
    words: Words,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write the bundle of an encoder, cells and head to ``output``, a new folder; returns its validation metrics.

    Members make the index. Refinement and calibration are fitted on the validation images, where every block of a
    quarter of a degree has one vote; the bundle's provenance has its metrics there.
    """
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as here:
        parts = Path(here)
        write_partition(partition, parts / "cells.parquet")
        partition = read_partition(parts / "cells.parquet")
        save_file({name: tensor.contiguous() for name, tensor in head.items()}, parts / "head.safetensors")
        say(f"clustering {len(members.latlon):,} members")
        _write_members(members, partition, encoder, answering, parts / "index")
        write_cells_bundle(
            parts / "bundle",
            encoder=encoder,
            cells=parts / "cells.parquet",
            head=parts / "head.safetensors",
            index=parts / "index",
            refinement=answering.start,
            words=words,
        )
        say(f"fitting the refinement on {len(validation.latlon):,} validation images")
        bundle = open_bundle(str((parts / "bundle").resolve()))
        best, calibration, metrics = fit_answers(bundle, validation, answering.start, answering.fitted)
        say(f"validation: {metrics}")
        copy_bundle(bundle, output, best, {CALIBRATION: calibration}, {"validation": metrics})
    return metrics


def _write_members(
    members: KnownFeatures, partition: Partition, encoder: Bundle, answering: Answering, folder: Path
) -> None:
    filed = file_points(members.latlon, partition, answering.filed_by)
    index = build_index(
        members.features,
        members.latlon,
        filed,
        len(partition),
        answering.clustering,
        encoder_fingerprint=encoder.encoder_fingerprint,
    )
    index = dataclasses.replace(index, filed_by=answering.filed_by, partition_digest=partition.digest)
    write_index(index, folder)


def fit_answers(
    bundle: Bundle, validation: KnownFeatures, start: Refinement, fitted: Sequence[str]
) -> tuple[Refinement, str, dict[str, Any]]:
    """Refinement, calibration as JSON, and metrics by place of a bundle of cells on images of known places."""
    groups = groups_by_block(validation.latlon)
    images = known_images(bundle, validation.features, validation.latlon, groups.weights)
    best = images.fit(start, images.choices(fitted))
    known = known_answers(open_naming(bundle), images.located(best), validation.latlon, groups)
    calibration = json.dumps(dataclasses.asdict(fit_calibration(known)), indent=1) + "\n"
    metrics = error_metrics(known.error_km, groups.weights)
    return best, calibration, {"by_place": {name: metrics[name] for name in ("median_error_km", "accuracy_at_km")}}


def clear(folder: Path) -> Path:
    """The folder's path, with nothing there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
