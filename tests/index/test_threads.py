"""Threads of a search, and those of BLAS meanwhile."""

import threading

import pytest
import threadpoolctl

from geo_ray.index.threads import Workers


def blas_threads():
    """Of numpy's BLAS; other libraries bring their own."""
    libraries = [lib for lib in threadpoolctl.threadpool_info() if "numpy" in lib["filepath"]]
    assert libraries
    return {lib["num_threads"] for lib in libraries}


@pytest.mark.parametrize("num_threads", [1, 3])
def test_answers_come_in_order(num_threads):
    assert Workers(num_threads).map(lambda x: x * x, range(20)) == [x * x for x in range(20)]
    assert Workers(num_threads).map(lambda x: x, []) == []


def test_blas_keeps_to_one_thread_and_has_its_own_back_whoever_asks():
    """From threads of any name, at once: an old limit must not stay."""
    before, counts = blas_threads(), []

    def search():
        Workers(2).map(lambda _: counts.append(blas_threads()), [0, 1])

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    search()
    assert counts == [{1}] * 8
    assert blas_threads() == before


def test_an_error_passes_and_leaves_nothing_behind():
    before = blas_threads()
    workers = Workers(2)
    with pytest.raises(ZeroDivisionError):
        workers.map(lambda x: 1 / x, [1, 0])
    assert blas_threads() == before
    assert workers.map(lambda x: 1 / x, [1, 2]) == [1, 0.5]
    with pytest.raises(ValueError, match="num_threads=0"):
        Workers(0)
