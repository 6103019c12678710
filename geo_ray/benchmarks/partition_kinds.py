"""Semantic, rectangular and S2 cells on the embedded data, about as many of each: what the partition is worth."""

import argparse
from pathlib import Path

from geo_ray.atlas.boundaries import boundaries
from geo_ray.benchmarks.by_place import head_text, row_text
from geo_ray.benchmarks.partitions import compare_partitions, of_size
from geo_ray.benchmarks.rows import write_json
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.cells.s2 import build_s2
from geo_ray.cells.semantic import Semantic
from geo_ray.recipes.earth_tiny import earth_tiny
from geo_ray.remote.cell_tasks import build_cells
from geo_ray.remote.runtime import connected
from geo_ray.train.places import train_locations


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="earth-tiny", help="whose encoder sees the crops")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    config, _ = earth_tiny()
    latlon = train_locations(config, "train")
    rows = []
    with connected("local"):
        semantic = build_cells(boundaries(), latlon, Semantic(sizes=config.cell_sizes))
        num_cells = int((semantic.counts > 0).sum())
        partitions = {
            "semantic": semantic,
            "rectangles": of_size(lambda sizes: build_rectangles(latlon, sizes), num_cells),
            "S2": of_size(lambda sizes: build_s2(latlon, sizes), num_cells),
        }
        print(f"{'':26}{'cells':>7}{head_text('the first')}", flush=True)
        for row in compare_partitions(options.bundle, partitions, config):
            rows.append(row)
            for part in ("cell_centre", "refined"):
                difference = row[part]["difference"] if len(rows) > 1 else None
                name = f"{row['name']}, {part.replace('_', ' ')}"
                print(f"{name:26}{row['num_cells']:7,}{row_text(row[part], difference)}", flush=True)
    write_json(options.json, rows)
