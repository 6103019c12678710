import math
from dataclasses import replace

import pytest

from geo_ray.errors import InputError
from geo_ray.remote.place import Place, plan


@pytest.mark.parametrize(("cpus", "workers"), [(2, 1), (3, 1), (4, 2), (16, 14), (64, 60)])
def test_a_worker_a_cpu_with_some_left_to_read(cpus, workers):
    place = plan(float(cpus), 0.0)
    assert place.num_workers == workers
    assert place.device == "cpu"
    assert not place.decode_apart


def test_a_worker_a_gpu_with_decoding_apart():
    place = plan(32.0, 4.0)
    assert (place.num_workers, place.device, place.decode_apart) == (4, "cuda", True)
    assert place.num_locators == 8
    assert plan(4.0, 1.0).num_locators == 1
    assert plan(32.0, 0.0).num_locators == 0


@pytest.mark.parametrize(
    ("gpus", "share", "workers", "taken"),
    [(4.0, 0.5, 8, 0.5), (1.0, 0.5, 2, 0.5), (3.0, 0.3, 9, 0.3), (0.5, 1.0, 1, 0.5), (0.5, 0.25, 2, 0.25)],
)
def test_workers_share_gpus(gpus, share, workers, taken):
    place = plan(32.0, gpus, gpus_per_worker=share)
    assert (place.num_workers, place.gpus_per_worker, place.device) == (workers, taken, "cuda")
    assert place.room({"CPU": 32.0, "GPU": gpus}) >= workers
    assert plan(32.0, 0.0, gpus_per_worker=share).gpus_per_worker == 0


@pytest.mark.parametrize(("cpus", "gpus", "locators"), [(2.0, 1.0, 0), (2.5, 1.0, 1), (3.0, 1.0, 1), (16.0, 8.0, 4)])
def test_locators_leave_a_cpu_to_read(cpus, gpus, locators):
    place = plan(cpus, gpus)
    assert place.num_locators == locators
    assert place.num_workers * place.cpus_per_worker + locators * place.cpus_per_locator + 1 <= cpus
    with pytest.raises(InputError, match="leave none"):
        replace(place, num_locators=2 * math.ceil(cpus)).check(cpus)


def test_locators_take_their_cpus_before_workers_do():
    place = Place(num_workers=9, gpus_per_worker=1.0, num_locators=8, cpus_per_locator=0.5)
    assert place.room({"CPU": 16.0, "GPU": 20.0}) == 11


def test_workers_that_take_every_cpu_are_refused():
    with pytest.raises(InputError, match="at most 3 workers"):
        plan(4.0, 0.0, num_workers=4)
    with pytest.raises(InputError, match="leave none"):
        plan(1.0, 0.0)


@pytest.mark.parametrize("name", ["num_workers", "cpus_per_worker", "batch_size", "num_index_replicas"])
def test_nothing_below_one(name):
    with pytest.raises(ValueError, match=name):
        Place(**{name: 0})


def test_an_index_takes_its_cpus_before_workers_do():
    place = plan(16.0, 0.0, num_index_shards=3, num_index_replicas=2)
    assert place.index_cpus == 3.0
    assert place.data_cpus(16.0) == 13.0
    assert place.num_workers == 11
    assert plan(16.0, 0.0).index_cpus == 0
    assert plan(32.0, 4.0, num_index_shards=3).num_workers == 4


def test_an_index_that_leaves_no_cpu_to_read_is_refused():
    with pytest.raises(InputError, match=r"an index that takes 2 leave none .* at most 5 workers"):
        plan(8.0, 0.0, num_workers=6, num_index_shards=4)
    assert plan(8.0, 0.0, num_workers=5, num_index_shards=4).num_workers == 5
    assert plan(8.0, 0.0, num_workers=6, num_index_shards=4, cpus_per_index_shard=0.0).num_workers == 6


@pytest.mark.parametrize(
    ("name", "value"), [("num_index_shards", -1), ("cpus_per_index_shard", -0.5), ("memory_per_worker", -1)]
)
def test_nothing_of_negative_size(name, value):
    with pytest.raises(ValueError, match=name):
        Place(**{name: value})


def test_workers_for_which_there_is_memory():
    assert plan(64.0, 0.0, memory=10e9, memory_per_worker=10**9).num_workers == 10
    assert plan(64.0, 8.0, memory=3e9, memory_per_worker=10**9).num_workers == 3
    assert plan(16.0, 0.0, memory=1e12, memory_per_worker=10**9).num_workers == 14
    with pytest.raises(InputError, match=r"12 workers of 1\.0 GiB .* the 9\.5 GiB .* at most 9 workers"):
        plan(64.0, 0.0, num_workers=12, memory=9.5 * 2**30, memory_per_worker=2**30)
    with pytest.raises(InputError, match="at most 0 workers"):
        plan(64.0, 0.0, memory=1e9, memory_per_worker=2 * 10**9)


def test_a_range_of_workers():
    place = plan(8.0, 0.0, 2, max_workers=40)
    assert (place.num_workers, place.max_workers, place.workers_text) == (2, 40, "2 to 40")
    assert plan(8.0, 0.0, 2).workers_text == "2"
    with pytest.raises(ValueError, match="max_workers=1 must be at least num_workers=2"):
        plan(8.0, 0.0, 2, max_workers=1)


def test_room_for_workers():
    place = Place(num_workers=4, cpus_per_worker=2, gpus_per_worker=0.5, memory_per_worker=10)
    everything = {"CPU": 100.0, "GPU": 50.0, "memory": 1000.0}
    assert place.room(everything) == 49
    assert place.room(everything | {"GPU": 3.0}) == 6
    assert place.room(everything | {"memory": 55.0}) == 5
    assert place.room({"CPU": 0.5}) == 0
