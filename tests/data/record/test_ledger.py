import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from geo_ray.data.record.ledger import Ledger, RunKey
from geo_ray.data.record.output_tables import SCHEMA, prediction_table
from geo_ray.data.record.prediction_files import Inventory
from geo_ray.errors import OutputError
from geo_ray.pipeline.columns import ANSWER, source_batch

KEY = RunKey(bundle_fingerprint="f", top_k=5, inputs=("in",))


def answers(count, problems=()):
    """A batch of answers at (10, 20), with problems in its first rows."""
    batch = source_batch([str(n) for n in range(count)], [""] * count, [None] * count, [""] * count)
    batch |= {column.name: column.blank(count) for column in ANSWER}
    batch["latitude"][:], batch["longitude"][:] = 10.0, 20.0
    batch["problem"][: len(problems)] = problems
    return batch


def test_a_fresh_folder_has_nothing_done(tmp_path):
    ledger = Ledger(str(tmp_path / "new" / "out"))
    assert ledger.claim(KEY, resume=False, settings={"rows_per_block": 7}) == {"rows_per_block": 7}
    assert len(Inventory(ledger).done) == 0


def test_the_same_run_needs_resume_and_keeps_its_settings(tmp_path):
    Ledger(str(tmp_path)).claim(KEY, resume=False, settings={"rows_per_block": 7})
    with pytest.raises(OutputError, match="--resume"):
        Ledger(str(tmp_path)).claim(KEY, resume=False)
    assert Ledger(str(tmp_path)).claim(KEY, resume=True, settings={"rows_per_block": 8}) == {"rows_per_block": 7}


def test_another_run_is_refused_with_what_differs(tmp_path):
    Ledger(str(tmp_path)).claim(KEY, resume=False)
    other = RunKey(bundle_fingerprint="g", top_k=5, inputs=("in",))
    with pytest.raises(OutputError, match="bundle_fingerprint 'f' there, 'g' asked for"):
        Ledger(str(tmp_path)).claim(other, resume=True)


def test_runs_of_earlier_versions_can_be_resumed(tmp_path):
    """The digest of a run that was begun before there was a limit of pixels to ask for."""
    assert RunKey(bundle_fingerprint="b", top_k=3, inputs=("a", "c")).fingerprint == "ca395d4a858434b7"
    Ledger(str(tmp_path)).claim(KEY, resume=False)
    with pytest.raises(OutputError, match="max_pixels None there, 5 asked for"):
        Ledger(str(tmp_path)).claim(dataclasses.replace(KEY, max_pixels=5), resume=True)


def test_foreign_predictions_are_refused(tmp_path):
    (tmp_path / "predictions").mkdir()
    pq.write_table(prediction_table(answers(1)), tmp_path / "predictions" / "x.parquet")
    with pytest.raises(OutputError, match="unknown origin"):
        Ledger(str(tmp_path)).claim(KEY, resume=True)
    assert (tmp_path / "predictions" / "x.parquet").exists()


@pytest.mark.parametrize("output", ["/proc/nowhere/out", "/dev/null/out"])
def test_an_output_that_cannot_be_written(output):
    with pytest.raises(OutputError, match="can't be written"):
        Ledger(output).claim(KEY, resume=False)


def test_an_unknown_protocol():
    with pytest.raises(OutputError, match="nosuch"):
        Ledger("nosuch://bucket")


def test_what_happened_before_is_kept(tmp_path):
    for name in ("started", "started again"):
        Ledger(str(tmp_path)).event(name)
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 2


def test_events_and_the_end(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.claim(KEY, resume=False)
    ledger.event("started", num_images=3)
    ledger.event("finished")
    assert not (tmp_path / "_SUCCESS").exists()
    ledger.finish({"num_images": 3})
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["started", "finished"]
    assert (tmp_path / "_SUCCESS").exists()


def test_rows_with_a_problem_are_null(tmp_path):
    table = prediction_table(answers(3, ["empty"]))
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert table["latitude"].to_pylist() == [None, 10.0, 10.0]
    assert table["geometry"].to_pylist()[0] is None
    assert b"Point" in table.schema.metadata[b"geo"]


def test_an_empty_batch_keeps_the_schema():
    batch = {name: column[:0] for name, column in answers(1).items()}
    assert prediction_table(batch).schema == SCHEMA
    assert np.size(batch["latitude"]) == 0
