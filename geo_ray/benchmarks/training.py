"""Training through Ray Train beside a bare torch loop: the same losses, and how much of the speed is left.

``crops`` renders its batches on the worker; ``table`` streams JPEG of a training table through Ray Data, beside a bare
loop that has its pixels in memory.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from torch import nn

from geo_ray.atlas.covariates import Covariates
from geo_ray.benchmarks.rows import write_json
from geo_ray.cells.partition import CellSizes
from geo_ray.cells.partition_file import read_partition, write_partition
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.data.training_table import TableOptions, build_training_table
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.heads import limit_logit_scale
from geo_ray.models.hub import fetch_checkpoint
from geo_ray.recipes.smoke import write_fresh_clip
from geo_ray.remote.runtime import connected
from geo_ray.train.chain import Place, run_streamed
from geo_ray.train.clip_task import ClipConfig, ClipTask, ClipWork
from geo_ray.train.config import LoopConfig, Scale, TrainConfig
from geo_ray.train.crop_task import CELLS, CropTask, CropWork
from geo_ray.train.optimizer import learning_rate_share
from geo_ray.train.places import place_batches, train_locations
from geo_ray.train.progress import read_progress
from geo_ray.train.run_folder import RunFolder
from geo_ray.train.trainer import run_work

WARM = 10  # steps that aren't timed


def bare(task: Any, batches: Iterator[Any], config: LoopConfig, device: torch.device) -> tuple[list[float], float]:
    """What anybody would write: the loss of each step, and images a second once warm."""
    model: nn.Module = task.model.to(device).to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, config))
    losses, start, seen = [], 0.0, 0
    for step, batch in enumerate(itertools.islice(batches, config.num_steps)):
        if step == WARM:
            start, seen = time.perf_counter(), 0
        total = task.losses(model, batch)["total"]
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        limit_logit_scale(model)
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(total.detach()))
        seen += len(task.ids(batch))
    return losses, seen / (time.perf_counter() - start)


def through_ray(folder: RunFolder) -> tuple[list[float], float]:
    """The same of a run's lines of progress, one a step."""
    lines = [line for line in read_progress(folder) if "total" in line]
    seen = sum(line["images_per_step"] for line in lines[WARM:])
    return [line["total"] for line in lines], seen / (lines[-1]["time"] - lines[WARM - 1]["time"])


def compare_crops(num_steps: int, threads: int) -> Iterator[dict[str, Any]]:
    """A row a pair of runs: rates, and the largest difference of a step's losses."""
    config = TrainConfig(num_steps=num_steps, log_every=1, precision="fp32", checkpoint_every=10 * num_steps)
    with tempfile.TemporaryDirectory() as top:
        latlon = train_locations(config, "train")
        partition = build_rectangles(latlon, CellSizes(min_size=60, max_size=120))
        for number in range(2):
            folder = RunFolder(Path(top, str(number)))
            Path(folder.uri).mkdir()
            write_partition(partition, Path(folder.uri, CELLS))
            torch.set_num_threads(threads)
            task = CropTask(config, read_partition(Path(folder.uri, CELLS)))
            plain = bare(task, place_batches(config, 0), config, torch.device("cpu"))
            run_work(CropWork(config=config), folder, Scale(threads_per_worker=threads), say=lambda text: None)
            yield _row("crops", plain, through_ray(folder))


def compare_table(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The same for a CLIP on a table; rows come in another order there, so that losses aren't compared."""
    with tempfile.TemporaryDirectory() as top:
        table = options.table or f"{top}/table"
        if not options.table:
            covariates = Covariates(population="")
            made = TableOptions(inputs=("earth:2000",), output=table, covariates=covariates)
            build_training_table(made, lambda text: None)
        checkpoint = options.checkpoint or str(write_fresh_clip(Path(top, "fresh")))
        config = ClipConfig(
            checkpoint=checkpoint, num_steps=options.num_steps, batch_size=options.batch_size, log_every=1,
            learning_rate=1e-4, precision=options.precision, recompute=options.recompute, num_validation=8,
            checkpoint_every=10 * options.num_steps, shuffled_rows=0,
        )  # fmt: skip
        work = ClipWork(config=config, table=table)
        task = ClipTask(config, read_checkpoint(fetch_checkpoint(checkpoint).folder), {})
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        plain = bare(task, itertools.cycle(_in_memory(task, work, options.batch_size)), config, device)
        place = Place(table=table, scale=Scale(threads_per_worker=options.threads), say=lambda text: None)
        run_streamed(work, RunFolder(Path(top, "run")), place, "benchmark")
        yield _row("table", plain, through_ray(RunFolder(Path(top, "run"))), with_losses=False)


def _in_memory(task: ClipTask, work: ClipWork, size: int) -> list[Any]:
    """A few batches of a table, decoded."""
    reading, batches = work.reading(), []
    for group in reading.table.groups[:64]:
        rows = reading.finished(reading.read(group))
        held = {name: rows[name].combine_chunks() for name in rows.column_names}
        columns = {
            name: v.to_numpy_ndarray() if name == "pixels" else v.to_numpy(zero_copy_only=False)
            for name, v in held.items()
        }
        batches.append(columns | {"epoch": np.zeros(len(rows), np.int64)})
        if sum(len(each["row"]) for each in batches) >= 4 * size:
            break
    whole = {name: np.concatenate([each[name] for each in batches]) for name in batches[0]}
    starts = range(0, max(1, len(whole["row"]) - size + 1), size)
    return [task.batch_of({name: v[start : start + size] for name, v in whole.items()}) for start in starts]


def _row(
    name: str, plain: tuple[list[float], float], trained: tuple[list[float], float], with_losses: bool = True
) -> dict[str, Any]:
    apart = float(np.abs(np.subtract(plain[0], trained[0])).max()) if with_losses else None
    return {"work": name, "bare": plain[1], "ray_train": trained[1], "share": trained[1] / plain[1],
            "losses_apart": apart}  # fmt: skip


def main() -> None:
    """Print a line a pair of runs, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["crops", "table"])
    parser.add_argument("--num-steps", type=int, default=60, metavar="N")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of the worker (default: 2)")
    parser.add_argument("--table", default="", metavar="DIR", help="of work table (default: 2,000 embedded crops)")
    parser.add_argument("--checkpoint", default="", metavar="DIR", help="of work table (default: a tiny fresh CLIP)")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N", help="of work table (default: 128)")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="fp32")
    parser.add_argument("--recompute", action="store_true", help="activations in the backward pass")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    with connected("local", module="ray.train"):
        print(f"{ray.cluster_resources().get('CPU', 0):g} CPUs of Ray, {ray.cluster_resources().get('GPU', 0):g} GPUs")
        found = compare_crops(options.num_steps, options.threads) if options.work == "crops" else compare_table(options)
        for row in found:
            rows.append(row)
            apart = "" if row["losses_apart"] is None else f", losses apart by at most {row['losses_apart']:.1e}"
            print(f"{row['work']}: bare {row['bare']:,.1f} images/s, Ray Train {row['ray_train']:,.1f}: "
                  f"{row['share']:.3f}{apart}", flush=True)  # fmt: skip
    write_json(options.json, rows)
