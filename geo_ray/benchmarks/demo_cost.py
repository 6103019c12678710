"""Wall time of the demo, and the memory of all its processes together at its highest."""

import subprocess
import sys
import tempfile
import time
from typing import Any

from geo_ray.benchmarks.peak_memory import peak_memory


def demo_cost(script: str) -> list[dict[str, Any]]:
    """A row; ``script`` is the demo's job."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary, peak_memory() as peak:
        ended = subprocess.run([sys.executable, script, "--output", temporary], check=False)
    seconds = time.perf_counter() - start
    if ended.returncode:
        raise SystemExit(f"the demo ended with exit code {ended.returncode}")
    return [{"name": "demo", "seconds": round(seconds, 1), "peak_memory_gib": round(peak["peak_gib"], 2)}]
