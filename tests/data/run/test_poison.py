"""Images that end the process they are in, on a local Ray: each has a row that says so, all others are answered."""

import gc
import json
import pickle
import re
import tarfile
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geo_ray.data.record.ledger import DEATHS, PARTS, PREDICTIONS
from geo_ray.data.run import job, loading, pipeline
from geo_ray.data.run.deaths import LOADS
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.errors import BundleError, ErrorBudgetError
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place
from tests.data.run.poison import ENDS_ANSWERING, ENDS_DECODING, ROWS_PER_BLOCK, list_deadly, work, write_images

NUM_PHOTOS, NUM_PACKED = 2000, 20
KILLERS = ["0040.jpg", "1500.jpg", "b.tar#0007"]  # in three blocks


@pytest.fixture(autouse=True)
def _actors_of_a_run_that_failed_go():
    yield
    gc.collect()


def run(inputs, output, num_locators=0, **options):
    """Decoding is apart: with other CPUs than a worker's, or Ray Data has both in one process."""
    place = Place(num_workers=1, cpus_per_worker=2, batch_size=32, decode_apart=True, num_locators=num_locators)
    return pipeline.answer_all(work(inputs, output, **options), place, Runtime())


def problems_by_id(output, folder=PARTS):
    """The problem of each image, of which each has one row."""
    rows = [row for path in (output / folder).glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert len({row["image_id"] for row in rows}) == len(rows)
    assert all((row["features"] is None) == bool(row["problem"]) for row in rows)
    return {row["image_id"]: row["problem"] for row in rows}


def events(output):
    return [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with two images that end their worker, and a tar with one that does so when it is decoded."""
    root = tmp_path_factory.mktemp("images")
    write_images(root / "photos", NUM_PHOTOS, {40: ENDS_ANSWERING, 1500: ENDS_ANSWERING})
    write_images(root / "packed", NUM_PACKED, {7: ENDS_DECODING})
    with tarfile.open(root / "b.tar", "w") as tar:
        for path in sorted((root / "packed").iterdir()):
            tar.add(path, path.name)
    return root / "photos", root / "b.tar"


def killers(output):
    """The names of the images that are said to end their worker, of all, which have a row each."""
    problems = problems_by_id(output)
    assert len(problems) == NUM_PHOTOS + NUM_PACKED
    assert set(problems.values()) == {"", "kills_worker"}
    return sorted(image_id.rpartition("/")[2] for image_id, problem in problems.items() if problem)


def test_only_images_that_end_a_process_are_left_out(images, tmp_path, ray_session, capsys):
    run(images, tmp_path, num_locators=1)
    assert killers(tmp_path) == KILLERS
    told = [event for event in events(tmp_path) if event["event"] == "kills_worker"]
    assert sorted(event["image_id"].rpartition("/")[2] for event in told) == KILLERS
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if "ends its worker" in line] == [event["text"] for event in told]
    deaths = (tmp_path / DEATHS).read_bytes()
    for path in (tmp_path / "parts").iterdir():
        path.unlink()
    run(images, tmp_path, num_locators=1)  # as a run that is resumed
    assert killers(tmp_path) == KILLERS
    assert (tmp_path / DEATHS).read_bytes() == deaths


def test_images_that_end_their_worker_count_as_problems(tmp_path, ray_session, monkeypatch):
    """Decoding and answering in one process, as where there are no GPUs; the share of problems is 1 of 65."""
    folder, output = tmp_path / "in", tmp_path / "out"
    write_images(folder, 65, {40: ENDS_DECODING})

    def geotag(**options):
        asked = prepare(GeotagOptions(inputs=(str(folder),), output=str(output), features=True, **options))
        return job.geotag(replace(asked, work=work([folder], output)), Place(batch_size=32))

    assert geotag(max_problem_share=0.02)["problems"] == {"kills_worker": 1}
    problems = problems_by_id(output, PREDICTIONS)
    assert problems == {f"{number:04d}.jpg": "kills_worker" if number == 40 else "" for number in range(65)}
    entries = work([], output).ledger.entries().values()
    shard_ids = list({block.shard_id for entry in entries for block in entry.blocks()})
    monkeypatch.setattr(job, "answer_all", lambda *arguments: pipeline.Outcome(shard_ids=shard_ids))  # all is done
    with pytest.raises(ErrorBudgetError, match=r"^1 of 65 images have a problem .* 1 kills_worker") as raised:
        geotag(max_problem_share=0.01, resume=True)
    assert raised.value.exit_code == 1
    assert problems_by_id(output, PREDICTIONS) == problems


def test_a_shard_that_ends_its_reader_is_one_that_cannot_be_read(tmp_path, ray_session, monkeypatch):
    monkeypatch.setattr(pipeline, "list_shards", list_deadly)
    outcome = run((), tmp_path)
    assert list(outcome.failures.values()) == ["a: 3 times the process ended that read it from image 65 on"]
    problems = problems_by_id(tmp_path)
    assert sorted(problems) == sorted([f"a#{row}" for row in range(ROWS_PER_BLOCK)] + [f"b#{row}" for row in range(70)])
    assert set(problems.values()) == {""}
    assert [event["times"] for event in events(tmp_path) if event["event"] == "worker_died"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("missing", "bundle 'nowhere' is missing; name another --bundle"),
        ("ends", r"3 times the process of a worker ended while it loaded the model.*\(--worker-memory\)"),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_the_run(images, tmp_path, ray_session, fault, why):
    with pytest.raises(BundleError, match=f"^{why}$"):
        run(images[:1], tmp_path, loading=fault)
    assert not (tmp_path / "parts").exists()


def fail(error, coordinator):
    raise RuntimeError(error)


@pytest.mark.parametrize(
    ("error", "num_deaths", "why"),
    [
        ("no such kernel", 0, "a worker can't load the model: RuntimeError: no such kernel"),
        ("CUDA out of memory", 0, f"a worker can't load the model: .* memory; {re.escape(loading.MORE_MEMORY)}"),
        ("", LOADS, f"3 times the process of a worker ended .*; {re.escape(loading.MORE_MEMORY)}"),
    ],
)
def test_what_a_worker_says_that_cannot_load_the_model(ray_session, monkeypatch, error, num_deaths, why):
    class Teller:
        def __init__(self, coordinator):
            pass

        def begin_loading(self, worker):
            return num_deaths

        def end_loading(self, worker):
            pass

    monkeypatch.setattr(loading, "Announcer", Teller)
    worker = loading.Worker(pickle.dumps(partial(fail, error)), coordinator=None)
    with pytest.raises(BundleError, match=f"^{why}$"):
        worker(pa.table({}))
