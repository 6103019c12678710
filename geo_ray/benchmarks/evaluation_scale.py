"""Evaluating as many predictions as a large job makes: how long it takes, and in how much memory.

    python jobs/benchmark_evaluate.py --num-images 10000000

Invented answers about real photo locations, in files as the bulk job writes them, with candidates; the table of true
places has ids and points alone. Timed is ``geo-ray evaluate`` from its start to its end.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.atlas.cities import gazetteer
from geo_ray.benchmarks.peak_memory import memory_bytes
from geo_ray.benchmarks.rows import say, write_json
from geo_ray.cells.partition_file import read_partition
from geo_ray.data.record.output_tables import SCHEMA
from geo_ray.datasets import earth
from geo_ray.geo.sphere import destination
from geo_ray.models.bundle import CELLS, open_bundle
from geo_ray.models.naming import open_naming

ROWS_A_FILE = 51_200  # 100 blocks of 512
NUM_CANDIDATES = 5
SPREAD_KM = 20.0  # of photos about a location


def write_run(folder: Path, num_images: int, seed: int = 0) -> None:
    """Write ``folder``/predictions, manifest.json and truth.parquet."""
    rng, bundle = np.random.default_rng(seed), open_bundle("earth-tiny")
    locations, names = earth.locations(), open_naming(bundle)
    near, cells = gazetteer().places_of(locations), names.ids
    centers_of = read_partition(bundle.path(CELLS)).centers
    columns = {"country": near.country, "region": near.region, "place": near.city}
    (folder / "predictions").mkdir(parents=True)
    truth = []
    for number, first in enumerate(range(0, num_images, ROWS_A_FILE)):
        n = min(ROWS_A_FILE, num_images - first)
        rows = (rng.pareto(0.6, n) * 50).astype(np.int64) % len(locations)  # a few places have most photos
        places = destination(locations[rows], *rng.normal(0, SPREAD_KM, (2, n)))
        radius_km = rng.lognormal(2.5, 0.8, n)
        error_km = radius_km * rng.lognormal(0, 0.9, n)
        turn = rng.uniform(0, 2 * np.pi, n)
        answers = destination(places, error_km * np.sin(turn), error_km * np.cos(turn))
        ids = [f"photos/{number:05d}/{row:07d}.jpg" for row in range(first, first + n)]
        truth.append(pa.table({"image_id": ids, "latitude": places[:, 0], "longitude": places[:, 1]}))
        right = names.right_candidates(places)
        candidates = np.where(rng.random(n) < 0.8, right, rng.integers(len(cells), size=n))[:, None]
        candidates = np.hstack([candidates, rng.integers(len(cells), size=(n, NUM_CANDIDATES - 1))])
        said = np.where(rng.random(n) < 0.95, rows, rng.integers(len(locations), size=n))
        centers = centers_of[candidates]
        numbers = rng.dirichlet(np.ones(NUM_CANDIDATES), n)
        lists = pa.ListArray.from_arrays(
            np.arange(n + 1, dtype=np.int32) * NUM_CANDIDATES,
            pa.StructArray.from_arrays(
                [
                    pa.array(cells[candidates.ravel()], pa.string()),
                    pa.array(numbers.ravel()),
                    *(pa.array(centers[..., axis].ravel()) for axis in range(2)),
                ],
                names=["cell_id", "probability", "latitude", "longitude"],
            ),
        )
        table = {
            "image_id": ids,
            "uri": ids,
            "latitude": answers[:, 0],
            "longitude": answers[:, 1],
            "cell_id": pa.array(cells[candidates[:, 0]], pa.string()),
            **{f"{level}probability": rng.uniform(0.3, 1, n) for level in ("", "region_", "country_")},
            "radius_km_50": radius_km,
            "radius_km_90": radius_km * 3,
            "unlike": rng.random(n),
            **{name: pa.array(values[said], pa.string()) for name, values in columns.items()},
            "candidates": lists,
            "cell_latitude": centers[:, 0, 0],
            "cell_longitude": centers[:, 0, 1],
            "problem": np.where(rng.random(n) < 0.001, "undecodable", ""),
            "bundle_fingerprint": pa.array([bundle.fingerprint] * n),
            "geometry": pa.nulls(n, pa.binary()),
        }
        whole = pa.table([table[field.name] for field in SCHEMA], schema=SCHEMA)
        pq.write_table(whole, folder / "predictions" / f"{number:06d}.parquet", compression="zstd")
    pq.write_table(pa.concat_tables(truth), folder / "truth.parquet")
    run = {"bundle": {"ref": "earth-tiny", "fingerprint": bundle.fingerprint}}
    (folder / "manifest.json").write_text(json.dumps(run))
    (folder / "_SUCCESS").touch()


def measure(folder: Path) -> dict[str, float]:
    """Seconds and the highest memory of ``geo-ray evaluate`` and all processes below it."""
    command = [sys.executable, "-m", "geo_ray.cli", "evaluate", str(folder), "--truth", str(folder / "truth.parquet")]
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen([*command, "--json", str(folder / "metrics.json")])
    while process.poll() is None:
        peak = max(peak, memory_bytes(psutil.Process(process.pid)))
        time.sleep(0.5)
    if process.returncode:
        sys.exit(process.returncode)
    return {"seconds": time.perf_counter() - start, "peak_gib": peak / 2**30}


def main() -> None:
    """Make the run where it isn't there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=10_000_000)
    parser.add_argument("--output", type=Path, default=Path("out/evaluate"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    folder: Path = options.output / str(options.num_images)
    if not (folder / "_SUCCESS").exists():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"writing {options.num_images:,} predictions to {folder}", flush=True)
        write_run(folder, options.num_images)
    row = {"num_images": options.num_images} | measure(folder)
    say(row)
    write_json(options.json, row)
