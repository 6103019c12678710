"""How values travel through Ray Data: one in a row, so that nothing can divide it, and arrays as they lie in memory.

An array is copied once, into the row, and is not copied where it is read: there it lies in Ray's object store, and
can't be written to.
"""

import pickle
import struct
from typing import Any

import numpy as np
import pyarrow as pa

ALIGNED = 64  # bytes, as Arrow's own buffers


def packed(name: str, value: Any) -> pa.Table:
    """A row that holds a value under this name."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    pieces = [memoryview(head), *(array.raw() for array in arrays)]
    sizes = struct.pack(f"<{len(pieces) + 1}Q", len(pieces), *(piece.nbytes for piece in pieces))
    places, size = _places(len(sizes), [piece.nbytes for piece in pieces])
    content = np.empty(size, np.uint8)
    content[: len(sizes)] = np.frombuffer(sizes, np.uint8)
    for piece, (first, stop) in zip(pieces, places, strict=True):
        content[first:stop] = np.frombuffer(piece, np.uint8)
    ends = pa.py_buffer(np.array([0, size], np.int64))
    return pa.table({name: pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(content)])})


def unpacked(rows: pa.Table) -> Any:
    """The value in the first row; its arrays lie in the row's memory, which they keep."""
    held = next(chunk for chunk in rows.column(0).chunks if len(chunk))  # a scalar of it would be a copy
    _, ends, content = held.buffers()
    first, stop = np.frombuffer(ends, np.int64)[held.offset : held.offset + 2]
    content = memoryview(content)[first:stop]
    (count,) = struct.unpack_from("<Q", content)
    sizes = struct.unpack_from(f"<{count}Q", content, 8)
    (head, *arrays) = (content[first:stop] for first, stop in _places(8 + 8 * count, sizes)[0])
    return pickle.loads(head, buffers=arrays)


def _places(start: int, sizes: "list[int] | tuple[int, ...]") -> tuple[list[tuple[int, int]], int]:
    """Where pieces of these sizes lie after what takes ``start`` bytes, and how many bytes it is in all."""
    places = []
    for size in sizes:
        first = -(-start // ALIGNED) * ALIGNED
        start = first + size
        places.append((first, start))
    return places, start
