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


@pytest.mark.parametrize("name", ["num_workers", "cpus_per_worker", "batch_size"])
def test_nothing_below_one(name):
    with pytest.raises(ValueError, match=name):
        Place(**{name: 0})
