"""Writing a .npy file whose number of rows isn't known yet."""

from pathlib import Path

import numpy as np
from numpy.lib import format as npy


class ArrayFile:
    """A .npy file that grows by arrays of one type and row shape; it is whole after ``close``."""

    def __init__(self, path: Path, like: np.ndarray) -> None:
        self._file = path.open("wb")
        self._dtype, self._row_shape, self._num_rows = like.dtype, like.shape[1:], 0
        self._header_bytes = self._write_header()

    def append(self, array: np.ndarray) -> None:
        """Add rows."""
        if array.dtype != self._dtype or array.shape[1:] != self._row_shape:
            raise ValueError(f"rows of {array.dtype} {array.shape[1:]} after {self._dtype} {self._row_shape}")
        if array.size:
            self._file.write(np.ascontiguousarray(array).data)
        self._num_rows += len(array)

    def close(self) -> None:
        """Write the number of rows into the header."""
        self._file.seek(0)
        if self._write_header() != self._header_bytes:
            raise RuntimeError("numpy's .npy header has no room for the number of rows")  # it keeps 21 digits free
        self._file.close()

    def _write_header(self) -> int:
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False}
        npy.write_array_header_1_0(self._file, header | {"shape": (self._num_rows, *self._row_shape)})
        return self._file.tell()
