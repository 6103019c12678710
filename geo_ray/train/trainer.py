"""Training through Ray Train: workers that go on from the last checkpoint, whatever ends one of them."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from geo_ray import errors
from geo_ray.errors import InputError, OutputError, TrainingError, last_line
from geo_ray.remote_files import filesystem
from geo_ray.train.config import LoopConfig, Scale
from geo_ray.train.progress import Watching, following
from geo_ray.train.run_folder import FAILED, FINISHED, RUN, WEIGHTS, RunFolder, complete_steps
from geo_ray.train.worker import Work, train_worker

FREE_CPUS = 1  # beside the workers, for reading and decoding, where a training streams a table


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
        failure_config=FailureConfig(max_failures=scale.max_failures),
        **where,
    )
    return TorchTrainer(
        train_worker,
        train_loop_config={
            "work": work,
            "folder": folder,
            "threads": scale.threads_per_worker,
            "watching": watching,
        },
        scaling_config=scaling,
        run_config=run,
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo"),
        datasets=None if datasets is None else datasets(folder),
    )


def _raise_failure(folder: RunFolder) -> None:
    failed = folder.read_json(FAILED)
    if failed is not None:
        raise getattr(errors, failed["kind"], TrainingError)(failed["text"])
