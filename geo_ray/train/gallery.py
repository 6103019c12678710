"""The gallery of a bundle: places whose crops are embedded as members of the index."""

import numpy as np
import ray
import torch
from jaxtyping import Float32, Float64, Int

from geo_ray.datasets import earth
from geo_ray.datasets.splits import splits
from geo_ray.geo.sphere import EARTH_RADIUS_KM, destination
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import Batch, source_batch
from geo_ray.pipeline.graph import embedding_graph
from geo_ray.pipeline.local import run_local
from geo_ray.pipeline.stage import Runtime
from geo_ray.train.config import TrainConfig
from geo_ray.train.places import train_locations


def thin(latlon: Float64[np.ndarray, "n 2"], apart_km: float) -> Int[np.ndarray, "m"]:
    """Row numbers of one point for each occupied square of a grid, the first of each: the rest are the same pixels."""
    height = np.degrees(apart_km / EARTH_RADIUS_KM)
    row = np.floor(latlon[:, 0] / height)
    width = height / np.cos(np.radians((row + 0.5) * height)).clip(min=0.01)  # of the row, or its columns would shear
    squares = np.stack([row, np.floor(latlon[:, 1] / width)], axis=1)
    return np.sort(np.unique(squares, axis=0, return_index=True)[1])


def gallery_places(config: TrainConfig) -> Float64[np.ndarray, "n 2"]:
    """The training locations, thinned, and where they are thin, places about them; none that is held out."""
    latlon = train_locations(config, "train")
    latlon = latlon[thin(latlon, config.gallery_apart_km)]
    steps = np.arange(-config.gallery_reach_km, config.gallery_reach_km + 1, config.gallery_step_km)
    east, north = (axis.ravel() for axis in np.meshgrid(steps, steps))
    about = latlon[thin(latlon, config.gallery_step_km)]
    moved = destination(np.repeat(about, len(east), axis=0), np.tile(east, len(about)), np.tile(north, len(about)))
    moved = moved[splits(moved, config.split_seed, config.split) == "train"]
    both = np.concatenate([latlon, moved])
    kept = thin(both, config.gallery_step_km)
    return np.concatenate([latlon, both[kept[kept >= len(latlon)]]])


def embed_views(
    views: earth.Views, bundle: str, num_tasks: int = 8, raster: str = earth.RASTERS[0]
) -> Float32[np.ndarray, "n D"]:
    """Image features of rendered crops, as JPEG through the embedding graph, by parallel Ray tasks."""
    parts = np.array_split(np.arange(len(views)), num_tasks)
    task = ray.remote(_embed).options(num_cpus=1)
    return np.concatenate(ray.get([task.remote(views.take(rows), bundle, raster) for rows in parts]))


def _embed(views: earth.Views, bundle: str, raster: str) -> Float32[np.ndarray, "n D"]:
    torch.set_num_threads(1)
    batches = (_source(views.take(slice(start, start + 256)), raster) for start in range(0, len(views), 256))
    answers = run_local(embedding_graph(open_bundle(bundle)), batches, Runtime())
    return np.concatenate([answer["image_features"] for answer in answers])


def _source(views: earth.Views, raster: str) -> Batch:
    jpegs: list[bytes | None] = [earth.encode_jpeg(pixels) for pixels in earth.render(views, raster_name=raster)]
    names = [str(row) for row in range(len(jpegs))]
    return source_batch(names, names, jpegs, [""] * len(jpegs))
