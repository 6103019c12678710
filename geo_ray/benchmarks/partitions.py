"""Partitions compared on the embedded data: the same features, a head fitted to each, the same held-out crops."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64

from geo_ray.benchmarks.by_place import difference_row, place_row
from geo_ray.cells.labels import nearest_centers
from geo_ray.cells.partition import CellSizes, Partition
from geo_ray.datasets import earth
from geo_ray.evaluation.bootstrap import groups_by_block
from geo_ray.evaluation.refinement import KnownImages
from geo_ray.index.index_folder import write_index
from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.index.refine import Refinement
from geo_ray.index.shard import open_shard
from geo_ray.models.bundle import open_bundle
from geo_ray.train.config import TrainConfig
from geo_ray.train.gallery import embed_views, gallery_places
from geo_ray.train.head import fit_head
from geo_ray.train.places import train_locations


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Places (degrees) and the features of their crops."""

    latlon: Float64[np.ndarray, "n 2"]
    features: Float32[np.ndarray, "n D"]


def of_size(
    build: Callable[[CellSizes], Partition], num_cells: int, min_share: float = 0.5, largest: int = 100_000
) -> Partition:
    """The partition with about so many cells that hold points, by bisection of the largest size."""
    low, high = 2, largest
    while high - low > 1:
        middle = (low + high) // 2
        built = build(CellSizes(min_size=max(1, int(middle * min_share)), max_size=middle))
        low, high = (middle, high) if (built.counts > 0).sum() > num_cells else (low, middle)
    candidates = [build(CellSizes(min_size=max(1, int(size * min_share)), max_size=size)) for size in (low, high)]
    return min(candidates, key=lambda built: abs((built.counts > 0).sum() - num_cells))


def embedded_splits(bundle: str, config: TrainConfig) -> tuple[Embedded, Embedded]:
    """The gallery's places as they are, and the held-out ones jittered, by a bundle's encoder."""
    gallery, test = gallery_places(config), train_locations(config, "test")
    rng = np.random.default_rng(config.seed)
    plain = earth.jittered_views(gallery, rng, jitter=0.0, rotation_degrees=0.0)
    return (
        Embedded(gallery, embed_views(plain, bundle)),
        Embedded(test, embed_views(earth.jittered_views(test, rng), bundle)),
    )


def compare_partitions(bundle: str, partitions: dict[str, Partition], config: TrainConfig) -> Iterator[dict[str, Any]]:
    """A row a partition: cells with points, and metrics by place of the best cell's centre and of the refined answer.

    Each also as it differs from the first partition's, paired by place.

    The encoder and the refinement are the bundle's, for all; the head starts from nothing and sees the gallery alone.
    What counts of a partition are its cells' centres: targets and index go by the nearest.
    """
    refinement = open_bundle(bundle).refinement
    gallery, test = embedded_splits(bundle, config)
    groups = groups_by_block(test.latlon)
    first: dict[str, Any] = {}
    for name, partition in partitions.items():
        found = _errors(partition, gallery, test, refinement, config)
        first = first or found
        row = {"name": name, "num_cells": found["num_cells"]}
        for part in ("cell_centre", "refined"):
            row[part] = place_row(found[part], groups) | {
                "difference": difference_row(found[part], first[part], groups)
            }
        yield row


def _errors(
    partition: Partition, gallery: Embedded, test: Embedded, refinement: Refinement, config: TrainConfig
) -> dict[str, Any]:
    start = {"weight": torch.zeros(len(partition), config.num_features), "bias": torch.zeros(len(partition))}
    head = fit_head(gallery.features, gallery.latlon, partition, start, dataclasses.replace(config, head_share=1.0))
    filed = nearest_centers(gallery.latlon, partition)
    index = build_index(gallery.features, gallery.latlon, filed, len(partition), Clustering(noise="nearest"))
    with tempfile.TemporaryDirectory() as folder:
        write_index(index, Path(folder, "index"))
        images = KnownImages(
            features=test.features,
            latlon=test.latlon,
            weight=head["weight"].float().numpy(),
            bias=head["bias"].float().numpy(),
            centers=partition.centers,
            searcher=open_shard(Path(folder, "index")),
            max_cells=refinement.num_cells,
        )
        return {
            "num_cells": int((partition.counts > 0).sum()),
            "cell_centre": images.centre_errors_km(),
            "refined": images.errors_km(refinement),
        }
