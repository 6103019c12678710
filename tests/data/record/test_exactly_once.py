"""Exactly once, whatever is lost and wherever a run is cut: random histories of an output, each then run to its end.

The pass over the shards is one thread without Ray; ledger, parts, files of predictions and the reader of blocks are the
real ones.
"""

import contextlib
import itertools
import json
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from geo_ray.data.record import prediction_files as files_module
from geo_ray.data.record.ledger import ENTRIES, ENTRIES_BEFORE, PARTS, PREDICTIONS, SUCCESS, Ledger
from geo_ray.data.record.prediction_files import Inventory, Settler, parquet_bytes, plan_files, settle, write_file
from geo_ray.data.run.block_reader import BlockReader
from geo_ray.data.sources import Row, Shard
from geo_ray.errors import OutputError

ROWS_PER_BLOCK = 3
LABELS = ("a", "b", "c", "d")
FOREIGN = (
    "parts/notes.txt",
    "predictions/mine.parquet",
    "predictions/README.md",
    "ledger/README.md",
    "notes.txt",
    "other/x.parquet",
)
READER = BlockReader(head=b"", num_views=1, rows_per_block=ROWS_PER_BLOCK, rows_per_batch=2)


class Crash(Exception):
    """The process is gone."""


@dataclass(frozen=True, kw_only=True)
class Numbered(Shard):
    """A shard of so many rows. One that grows keeps its rows' ids and gets another id itself, as a folder's slice."""

    count: int

    @property
    def identity(self):
        return (self.count,)

    @property
    def ids(self):
        return [f"{self.label}/{number}" for number in range(self.count)]

    def rows(self):
        for image_id in self.ids:
            yield Row(image_id, ("",), (b"",), "empty" if image_id.endswith("3") else "")


class Crashing:
    """A store that is gone after so many changes, before or after the last of them is made."""

    def __init__(self, store, changes, before):
        self._store, self._left, self._before = store, changes, before

    def __getattr__(self, name):
        if name == "delete_all":
            return lambda names: [self.delete(one) for one in names]
        act = getattr(self._store, name)
        return act if name not in ("write", "delete", "create") else lambda *args: self._change(act, *args)

    def _change(self, act, *args):
        self._left -= 1
        if self._left <= 0 and self._before:
            raise Crash
        answer = act(*args)
        if self._left <= 0:
            raise Crash
        return answer


def commit_blocks(inventory, shards, most=None, hand_over=None):
    """Commit what is not done, block by block, at most so many, and make files of them as a run does on its way."""
    ledger, done = inventory.ledger, inventory.done
    settler = Settler(hand_over or (lambda segments: inventory.add(write_file(ledger, segments))))
    images = (
        images
        for shard in shards
        if not done.whole(shard.shard_id)
        for images in READER.blocks(shard, done.numbers(shard.shard_id))
    )
    for one in itertools.islice(images, most):
        ids = [image_id for _, batch in one.batches for image_id in batch["image_id"]]
        problems = [problem for _, batch in one.batches for problem in batch["problem"]]
        table = pa.table({"image_id": pa.array(ids, pa.string()), "problem": pa.array(problems, pa.string())})
        ledger.commit(one.block, parquet_bytes(table))
        assert done.add(one.block)
        settler.add(one.block, done.whole(one.block.shard_id))


def run(ledger, shards, hand_over=None):
    """What the job does with an output, to its end; what its record holds then."""
    ledger.reopen()
    inventory = Inventory(ledger)
    commit_blocks(inventory, shards, hand_over=hand_over)
    shard_ids = [shard.shard_id for shard in shards]
    settle(inventory, shard_ids, lambda groups: (write_file(ledger, group) for group in groups))
    ledger.finish({})
    return inventory


def write_ledger_of_before(folder):
    """Note what the entries say as earlier versions did: one file for all, with each block."""
    before = {}
    for name, entry in Ledger(str(folder)).entries().items():
        rows = zip(entry.blocks(), entry.rows(), strict=True)
        before[f"{name}.parquet"] = [[block.name, num_rows, {}] for block, num_rows in rows]
        if before[f"{name}.parquet"]:
            before[f"{name}.parquet"][0][2] = entry.problems
    for path in (folder / ENTRIES).glob("*.json"):
        path.unlink()
    (folder / ENTRIES_BEFORE).write_text(json.dumps(before))


