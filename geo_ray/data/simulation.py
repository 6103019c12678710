"""A bulk run whose images and GPUs are simulated: what one driver can keep busy.

Real are Ray Data, the tasks that list and read, the blocks with their ids and addresses, and what the driver does. An
image is 64 bytes, a GPU a process that sleeps, and nothing is written.
"""

import os
import pickle
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pyarrow as pa
import ray

from geo_ray.data.bulk import CPUS_TO_LIST, Step, stream
from geo_ray.data.feed import BlockReader, Images, packed, read_blocks
from geo_ray.data.sources import Row, Shard
from geo_ray.remote.place import Place
from geo_ray.remote.runtime import connected

# ViT-L/14 at 224 pixels on an H100: 162 GFLOP an image (81 GMAC) at 40 % of the 989 TFLOP/s of dense bfloat16 in
# NVIDIA's data sheet.
IMAGES_PER_SECOND = 2400.0  # of one simulated GPU
ROWS = 2000  # of a block
CPUS = 0.1  # of a simulated worker; the machine pretends to have as many as it takes
PAYLOAD = bytes(64)


@dataclass(frozen=True, kw_only=True)
class SimulatedShard(Shard):
    """A block's images."""

    number: int

    @property
    def identity(self) -> tuple[Any, ...]:
        """Its number."""
        return (self.number,)

    def rows(self) -> Iterator[Row]:
        """Ids and addresses as long as real ones."""
        for row in range(ROWS):
            name = f"2024/{self.number:06d}/{row:04d}-4f1c2a9e7b.jpg"
            yield Row(name, (f"s3://bucket-of-photos/{name}",), (PAYLOAD,))


def list_simulated(start: pa.Table, num_blocks: int) -> Iterator[pa.Table]:
    """A row for each shard."""
    for number in range(num_blocks):
        yield packed("shard", (SimulatedShard(label=f"{number}", number=number, num_rows=ROWS), frozenset()))


class Never:
    """Stands for the conductor of a run that nobody stops."""

    def stopped(self) -> bool:
        """Never."""
        return False


class SleepingWorker:
    """A GPU that takes its time."""

    def __init__(self, images_per_second: float) -> None:
        self._rate, self._turn = images_per_second, threading.Lock()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """When the block in this row was begun and done, by which worker."""
        images: Images = pickle.loads(rows["images"][0].as_buffer())
        num_rows = sum(len(batch["problem"]) for _, batch in images.batches)
        with self._turn:
            begun = time.time()
            time.sleep(num_rows / self._rate)
            done = time.time()
        return pa.table({"worker": [os.getpid()], "begun": [begun], "done": [done], "num_rows": [num_rows]})


def simulate(num_gpus: int, num_images: int) -> dict[str, Any]:
    """A row: the share of the time that the GPUs were busy, blocks a second, and memory of the driver and the store."""
    num_blocks = num_images // ROWS
    reader = BlockReader(head=b"", num_views=1, rows_per_block=ROWS, rows_per_batch=ROWS)
    samples: list[tuple[float, float, float, float]] = []
    with connected("local", num_cpus=num_gpus // 10 + 5):
        conductor = ray.remote(num_cpus=0)(Never).remote()
        rows = stream(
            Step(list_simulated, {"num_blocks": num_blocks}, CPUS_TO_LIST),
            Step(read_blocks, {"reader": reader, "conductor": conductor}, 1.0),
            Step(SleepingWorker, {"images_per_second": IMAGES_PER_SECOND}, CPUS),
            Place(num_workers=num_gpus),
        )
        seen, cpu = [], psutil.Process().cpu_times()
        for batch in rows.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
            seen.append({name: batch[name][0].as_py() for name in batch.column_names})
            if len(seen) % max(1, num_blocks // 50) == 0:
                samples.append((len(seen) * ROWS, *_memory()))
        used = psutil.Process().cpu_times()
    return _row(num_gpus, seen, samples) | {"driver_cpu_s": round(used.user + used.system - cpu.user - cpu.system, 1)}


def _memory() -> tuple[float, float, float]:
    """MiB of the driver, MiB in the object store, and the share of this machine's CPUs in use since last asked."""
    driver = psutil.Process().memory_full_info().uss / 2**20
    total, free = ray.cluster_resources(), ray.available_resources()
    held = total.get("object_store_memory", 0.0) - free.get("object_store_memory", 0.0)
    return round(driver, 1), round(held / 2**20, 1), psutil.cpu_percent()


def _row(num_gpus: int, seen: list[dict[str, Any]], samples: list[Any]) -> dict[str, Any]:
    """Busy is counted from when the last worker has its first block until the first has nothing left to do."""
    workers = {item["worker"] for item in seen}
    start = max(min(item["begun"] for item in seen if item["worker"] == worker) for worker in workers)
    end = min(max(item["done"] for item in seen if item["worker"] == worker) for worker in workers)
    busy = sum(max(0.0, min(item["done"], end) - max(item["begun"], start)) for item in seen)
    steady = [item for item in seen if start < item["done"] <= end]
    quarter = max(1, len(samples) // 4)
    parts = samples[quarter : 2 * quarter], samples[-quarter:]
    mean = [[sum(sample[i] for sample in part) / len(part) for part in parts] for i in (1, 2, 3)]
    return {
        "name": f"{num_gpus} GPUs, {len(seen) * ROWS:,} images",
        "workers_used": len(workers),
        "busy": round(busy / max(1e-9, (end - start) * num_gpus), 3),
        "blocks_per_second": round(len(steady) / max(1e-9, end - start), 1),
        "images_per_second": round(sum(item["num_rows"] for item in steady) / max(1e-9, end - start)),
        "seconds": round(end - start, 1),
        "driver_mib_second_and_last_quarter": [round(value, 1) for value in mean[0]],
        "object_store_mib": [round(value, 1) for value in mean[1]],
        "cpu_percent": round(mean[2][1], 1),
    }
