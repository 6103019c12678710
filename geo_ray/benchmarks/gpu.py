"""The bulk job on a GPU beside what bounds it: the tower alone, the encoder, decoders, search. All in one run.

Shares are of the nearest bound: of the tower alone, and of decoding, by the CPUs or the GPU as the run has it. Weights
are random: right in cost, not in answers. ``SMOKE`` does the same with little work, on a CPU where there is no GPU.
"""

import contextlib
import multiprocessing
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from geo_ray.benchmarks.decoders import MAX_PIXELS, PHOTOS, QUALITY
from geo_ray.benchmarks.workload import write_table, write_vit_bundle
from geo_ray.data.run.block_reader import MAX_PIXEL_BYTES
from geo_ray.data.run.job import geotag
from geo_ray.data.run.plan import with_decoding, with_search, worker_memory
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.data.run.worker import Answered
from geo_ray.models.bundle import WEIGHTS, open_bundle
from geo_ray.models.clip import TOWER, fastest_micro_batch, inference_dtype, load_tower, open_encoder, read_weights
from geo_ray.models.device_decode import DeviceDecoder
from geo_ray.models.preprocess import decode_image
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import plan
from geo_ray.remote.runtime import connected

SAMPLE_EVERY_S = 0.5


@dataclass(frozen=True)
class Tower:
    """One of open_clip's, with the number of its features and the side of its images."""

    name: str
    num_features: int
    side: int = 224


TOWERS = (Tower("ViT-B-32", 512), Tower("ViT-L-14", 768), Tower("ViT-L-14-336", 768, 336))


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much work: seconds for each bound, images of a bulk run, of which towers and sizes."""

    seconds: float = 2.0
    num_encoded: int = 2048
    num_images: int = 20_000
    towers: tuple[Tower, ...] = TOWERS
    sizes: tuple[tuple[int, int], ...] = PHOTOS


SMOKE = Amount(seconds=0.1, num_encoded=32, num_images=64, towers=(Tower("ViT-S-32", 384),), sizes=PHOTOS[:1])


def gpu_rows(photos: list[str], amount: Amount) -> Iterator[dict[str, Any]]:
    """A row for the machine; for each tower its bounds; for each size of photos decoding, and the bulk job."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    yield {"device": _name(device), "cpus": os.cpu_count(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = {size: _resized(photos, size, root / f"{size[0]}") for size in amount.sizes}
        for tower in amount.towers:
            bundle = write_vit_bundle(root / tower.name, tower.name, tower.num_features, tower.side)
            bounds = _tower_bounds(tower, bundle, device, amount)
            yield {"tower": tower.name} | bounds
            for size, paths in files.items():
                decoding = _decoding_bounds([Path(path).read_bytes() for path in paths], tower.side, device, amount)
                yield {"tower": tower.name, "photos": f"{size[0]} x {size[1]}"} | decoding
                table = write_table(paths, amount.num_images, root / f"{tower.name}-{size[0]}.csv")
                for decode in ("cpu", "gpu") if device == "cuda" else ("cpu",):
                    found = _bulk(table, bundle, root / f"{tower.name}-{size[0]}-{decode}", decode)
                    bound = min(bounds["bare"], decoding["decode_cpu_all" if decode == "cpu" else "decode_gpu"])
                    row = {"tower": tower.name, "photos": f"{size[0]} x {size[1]}", "decode": decode}
                    yield row | found | {"share_of_bound": round(found["steady"] / bound, 3)}


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def _resized(photos: list[str], size: tuple[int, int], folder: Path) -> list[str]:
    folder.mkdir()
    for number, path in enumerate(photos):
        Image.open(path).convert("RGB").resize(size).save(folder / f"{number:04d}.jpg", quality=QUALITY)
    return sorted(str(path) for path in folder.iterdir())


def _rate(work: Callable[[], Any], count: int, seconds: float) -> float:
    """How many a second, of so many at a time, when all that was begun is done."""
    work()
    _wait()
    start, times = time.perf_counter(), 0
    while time.perf_counter() < start + seconds or not times:
        work()
        times += 1
    _wait()
    return round(count * times / (time.perf_counter() - start), 1)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _tower_bounds(tower: Tower, bundle: str, device: str, amount: Amount) -> dict[str, Any]:
    """Images a second of the tower alone, of the encoder from pixels in memory, and of the search on GPU and CPU."""
    encoder = open_encoder(open_bundle(bundle), device)
    micro_batch = fastest_micro_batch(encoder) if device == "cuda" else encoder.micro_batch
    bare = _bare_rate(bundle, device, micro_batch, amount)
    pixels = np.random.default_rng(0).integers(0, 255, (amount.num_encoded, tower.side, tower.side, 3), np.uint8)
    encoded = _rate(lambda: encoder(pixels), len(pixels), amount.seconds)
    return {
        "micro_batch": micro_batch,
        "bare": bare,
        "encoder": encoded,
        "encoder_share": round(encoded / bare, 3),
        "search_gpu": _search_rate(bundle, device, tower.num_features, amount),
        "search_cpu_a_core": _search_rate(bundle, None, tower.num_features, amount),
    }