def ids_of(shards):
    """How often each id must be in the predictions of these shards."""
    return Counter(image_id for shard in shards for image_id in shard.ids)


def predicted(folder):
    """How often each id is in the files of predictions that are ours."""
    names = (path for path in (folder / PREDICTIONS).glob("*.parquet") if path.name != "mine.parquet")
    return Counter(image_id for path in names for image_id in pq.read_table(path)["image_id"].to_pylist())


class Output(RuleBasedStateMachine):
    """An output folder, the inputs as they are now, and all that can happen to both."""

    @initialize(blocks_per_file=st.integers(1, 4))
    def begin(self, blocks_per_file):
        self.folder = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(files_module, "BLOCKS_PER_FILE", blocks_per_file)
        self.sizes, self.foreign, self.complete = {"a": 5, "b": 0}, {}, None
        self.late = []

    @property
    def shards(self):
        return [Numbered(label=label, count=count) for label, count in sorted(self.sizes.items())]

    def ledger(self, changes=0, before=False):
        ledger = Ledger(str(self.folder))
        if changes:
            ledger.store = Crashing(ledger.store, changes, before)
        return ledger

    @rule(label=st.sampled_from(LABELS), count=st.integers(0, 5 * ROWS_PER_BLOCK))
    def inputs_grow_or_shrink(self, label, count):
        self.sizes[label] = count

    @rule(label=st.sampled_from(LABELS))
    def an_input_is_gone(self, label):
        self.sizes.pop(label, None)

    @rule(most=st.integers(0, 4))
    def some_blocks_are_committed(self, most):
        self.ledger().reopen()
        self.complete = None
        commit_blocks(Inventory(self.ledger()), self.shards, most)

    @rule(most=st.integers(1, 6))
    def a_run_is_gone_before_its_tasks_are(self, most):
        self.ledger().reopen()
        self.complete = None
        commit_blocks(Inventory(self.ledger()), self.shards, most, self.late.append)

    @precondition(lambda self: self.late)
    @rule()
    def such_a_task_ends(self):
        """It finds what it was to make a file of, and then the file isn't noted, or it finds it no more."""
        there = predicted(self.folder)
        with contextlib.suppress(OutputError):
            write_file(self.ledger(), self.late.pop())
            assert self.complete is None or predicted(self.folder) == there

    @rule()
    def it_was_an_earlier_version(self):
        write_ledger_of_before(self.folder)

    @rule(changes=st.integers(1, 30), before=st.booleans())
    def a_run_is_cut_short(self, changes, before):
        """What was done stays done, and where success is still or already claimed it is so."""
        done = self.done()
        try:
            run(self.ledger(changes, before), self.shards)
        except Crash:
            assert done <= self.done()
            claimed = self.complete is not None and (self.folder / SUCCESS).exists()
            possible = [shards for shards in (self.complete, self.shards) if claimed]
            self.complete = next((one for one in possible if predicted(self.folder) == ids_of(one)), None)
            assert claimed == (self.complete is not None)
        else:
            self.complete = self.shards

    @rule(changes=st.integers(1, 12), before=st.booleans())
    def a_run_is_cut_short_when_all_is_answered(self, changes, before):
        self.some_blocks_are_committed(None)
        self.a_run_is_cut_short(changes, before)

    @rule(label=st.sampled_from(LABELS), count=st.integers(1, 6), changes=st.integers(1, 12), before=st.booleans())
    def a_complete_run_is_cut_short_over_other_inputs(self, label, count, changes, before):
        self.it_runs_to_the_end()
        self.inputs_grow_or_shrink(label, count)
        self.a_run_is_cut_short(changes, before)

    @rule(data=st.data())
    def files_are_lost(self, data):
        own = [path for name in (PARTS, PREDICTIONS, ENTRIES) for path in sorted((self.folder / name).glob("*"))]
        own = [path for path in [self.folder / ENTRIES_BEFORE, *own] if path.exists()]
        own = [path for path in own if self.key(path) not in self.foreign]
        if lost := data.draw(st.sets(st.sampled_from(own))) if own else ():
            for path in lost:
                path.unlink()
            self.complete = None

    @rule(name=st.sampled_from(FOREIGN), content=st.binary(max_size=3))
    def somebody_puts_a_file_there(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.foreign[name] = content

    @rule()
    def it_runs_to_the_end(self):
        inventory = run(self.ledger(), self.shards)
        ids = ids_of(self.shards)
        assert predicted(self.folder) == ids
        assert inventory.files == sorted(path.name for path in self.ours(PREDICTIONS))
        assert inventory.num_rows == ids.total()
        assert inventory.problems.get("empty", 0) == sum(image_id.endswith("3") for image_id in ids)
        assert not self.ours(PARTS)
        assert self.ledger().entries() == inventory.entries
        assert len(self.ours(ENTRIES)) == len(inventory.entries)
        self.complete = self.shards

    @precondition(lambda self: self.complete == self.shards)
    @rule()
    def a_complete_run_has_nothing_left_to_do(self):
        inventory, shard_ids = Inventory(self.ledger()), [shard.shard_id for shard in self.shards]
        assert all(map(inventory.done.whole, shard_ids))
        assert plan_files(shard_ids, inventory) == (sorted(inventory.entries), [])

    @invariant()
    def success_means_complete(self):
        if self.complete is not None:
            assert (self.folder / SUCCESS).exists()
            assert predicted(self.folder) == ids_of(self.complete)

    @invariant()
    def what_is_not_ours_stays(self):
        assert {name: (self.folder / name).read_bytes() for name in self.foreign} == self.foreign

    def teardown(self):
        try:
            self.it_runs_to_the_end()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)

    def key(self, path):
        return path.relative_to(self.folder).as_posix()

    def done(self):
        """The blocks of the present inputs that are done."""
        done = Inventory(self.ledger()).done
        return {block for shard in self.shards for block in done.blocks(shard.shard_id)}

    def ours(self, name):
        return [path for path in (self.folder / name).glob("*") if self.key(path) not in self.foreign]


