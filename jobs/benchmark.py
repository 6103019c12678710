"""Benchmarks: ``throughput`` compares ways to do the same work in one run; ``demo`` measures the demo."""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors.torch import save_file

from geo_ray.cells.store import read_partition, write_partition
from geo_ray.data.sources import Input
from geo_ray.data.throughput import bare_rate, compare, data_loader_rate, ray_data_rate
from geo_ray.datasets import earth
from geo_ray.index.store import PrototypeIndex, encode_features, read_index, write_index
from geo_ray.models.bundle import CALIBRATION, CELLS, HEAD, WEIGHTS, open_bundle, write_manifest
from geo_ray.models.clip import TOWER, create_tower
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.remote.place import Place
from geo_ray.remote.runtime import connected

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


def write_vit_bundle(folder: Path) -> str:
    """A bundle of open_clip's ViT-S-32 with random weights and earth-tiny's cells: right in cost, not in answers."""
    tiny = open_bundle("earth-tiny")
    encoder = EncoderSpec(architecture="open_clip:ViT-S-32", image_size=224, num_features=384, micro_batch=32)
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
    """Ray Data against bare processes and a DataLoader, for tiny and for ordinary work an image."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name, bundle, files, num_images, batch, block in (
            ("earth-tiny", "earth-tiny", write_crops(root / "crops"), options.num_images, 256, 1024),
            (
                "ViT-S-32",
                write_vit_bundle(root / "vit"),
                write_photos(root / "photos"),
                options.num_images // 16,
                32,
                64,
            ),
        ):
            inputs = [Input(image_id=str(i), uri=files[i % len(files)]) for i in range(num_images)]
            place = Place(num_workers=options.workers, batch_size=batch)
            rows += _compare(name, bundle, inputs, place, block, root / name)
    return rows


def _compare(name: str, bundle: str, inputs: list[Input], place: Place, block: int, root: Path) -> list[dict[str, Any]]:
    folders = {way: root / way for way in ("bare", "ray-data", "dataloader")}
    for folder in folders.values():
        folder.mkdir(parents=True)

    def on_ray() -> float:
        with connected("local", place.num_workers + 2):
            return ray_data_rate(inputs, bundle, place, block, folders["ray-data"])

    return compare(name, {
        "bare": lambda: bare_rate(inputs, bundle, place, folders["bare"]),
        "ray-data": on_ray,
        "dataloader": lambda: data_loader_rate(inputs, bundle, place, folders["dataloader"]),
    })  # fmt: skip


def demo(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Wall time of the demo and the memory of all its processes together at its highest."""
    with tempfile.TemporaryDirectory() as temporary:
        start = time.perf_counter()
        command = [sys.executable, str(Path(__file__).with_name("demo.py")), "--output", temporary]
        process = psutil.Popen(command)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory_bytes(process))
            time.sleep(0.5)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"the demo ended with exit code {process.returncode}")
    return [{"name": "demo", "seconds": round(seconds, 1), "peak_memory_gib": round(peak / 2**30, 2)}]


def _memory_bytes(process: psutil.Process) -> int:
    """Proportional set size of a process and all below it: what is shared counts once."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            total += member.memory_full_info().pss
    return total


def main() -> None:
    """Parse the arguments, run a benchmark, print its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--num-images", type=int, default=24_000, help="of the tiny work; a sixteenth of the ordinary")
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


BENCHMARKS = {"throughput": throughput, "demo": demo}

if __name__ == "__main__":
    main()
