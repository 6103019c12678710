"""The stream of a table: in each epoch every row once, whoever takes it, and after whatever ended the run."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from geo_ray.errors import InputError
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.stage import Runtime, run_stage
from geo_ray.pipeline.stages import Decode
from geo_ray.tables.training import MANIFEST
from geo_ray.train.config import LoopConfig
from geo_ray.train.run_folder import RunFolder
from geo_ray.train.table_reading import Reading, open_table, plain, read_rows
from geo_ray.train.table_stream import Consumed, Feed, TableStream, batch_sizes, left_of, with_steps
from tests.crops import jpeg_crops
from tests.train.tables import feature_table, rows_of, write_table

ENCODER = EncoderSpec(architecture="residual-tiny", image_size=32, num_features=8)


def checkpoint(folder, states, step=5):
    buffer = io.BytesIO()
    torch.save(states, buffer)
    folder.write(f"checkpoints/step-{step:09d}/streams.pt", buffer.getvalue())
    folder.write(f"checkpoints/step-{step:09d}/checkpoint.json", b"{}")


def taken(batches):
    pairs = [(epoch, row) for batch in batches for epoch, row in zip(batch["epoch"], batch["row"], strict=True)]
    assert len(set(pairs)) == len(pairs)  # none twice
    return pairs


def test_rows_of_epochs_come_once_each_and_what_is_left_first(tmp_path):
    table = open_table(feature_table(tmp_path / "t"))
    assert (table.num_rows, len(table.groups)) == (400, 10)
    consumed = Consumed(400)
    fresh = left_of(table, consumed, seed=1, needed=900)
    assert {unit["epoch"] for unit in fresh} == {0, 1, 2}
    assert sorted(unit["group"] for unit in fresh if unit["epoch"] == 1) == list(range(10))
    orders = [[unit["group"] for unit in fresh if unit["epoch"] == epoch] for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert left_of(table, consumed, seed=1, needed=900) == fresh
    group = table.groups[fresh[0]["group"]]
    consumed.add(np.zeros(group.num_rows, np.int64), np.arange(group.num_rows) + group.first_row)
    assert left_of(table, consumed, seed=1, needed=300)[0] == fresh[1]


def test_what_workers_noted_comes_together():
    one, other = Consumed(13), Consumed(13)
    one.add(np.array([0, 0, 1]), np.array([3, 12, 0]))
    other.add(np.array([0]), np.array([5]))
    both = Consumed(13)
    for each in (one, other):
        both.merge(each.state())
    assert np.flatnonzero(both.rows[0]).tolist() == [3, 5, 12]
    assert np.flatnonzero(both.rows[1]).tolist() == [0]


@pytest.mark.parametrize("shuffled", [0, 64])
def test_a_run_that_goes_on_sees_what_was_left(tmp_path, ray_session, shuffled):
    uri, folder = feature_table(tmp_path / "t"), RunFolder(tmp_path / "run")
    reading = Reading(table=open_table(uri), columns=("features", "latitude"), seed=3)
    first = TableStream(reading, 32, shuffled, (), Feed(reading=reading, folder=folder, needed=800)())
    batches, iterator = [], iter(first)
    for _ in range(5):
        batches.append(next(iterator))
    assert batches[0]["features"].shape == (32, 8)
    assert batches[0]["features"].dtype == np.float32
    checkpoint(folder, [first.state()])
    later = TableStream(reading, 32, shuffled, [first.state()], Feed(reading=reading, folder=folder, needed=800)())
    rest = []
    for batch in later:
        rest.append(batch)
    pairs = taken(batches + rest)
    epochs = np.array(pairs)[:, 0]
    assert (epochs == 0).sum() == 400  # all of the first epoch, some before and some after
    assert len(pairs) >= 800 - 32
    merged = Consumed(400)
    merged.merge(later.state())
    assert sum(rows.sum() for rows in merged.rows.values()) == len(pairs)


def test_two_workers_share_a_table_that_does_not_divide(tmp_path, ray_session):
    rows = rows_of(53, np.random.default_rng(0).normal(size=(53, 4)).astype(np.float32))
    reading = Reading(table=open_table(write_table(tmp_path / "t", {"train": rows})), columns=("features",), seed=0)
    dataset = Feed(reading=reading, folder=RunFolder(tmp_path / "run"), needed=100)()
    shards = dataset.streaming_split(2, equal=True)
    task = ray_session.remote(lambda shard: [
        (batch["epoch"], batch["row"]) for batch in shard.iter_batches(batch_size=8, drop_last=True)
    ])  # fmt: skip
    parts = ray_session.get([task.options(num_cpus=0).remote(shard) for shard in shards])
    assert len(parts[0]) == len(parts[1]) >= 5
    taken([{"epoch": epoch, "row": row} for part in parts for epoch, row in part])


def test_pixels_are_those_of_inference_and_bad_images_are_left_out(tmp_path):
    jpegs = [*jpeg_crops(7), b"no image"]
    table = open_table(write_table(tmp_path / "t", {"train": rows_of(8, jpegs=jpegs)}))
    reading = Reading(table=table, columns=("town",), seed=0, encoder=ENCODER)
    found = reading.finished(reading.read(table.groups[0]))
    assert found["image_id"].to_pylist() == [f"image-{row}" for row in range(7)]
    spec = Decode(image_size=32, max_pixels=10**8)
    names = [str(row) for row in range(7)]
    wanted = run_stage(spec, spec.build(Runtime()), source_batch(names, names, jpegs[:7], [""] * 7))["pixels"][:, 0]
    np.testing.assert_array_equal(found["pixels"].combine_chunks().to_numpy_ndarray(), wanted)


def test_what_is_missing_is_marked():
    known = plain(rows_of(4))
    assert known["climate"].to_pylist() == [-1, 1, 2, 3]
    assert known["month"].to_pylist()[0] == -1
    assert np.isnan(known["elevation_m"].to_numpy()[0])
    assert np.isnan(known["precipitation"].to_numpy()).all()


def test_a_share_of_the_first_rows(tmp_path):
    table = open_table(feature_table(tmp_path / "t"))
    whole = read_rows(table, ["image_id"], most=90)["image_id"].to_pylist()
    parts = [read_rows(table, ["image_id"], most=90, part=(number, 4))["image_id"].to_pylist() for number in range(4)]
    assert len(whole) == 90
    assert sorted(name for part in parts for name in part) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_tables_that_cannot_be_trained_on_are_named(tmp_path):
    uri = feature_table(tmp_path / "t")
    with pytest.raises(InputError, match="has no column phash; build it again"):
        open_table(uri, columns=("features", "phash"))
    with pytest.raises(InputError, match="has no images of the split night"):
        open_table(uri, "night")
    Path(uri, "split=train", "000000.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match=r"000000\.parquet is damaged .*; build the training table again"):
        open_table(uri)
    Path(uri, MANIFEST).unlink()
    with pytest.raises(InputError, match=r"is no training table: it has no _table\.json; build one with geo-ray table"):
        open_table(uri)


def test_sizes_and_steps():
    assert batch_sizes(256, 4) == 64
    with pytest.raises(InputError, match="batch_size=3 is less than a row for each of 1 workers and 4 parts"):
        batch_sizes(3, 4)
    assert with_steps(LoopConfig(num_steps=7), 100).num_steps == 7
