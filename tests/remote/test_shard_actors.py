"""Placement by hand, and searches by shard actors that are killed, swapped and wrong."""

import logging
import os
import shutil
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from geo_ray.errors import BundleError, IndexUnavailableError, InputError
from geo_ray.index.merge import Sharded
from geo_ray.index.shard import Searcher, open_shard
from geo_ray.index.split import read_split
from geo_ray.remote.shard_actors import ShardOptions, assign_nodes
from geo_ray.remote.shard_client import Patience
from geo_ray.remote.shard_group import connect_shards, limit_data, start_shards
from tests.remote.shards import (
    LIGHT,
    NUM_CELLS,
    NUM_FEATURES,
    NUM_MEMBERS,
    Search,
    answered,
    batches,
    same,
    whole_shard,
    written_split,
)

LOG = logging.getLogger(__name__)


def in_process(folder):
    split = read_split(folder)
    return Sharded([open_shard(path, generation=split.generation) for path in split.folders], split.owners)


def test_replicas_are_apart_and_nodes_evenly_full():
    assert assign_nodes(2, 2, 1.0, {"a": 4.0, "b": 4.0}) == [["a", "b"], ["b", "a"]]
    assert assign_nodes(3, 1, 0.5, {"a": 2.0, "b": 4.0, "head": 0.0}) == [["b"], ["a"], ["b"]]
    assert assign_nodes(1, 3, 0.0, {"a": 1.0, "b": 1.0}) == [["a", "b", "a"]]
    wide = assign_nodes(7, 2, 1.0, dict.fromkeys("abc", 5.0))
    assert all(len(set(replicas)) == 2 for replicas in wide)
    counts = [sum(replicas.count(name) for replicas in wide) for name in "abc"]
    assert max(counts) - min(counts) <= 1


def test_no_room_for_all():
    with pytest.raises(InputError, match=r"3 shards of 1 replicas of 1 CPUs don't fit on nodes of 2, 0 CPUs"):
        assign_nodes(3, 1, 1.0, {"a": 2.0, "head": 0.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_replicas", 0), ("num_threads", 0), ("max_concurrency", 0), ("num_cpus", -1.0), ("detached", True)],
)
def test_options_that_cannot_work(name, value):
    with pytest.raises(ValueError, match=name):
        ShardOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("hedge_s", 0.0), ("patience_s", 0.0), ("avoid_s", -1.0), ("max_in_flight", 0)]
)
def test_patience_that_cannot_work(name, value):
    with pytest.raises(ValueError, match=name):
        Patience(**{name: value})


@pytest.fixture(scope="module", params=[(1, 2), (3, 2)], ids=["1 shard", "3 shards"])
def running(request, ray_session, tmp_path_factory):
    """The folder of a split, and its shards on actors."""
    num_shards, num_replicas = request.param
    folder = written_split(tmp_path_factory.mktemp("index"), num_shards)
    with start_shards(str(folder), replace(LIGHT, num_replicas=num_replicas)) as group:
        yield folder, group


def test_remote_is_sharded_is_one_shard(running):
    folder, group = running
    remote, sharded, whole = group.searcher(), in_process(folder), whole_shard(folder)
    assert isinstance(remote, Searcher)
    for cells, features in batches(4):
        for members in ("cell", "prototype"):
            expected = whole.search(cells, features, NUM_MEMBERS, members)
            assert same(remote.search(cells, features, NUM_MEMBERS, members), expected)
            assert same(sharded.search(cells, features, NUM_MEMBERS, members), expected)
        for measure in (None, "cosine"):
            expected = whole.neighbours(cells, features, 7, measure)
            assert same(remote.neighbours(cells, features, 7, measure), expected)
            assert same(sharded.neighbours(cells, features, 7, measure), expected)


def test_nothing_to_ask(running):
    folder, group = running
    features = np.zeros((4, NUM_FEATURES), np.float32)
    for cells in (np.full((4, 2), -1), np.zeros((4, 0), np.int64)):
        expected = whole_shard(folder).search(cells, features, 2, "cell")
        assert same(group.searcher().search(cells, features, 2, "cell"), expected)
    empty = group.searcher().search(np.zeros((0, 3), np.int64), features[:0], 2, "cell")
    assert empty.member_distance.shape == (0, 3, 2)


