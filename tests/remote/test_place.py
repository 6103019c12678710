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


@pytest.mark.parametrize(("name", "value"), [("num_index_shards", -1), ("cpus_per_index_shard", -0.5)])
def test_no_index_of_negative_size(name, value):
    with pytest.raises(ValueError, match=name):
        Place(**{name: value})
