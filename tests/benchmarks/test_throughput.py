import pytest

from geo_ray.benchmarks.throughput import Done, Measured, row_of, steady_rate


def test_the_rate_is_taken_while_every_worker_is_busy():
    """Worker 0 ends batches at 1, 2, 3, 4 s, worker 1 at 2, 3.5 s: from 2 to 3.5 s, two batches of 10 were done."""
    done = [Done(0, 10, t) for t in (1.0, 2.0, 3.0, 4.0)] + [Done(1, 10, t) for t in (2.0, 3.5)]
    assert steady_rate(done) == pytest.approx(20 / 1.5)


def test_one_worker():
    assert steady_rate([Done(0, 8, 1.0), Done(0, 8, 2.0), Done(0, 4, 3.0)]) == pytest.approx(6.0)


def test_ratios_are_to_the_steady_rate_of_bare():
    row = row_of(Measured(steady=4.0, end_to_end=2.0), 8.0)
    assert row == {"images_per_second": 4.0, "ratio_to_bare": 0.5, "end_to_end": 2.0, "end_to_end_ratio": 0.25}


def test_a_way_that_was_ended_has_no_rates():
    assert row_of(None, 8.0) == {}
