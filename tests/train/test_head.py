import dataclasses

import numpy as np
import torch

from geo_ray.cells.labels import nearest_centers
from geo_ray.cells.partition import CellSizes
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.geo.sphere import unit_vectors
from geo_ray.train.config import TrainConfig
from geo_ray.train.head import fit_head

CONFIG = TrainConfig(head_epochs=20, head_batch_size=64, head_learning_rate=0.3, tau_km=500.0, head_share=1.0)


def places(count=512):
    rng = np.random.default_rng(0)
    return np.stack([rng.uniform(-60, 60, count), rng.uniform(-180, 180, count)], axis=1)


def fitted(config):
    latlon = places()
    partition = build_rectangles(latlon, CellSizes(min_size=32, max_size=64))
    features = unit_vectors(latlon).astype(np.float32)  # a feature that tells everything
    start = {"weight": torch.zeros(len(partition), 3), "bias": torch.zeros(len(partition))}
    return fit_head(features, latlon, partition, start, config), features, latlon, partition


def test_the_fitted_head_ranks_the_nearest_centre_first():
    head, features, latlon, partition = fitted(CONFIG)
    logits = features @ head["weight"].float().numpy().T + head["bias"].float().numpy()
    nearest = nearest_centers(latlon, partition)
    assert (logits.argmax(axis=1) == nearest).mean() > 0.8


def test_the_share_is_the_way_from_start_to_fit():
    whole, *_ = fitted(CONFIG)
    none, *_ = fitted(dataclasses.replace(CONFIG, head_share=0.0))
    half, *_ = fitted(dataclasses.replace(CONFIG, head_share=0.5))
    assert not none["weight"].any()
    torch.testing.assert_close(half["weight"].float(), whole["weight"].float() / 2, rtol=1e-2, atol=1e-3)


def test_nearest_centers_across_the_antimeridian():
    latlon = np.array([[0.0, 179.0], [0.0, -179.0], [0.0, 0.0], [5.0, 1.0]])
    partition = build_rectangles(latlon, CellSizes(min_size=1, max_size=1))
    far_east = np.array([[0.1, 179.9], [0.1, -179.2]])
    centers = partition.centers[nearest_centers(far_east, partition)]
    assert centers[:, 1].round().tolist() == [179.0, -179.0]
