"""One training step: its losses, and that a few steps are the same every time."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import CellSizes
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.models.heads import GeocellModel, limit_logit_scale
from geo_ray.models.losses import haversine_targets, soft_cross_entropy
from geo_ray.models.towers import ResidualTower
from geo_ray.train.config import TrainConfig
from geo_ray.train.crop_task import batch_losses, normalize
from geo_ray.train.places import place_batches, train_locations

CONFIG = TrainConfig(places_per_step=16, image_size=16, num_features=8, num_steps=4)
CONSTANTS = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.25))


@pytest.fixture
def partition():
    return build_rectangles(train_locations(CONFIG, "train")[::200], CellSizes(min_size=20, max_size=40))


@pytest.fixture
def batches(small_earth):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield list(itertools.islice(place_batches(CONFIG, 0), 4))
    torch.set_num_threads(before)


def model(partition):
    torch.manual_seed(0)
    return GeocellModel(ResidualTower(16, (8, 16), (1, 1), 8), 8, len(partition))


def losses_of(net, batch, partition, config=CONFIG):
    cells = torch.from_numpy(cells_of(batch.latlon.numpy(), partition))
    centers = torch.from_numpy(partition.centers)
    return batch_losses(net, batch, cells, centers, config=config, constants=CONSTANTS)


def train(batches, partition):
    net = model(partition)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    history = []
    for batch in batches:
        losses = losses_of(net, batch, partition)
        losses["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append([losses[name].item() for name in ("cells", "places", "total")])
    return np.array(history)


def test_steps_are_the_same_every_time(batches, partition):
    first = train(batches, partition)
    assert np.isfinite(first).all()
    assert (first > 0).all()
    np.testing.assert_array_equal(train(batches, partition), first)


def test_steps_on_one_batch_lower_its_loss(batches, partition):
    history = train(batches[:1] * 12, partition)
    assert history[-1, 0] < history[0, 0]


def test_the_total_is_weighted(batches, partition):
    config = TrainConfig(**(vars(CONFIG) | {"contrastive_weight": 0.25}))
    losses = losses_of(model(partition), batches[0], partition, config)
    total = losses["cells"].item() + 0.25 * losses["places"].item()
    assert losses["total"].item() == pytest.approx(total, rel=1e-5)


def test_the_cell_loss_is_of_both_views(batches, partition):
    net, batch = model(partition).eval(), batches[0]
    in_cells = losses_of(net, batch, partition)["cells"].item()
    targets = haversine_targets(
        batch.latlon,
        torch.from_numpy(partition.centers),
        torch.from_numpy(cells_of(batch.latlon.numpy(), partition)),
        CONFIG.tau_km,
        reference=CONFIG.target_reference,
        normalize=CONFIG.normalize_targets,
    )
    each = [
        soft_cross_entropy(net(normalize(view, *CONSTANTS))[1], targets).item() for view in (batch.first, batch.second)
    ]
    assert in_cells == pytest.approx(np.mean(each), rel=0.02)  # the step computes in bfloat16


def test_the_contrast_is_between_the_views_of_a_place(batches, partition):
    """Equal views are told apart more easily than views that belong to other places."""
    net, batch = model(partition).eval(), batches[0]
    same = dataclasses.replace(batch, second=batch.first)
    crossed = dataclasses.replace(batch, second=batch.first.roll(len(CONFIG.offsets_km), dims=0))
    in_places = [losses_of(net, case, partition)["places"].item() for case in (same, crossed)]
    assert in_places[0] < in_places[1]


def test_pixels_are_normalized():
    pixels = torch.rand((2, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in CONSTANTS)
    normalized = normalize(pixels, *CONSTANTS)
    torch.testing.assert_close(normalized * std + mean, pixels)
    assert normalized.is_contiguous(memory_format=torch.channels_last)


def test_the_logit_scale_leaves_the_cap_again():
    """A published checkpoint lies at CLIP's cap: it must have a gradient there, and never go above."""
    model = GeocellModel(torch.nn.Flatten(), 12, 3)
    with torch.no_grad():
        model.log_logit_scale.fill_(5.0)
    limit_logit_scale(model)
    assert model.log_logit_scale.item() == pytest.approx(math.log(100), rel=1e-6)
    _, _, scale = model(torch.rand(2, 3, 2, 2))
    scale.backward()
    assert model.log_logit_scale.grad.item() == pytest.approx(100, rel=1e-4)
