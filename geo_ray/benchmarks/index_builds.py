"""Benchmark of building a prototype index from 25,000 to 400,000 images: seconds and memory of all processes.

    python jobs/benchmark_index.py --json out/index_build.json

Places are the 100,000 MP-16 photo locations, for more these drawn with replacement and moved by about 2 km; features
are random. Cells are those of the bundle earth-tiny, whose clusters an index is built of.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.benchmarks.cell_builds import resampled
from geo_ray.benchmarks.peak_memory import peak_memory
from geo_ray.benchmarks.rows import write_json
from geo_ray.datasets.earth import locations_file
from geo_ray.evaluation.tables import read_points
from geo_ray.index.prototypes import CLUSTERINGS
from geo_ray.models.bundle import CELLS, open_bundle
from geo_ray.remote.index_tasks import IndexBuild, build_index
from geo_ray.remote.runtime import connected

NUM_FEATURES = 512
ROWS_PER_GROUP = 10_000


def write_features(latlon: np.ndarray, folder: Path) -> None:
    """A file as ``geo-ray embed`` writes it, with the places in it."""
    folder.mkdir()
    names = ["image_id", "features", "latitude", "longitude"]
    kind = pa.list_(pa.float32(), NUM_FEATURES)
    schema = pa.schema(zip(names, [pa.string(), kind, pa.float64(), pa.float64()], strict=True))
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(folder / "0.parquet", schema) as writer:
        for start in range(0, len(latlon), ROWS_PER_GROUP):
            part = latlon[start : start + ROWS_PER_GROUP]
            features = rng.normal(size=(len(part), NUM_FEATURES)).astype(np.float32)
            columns = [
                pa.array([str(start + row) for row in range(len(part))]),
                pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), NUM_FEATURES),
                *(pa.array(column) for column in part.T),
            ]
            writer.write_table(pa.table(dict(zip(names, columns, strict=True)), schema))


def build(latlon: np.ndarray, clustering: str) -> dict[str, Any]:
    """A row: images, prototypes, seconds with and without Ray's start, and the highest memory of all processes."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_features(latlon, root / "features")
        options = IndexBuild(
            features=(str(root / "features"),),
            cells=open_bundle("earth-tiny").path(CELLS),
            output=str(root / "index"),
            clustering=CLUSTERINGS[clustering],
        )
        with peak_memory() as peak:
            begun = time.perf_counter()
            with connected("local"):
                start = time.perf_counter()
                info = build_index(options)
                seconds = time.perf_counter() - start
            whole = time.perf_counter() - begun
    return {
        "name": f"{len(latlon):,} images, {clustering}",
        "seconds": round(seconds, 1),
        "with_start_s": round(whole, 1),
        "peak_gib": round(peak["peak_gib"], 2),
        "prototypes": info.num_prototypes,
        "members": info.num_members,
    }


def main() -> None:
    """Parse the arguments, build, print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    arguments = parser.parse_args()
    latlon = read_points(str(locations_file()))
    rows = []
    for places, clustering in (
        (latlon[:: len(latlon) // 25_000], "pigeon"),
        (latlon, "pigeon"),
        (latlon, "pigeotto"),
        (resampled(latlon, 400_000, 0), "pigeon"),
    ):
        rows.append(build(places, clustering))
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    write_json(arguments.json, {"rows": rows})
