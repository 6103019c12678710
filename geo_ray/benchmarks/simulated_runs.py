"""The bulk job on simulated GPUs: how busy they are while all else is real.

Real are the command's own steps: listing, reading, what travels, locating with a bundle's head and index, writing and
committing. A decoder and a GPU sleep, so that few cores stand for many: both are ``SLOWER`` times as slow as measured
on an H200 with 16 cores, as places are found and files are read on the cores that are here.
"""

import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from geo_ray.benchmarks.simulated_gpu import SleepingDecode, SleepingEncode, busy
from geo_ray.benchmarks.workload import write_crops
from geo_ray.data.run.block_reader import MAX_PIXEL_BYTES
from geo_ray.data.run.job import geotag
from geo_ray.data.run.pipeline import CPUS_TO_DECODE
from geo_ray.data.run.preparation import GeotagJob, GeotagOptions, prepare
from geo_ray.data.sources import SourceOptions
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.graph import Graph
from geo_ray.remote.place import Place
from geo_ray.remote.runtime import connected

SLOWER = 10.0
ENCODED_PER_S = 2690.0  # by ViT-L/14 on an H200
DECODED_PER_S = 339.0  # of 640 x 480 by a core
CPUS_PER_GPU = 16


def write_folder(folder: Path, crops: list[str], num_images: int) -> str:
    """A folder of so many files."""
    folder.mkdir()
    for number in range(num_images):
        (folder / f"{number:07d}.jpg").symlink_to(crops[number % len(crops)])
    return str(folder)


def write_csv(folder: Path, crops: list[str], num_images: int) -> str:
    """A table that names so many files."""
    folder.mkdir()
    lines = (f"{number},{crops[number % len(crops)]}\n" for number in range(num_images))
    path = folder / "images.csv"
    path.write_text("id,path\n" + "".join(lines))
    return str(path)


def write_tar(folder: Path, crops: list[str], num_images: int) -> str:
    """A tar of so many files."""
    folder.mkdir()
    path = folder / "images.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(num_images):
            tar.add(crops[number % len(crops)], f"{number:07d}.jpg")
    return str(path)


INPUTS: dict[str, Callable[[Path, list[str], int], str]] = {"folder": write_folder, "csv": write_csv, "tar": write_tar}


def simulated_runs(num_images: int, num_gpus: int, kinds: tuple[str, ...] = tuple(INPUTS)) -> list[dict[str, Any]]:
    """A row for each kind of input."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        crops = write_crops(root / "crops")
        for kind in kinds:
            given = INPUTS[kind](root / kind, crops, num_images)
            rows.append(_row(kind, given, root, num_gpus))
    return rows


def _row(kind: str, given: str, root: Path, num_gpus: int) -> dict[str, Any]:
    spans = root / f"spans-{kind}"
    spans.mkdir()
    sources = SourceOptions(allowed_root=str(root))
    options = GeotagOptions(inputs=(given,), output=str(root / f"out-{kind}"), sources=sources)
    job = _simulated(prepare(options), spans, num_gpus)
    with connected("local", CPUS_PER_GPU + num_gpus, MAX_PIXEL_BYTES, num_gpus):
        place = Place(num_workers=num_gpus, gpus_per_worker=1.0, decode_apart=True, num_locators=2)
        manifest = geotag(job, place)
    found = busy(spans)
    return {
        "input": kind,
        "gpus": found.num_gpus,
        "images": manifest["num_images"],
        "busy": round(found.share, 3),
        "images_per_second": round(found.images_per_second, 1),
        "of_gpus": round(found.images_per_second * SLOWER / ENCODED_PER_S, 3),
        "seconds": manifest["seconds"],
    }


def _simulated(job: GeotagJob, spans: Path, num_gpus: int) -> GeotagJob:
    """The job with stages that sleep in place of decoding and encoding; together its GPUs are as fast as one."""
    bundle = open_bundle(job.options.bundle)
    decode = SleepingDecode(seconds_per_image=SLOWER / DECODED_PER_S / CPUS_TO_DECODE)  # no more than the cores do
    encode = SleepingEncode(
        images_per_second=ENCODED_PER_S / SLOWER / num_gpus, num_features=bundle.num_features, folder=str(spans)
    )
    graph = Graph((decode, encode, *job.work.graph.stages[2:]), job.work.graph.inputs, job.work.graph.output)
    return replace(job, work=replace(job.work, graph=graph))
