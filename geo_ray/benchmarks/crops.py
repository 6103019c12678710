"""Satellite crops as files, with a table of their places: what demo and comparisons geotag."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from geo_ray.datasets import earth

RENDER_AT_ONCE = 250
IMAGES, TRUTH = "images", "truth.csv"


def write_crops(
    folder: Path,
    latlon: Float64[np.ndarray, "n 2"],
    rng: np.random.Generator,
    columns: Mapping[str, Shaped[np.ndarray, "n"]] | None = None,
    raster: str = earth.RASTERS[0],
) -> None:
    """Write jittered JPEG crops to ``folder``/images, their places and further columns to ``folder``/truth.csv."""
    views, more = earth.jittered_views(latlon, rng), columns or {}
    names = [f"{number:05d}.jpg" for number in range(len(latlon))]
    (folder / IMAGES).mkdir(parents=True)
    for start in range(0, len(latlon), RENDER_AT_ONCE):
        part = slice(start, start + RENDER_AT_ONCE)
        for name, pixels in zip(names[part], earth.render(views.take(part), raster_name=raster), strict=True):
            (folder / IMAGES / name).write_bytes(earth.encode_jpeg(pixels))
    with (folder / TRUTH).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "latitude", "longitude", *more])
        rows = zip(names, latlon.tolist(), *more.values(), strict=True)
        table.writerows([name, *point, *values] for name, point, *values in rows)
