import pytest

from geo_ray.data.throughput import Done, compare, steady_rate


def test_the_rate_is_taken_while_every_worker_is_busy():
    """Worker 0 ends batches at 1, 2, 3, 4 s, worker 1 at 2, 3.5 s: from 2 to 3.5 s, two batches of 10 were done."""
    done = [Done(0, 10, t) for t in (1.0, 2.0, 3.0, 4.0)] + [Done(1, 10, t) for t in (2.0, 3.5)]
    assert steady_rate(done) == pytest.approx(20 / 1.5)


def test_one_worker():
    assert steady_rate([Done(0, 8, 1.0), Done(0, 8, 2.0), Done(0, 4, 3.0)]) == pytest.approx(6.0)


def test_compare_gives_ratios_to_bare():
    rows = compare("tiny", {"bare": lambda: 100.0, "ray-data": lambda: 90.0})
    assert rows == [
        {"name": "tiny bare", "images_per_second": 100.0, "ratio_to_bare": 1.0},
        {"name": "tiny ray-data", "images_per_second": 90.0, "ratio_to_bare": 0.9},
    ]
