"""Rendered crops for tests: a few held-out places of the embedded data set, as JPEG."""

from pathlib import Path

import numpy as np

from geo_ray.datasets import earth


def jpeg_crops(count: int, seed: int = 0) -> list[bytes]:
    """JPEG crops of ``count`` places, drawn by the seed."""
    rng = np.random.default_rng(seed)
    latlon = earth.locations()[rng.choice(len(earth.locations()), count, replace=False)]
    return [earth.encode_jpeg(pixels) for pixels in earth.render(earth.jittered_views(latlon, rng))]


def write_crops(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """The crops as files 000.jpg, 001.jpg, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.jpg" for number in range(count)]
    for path, content in zip(paths, jpeg_crops(count, seed), strict=True):
        path.write_bytes(content)
    return paths
