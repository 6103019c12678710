"""Training through Ray Train: workers that go on from the last checkpoint, whatever ends one of them."""

import dataclasses
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow.fs
import ray
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from geo_ray import errors
from geo_ray.atlas.boundaries import boundaries
from geo_ray.cells.partition_file import write_partition
from geo_ray.cells.semantic import Semantic
from geo_ray.errors import GeoRayError, InputError, OutputError, TrainingError, last_line
from geo_ray.remote.cell_tasks import build_cells
from geo_ray.remote_files import filesystem
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.config import LoopConfig, Scale, TrainConfig
from geo_ray.train.crop_captions import PLACES, CropCaptionWork
from geo_ray.train.crop_task import CELLS, CropWork
from geo_ray.train.held_out import held_out_countries, photo_places, training_places, write_places
from geo_ray.train.loop import Worker, run_steps
from geo_ray.train.places import train_locations
from geo_ray.train.progress import Progress, Watching, following
from geo_ray.train.run_folder import FINISHED, RUN, WEIGHTS, RunFolder, complete_steps, read_streams
from geo_ray.train.task import Stream, Task

FAILED = "failed.json"
FREE_CPUS = 1  # beside the workers, for reading and decoding, where a training streams a table


@runtime_checkable
class Work(Protocol):
    """A training, small enough to be sent to every worker."""

    @property
    def config(self) -> LoopConfig:
        """The settings of its loop."""

    def open(self, folder: RunFolder, states: Sequence[dict[str, Any]]) -> tuple[Task, Stream]:
        """On a worker: what is learned, and its batches from where all workers' streams were left."""


def run_work(
    work: Work,
    output: str | Path | RunFolder,
    scale: Scale,
    *,
    name: str = "",
    data: Mapping[str, Any] | None = None,
    datasets: Callable[[RunFolder], dict[str, Callable[[], Any]]] | None = None,
    watching: Watching | None = None,
    say: Callable[[str], None] = print,
) -> RunFolder:
    """Run the workers of a training to its end; its weights are in the folder then.

    A finished run is left as it is; one that was begun goes on from its last checkpoint. ``OutputError`` where the
    folder is another run's, which it names: by ``name``, the configuration, ``data`` (digests of what is trained on) or
    the version. ``TrainingError`` where the workers failed more often than ``scale`` allows.
    """
    folder = output if isinstance(output, RunFolder) else RunFolder(output)
    check_key(folder, run_key(name, work.config, data or {}))
    if folder.read(FINISHED) is not None:
        say(f"finished before: {folder.address(WEIGHTS)}")
        return folder
    check_room(scale, ray.cluster_resources(), streams=datasets is not None)
    folder.delete(FAILED)
    if steps := complete_steps(folder):
        say(f"going on after step {steps[-1]:,}")
    with following(folder, work.config.num_steps, say):
        result = _trainer(work, folder, scale, datasets, watching or Watching()).fit()
    _raise_failure(folder)
    if result.error is not None:
        raise TrainingError(f"the workers failed ({last_line(result.error)}); run it again to go on") from result.error
    if folder.read(FINISHED) is None:
        raise TrainingError("the workers ended before the last step; run it again to go on")
    return folder


def run_key(name: str, config: LoopConfig, data: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run the same run."""
    from geo_ray import __version__

    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    return {"recipe": name, "config": settings, "data": dict(data), "version": __version__}


def check_key(folder: RunFolder, key: dict[str, Any]) -> None:
    """Take the folder for a run; ``OutputError`` says what differs where it is another's."""
    held = folder.read_json(RUN)
    if held is None:
        folder.write_json(RUN, key)
    elif held != key:
        was, now = ({**k["config"], **k["data"], "recipe": k["recipe"], "version": k["version"]} for k in (held, key))
        changed = [f"{n} was {was.get(n)!r}, is {now.get(n)!r}" for n in now | was if was.get(n) != now.get(n)]
        raise OutputError(f"{folder.uri} holds another run: {'; '.join(changed)}; name another --output, or delete it")


def check_room(scale: Scale, resources: Mapping[str, float], streams: bool = False) -> None:
    """Raise ``InputError`` where the cluster has no room for the least number of workers."""
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    needed = scale.num_workers * scale.threads_per_worker + (FREE_CPUS if streams else 0)
    if needed > cpus:
        beside = f" and {FREE_CPUS} for the data" if streams else ""
        raise InputError(
            f"{scale.num_workers} workers of {scale.threads_per_worker} CPUs{beside} need {needed} CPUs, Ray has "
            f"{cpus:g}; name fewer --num-workers or --threads-per-worker"
        )
    if gpus and scale.num_workers > gpus:
        raise InputError(f"{scale.num_workers} workers need as many GPUs, Ray has {gpus:g}; name fewer --num-workers")


def _trainer(
    work: Work,
    folder: RunFolder,
    scale: Scale,
    datasets: Callable[[RunFolder], dict[str, Callable[[], Any]]] | None,
    watching: Watching,
) -> TorchTrainer:
    use_gpu = "GPU" in ray.cluster_resources()
    scaling = ScalingConfig(
        num_workers=scale.workers, use_gpu=use_gpu, resources_per_worker={"CPU": scale.threads_per_worker}
    )
    where: dict[str, Any] = {"storage_path": folder.address("ray")}
    if folder.local is None:
        fs, path = filesystem(folder.address("ray"))
        where = {"storage_path": path, "storage_filesystem": pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))}
    run = RunConfig(
        name="run",
        callbacks=[Progress(folder, watching)],
        failure_config=FailureConfig(max_failures=scale.max_failures),
        **where,
    )
    return TorchTrainer(
        _worker,
        train_loop_config={"work": work, "folder": folder, "threads": scale.threads_per_worker},
        scaling_config=scaling,
        run_config=run,
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo"),
        datasets=None if datasets is None else datasets(folder),
    )


def _worker(settings: dict[str, Any]) -> None:
    """What Ray Train runs on every worker.

    A fault that trying again won't mend is written down, and the workers that would try again leave at once.
    """
    work, folder = settings["work"], settings["folder"]
    torch.set_num_threads(settings["threads"])
    if folder.read(FAILED) is not None:
        return
    steps = complete_steps(folder)
    states = read_streams(folder, steps[-1]) if steps else []
    try:
        task, stream = work.open(folder, states)
        device = ray.train.torch.get_device()
        run_steps(task, stream, work.config, Worker(device=device, folder=folder, report=ray.train.report))
    except GeoRayError as error:
        folder.write_json(FAILED, {"kind": type(error).__name__, "text": str(error)})
        raise
    except ValueError as error:
        told = f"{error} ({traceback.extract_tb(error.__traceback__)[-1].name})"
        folder.write_json(FAILED, {"kind": "TrainingError", "text": told})
        raise
    context = ray.train.get_context()
    if context.get_world_rank() == 0:
        folder.write_json(FINISHED, {"step": work.config.num_steps, "workers": context.get_world_size()})


def _raise_failure(folder: RunFolder) -> None:
    failed = folder.read_json(FAILED)
    if failed is not None:
        raise getattr(errors, failed["kind"], TrainingError)(failed["text"])


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
