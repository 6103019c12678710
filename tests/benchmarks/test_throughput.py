import pytest

from geo_ray.benchmarks.throughput import Done, compare, steady_rate


def test_the_rate_is_taken_while_every_worker_is_busy():
    """Worker 0 ends batches at 1, 2, 3, 4 s, worker 1 at 2, 3.5 s: from 2 to 3.5 s, two batches of 10 were done."""
    done = [Done(0, 10, t) for t in (1.0, 2.0, 3.0, 4.0)] + [Done(1, 10, t) for t in (2.0, 3.5)]
    assert steady_rate(done) == pytest.approx(20 / 1.5)


def test_one_worker():
    assert steady_rate([Done(0, 8, 1.0), Done(0, 8, 2.0), Done(0, 4, 3.0)]) == pytest.approx(6.0)


def test_compare_gives_ratios_to_the_steady_rate_of_bare():
    def batches(seconds):
        return lambda: [Done(0, 8, n * seconds) for n in range(1, 11)]

    bare, half = compare("tiny", {"bare": batches(1.0), "other": batches(2.0)})
    assert (bare["name"], bare["images_per_second"], bare["ratio_to_bare"]) == ("tiny bare", 8.0, 1.0)
    assert (half["name"], half["images_per_second"], half["ratio_to_bare"]) == ("tiny other", 4.0, 0.5)
    assert half["end_to_end_ratio"] == pytest.approx(half["end_to_end"] / 8.0, rel=0.01)
