"""The geocell head in training: its losses by hand, what is unknown, and what it learns."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import CellSizes
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.errors import InputError
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.losses import haversine_targets
from geo_ray.models.towers import ResidualTower
from geo_ray.train.cell_task import CellConfig, CellModel, CellTask, fit_scalers, read_scalers, write_scalers
from geo_ray.train.clip_task import validation_rows
from geo_ray.train.covariates import REGRESSIONS
from geo_ray.train.run_folder import RunFolder
from geo_ray.train.table_reading import open_table, plain, read_rows
from tests.train.tables import feature_table

CONFIG = CellConfig(precision="fp32", num_validation=40, tau_km=200.0)
NEEDED = ("latitude", "longitude", "climate", "month", *REGRESSIONS, "features")
ENCODER = EncoderSpec(architecture="residual-tiny", image_size=16, num_features=8)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return feature_table(tmp_path_factory.mktemp("t") / "t")


@pytest.fixture(scope="module")
def rows(table):
    held = plain(read_rows(open_table(table), [*NEEDED, "image_id"], most=64))
    found = {}
    for name in held.column_names:
        column = held[name].combine_chunks()
        found[name] = column.to_numpy_ndarray() if name == "features" else column.to_numpy(zero_copy_only=False)
    return found


@pytest.fixture(scope="module")
def partition(rows):
    return build_rectangles(np.stack([rows["latitude"], rows["longitude"]], axis=1), CellSizes(min_size=4, max_size=9))


def task_of(table, partition, config=CONFIG, tower=None):
    torch.manual_seed(0)
    model = CellModel(8, len(partition), tower, ENCODER, with_covariates=config.covariates)
    scalers = fit_scalers(table, config) if config.covariates else {}
    columns = NEEDED if config.covariates else ("latitude", "longitude", "features")
    return CellTask(config, partition, scalers, validation_rows(table, columns, 40, None), model, ENCODER)


def test_the_loss_is_that_of_the_papers_equation(table, partition, rows):
    config = dataclasses.replace(CONFIG, covariates=False)
    task = task_of(table, partition, config)
    terms = task.losses(task.model, rows)
    latlon = np.stack([rows["latitude"], rows["longitude"]], axis=1)
    cells = torch.from_numpy(cells_of(latlon, partition))
    log_p = torch.log_softmax(task.model.head(torch.from_numpy(rows["features"])), dim=1)
    places, centers = torch.from_numpy(latlon), torch.from_numpy(partition.centers)
    targets = haversine_targets(places, centers, cells, 200.0, "nearest", False)
    wanted = -(targets * log_p).sum(dim=1).mean()
    assert terms["total"].item() == pytest.approx(wanted.item(), rel=1e-5)
    assert set(terms) == {"cells", "total"}
    plain_task = task_of(table, partition, dataclasses.replace(config, smoothing=False))
    one = plain_task.losses(plain_task.model, rows)["total"].item()
    assert one == pytest.approx(-log_p[torch.arange(len(cells)), cells].mean().item(), rel=1e-5)


def test_covariates_are_added_with_the_papers_weights(table, partition, rows):
    task = task_of(table, partition)
    terms = task.losses(task.model, rows)
    assert set(terms) == {"cells", "climate", "month", "regressions", "total"}
    parts = sum(terms[name].item() for name in terms if name != "total")
    assert terms["total"].item() == pytest.approx(parts, rel=1e-5)
    outputs = task.model.heads(torch.from_numpy(rows["features"]))
    known = rows["climate"] >= 0
    climate = torch.nn.functional.cross_entropy(outputs["climate"][known], torch.from_numpy(rows["climate"][known]))
    assert terms["climate"].item() == pytest.approx(2 * climate.item(), rel=1e-5)
    month = rows["month"] > 0
    months = torch.nn.functional.cross_entropy(outputs["month"][month], torch.from_numpy(rows["month"][month] - 1))
    assert terms["month"].item() == pytest.approx(months.item(), rel=1e-5)


def test_scalers_leave_out_what_a_table_lacks_and_come_back(table, tmp_path):
    scalers = fit_scalers(table, CONFIG)
    assert set(scalers) == {"elevation_m", "population", "temperature"}  # the table has no precipitation
    values = np.array([0.0, 250.0, np.nan])
    np.testing.assert_allclose(
        scalers["elevation_m"].inverted(scalers["elevation_m"].scaled(values)), values, atol=1e-9
    )
    folder = RunFolder(tmp_path)
    write_scalers(scalers, folder)
    assert read_scalers((tmp_path / "scalers.json").read_text()) == scalers
    assert json.loads((tmp_path / "scalers.json").read_text())["elevation_m"]["offset"] == 408.0
    assert fit_scalers(table, CellConfig(photo_offsets=True))["elevation_m"].offset == 416.0


def test_what_is_learned_is_seen_in_validation(table, partition, rows):
    task = task_of(table, partition)
    with torch.inference_mode():
        before = task.validate(task.model)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=0.05)
    for _ in range(60):
        task.losses(task.model, rows)["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        after = task.validate(task.model)
    assert np.median(after["error_km"]) < 100 < np.median(before["error_km"])
    assert set(np.unique(after["cell_accuracy"])) <= {0.0, 1.0}
    assert len(after["place"]) == 40
    assert task.ids(rows)[:2] == ["image-0", "image-1"]


def test_a_tower_is_trained_with_its_head(table, partition, rows):
    config = dataclasses.replace(CONFIG, with_tower=True, covariates=False)
    tower = ResidualTower(16, (4, 8), (1, 1), 8)
    task = task_of(table, partition, config, tower)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    task.losses(task.model, rows | {"pixels": pixels})["total"].backward()
    assert all(parameter.grad is not None for parameter in task.model.parameters())
    logits, others = task.model(torch.zeros((2, 3, 16, 16)))
    assert (logits.dtype, others) == (torch.float32, {})


def test_settings_and_tables_that_cannot_be(table):
    with pytest.raises(ValueError, match=r"tau_km=0\.0 must be positive"):
        CellConfig(tau_km=0.0)
    with pytest.raises(InputError, match="has no column warmth"):
        open_table(table, columns=("warmth",))
