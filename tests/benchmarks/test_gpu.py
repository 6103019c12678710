"""The benchmark of the bulk job on a GPU, with little work and on what is here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]


def test_bounds_and_the_bulk_job_in_one_run(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        pixels = np.linspace(0, 80 * (number + 1), 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.jpg")
    command = [sys.executable, "jobs/benchmark.py", "gpu", "--smoke", "--photos", str(photos)]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    subprocess.run([*command, "--json", str(tmp_path / "rows.json")], cwd=ROOT, env=environment, check=True)
    machine, bounds, decoding, bulk = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert machine["cpus"] == os.cpu_count()
    for name in ("bare", "encoder", "search_gpu", "search_cpu_a_core"):
        assert bounds[name] > 0
    for name in ("decode_cpu_a_core", "decode_cpu_all", "decode_gpu"):
        assert decoding[name] > 0
    assert bulk["images"] == 64
    assert bulk["steady"] > 0
    assert bulk["share_of_bound"] > 0
    assert {"read", "Decode", "Encode", "RankCells", "SearchPrototypes", "write"} <= bulk["seconds_by_stage"].keys()
