"""Images that end the process that decodes, answers or reads them, and a graph that they do it in."""

import ctypes
import os
from dataclasses import dataclass

import numpy as np
import ray

from geo_ray.data.record.ledger import Ledger
from geo_ray.data.run.preparation import Work
from geo_ray.data.run.transport import packed
from geo_ray.data.sources import Row, Shard, SourceOptions
from geo_ray.errors import BundleError
from geo_ray.pipeline.columns import Batch, Column
from geo_ray.pipeline.graph import Graph
from geo_ray.pipeline.stage import Runtime, Stage

ENDS_DECODING, ENDS_ANSWERING = b"a crash in a decoder", b"a crash in the encoder"
ROWS_PER_BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """A pixel of an image's last byte."""

    @property
    def reads(self) -> tuple[str, ...]:
        return ("bytes",)

    @property
    def writes(self) -> tuple[Column, ...]:
        return (Column(name="pixels", dtype="uint8", shape=(1,), fill=0),)

    def build(self, runtime: Runtime) -> Stage:
        return self._run

    def _run(self, batch: Batch) -> Batch:
        if ENDS_DECODING in batch["bytes"].tolist():
            ctypes.string_at(0)
        pixels = [[0 if content == ENDS_ANSWERING else content[-1]] for content in batch["bytes"]]
        return {"pixels": np.array(pixels, dtype=np.uint8)}


@dataclass(frozen=True, kw_only=True)
class Features:
    """The pixel as a feature; what can go wrong with loading: an error, or the process' end while it imports."""

    loading: str = ""

    def __reduce_ex__(self, protocol):
        return (os._exit, (1,)) if self.loading == "ends" else super().__reduce_ex__(protocol)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("pixels",)

    @property
    def writes(self) -> tuple[Column, ...]:
        return (Column(name="image_features", dtype="float32", shape=(1,), fill=0.0),)

    def build(self, runtime: Runtime) -> Stage:
        if self.loading == "missing":
            raise BundleError("bundle 'nowhere' is missing; name another --bundle")
        elif self.loading:
            raise RuntimeError(self.loading)
        return self._run

    def _run(self, batch: Batch) -> Batch:
        if not batch["pixels"].all():
            os._exit(1)
        return {"image_features": batch["pixels"].astype(np.float32)}


@dataclass(frozen=True, kw_only=True)
class EndsReader(Shard):
    """Images of which the one with this number ends the process that reads it; none where that is None."""

    ends_at: int | None = None

    @property
    def identity(self):
        return (self.num_rows, self.ends_at)

    def rows(self):
        for number in range(self.num_rows):
            if number == self.ends_at:
                os._exit(1)
            yield Row(f"{self.label}#{number}", (self.label,), (b"image %d" % number,))


def list_deadly(start, inputs, options, done, coordinator):
    """In place of ``list_shards``: two shards for one task, of which the first ends it in its second block."""
    shards = [EndsReader(label="a", num_rows=200, ends_at=ROWS_PER_BLOCK + 9), EndsReader(label="b", num_rows=70)]
    ray.get(coordinator.begin.remote())
    ray.get(coordinator.report.remote([(shard.shard_id, shard.num_rows) for shard in shards], True))
    yield packed("shards", [(shard, frozenset()) for shard in shards])


def write_images(folder, num_images, poison):
    """So many files, of which those by number in ``poison`` hold that."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_images):
        (folder / f"{number:04d}.jpg").write_bytes(poison.get(number, b"image %04d" % number))


def work(inputs, output, loading=""):
    """The features of these inputs by the graph of toys."""
    graph = Graph((Pixels(), Features(loading=loading)), output=("image_id", "uri", "image_features", "problem"))
    return Work(
        inputs=tuple(map(str, inputs)),
        options=SourceOptions(rows_per_shard=4 * ROWS_PER_BLOCK),
        num_views=1,
        graph=graph,
        ledger=Ledger(str(output)),
        rows_per_block=ROWS_PER_BLOCK,
        features=True,
    )
