"""Benchmarks: ``throughput`` compares ways to do the same work, ``refinement`` measures search, ``demo`` the demo."""

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import torch
from safetensors.torch import save_file

from geo_ray.benchmarks.peak_memory import memory_bytes
from geo_ray.benchmarks.throughput import Done, bare_processes, bulk_job, compare, daft_query, data_loader
from geo_ray.cells.partition_file import read_partition, write_partition
from geo_ray.data.run.job import GeotagOptions, prepare
from geo_ray.data.run.pipeline import answer_all
from geo_ray.datasets import earth
from geo_ray.index.index_folder import PrototypeIndex, encode_features, read_index, write_index
from geo_ray.index.split import split_index
from geo_ray.models.bundle import CALIBRATION, CELLS, HEAD, INDEX, WEIGHTS, open_bundle, write_manifest
from geo_ray.models.clip import TOWER, create_tower
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place
from geo_ray.remote.runtime import connected
from geo_ray.remote.shard_client import ShardRuntime
from geo_ray.remote.shard_group import index_runtime

Way = Callable[[Path, str, Place, Path], list[Done]]  # a table of images, a bundle, how wide, and a folder
NUM_FILES = 1000  # distinct images; they are read over and over


def write_crops(folder: Path) -> list[str]:
    """The data set's JPEG crops of 128 x 128."""
    latlon = earth.locations()[:: len(earth.locations()) // NUM_FILES][:NUM_FILES]
    return _write(folder, earth.render(earth.jittered_views(latlon, np.random.default_rng(0))))


def write_photos(folder: Path) -> list[str]:
    """JPEG images of 640 x 480, the size of a small photo: crops of the Earth, as it is decoding that matters."""
    latlon = earth.locations()[:: len(earth.locations()) // 200][:200]
    views = earth.jittered_views(latlon, np.random.default_rng(0))
    parts = [earth.render(views.take(slice(start, start + 20)), 640)[:, :480] for start in range(0, 200, 20)]
    return _write(folder, np.concatenate(parts))


def _write(folder: Path, pixels: np.ndarray) -> list[str]:
    folder.mkdir()
    for number, image in enumerate(pixels):
        (folder / f"{number:04d}.jpg").write_bytes(earth.encode_jpeg(image))
    return sorted(str(path) for path in folder.iterdir())


def write_vit_bundle(folder: Path, name: str = "ViT-S-32", num_features: int = 384) -> str:
    """A bundle of a tower of open_clip's with random weights and earth-tiny's cells: right in cost, not in answers."""
    tiny = open_bundle("earth-tiny")
    encoder = EncoderSpec(architecture=f"open_clip:{name}", image_size=224, num_features=num_features, micro_batch=32)
    folder.mkdir()
    tower = create_tower(encoder).state_dict()
    save_file({TOWER + name: value.contiguous() for name, value in tower.items()}, folder / WEIGHTS)
    num_cells = len(read_partition(tiny.path(CELLS)))
    head = {"weight": torch.randn(num_cells, encoder.num_features), "bias": torch.zeros(num_cells)}
    save_file(head, folder / HEAD)
    write_partition(read_partition(tiny.path(CELLS)), folder / CELLS)
    (folder / CALIBRATION).write_text(tiny.path(CALIBRATION).read_text())
    write_index(_random_features(read_index(tiny.path("index")), encoder.num_features), folder / "index")
    write_manifest(
        folder, kind="cells", description="random weights, for timing", licence="", attribution="", encoder=encoder,
        parameters=tiny.refinement, provenance={},
    )  # fmt: skip
    return str(folder)


def _random_features(index: PrototypeIndex, num_features: int) -> PrototypeIndex:
    rng = np.random.default_rng(0)
    prototypes, members = (
        encode_features(rng.normal(size=(n, num_features)).astype(np.float32))
        for n in (len(index.prototype_latlon), len(index.member_latlon))
    )
    return PrototypeIndex(**vars(index) | {"prototype_features": prototypes, "member_features": members})


def throughput(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The bulk job against bare processes, a DataLoader and Daft, for ordinary and for tiny work an image."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        vit = write_vit_bundle(root / "vit") if options.only in ("", "ViT-S-32") else ""
        for name, bundle, write_files, batch in (
            ("ViT-S-32", vit, write_photos, 32),
            ("earth-tiny", "earth-tiny", write_crops, 256),
        ):
            if options.only in ("", name):
                table = _table_of(write_files(root / f"{name}-images"), options.num_images, root / f"{name}.csv")
                place = Place(num_workers=options.workers, batch_size=batch)
                rows += _compare(name, bundle, table, place, root / name, options.ways)
    return rows


def _table_of(files: list[str], num_images: int, table: Path) -> Path:
    """A table that names the files over and over."""
    rows = (f"{number},{files[number % len(files)]}\n" for number in range(num_images))
    table.write_text("id,path\n" + "".join(rows))
    return table


WAYS: dict[str, Way] = {
    "bare": bare_processes,
    "geo-ray": bulk_job,
    "dataloader": data_loader,
    "daft": daft_query,
}


def _compare(
    name: str, bundle: str, table: Path, place: Place, root: Path, wanted: Sequence[str]
) -> list[dict[str, Any]]:
    ways = {way: run for way, run in WAYS.items() if way == "bare" or way in wanted}
    if not importlib.util.find_spec("daft"):
        ways.pop("daft", None)
    for way in ways:
        (root / way).mkdir(parents=True)
    return compare(name, {way: partial(run, table, bundle, place, root / way) for way, run in ways.items()})


def refinement(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What search and refinement cost beside encoding by ViT-B-32, in the bulk pipeline: a row each way to search."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        bundle = write_vit_bundle(root / "vit", "ViT-B-32", 512)
        split_index(root / "vit" / INDEX, 2, root / "shards")
        files = write_photos(root / "photos")
        table = _table_of(files, options.num_images, root / "inputs.csv")
        for name, index in (("in each worker", None), ("on 2 shard actors", str(root / "shards"))):
            rows.append({"name": name} | _refined(str(table), bundle, index, str(root / name)))
    return rows


def _refined(inputs: str, bundle: str, index: str | None, output: str) -> dict[str, Any]:
    options = GeotagOptions(inputs=(inputs,), output=output, bundle=bundle, index=index)
    job = prepare(options)
    seconds: Counter[str] = Counter()
    with connected("local", 4):
        place = Place(num_workers=2, batch_size=64, num_index_shards=job.num_index_shards, cpus_per_index_shard=0.25)
        with index_runtime(job.index, place) if job.index else contextlib.nullcontext(Runtime()) as runtime:
            answer_all(job.work, place, runtime, lambda answered, listed: seconds.update(answered.seconds))
            if isinstance(runtime, ShardRuntime):
                actors = [actor for replicas in runtime.shards.roster.actors for actor in replicas]
                seconds["shards"] = sum(status["seconds"] for status in ray.get([a.status.remote() for a in actors]))
    shares = {stage: round(seconds[stage] / seconds["Encode"], 4) for stage in seconds if stage != "Encode"}
    return {"encode_s": round(seconds["Encode"], 1), "shares_of_encode": shares,
            "search_and_refine": round(shares["SearchPrototypes"] + shares["Refine"], 4)}  # fmt: skip


def demo(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Wall time of the demo and the memory of all its processes together at its highest."""
    with tempfile.TemporaryDirectory() as temporary:
        start = time.perf_counter()
        command = [sys.executable, str(Path(__file__).with_name("demo.py")), "--output", temporary]
        process = psutil.Popen(command)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory_bytes(process))
            time.sleep(0.5)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"the demo ended with exit code {process.returncode}")
    return [{"name": "demo", "seconds": round(seconds, 1), "peak_memory_gib": round(peak / 2**30, 2)}]


def main() -> None:
    """Parse the arguments, run a benchmark, print its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--num-images", type=int, default=20_000)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help=(
        "beside bare processes (default: all; Daft takes more than 24 GiB for 20,000 photos)"))  # fmt: skip
    parser.add_argument("--only", default="", choices=["", "ViT-S-32", "earth-tiny"], help="one of the works alone")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes or actors (default: a core each)"
    )
    options = parser.parse_args()
    rows = BENCHMARKS[options.benchmark](options)
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


BENCHMARKS = {"throughput": throughput, "refinement": refinement, "demo": demo}

if __name__ == "__main__":
    main()
