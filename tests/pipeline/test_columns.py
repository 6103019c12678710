"""Columns and source batches."""

import numpy as np

from geo_ray.pipeline.columns import ANSWER, CODES, SOURCE, Column, num_rows, source_batch


def test_blank_rows_hold_the_fill():
    assert np.isnan(Column(name="x", dtype="float64", shape=(2, 3), fill=np.nan).blank(4)).all()
    assert Column(name="x", dtype="uint8", shape=(2,), fill=7).blank(1).tolist() == [[7, 7]]
    for n in (0, 1, 3):
        for fill in ("", (), None):
            blank = Column(name="x", fill=fill).blank(n)
            assert blank.shape == (n,)
            assert blank.tolist() == [fill] * n


def test_every_answer_has_a_blank_of_one_entry_a_row():
    for column in (*SOURCE, *ANSWER):
        assert column.blank(2).shape == (2,)


def test_a_source_batch_keeps_bytes_and_gaps():
    batch = source_batch(["a", "b"], ["u", "v"], [b"\x00\x00", None], ["", "fetch_failed"])
    assert num_rows(batch) == 2
    assert batch["bytes"].tolist() == [b"\x00\x00", None]
    assert batch["problem"].tolist() == ["", "fetch_failed"]
    assert num_rows(source_batch([], [], [], [])) == 0


def test_every_code_is_explained():
    assert all(code and text for code, text in CODES.items())
