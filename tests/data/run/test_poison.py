"""Images that end the process they are in, on a local Ray: each has a row that says so, all others are answered."""

import json
import tarfile

import pyarrow.parquet as pq
import pytest

from geo_ray.data.record.ledger import DEATHS
from geo_ray.data.run import pipeline
from geo_ray.errors import BundleError
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place
from tests.data.run.poison import ENDS_ANSWERING, ENDS_DECODING, ROWS_PER_BLOCK, list_deadly, work, write_images


def run(inputs, output, **options):
    """Decoding is apart: with other CPUs than a worker's, or Ray Data has both in one process."""
    place = Place(num_workers=1, cpus_per_worker=2, batch_size=32, decode_apart=True)
    return pipeline.answer_all(work(inputs, output, **options), place, Runtime())


def problems_by_id(output):
    """The problem of each image, of which each has one row."""
    rows = [row for path in (output / "parts").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert len({row["image_id"] for row in rows}) == len(rows)
    assert all((row["features"] is None) == bool(row["problem"]) for row in rows)
    return {row["image_id"]: row["problem"] for row in rows}


def events(output):
    return [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with an image that ends its worker, and a tar with one that does so when it is decoded."""
    root = tmp_path_factory.mktemp("images")
    write_images(root / "photos", 65, {40: ENDS_ANSWERING})
    write_images(root / "packed", 20, {7: ENDS_DECODING})
    with tarfile.open(root / "b.tar", "w") as tar:
        for path in sorted((root / "packed").iterdir()):
            tar.add(path, path.name)
    return root / "photos", root / "b.tar"


def killers(output):
    """The names of the images that are said to end their worker, of 85 that all have their row."""
    problems = problems_by_id(output)
    assert len(problems) == 85
    assert set(problems.values()) == {"", "kills_worker"}
    return sorted(image_id.rpartition("/")[2] for image_id, problem in problems.items() if problem)


def test_only_images_that_end_a_process_are_left_out(images, tmp_path, ray_session, capsys):
    run(images, tmp_path)
    assert killers(tmp_path) == ["0040.jpg", "b.tar#0007"]
    told = [event for event in events(tmp_path) if event["event"] == "kills_worker"]
    assert sorted(event["image_id"].rpartition("/")[2] for event in told) == killers(tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if "ends its worker" in line] == [event["text"] for event in told]
    deaths = (tmp_path / DEATHS).read_bytes()
    for path in (tmp_path / "parts").iterdir():
        path.unlink()
    run(images, tmp_path)  # as a run that is resumed
    assert killers(tmp_path) == ["0040.jpg", "b.tar#0007"]
    assert (tmp_path / DEATHS).read_bytes() == deaths


def test_a_shard_that_ends_its_reader_is_one_that_cannot_be_read(tmp_path, ray_session, monkeypatch):
    monkeypatch.setattr(pipeline, "list_shards", list_deadly)
    outcome = run((), tmp_path)
    assert list(outcome.failures.values()) == ["a: 3 times the process ended that read it from image 65 on"]
    problems = problems_by_id(tmp_path)
    assert sorted(problems) == sorted([f"a#{row}" for row in range(ROWS_PER_BLOCK)] + [f"b#{row}" for row in range(70)])
    assert set(problems.values()) == {""}
    assert [event["times"] for event in events(tmp_path) if event["event"] == "worker_died"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("loading", "why"),
    [
        ("missing", "bundle 'nowhere' is missing; name another --bundle"),
        ("no such kernel", "a worker can't load the model: RuntimeError: no such kernel"),
        ("ends", r"3 times the process of a worker ended while it loaded the model.*\(--worker-memory\)"),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_the_run(images, tmp_path, ray_session, loading, why):
    with pytest.raises(BundleError, match=f"^{why}$"):
        run(images, tmp_path, loading=loading)
    assert not (tmp_path / "parts").exists()
