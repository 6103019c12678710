"""What each part of PIGEON's method is worth on the embedded data: one left out a time (arXiv 2307.05845, table 1).

A tiny CLIP learns from captions of satellite crops, its frozen features make the head, cells and index. All of it runs
in this process, by the loop and the losses of the recipes.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geo_ray.atlas.boundaries import boundaries
from geo_ray.atlas.covariates import Covariates, covariates_of
from geo_ray.atlas.place_names import place_names
from geo_ray.benchmarks.bare_loop import Quiet, RowBatches
from geo_ray.benchmarks.by_place import difference_row, head_text, place_row, row_text
from geo_ray.benchmarks.partitions import of_size
from geo_ray.benchmarks.rows import write_json
from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import CellSizes, Partition
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.cells.semantic import Semantic
from geo_ray.datasets import earth
from geo_ray.datasets.splits import splits
from geo_ray.evaluation.bootstrap import groups_by_block
from geo_ray.evaluation.refinement import KnownImages
from geo_ray.geo.blocks import block_ids
from geo_ray.index.index_folder import write_index
from geo_ray.index.prototypes import CLUSTERINGS, build_index
from geo_ray.index.refine import PRESETS
from geo_ray.index.shard import open_shard
from geo_ray.models.checkpoints import ClipCheckpoint, read_checkpoint
from geo_ray.models.clip import token_mean
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.recipes.smoke import TINY, write_fresh_clip
from geo_ray.remote.cell_tasks import build_cells
from geo_ray.remote.runtime import connected
from geo_ray.train.cell_task import CellConfig, CellModel, CellTask
from geo_ray.train.clip_model import normalized
from geo_ray.train.clip_task import ClipConfig, ClipTask
from geo_ray.train.loop import Worker, run_steps

VIEWS = 4
FITTED = ("logit_temperature", "num_cells", "temperature", "max_distance_km")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train: all of it, or with something left out."""

    captions: str = "pigeon"  # "" for no pretraining, "streetclip" for places alone
    smoothing: bool = True
    semantic: bool = True
    refined: bool = True
    num_views: int = VIEWS


