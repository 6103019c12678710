"""Perceptual hashes: 64 bits that stay nearly the same where a picture is scaled, compressed or lightened."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def perceptual_hash(pixels: UInt8[np.ndarray, "height width 3"]) -> np.uint64:
    """The signs of the lowest 8 x 8 frequencies about their median (pHash, by the library ``imagehash``)."""
    import imagehash  # scipy and wavelets: 0.3 s to import

    bits = imagehash.phash(Image.fromarray(pixels)).hash
    return np.uint64(int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big"))
