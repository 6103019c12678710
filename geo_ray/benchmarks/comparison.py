"""The bulk job beside other ways to do the same work, each in a process of its own whose memory is bounded."""

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from geo_ray.benchmarks.bounded import run_bounded
from geo_ray.benchmarks.throughput import (
    Done,
    Measured,
    bare_processes,
    bulk_job,
    daft_query,
    data_loader,
    measured,
    row_of,
)
from geo_ray.benchmarks.workload import write_crops, write_photos, write_table, write_vit_bundle
from geo_ray.remote.place import Place

Way = Callable[[Path, str, Place, Path], list[Done]]  # a table of images, a bundle, how wide, and a folder
WAYS: dict[str, Way] = {
    "bare": bare_processes,
    "geo-ray": bulk_job,
    "dataloader": data_loader,
    "daft": daft_query,
}
WORKS = ("ViT-S-32", "earth-tiny")


def compare_ways(
    works: Sequence[str], ways: Sequence[str], num_images: int, num_workers: int, max_bytes: int
) -> list[dict[str, Any]]:
    """A row for each work and way, ``bare`` always among them; a way that takes more memory has no rates."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in works:
            photos = name == "ViT-S-32"
            bundle = write_vit_bundle(root / "vit") if photos else "earth-tiny"
            files = (write_photos if photos else write_crops)(root / f"{name}-images")
            table = write_table(files, num_images, root / f"{name}.csv")
            place = Place(num_workers=num_workers, batch_size=32 if photos else 256)
            rows += _compare(name, bundle, table, place, root / name, ways, max_bytes)
    return rows


def _compare(
    name: str, bundle: str, table: Path, place: Place, root: Path, ways: Sequence[str], max_bytes: int
) -> list[dict[str, Any]]:
    bound: float | None = None
    rows = []
    for way in (way for way in WAYS if way == "bare" or (way in ways and _is_there(way))):
        folder = root / way
        folder.mkdir(parents=True)
        found = run_bounded(partial(measured, partial(WAYS[way], table, bundle, place, folder)), max_bytes)
        rates: Measured | None = found.answer
        bound = rates.steady if rates and bound is None else bound
        rows.append({"name": f"{name} {way}"} | row_of(rates, bound) | {"peak_gib": round(found.peak_bytes / 2**30, 2)})
        if found.ended:
            rows[-1]["ended"] = f"took more than {max_bytes / 2**30:.1f} GiB"
    return rows


def _is_there(way: str) -> bool:
    return way != "daft" or importlib.util.find_spec("daft") is not None