def test_what_is_wrong_with_a_batch_is_raised_here(running):
    _, group = running
    (cells, features), *_ = batches(1)
    with pytest.raises(ValueError, match="15 features, the index has 16"):
        group.searcher().search(cells, features[:, 1:].copy(), 2, "cell")
    features[3, 2] = np.nan
    with pytest.raises(InputError, match="1 of"):
        group.searcher().search(cells, features, 2, "cell")
    with pytest.raises(ValueError, match=f"the index has {NUM_CELLS}"):
        group.searcher().search(cells + NUM_CELLS, features, 2, "cell")


def test_a_searcher_travels_and_many_search_at_once(running, ray_session):
    folder, group = running

    @ray_session.remote(num_cpus=0.5)
    def search(searcher, seed):
        (cells, features), *_ = batches(1, seed=seed)
        return searcher.search(cells, features, NUM_MEMBERS, "cell")

    found = ray_session.get([search.remote(group.searcher(), seed) for seed in range(4)])
    searcher = group.searcher()
    threads = [threading.Thread(target=lambda s=s: found.append(searcher_answer(searcher, s))) for s in range(4, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [searcher_answer(whole_shard(folder), seed) for seed in range(12)]
    assert len(found) == 12
    assert all(same(answer, expected[seed]) for seed, answer in enumerate(found[:4]))
    assert all(any(same(answer, one) for answer in found[4:]) for one in expected[4:])


def searcher_answer(searcher, seed):
    (cells, features), *_ = batches(1, seed=seed)
    return searcher.search(cells, features, NUM_MEMBERS, "cell")


def test_how_shards_are(running, ray_session):
    folder, group = running
    for cells, features in batches(3):
        group.searcher().search(cells, features, 1, "cell")
    rows = group.status()
    split = read_split(folder)
    assert [(row["shard"], row["replica"]) for row in rows] == [
        (s, r) for s in range(len(split.shards)) for r in (0, 1)
    ]
    assert sum(row["members"] for row in rows) == 2 * split.whole.num_members
    assert all(row["size_bytes"] == 4 * NUM_FEATURES * (row["members"] + row["prototypes"]) for row in rows)
    assert {(row["state"], row["restarts"], row["generation"]) for row in rows} == {("ready", 0, split.generation)}
    assert sum(row["calls"] for row in rows) >= 3
    assert sum(row["seconds"] for row in rows) > 0
    assert {row["node"] for row in rows} == {node["NodeID"] for node in ray_session.nodes()}
    assert group.num_cpus == pytest.approx(0.1 * len(rows))


def rows_when_ready(group, timeout_s=60):
    """What the shards say of themselves once all are up."""
    deadline = time.monotonic() + timeout_s
    while any(row["state"] != "ready" for row in group.status()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return group.status()


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_killed_shards_in_a_stream_of_batches(ray_session, tmp_path, num_replicas):
    folder = written_split(tmp_path, 2)
    expected, waits = whole_shard(folder), []
    with start_shards(str(folder), replace(LIGHT, num_replicas=num_replicas)) as group:
        searcher = group.searcher()
        for number, (cells, features) in enumerate(batches(30)):
            if number in (5, 16):
                ray_session.kill(group.roster.actors[number % 2][0], no_restart=False)
            waits.append(answered(searcher, expected, cells, features))
        assert sum(row["restarts"] for row in rows_when_ready(group)) == 2
    LOG.warning("longest wait with %d replicas: %.2f s", num_replicas, max(waits))
    assert num_replicas == 1 or max(waits) < 20


def test_a_replica_that_hangs_is_not_waited_for(ray_session, tmp_path):
    folder = written_split(tmp_path, 1)
    with start_shards(str(folder), replace(LIGHT, num_replicas=2)) as group:
        searcher, expected = group.searcher(), whole_shard(folder)
        stopped = group.status()[0]["pid"]
        os.kill(stopped, signal.SIGSTOP)
        try:
            waits = [answered(searcher, expected, cells, features) for cells, features in batches(6)]
        finally:
            os.kill(stopped, signal.SIGCONT)
    LOG.warning("waits with a replica that hangs: %s s", [round(wait, 2) for wait in waits])
    assert LIGHT.patience.hedge_s < max(waits) < 20


def test_killed_shards_in_a_job_of_ray_data(ray_session, tmp_path):
    """The searcher is an argument of the workers' constructor; the job is slow enough to be killed amid it."""
    folder = written_split(tmp_path, 2)
    cells, features = (np.concatenate(parts) for parts in zip(*batches(20), strict=True))
    rows = ray_session.data.from_numpy(np.arange(len(cells))).repartition(10)

    def read(batch):
        time.sleep(0.2)
        return {"row": batch["data"], "cells": cells[batch["data"]], "features": features[batch["data"]]}

    with start_shards(str(folder), replace(LIGHT, num_replicas=2)) as group:
        answers = rows.map_batches(read, num_cpus=0.5).map_batches(
            Search,
            fn_constructor_kwargs={"searcher": group.searcher()},
            batch_size=20,
            compute=ray_session.data.ActorPoolStrategy(size=1),
            num_cpus=1,
        )
        found, killed = {}, 0
        for answer in answers.iter_rows():
            if len(found) in (40, 200):
                ray_session.kill(group.roster.actors[killed][killed], no_restart=False)
                killed += 1
            found[int(answer["row"])] = answer["distance"]
    expected = whole_shard(folder).search(cells, features, NUM_MEMBERS, "cell").member_distance
    assert killed == 2
    assert sorted(found) == list(range(len(cells)))
    np.testing.assert_array_equal(np.stack([found[row] for row in range(len(cells))]), expected)


def test_another_index_takes_over_between_batches(ray_session, tmp_path):
    old, new = written_split(tmp_path / "old", 2), written_split(tmp_path / "new", 3, seed=1)
    before, after = whole_shard(old), whole_shard(new)
    with start_shards(str(old), replace(LIGHT, num_replicas=2)) as group:
        searcher, late = group.searcher(), group.searcher()
        swap = threading.Thread(target=group.swap, args=(str(new),))
        seen = []
        for number, (cells, features) in enumerate(batches(2000)):
            if number == 3:
                swap.start()
            found = searcher.search(cells, features, NUM_MEMBERS, "cell")
            is_old, is_new = (
                same(found, index.search(cells, features, NUM_MEMBERS, "cell")) for index in (before, after)
            )
            assert is_old != is_new  # all of one index
            seen.append(is_new)
            if len(seen) > 10 and all(seen[-5:]):
                break
        swap.join()
        assert not any(seen[:3])
        assert seen == sorted(seen)
        assert seen[-1]
        assert searcher.roster.version == group.roster.version == 1
        assert late.roster.version == 0  # has heard of nothing, and those it knows are gone
        for cells, features in batches(2):
            answered(late, after, cells, features)
        assert {row["generation"] for row in group.status()} == {read_split(new).generation}


def test_an_index_that_cannot_take_over(ray_session, tmp_path):
    old = written_split(tmp_path / "old", 2)
    damaged = written_split(tmp_path / "new", 2, seed=1)
    (damaged / "shard-001" / "member_codes.npy").unlink()
    with start_shards(str(old), LIGHT) as group:
        with pytest.raises(BundleError, match=r"shard-001/member_codes\.npy"):
            group.swap(str(damaged))
        with pytest.raises(BundleError, match="metric=ip is not l2"):
            group.swap(str(written_split(tmp_path / "ip", 2, metric="ip")))
        assert group.roster.version == 0
        for cells, features in batches(2):
            answered(group.searcher(), whole_shard(old), cells, features)


def test_a_damaged_index_is_named_before_any_search(ray_session, tmp_path):
    folder = written_split(tmp_path, 2, encoder_fingerprint="abc")
    for wrong, message in (
        ({"num_features": 512}, "num_features"),
        ({"encoder_fingerprint": "xyz"}, "encoder abc, not xyz"),
    ):
        with pytest.raises(BundleError, match=message):
            start_shards(str(folder), LIGHT, **wrong)
    path = folder / "shard-000" / "member_codes.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"^\S*shard-000/member_codes\.npy"):
        start_shards(str(folder), LIGHT)
    shutil.rmtree(folder / "shard-000")
    with pytest.raises(BundleError, match="shard-000"):
        start_shards(str(folder), LIGHT)
    other = written_split(tmp_path / "other", 2, seed=1)
    shutil.copytree(other / "shard-000", folder / "shard-000")
    with pytest.raises(BundleError, match="generation"):
        start_shards(str(folder), LIGHT)
    with pytest.raises(InputError, match="don't fit"):
        start_shards(str(other), replace(LIGHT, num_cpus=4.0))


def test_shards_that_do_not_answer_are_named(ray_session, tmp_path):
    folder = written_split(tmp_path, 2)
    (cells, features), *_ = batches(1)
    hasty = replace(LIGHT, patience=Patience(hedge_s=0.5, patience_s=3.0))
    with start_shards(str(folder), hasty) as group:
        (folder / "shard-001").rename(tmp_path / "away")
        ray_session.kill(group.roster.actors[1][0], no_restart=False)
        searcher = group.searcher()
        with pytest.raises(IndexUnavailableError, match=r"shard 1 of index .* didn't answer within 3 s"):
            [searcher.search(cells, features, 1, "cell") for _ in range(5)]
        states = {row["shard"]: row["state"] for row in group.status()}
        assert states == {0: "ready", 1: "unavailable"}
        (tmp_path / "away").rename(folder / "shard-001")  # now one of its restarts can load
        rows_when_ready(group)
        answered(searcher, whole_shard(folder), cells, features)
    with pytest.raises(IndexUnavailableError, match="none of its 1 replicas is left"):
        searcher.search(cells, features, 1, "cell")


def test_detached_shards_are_found_by_name(ray_session, tmp_path):
    folder = written_split(tmp_path, 2)
    with pytest.raises(InputError, match="no index named 'mine'"):
        connect_shards("mine")
    start_shards(str(folder), replace(LIGHT, name="mine", detached=True))
    with pytest.raises(InputError, match="an index named 'mine' runs already"):
        start_shards(str(folder), replace(LIGHT, name="mine"))
    with connect_shards("mine") as group:
        for cells, features in batches(2):
            answered(group.searcher(), whole_shard(folder), cells, features)
    time.sleep(1)
    with pytest.raises(InputError, match="no index named 'mine'"):
        connect_shards("mine")


def test_a_graph_asks_the_actors_of_its_bundle(ray_session, tmp_path):
    from geo_ray.models.bundle import open_bundle

    bundle = open_bundle("earth-tiny")
    with start_shards(str(bundle.path("index")), LIGHT, num_features=bundle.num_features) as group:
        runtime = group.runtime(num_threads=2)
        assert (runtime.device, runtime.num_threads) == ("cpu", 2)
        searcher = runtime.searcher("earth-tiny")
        cells = np.arange(40).reshape(8, 5)
        features = np.random.default_rng(0).normal(size=(8, bundle.num_features)).astype(np.float32)
        expected = open_shard(bundle.path("index")).search(cells, features, 2, "cell")
        assert same(searcher.search(cells, features, 2, "cell"), expected)
    with (
        start_shards(str(written_split(tmp_path, 1)), LIGHT) as group,
        pytest.raises(BundleError, match="num_features=16 is not 128"),
    ):
        group.runtime().searcher("earth-tiny")


def test_ray_data_leaves_the_shards_their_cpus(ray_session):
    from ray.data import DataContext

    before = DataContext.get_current().execution_options.resource_limits.cpu
    with limit_data(2.5):
        assert DataContext.get_current().execution_options.resource_limits.cpu == 2.5
    assert DataContext.get_current().execution_options.resource_limits.cpu == before