WAYS = {
    "all of it": Way(),
    "without refinement": Way(refined=False),
    "without haversine smoothing": Way(smoothing=False),
    "rectangular for semantic cells": Way(semantic=False),
    "captions of places alone (no multi-task)": Way(captions="streetclip"),
    "without contrastive pretraining": Way(captions=""),
    "one view for four": Way(num_views=1),
}


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Pixels (n, V, S, S, 3) of places (degrees), and what is known of them by column, a row a place."""

    pixels: np.ndarray
    latlon: np.ndarray
    known: dict[str, np.ndarray]


def crops_of(latlon: np.ndarray, seed: int, side: int) -> Crops:
    """Views of places with all that captions say of them."""
    repeated = np.repeat(latlon, VIEWS, axis=0)
    views = earth.jittered_views(repeated, np.random.default_rng(seed))
    rows = [slice(start, start + 512) for start in range(0, len(repeated), 512)]
    parts = [earth.render(views.take(part), size=side) for part in rows]
    pixels = np.concatenate(parts).reshape(len(latlon), VIEWS, side, side, 3)
    names = place_names(latlon, boundaries())
    told = covariates_of(latlon, names.countries, Covariates(population=""))
    count = len(latlon)
    known = {
        "country": names.countries, "region": names.regions, "town": names.towns,
        "climate": np.array([-1 if zone is None else zone for zone in told["climate"]], np.int64),
        "drive_side": np.array([side or "" for side in told["drive_side"]], dtype=object),
        "month": np.full(count, -1), "heading": np.full(count, np.nan), "view": np.zeros(count, np.int64),
        "place": block_ids(latlon),
    }  # fmt: skip
    return Crops(pixels=pixels, latlon=latlon, known=known)


def pretrained(crops: Crops, captions: str, checkpoint: ClipCheckpoint, num_steps: int, seed: int) -> ClipTask:
    """A CLIP after ``num_steps`` of captions, or as it is where ``captions`` is empty."""
    config = ClipConfig(
        captions=captions or "pigeon",  # type: ignore[arg-type]
        num_steps=num_steps, batch_size=128, learning_rate=1e-3, precision="fp32", log_every=100, seed=seed,
    )  # fmt: skip
    task = ClipTask(config, checkpoint, {"row": np.zeros(0, np.int64), "place": np.zeros(0, np.int64)})
    if not captions:
        return task

    def make(epoch: int, rows: np.ndarray) -> Any:
        columns = {name: values[rows] for name, values in crops.known.items()}
        columns |= {"pixels": crops.pixels[rows, epoch % VIEWS], "row": rows, "epoch": np.full(len(rows), epoch),
                    "image_id": np.array([str(row) for row in rows], dtype=object)}  # fmt: skip
        return task.batch_of(columns)

    run_steps(Quiet(task), RowBatches(len(crops.latlon), 128, seed, make), config, Worker(device=torch.device("cpu")))
    return task


@torch.inference_mode()
def features_of(task: ClipTask, pixels: np.ndarray) -> np.ndarray:
    """Token means (n, V, D) of pixels, as PIGEON has them."""
    tower: Any = task.model.clip.visual  # type: ignore[union-attr]
    flat = pixels.reshape(-1, *pixels.shape[2:])
    parts = [
        token_mean(tower, normalized(torch.from_numpy(flat[start : start + 512]), CLIP_MEAN, CLIP_STD)).numpy()
        for start in range(0, len(flat), 512)
    ]
    return np.concatenate(parts).reshape(len(pixels), pixels.shape[1], -1)


def errors_of(
    way: Way, partition: Partition, sets: dict[str, tuple[np.ndarray, np.ndarray]], seed: int, num_steps: int
) -> np.ndarray:
    """Errors in km on the test places of a head, index and refinement; ``sets`` are features and places by split."""
    seen = {split: (features[:, : way.num_views].mean(axis=1), latlon) for split, (features, latlon) in sets.items()}
    features, latlon = seen["train"]
    config = CellConfig(
        num_steps=num_steps, batch_size=256, learning_rate=1e-2, precision="fp32", covariates=False,
        smoothing=way.smoothing, seed=seed, log_every=1000,
    )  # fmt: skip
    torch.manual_seed(seed)
    width = features.shape[1]
    model = CellModel(width, len(partition), with_covariates=False)
    encoder: Any = None
    task = CellTask(config, partition, {}, {}, model, encoder)

    def make(epoch: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"features": features[rows], "latitude": latlon[rows, 0], "longitude": latlon[rows, 1],
                "image_id": rows.astype(str)}  # fmt: skip

    run_steps(Quiet(task), RowBatches(len(latlon), 256, seed, make), config, Worker(device=torch.device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        filed = cells_of(latlon, partition)
        index = build_index(features, latlon, filed, len(partition), CLUSTERINGS["pigeon"], dtype="float32")
        write_index(index, Path(folder, "index"))
        head = {name: tensor.detach().numpy() for name, tensor in model.head.named_parameters()}
        made = {
            split: KnownImages(features=seen[split][0], latlon=seen[split][1], weight=head["weight"],
                               bias=head["bias"], centers=partition.centers,
                               searcher=open_shard(Path(folder, "index")),
                               weights=groups_by_block(seen[split][1]).weights)
            for split in ("validation", "test")
        }  # fmt: skip
        if not way.refined:
            return made["test"].centre_errors_km()
        best = made["validation"].fit(PRESETS["pigeon"], made["validation"].choices(FITTED))
        return made["test"].errors_km(best)


def places_of(count: int, split: str) -> np.ndarray:
    """Photo locations of a split, in an order that stays."""
    latlon = earth.locations()
    latlon = latlon[splits(latlon, 7) == split]
    return np.asarray(latlon[np.random.default_rng(0).permutation(len(latlon))[:count]])


def ablate(sizes: dict[str, int], seeds: Sequence[int], clip_steps: int, head_steps: int) -> dict[str, np.ndarray]:
    """Errors in km (seeds, test places) of each way."""
    vision: Any = TINY["vision_cfg"]
    side = vision["image_size"]
    sets = {split: crops_of(places_of(count, split), 5, side) for split, count in sizes.items()}
    train = sets["train"].latlon
    semantic = build_cells(boundaries(), train, Semantic(sizes=CellSizes(min_size=10, max_size=40)))
    rectangles = of_size(lambda size: build_rectangles(train, size), int((semantic.counts > 0).sum()))
    found: dict[str, list[np.ndarray]] = {name: [] for name in WAYS}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = read_checkpoint(write_fresh_clip(Path(folder, "clip"), seed))
        held: dict[str, Any] = {}
        for captions in dict.fromkeys(way.captions for way in WAYS.values()):
            task = pretrained(sets["train"], captions, checkpoint, clip_steps, seed)
            task.model.eval()
            held[captions] = {name: (features_of(task, c.pixels), c.latlon) for name, c in sets.items()}
            print(f"seed {seed}: features of captions {captions or 'none'!r}", flush=True)
        for name, way in WAYS.items():
            partition = semantic if way.semantic else rectangles
            found[name].append(errors_of(way, partition, held[way.captions], seed, head_steps))
    return {name: np.stack(errors) for name, errors in found.items()}


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-places", type=int, default=6000, metavar="N", help="to train on (default: 6000)")
    parser.add_argument("--num-test", type=int, default=2000, metavar="N", help="held out (default: 2000)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each way (default: 3)")
    parser.add_argument("--clip-steps", type=int, default=500, metavar="N", help="of pretraining (default: 500)")
    parser.add_argument("--head-steps", type=int, default=1500, metavar="N", help="of the head (default: 1500)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    sizes = {"train": options.num_places, "validation": max(200, options.num_test // 2), "test": options.num_test}
    with connected("local"):
        found = ablate(sizes, range(options.seeds), options.clip_steps, options.head_steps)
    latlon = places_of(options.num_test, "test")
    groups = groups_by_block(np.tile(latlon, (options.seeds, 1)))
    rows: list[dict[str, Any]] = []
    whole = found["all of it"].ravel()
    print(f"{'':42}{head_text('all of it')}", flush=True)
    for name, errors in found.items():
        row = place_row(errors.ravel(), groups)
        difference = difference_row(errors.ravel(), whole, groups) if rows else None
        medians = [float(np.median(one)) for one in errors]
        rows.append({"name": name, **dataclasses.asdict(WAYS[name]), **row, "difference": difference,
                     "median_km_by_seed": medians})  # fmt: skip
        print(f"{name:42}{row_text(row, difference)}", flush=True)
    write_json(options.json, rows)
