"""What a disturbed run is measured by: each kind of fault in its answers is seen, and work done twice is counted."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geo_ray.benchmarks.disturbance import compare_answers, repeated_shares
from geo_ray.data.record.blocks import Block
from geo_ray.data.run.pipeline import fitting
from geo_ray.data.run.trace import WORK_LOG, note, rows_by_act
from geo_ray.remote.place import Place

ROWS = [
    {"image_id": "a", "latitude": 1.0, "cell_id": "x", "problem": "", "candidates": [{"cell_id": "x", "score": 0.5}]},
    {"image_id": "b", "latitude": 2.0, "cell_id": "y", "problem": "", "candidates": [{"cell_id": "y", "score": 0.4}]},
    {"image_id": "c", "latitude": None, "cell_id": None, "problem": "empty", "candidates": []},
]


def compared(folder, ours, theirs=ROWS):
    for name, rows in (("ours", ours), ("theirs", theirs)):
        (folder / name / "predictions").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / name / "predictions" / "x.parquet")
    return compare_answers(folder / "ours", folder / "theirs", ["a", "b", "c"], ["c"])


def changed(number, **values):
    return [row | values if at == number else row for at, row in enumerate(ROWS)]


def test_the_same_rows_in_another_order(tmp_path):
    found = compared(tmp_path, ROWS[::-1])
    assert found["exactly_once"]
    assert found["answers_equal"]
    assert found["problems_are_the_bad_ones"]
    assert found["problems"] == {"empty": 1}


def test_rounding_is_no_difference_and_more_is(tmp_path):
    near, far = changed(0, latitude=1 + 1e-9), changed(1, candidates=[{"cell_id": "y", "score": 0.41}])
    assert compared(tmp_path / "near", near)["answers_equal"]
    found = compared(tmp_path / "far", far)
    assert not found["answers_equal"]
    assert found["largest_difference"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        (changed(0, cell_id="z"), "cell_id"),
        (changed(1, candidates=[{"cell_id": "z", "score": 0.4}]), "candidates.cell_id"),
        (changed(1, candidates=[]), "candidates (how many)"),
        (changed(1, latitude=None), "latitude"),
    ],
)
def test_other_words_cells_or_nulls_differ(tmp_path, rows, column):
    found = compared(tmp_path, rows)
    assert column in found["columns_that_differ"]
    assert not found["answers_equal"]


def test_rows_that_are_missing_doubled_or_unknown(tmp_path):
    found = compared(tmp_path, [ROWS[0], ROWS[0], ROWS[2] | {"image_id": "d", "problem": ""}])
    assert not found["exactly_once"]
    assert (found["num_missing"], found["num_doubled"], found["num_unknown"]) == (2, 1, 1)
    assert not found["problems_are_the_bad_ones"]


def test_a_bad_image_without_a_problem_is_seen(tmp_path):
    assert not compared(tmp_path, changed(2, problem=""))["problems_are_the_bad_ones"]


def test_work_that_was_lost_counts_as_done_again(tmp_path, monkeypatch):
    log = tmp_path / "log"
    one, other = Block("0" * 20, 0, last=False), Block("0" * 20, 1, last=True)
    note("begun", one, 10)
    assert not log.exists()
    monkeypatch.setenv(WORK_LOG, str(log))
    for act in ("read", "begun", "begun", "committed", "committed"):  # killed once before it was committed, once after
        note(act, one, 10)
    for act in ("read", "begun", "committed"):
        note(act, other, 5)
    counts = rows_by_act(log)
    assert counts == {"read": 15, "begun": 25, "committed": 25, "done": 15}
    assert repeated_shares(counts, 15) == {
        "read": 0.0,
        "begun": pytest.approx(0.6667),
        "committed": pytest.approx(0.6667),
    }


@pytest.mark.parametrize(
    ("place", "resources", "workers"),
    [
        ({"num_workers": 4}, {"CPU": 6.0}, 4),
        ({"num_workers": 4}, {"CPU": 4.0}, 3),
        ({"num_workers": 4, "cpus_per_worker": 2}, {"CPU": 6.0}, 2),
        ({"num_workers": 8, "gpus_per_worker": 1.0}, {"CPU": 64.0, "GPU": 7.0}, 7),
        ({"num_workers": 2, "num_index_shards": 4}, {"CPU": 4.0}, 1),
        ({"num_workers": 2, "gpus_per_worker": 1.0}, {"CPU": 4.0}, 1),
    ],
)
def test_a_smaller_cluster_has_fewer_workers(place, resources, workers):
    assert fitting(Place(**place), resources).num_workers == workers


@pytest.mark.parametrize(("cpus", "gpus", "readers"), [(18.0, 1.0, 15), (3.0, 2.0, 1), (66.0, 8.0, 56)])
def test_readers_leave_cpus_to_decode(cpus, gpus, readers):
    place = Place(num_workers=int(gpus), gpus_per_worker=1.0, decode_apart=True, num_locators=4 if cpus > 4 else 0)
    assert fitting(place, {"CPU": cpus, "GPU": gpus}).num_readers == readers
