"""Trainings on overhead crops, which the workers render themselves."""

from collections.abc import Callable
from pathlib import Path

from geo_ray.atlas.boundaries import boundaries
from geo_ray.cells.partition_file import write_partition
from geo_ray.cells.semantic import Semantic
from geo_ray.remote.cell_tasks import build_cells
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.config import Scale, TrainConfig
from geo_ray.train.crop_captions import PLACES, CropCaptionWork
from geo_ray.train.crop_task import CELLS, CropWork
from geo_ray.train.held_out import held_out_countries, photo_places, training_places, write_places
from geo_ray.train.places import train_locations
from geo_ray.train.run_folder import WEIGHTS
from geo_ray.train.trainer import run_work


def train(
    config: TrainConfig, output: Path, scale: Scale | None = None, say: Callable[[str], None] = print
) -> tuple[Path, Path]:
    """Build the cells and train on overhead crops; returns the paths of the weights and of the cells.

    Needs a connected Ray with the workers' CPUs (or GPUs) free. Run again with the same ``output``, it goes on where it
    was, or returns the finished run's weights.
    """
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    cells = output / CELLS
    if not cells.exists():
        semantic = Semantic(sizes=config.cell_sizes, seed=config.seed)
        partition = build_cells(boundaries(), train_locations(config, "train"), semantic)
        write_partition(partition, cells.with_suffix(".partial"))
        cells.with_suffix(".partial").rename(cells)
    run_work(CropWork(config=config), output, scale or Scale(), say=say)
    return output / WEIGHTS, cells


def train_captions(
    config: CaptionConfig, output: Path, scale: Scale | None = None, say: Callable[[str], None] = print
) -> tuple[Path, tuple[str, ...]]:
    """Train a small CLIP on places with captions; returns the path of the weights, and the countries held out.

    Needs Ray, and runs again, as ``train`` does.
    """
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    photos = photo_places()
    held_out = held_out_countries(photos.countries, config)
    training = training_places(photos, config)
    write_places(training, output / PLACES)
    say(f"held out: {', '.join(held_out)}; {len(training):,} places to train on, {config.apart_km:g} km away or more")
    run_work(CropCaptionWork(config=config), output, scale or Scale(), say=say)
    return output / WEIGHTS, held_out
