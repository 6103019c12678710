"""Feature vectors as they are stored: float32, float16, or int8 with a scale each. Shapes: n vectors, D features."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float16, Float32, Int, Int8

from geo_ray.errors import InputError

Dtype = Literal["float32", "float16", "int8"]

DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "int8": np.int8}
BLOCK_ROWS = 4096  # of a pass over all vectors
HALF_MASK = np.int32(-0x70002000)  # sign, and the 15 bits of a half-float where they begin in a float
HALF_BIAS = np.float32(2.0**112)  # between the exponents' biases, 127 and 15


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Vectors, or int8 codes times a scale each; then the error of a component is at most half the scale.

    ``squared`` are the vectors' squared lengths; without them they are computed when first needed.
    """

    codes: Int8[np.ndarray, "n D"] | Float16[np.ndarray, "n D"] | Float32[np.ndarray, "n D"]
    scales: Float32[np.ndarray, "n"] | None = None
    squared: Float32[np.ndarray, "n"] | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def dtype(self) -> Dtype:
        """How they are stored."""
        names: dict[str, Dtype] = {"float32": "float32", "float16": "float16", "int8": "int8"}
        return names[self.codes.dtype.name]

    @property
    def size_bytes(self) -> int:
        """Of the vectors with their scales."""
        return self.codes.nbytes + (0 if self.scales is None else self.scales.nbytes)

    @cached_property
    def squared_norms(self) -> Float32[np.ndarray, "n"]:
        """The squared length of each vector."""
        if self.squared is not None:
            return self.squared
        norms = np.empty(len(self), np.float32)
        for start in range(0, len(self), BLOCK_ROWS):
            rows = self.decode(slice(start, start + BLOCK_ROWS)).astype(np.float64)
            norms[start : start + BLOCK_ROWS] = np.vecdot(rows, rows)
        return norms

    def decode(self, rows: slice | Int[np.ndarray, "m"] = slice(None)) -> Float32[np.ndarray, "m D"]:
        """The vectors of these rows."""
        codes = self.codes[rows]
        vectors = widen(codes, np.empty(codes.shape, np.float32))
        if self.scales is not None:
            vectors *= self.scales[rows, None]
        return vectors

    def block(self, start: int, stop: int, buffer: Float32[np.ndarray, "b D"]) -> Float32[np.ndarray, "m D"]:
        """The vectors of these rows before they are scaled: as they lie where they are float32, else in the buffer."""
        if self.codes.dtype == np.float32:
            return self.codes[start:stop]
        return widen(self.codes[start:stop], buffer[: stop - start])


def widen(codes: Any, out: Float32[np.ndarray, "m D"]) -> Float32[np.ndarray, "m D"]:
    """The codes as float32, in ``out``.

    Half-floats by their bits, three times as fast as numpy's own cast; they must be finite, as stored ones are.
    """
    if codes.dtype != np.float16:
        np.copyto(out, codes)
        return out
    bits = out.view(np.int32)
    np.copyto(bits, codes.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, HALF_MASK, out=bits)
    out *= HALF_BIAS
    return out


def encode_features(features: Float[np.ndarray, "n D"], dtype: Dtype = "int8") -> StoredFeatures:
    """Vectors stored so; ``InputError`` where values are NaN, infinite, or too large for the type."""
    check_finite(features)
    if dtype != "int8":
        largest = float(np.abs(features).max(initial=0.0))
        if largest > float(np.finfo(DTYPES[dtype]).max):
            raise InputError(f"features as large as {largest:.3g} don't fit {dtype}; scale them or use float32")
        return StoredFeatures(codes=np.ascontiguousarray(features, DTYPES[dtype]))
    scales = (np.abs(features).max(axis=1, initial=1e-12) / 127).astype(np.float32)
    return StoredFeatures(codes=np.rint(features / scales[:, None]).astype(np.int8), scales=scales)


def check_finite(features: Float[np.ndarray, "n D"], what: str = "feature vectors") -> None:
    """Raise ``InputError`` that counts the vectors with NaN or infinite values, or whose squared length overflows."""
    # In float64, as a float32's square may be infinite where the value is not; that one can't be searched either.
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.vecdot(features, features, dtype=np.float32)
    if num_bad := int((~np.isfinite(lengths)).sum()):
        raise InputError(
            f"{num_bad} of {len(features)} {what} hold NaN, infinite or overflowing values; embed those images again "
            "or leave them out"
        )