Output.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=14,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a history is short already, and to shrink one takes minutes
)
TestExactlyOnce = Output.TestCase


@pytest.mark.parametrize("before", [True, False])
def test_every_place_that_a_run_can_be_cut_at(tmp_path, monkeypatch, before):
    """A complete run is completed for other inputs: until the end it claims no success for what isn't whole."""
    monkeypatch.setattr(files_module, "BLOCKS_PER_FILE", 2)
    old = [Numbered(label="a", count=10), Numbered(label="b", count=4)]
    new = [Numbered(label="a", count=13), Numbered(label="b", count=4), Numbered(label="c", count=0)]
    for changes in itertools.count(1):
        folder = tmp_path / str(changes)
        run(Ledger(str(folder)), old)
        cut = Ledger(str(folder))
        cut.store = Crashing(cut.store, changes, before)
        try:
            run(cut, new)
        except Crash:
            assert not (folder / SUCCESS).exists() or predicted(folder) in (ids_of(old), ids_of(new))
            run(Ledger(str(folder)), new)
            assert predicted(folder) == ids_of(new)
        else:
            assert changes > 10
            return


@pytest.mark.parametrize("count", range(1, 7))
def test_a_block_that_is_in_two_files_is_taken_from_one(tmp_path, monkeypatch, count):
    """A run over fewer inputs ended between its file and the deletion of what that replaces; then all are asked for."""
    old = [Numbered(label="a", count=count), Numbered(label="b", count=4)]
    run(Ledger(str(tmp_path)), old)
    with monkeypatch.context() as patch:
        patch.setattr(Inventory, "keep", lambda self, names: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            run(Ledger(str(tmp_path)), old[:1])
    assert predicted(tmp_path) == ids_of(old) + ids_of(old[:1])
    run(Ledger(str(tmp_path)), old)
    assert predicted(tmp_path) == ids_of(old)
