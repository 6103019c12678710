"""What stands for a decoder and a GPU in a bulk run that is real otherwise. Light to import: many processes do it."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geo_ray.pipeline.columns import Batch, Column
from geo_ray.pipeline.stage import Runtime, Stage

SIDE = 224  # of an image's pixels, which travel as they would


@dataclass(frozen=True, kw_only=True)
class SleepingDecode:
    """Takes as long as decoding does, and gives grey pixels."""

    seconds_per_image: float

    @property
    def reads(self) -> tuple[str, ...]:
        """The image's bytes."""
        return ("bytes",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """As ``Decode``."""
        pixels = Column(name="pixels", dtype="uint8", shape=(1, SIDE, SIDE, 3), fill=0)
        return (pixels, Column(name="view_count", dtype="int64", fill=0))

    def build(self, runtime: Runtime) -> Stage:
        """Nothing is loaded."""

        def run(batch: Batch) -> Batch:
            count = len(batch["bytes"])
            time.sleep(count * self.seconds_per_image)
            pixels = np.full((count, 1, SIDE, SIDE, 3), 127, np.uint8)
            return {"pixels": pixels, "view_count": np.ones(count, np.int64)}

        return run


@dataclass(frozen=True, kw_only=True)
class SleepingEncode:
    """Takes as long as a GPU would, one batch at a time in a process, and gives features that are any image's.

    ``folder`` gets a file a process, with when each batch was begun and done.
    """

    images_per_second: float
    num_features: int
    folder: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The pixels."""
        return ("pixels",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """As ``Encode``."""
        return (Column(name="image_features", dtype="float32", shape=(self.num_features,), fill=0.0),)

    def build(self, runtime: Runtime) -> Stage:
        """Nothing is loaded."""
        turn, file = threading.Lock(), Path(self.folder) / f"{os.getpid()}.txt"
        features = np.random.default_rng(0).normal(size=(1024, self.num_features)).astype(np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)

        def run(batch: Batch) -> Batch:
            count = len(batch["pixels"])
            with turn:
                begun = time.time()
                time.sleep(count / self.images_per_second)
                with file.open("a") as lines:
                    lines.write(f"{begun} {time.time()} {count}\n")
            return {"image_features": features[np.arange(count) % len(features)]}

        return run


@dataclass(frozen=True)
class Busy:
    """Shares of the time in which all GPUs had work, and images a second in that time."""

    share: float
    images_per_second: float
    num_gpus: int


def busy(folder: Path) -> Busy:
    """How busy the GPUs were from when the last had its first batch until the first had no more."""
    gpus = [list(_batches(path)) for path in sorted(folder.glob("*.txt"))]
    start = max(batches[0][0] for batches in gpus)
    end = min(batches[-1][1] for batches in gpus)
    held = sum(max(0.0, min(stop, end) - max(begun, start)) for batches in gpus for begun, stop, _ in batches)
    images = sum(count for batches in gpus for _, stop, count in batches if start < stop <= end)
    return Busy(held / (end - start) / len(gpus), images / (end - start), len(gpus))


def _batches(path: Path) -> Iterator[tuple[float, float, int]]:
    for line in path.read_text().splitlines():
        begun, stop, count = line.split()
        yield float(begun), float(stop), int(count)
