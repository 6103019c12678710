"""Blocks of a quarter of a degree: the places that figures, folds and splits are by."""

import numpy as np
from jaxtyping import Float64, Int

BLOCK_DEGREES = 0.25


def block_ids(latlon: Float64[np.ndarray, "n 2"], degrees: float = BLOCK_DEGREES) -> Int[np.ndarray, "n"]:
    """The block of each point (degrees), as one integer; 180 and -180 degrees are one meridian.

    ``degrees`` are of a block's side, of which 360 must be a multiple.
    """
    per_row = round(360 / degrees)
    row = np.floor((latlon[:, 0] + 90) / degrees).astype(np.int64)
    column = np.floor((latlon[:, 1] + 180) / degrees).astype(np.int64) % per_row
    return row * per_row + column
