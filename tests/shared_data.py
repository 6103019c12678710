"""Real data that tests may use where it is there; elsewhere those that need it are skipped."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("GEO_RAY_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def shared(name):
    """The path of a file of that data."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path
