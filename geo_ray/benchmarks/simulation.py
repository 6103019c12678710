"""A bulk run whose images and GPUs are simulated: what one driver can keep busy.

Real are Ray Data with its tasks and actors, blocks that carry ids and addresses through the object store, and what the
driver does. An image is 64 bytes, a reader sends the same block over and over, a GPU is a process that sleeps, and
nothing is written: on a cluster, readers and workers don't share the driver's cores.
"""

import math
from typing import Any

import psutil
import ray

from geo_ray.benchmarks.simulated import BLOCKS_PER_SHARD, ROWS, SleepingWorker, list_simulated, read_simulated
from geo_ray.data.run.pipeline import CPUS_TO_LIST, Pool, Step, stream
from geo_ray.remote.runtime import connected

# ViT-L/14 at 224 pixels on an H100: 162 GFLOP an image (81 GMAC) at 40 % of the 989 TFLOP/s of dense bfloat16 in
# NVIDIA's data sheet.
IMAGES_PER_SECOND = 2400.0  # of one simulated GPU
CPUS, CPUS_TO_READ = 0.1, 0.09  # of a worker and of a reader; the machine pretends to have as many as it takes
CPUS_OF_READERS = 2  # some 24 of them


def simulate(
    num_gpus: int, num_images: int, images_per_second: float = IMAGES_PER_SECOND, gpus_per_process: int = 1
) -> dict[str, Any]:
    """A row: the share of the time that the GPUs were busy, blocks a second, and memory of the driver and the store."""
    num_shards = num_images // (BLOCKS_PER_SHARD * ROWS)
    num_workers = num_gpus // gpus_per_process
    samples: list[tuple[float, float, float, float]] = []
    with connected("local", num_cpus=math.ceil(num_workers * CPUS) + CPUS_OF_READERS):
        rows = stream(
            Step(list_simulated, {"num_shards": num_shards}, CPUS_TO_LIST),
            Step(read_simulated, {}, CPUS_TO_READ),
            Step(
                SleepingWorker,
                {"num_gpus": gpus_per_process, "images_per_second": images_per_second},
                CPUS,
                Pool(num_workers, num_calls=2 * gpus_per_process),
            ),
        )
        seen, cpu = [], psutil.Process().cpu_times()
        for batch in rows.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
            seen.append({name: batch[name][0].as_py() for name in batch.column_names})
            if len(seen) % max(1, num_shards * BLOCKS_PER_SHARD // 50) == 0:
                samples.append((len(seen) * ROWS, *_memory()))
        used = psutil.Process().cpu_times()
    driver_cpu_s = round(used.user + used.system - cpu.user - cpu.system, 1)
    name = f"{num_gpus} GPUs of {images_per_second:g} images/s"
    return {"name": name} | _row(num_gpus, seen, samples) | {"driver_cpu_s": driver_cpu_s}


def _memory() -> tuple[float, float, float]:
    """MiB of the driver, MiB in the object store, and the share of this machine's CPUs in use since last asked."""
    driver = psutil.Process().memory_full_info().uss / 2**20
    total, free = ray.cluster_resources(), ray.available_resources()
    held = total.get("object_store_memory", 0.0) - free.get("object_store_memory", 0.0)
    return round(driver, 1), round(held / 2**20, 1), psutil.cpu_percent()


def _row(num_gpus: int, seen: list[dict[str, Any]], samples: list[Any]) -> dict[str, Any]:
    """Busy is counted from when the last GPU has its first block until the first has nothing left to do."""
    gpus = {item["gpu"] for item in seen}
    start = max(min(item["begun"] for item in seen if item["gpu"] == gpu) for gpu in gpus)
    end = min(max(item["done"] for item in seen if item["gpu"] == gpu) for gpu in gpus)
    busy = sum(max(0.0, min(item["done"], end) - max(item["begun"], start)) for item in seen)
    steady = [item for item in seen if start < item["done"] <= end]
    quarter = max(1, len(samples) // 4)
    parts = samples[quarter : 2 * quarter], samples[-quarter:]
    mean = [[sum(sample[i] for sample in part) / len(part) for part in parts] for i in (1, 2, 3)]
    return {
        "num_images": len(seen) * ROWS,
        "gpus_used": len(gpus),
        "busy": round(busy / max(1e-9, (end - start) * num_gpus), 3),
        "blocks_per_second": round(len(steady) / max(1e-9, end - start), 1),
        "images_per_second": round(len(steady) * ROWS / max(1e-9, end - start)),
        "seconds": round(end - start, 1),
        "driver_mib_second_and_last_quarter": [round(value, 1) for value in mean[0]],
        "object_store_mib": [round(value, 1) for value in mean[1]],
        "cpu_percent": round(mean[2][1], 1),
    }
