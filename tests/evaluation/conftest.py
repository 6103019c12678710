"""Fixtures that write runs and truth tables into the test's folder."""

import pytest
from prediction_rows import write_run


@pytest.fixture
def make_run(tmp_path):
    return lambda rows, **more: write_run(tmp_path / "run", rows, **more)


@pytest.fixture
def make_truth(tmp_path):
    def make(text, name="truth.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return make
