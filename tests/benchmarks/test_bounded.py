import subprocess
import sys
from functools import partial

import psutil
import pytest

from geo_ray.benchmarks.bounded import run_bounded

MIB = 2**20


def held(num_bytes):
    """Something whose answer takes a while to come only where there is much to hold."""
    return len(bytes(num_bytes))


def held_by_a_child(num_bytes):
    """A process below this one holds the memory until it is ended."""
    code = f"kept = b'x' * {num_bytes}; input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        return child.wait()


def test_the_answer_of_a_run_within_the_bound_comes_with_its_peak():
    found = run_bounded(partial(held, 5), 2000 * MIB)
    assert (found.answer, found.ended) == (5, False)
    assert found.peak_bytes < 2000 * MIB


def test_a_run_whose_children_take_too_much_is_ended_with_them():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    found = run_bounded(partial(held_by_a_child, 800 * MIB), 500 * MIB)
    assert (found.answer, found.ended) == (None, True)
    assert found.peak_bytes > 500 * MIB
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert not any("kept" in " ".join(child.cmdline()) for child in left)


def test_a_run_that_ends_without_an_answer_is_an_error():
    with pytest.raises(RuntimeError, match="exit code 3"):
        run_bounded(partial(sys.exit, 3), 2000 * MIB)
