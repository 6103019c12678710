"""What a training would do, before it does it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
import torch
from torch import nn

from geo_ray.errors import InputError
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.hub import fetch_checkpoint
from geo_ray.train.chain import ChainConfig, Place
from geo_ray.train.clip_model import ClipTowers
from geo_ray.train.clip_task import ClipConfig
from geo_ray.train.config import TowerConfig
from geo_ray.train.table_reading import open_table
from geo_ray.train.table_stream import with_steps
from geo_ray.train.trainer import check_room

BYTES_A_PARAMETER = 16  # weights, gradients and AdamW's two moments, in float32
TIMED_STEPS = 3


def plan_text(name: str, config: Any, place: Place) -> str:
    """Data, parameters, memory a worker, steps and hours of a recipe, and what the cluster lacks for it."""
    lines = [f"recipe: {name}"]
    if place.table:
        train, validation = open_table(place.table), _rows(place.table, "validation")
        lines.append(f"data: {train.num_rows:,} training images, {validation:,} for validation, in {place.table}")
    if isinstance(config, ChainConfig):
        lines += _of_chain(config, place)
    elif isinstance(config, ClipConfig):
        lines += _of_clip(config, place)
    elif isinstance(config, TowerConfig):
        lines.append(f"steps: {config.num_steps:,} on embedded crops")
    try:
        check_room(place.scale, ray.cluster_resources(), streams=bool(place.table))
        lines.append("cluster: has room")
    except InputError as error:
        lines.append(f"cluster: LACKS ROOM: {error}")
    return "\n".join(lines)


def _rows(table: str, split: str) -> int:
    try:
        return open_table(table, split).num_rows
    except InputError:
        return 0


def _of_chain(config: ChainConfig, place: Place) -> list[str]:
    steps = "pretrain, " if config.clip is not None else ""
    lines = [f"chain: {steps}embed ({config.num_views} views a place), cells, head, index, calibrate, evaluate"]
    if config.clip is not None and place.table:
        lines += _of_clip(config.clip, place, config.checkpoint)
    if place.table:
        places = max(1, open_table(place.table).num_rows // config.num_views)
        head = with_steps(config.head, places)
        lines.append(f"head: {head.num_steps:,} steps of {head.batch_size:,} on features")
    return lines


def _of_clip(config: ClipConfig, place: Place, checkpoint: str = "") -> list[str]:
    read = read_checkpoint(fetch_checkpoint(checkpoint or config.checkpoint).folder)
    config = with_steps(config, open_table(place.table).num_rows)
    count = sum(tensor.numel() for tensor in read.state.values())
    shards = place.scale.num_workers if config.parallel == "fsdp" else 1
    size = max(1, config.batch_size // (place.scale.num_workers * config.accumulation))
    rate = _measured(read.config, size, config, place)
    hours = config.num_steps * config.batch_size / (rate * place.scale.num_workers) / 3600
    return [
        f"parameters: {count:,}",
        f"memory a worker: {count * BYTES_A_PARAMETER / shards / 2**30:.1f} GiB of weights, gradients and moments, and "
        f"the activations of {size:,} pairs",
        f"steps: {config.num_steps:,} of {config.batch_size:,} pairs, {size:,} at a time on each of "
        f"{place.scale.num_workers} workers",
        f"hours: {hours:,.2f} by {rate:,.1f} pairs/s a worker, measured on {TIMED_STEPS} steps without data",
    ]


def _measured(model: dict[str, Any], size: int, config: ClipConfig, place: Place) -> float:
    """Pairs a second of a worker, by steps on blank images."""
    use_gpu = "GPU" in ray.cluster_resources()
    threads = place.scale.threads_per_worker
    task = ray.remote(_time_steps).options(num_cpus=threads, num_gpus=1 if use_gpu else 0)
    return float(ray.get(task.remote(model, min(size, 32), config.precision == "bf16", threads)))


def _time_steps(model: dict[str, Any], size: int, half: bool, threads: int) -> float:
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    towers: nn.Module = ClipTowers(model).to(device)
    side, length = model["vision_cfg"]["image_size"], model["text_cfg"].get("context_length", 77)
    pixels = torch.zeros((size, 3, side, side), device=device)
    tokens = torch.from_numpy(np.tile(np.arange(length), (size, 1))).to(device)
    step: Callable[[], float] = lambda: _step(towers, pixels, tokens, device, half)  # noqa: E731
    step()
    start = time.perf_counter()
    for _ in range(TIMED_STEPS):
        step()
    return TIMED_STEPS * size / (time.perf_counter() - start)


def _step(towers: nn.Module, pixels: torch.Tensor, tokens: torch.Tensor, device: torch.device, half: bool) -> float:
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        images, texts, scale = towers(pixels, tokens)
    loss = nn.functional.cross_entropy(scale * images @ texts.T, torch.arange(len(images), device=device))
    loss.backward()  # type: ignore[no-untyped-call]
    towers.zero_grad()
    return float(loss.detach())
