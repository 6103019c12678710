"""A value in a row of Ray Data comes out as it went in, its arrays without being copied."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geo_ray.data.run.transport import ALIGNED, packed, unpacked


@given(
    st.lists(
        hnp.arrays(
            st.sampled_from([np.uint8, np.float32, np.int64]),
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        ),
        max_size=4,
    ),
    st.lists(st.one_of(st.none(), st.binary(max_size=200), st.text(max_size=9))),
)
def test_what_goes_in_comes_out(arrays, others):
    again, others_again = unpacked(packed("value", (arrays, others)))
    assert others_again == others
    assert len(again) == len(arrays)
    for array, one in zip(arrays, again, strict=True):
        np.testing.assert_array_equal(one, array)
        assert (one.dtype, one.shape) == (array.dtype, array.shape)


@pytest.mark.parametrize("pixels", [np.zeros((3, 8, 8, 3), np.uint8), np.ones((5, 4, 4, 3), np.uint8)[:, :, ::-1]])
def test_arrays_of_another_order_in_memory(pixels):
    np.testing.assert_array_equal(unpacked(packed("images", {"pixels": pixels}))["pixels"], pixels)


def test_arrays_are_not_copied_where_they_are_read():
    rows = pa.ipc.open_stream(_written(packed("images", {"pixels": np.arange(10**6, dtype=np.int32)}))).read_all()
    held = rows.column(0).chunk(0).buffers()[2]
    array = unpacked(rows)["pixels"]
    assert held.address <= array.ctypes.data < held.address + held.size
    assert (array.ctypes.data - held.address) % ALIGNED == 0
    assert not array.flags.writeable
    del rows, held
    assert array[-1] == 10**6 - 1  # it keeps its memory


def _written(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
