"""What options of the command line take."""

import argparse

import pytest

from geo_ray.cli.arguments import at_least_one, range_of


def test_a_number_or_a_range():
    assert range_of("8") == (8, None)
    assert range_of("2-16") == (2, 16)
    assert range_of("3-3") == (3, 3)


@pytest.mark.parametrize("text", ["", "0", "-2", "2-", "2-1", "a-b", "1-2-3", "1.5"])
def test_what_is_no_range(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a whole number from 1|ends before it begins"):
        range_of(text)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", ""])
def test_what_is_not_at_least_one(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number from 1"):
        at_least_one(text)