def _bare_rate(bundle: str, device: str, micro_batch: int, amount: Amount) -> float:
    """Images a second of the tower alone, of so many that are on the device in the numbers that it computes in."""
    held, dtype = open_bundle(bundle), inference_dtype(device)
    tower = load_tower(held.encoder, read_weights(held.path(WEIGHTS), TOWER)).eval().to(device, dtype)
    side = held.encoder.image_size
    images = torch.randn(micro_batch, 3, side, side, device=device, dtype=dtype)
    layout = torch.channels_last
    tower, images = tower.to(memory_format=layout), images.to(memory_format=layout)
    with torch.inference_mode():
        return _rate(lambda: tower(images), micro_batch, amount.seconds)


def _search_rate(bundle: str, device: str | None, num_features: int, amount: Amount) -> float:
    """Images a second whose places are found by their features: all that comes after encoding."""
    _, _, locate = graph_of(open_bundle(bundle)).parts()
    built = locate.build(Runtime(search_device=device))
    features = np.random.default_rng(0).normal(size=(256, num_features)).astype(np.float32)
    text = np.full(len(features), "", dtype=object)
    batch = {"image_id": text, "uri": text, "problem": text.copy(), "image_features": features}
    return _rate(lambda: built(batch), len(features), amount.seconds)


def _decoding_bounds(contents: list[bytes], side: int, device: str, amount: Amount) -> dict[str, float]:
    """Images a second that a core decodes, that all do together, and that the GPU does."""
    num_cores = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(num_cores) as pool:
        asked = [(contents, side, amount.seconds)] * num_cores
        pool.map(_decode_rate, [(contents[:1], side, 0.0)] * num_cores)  # imports
        rates = pool.map(_decode_rate, asked, chunksize=1)
    decoder = DeviceDecoder(side, MAX_PIXELS, device)
    many = (contents * (256 // len(contents) + 1))[: 256 if device == "cuda" else 8]
    return {
        "decode_cpu_a_core": round(sum(rates) / num_cores, 1),
        "decode_cpu_all": round(sum(rates), 1),
        "decode_gpu": _rate(lambda: decoder(many), len(many), amount.seconds),
    }


def _decode_rate(asked: tuple[list[bytes], int, float]) -> float:
    contents, side, seconds = asked
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() < start + seconds:
        decode_image(contents[count % len(contents)], side, MAX_PIXELS)
        count += 1
    return count / (time.perf_counter() - start)


def _bulk(table: Path, bundle: str, output: Path, decode: str) -> dict[str, Any]:
    """The job that users run, on a Ray that it starts."""
    done: list[Answered] = []
    begun = time.time()
    options = GeotagOptions(inputs=(str(table),), output=str(output), bundle=bundle, decode=decode)
    job = prepare(options)
    with _busy() as busy, connected("local", block_bytes=MAX_PIXEL_BYTES) as resources:
        place = plan(
            resources["CPU"],
            resources.get("GPU", 0.0),
            memory=resources["memory"],
            memory_per_worker=worker_memory(job),
        )
        place = with_search(with_decoding(place, options, job.bundle, resources), options, job.bundle)
        manifest = geotag(job, place, done.append)
    wall = time.time() - begun
    first, last = min(one.done_at for one in done), max(one.done_at for one in done)
    steady = sum(one.num_rows for one in done if one.done_at > first) / max(last - first, 1e-9)
    seen = [shares for at, *shares in busy if first <= at <= last] or [shares for _, *shares in busy]
    gpu, cpu = (round(float(np.mean(column)) / 100, 3) for column in zip(*seen, strict=True))
    return {
        "images": manifest["num_images"],
        "steady": round(steady if len(done) > 1 else manifest["images_per_second"], 1),
        "end_to_end": round(manifest["num_images"] / wall, 1),
        "first_block_s": round(first - begun, 1),
        "gpu_busy": gpu,
        "cpus_busy": cpu,
        "seconds_by_stage": {name: stage["seconds"] for name, stage in manifest["stages"].items()},
    }


@contextlib.contextmanager
def _busy() -> Iterator[list[tuple[float, float, float]]]:
    """Samples, while the context lasts, of when and how busy (in percent) the GPU and all CPUs are."""
    samples, ended = list[tuple[float, float, float]](), threading.Event()

    def sample() -> None:
        psutil.cpu_percent()
        going_on = True
        while going_on:
            going_on = not ended.wait(SAMPLE_EVERY_S)
            samples.append((time.time(), _gpu_percent(), psutil.cpu_percent()))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _gpu_percent() -> float:
    """What the driver says of the first GPU; 0 without one."""
    if not torch.cuda.is_available():
        return 0.0
    asked = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    return float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
