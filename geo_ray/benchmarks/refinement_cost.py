"""What search and refinement cost beside encoding, in the bulk pipeline."""

import contextlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import ray

from geo_ray.benchmarks.workload import write_photos, write_table, write_vit_bundle
from geo_ray.data.run.pipeline import answer_all
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.index.split import split_index
from geo_ray.models.bundle import INDEX
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place
from geo_ray.remote.runtime import connected
from geo_ray.remote.shard_client import ShardRuntime
from geo_ray.remote.shard_group import index_runtime


def refinement_cost(num_images: int) -> list[dict[str, Any]]:
    """What search and refinement cost beside encoding by ViT-B-32, in the bulk pipeline: a row each way to search."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        bundle = write_vit_bundle(root / "vit", "ViT-B-32", 512)
        split_index(root / "vit" / INDEX, 2, root / "shards")
        files = write_photos(root / "photos")
        table = write_table(files, num_images, root / "inputs.csv")
        for name, index in (("in each worker", None), ("on 2 shard actors", str(root / "shards"))):
            rows.append({"name": name} | _refined(str(table), bundle, index, str(root / name)))
    return rows


def _refined(inputs: str, bundle: str, index: str | None, output: str) -> dict[str, Any]:
    options = GeotagOptions(inputs=(inputs,), output=output, bundle=bundle, index=index)
    job = prepare(options)
    seconds: Counter[str] = Counter()
    with connected("local", 4):
        place = Place(num_workers=2, batch_size=64, num_index_shards=job.num_index_shards, cpus_per_index_shard=0.25)
        with index_runtime(job.index, place) if job.index else contextlib.nullcontext(Runtime()) as runtime:
            answer_all(job.work, place, runtime, lambda answered, listed: seconds.update(answered.seconds))
            if isinstance(runtime, ShardRuntime):
                actors = [actor for replicas in runtime.shards.roster.actors for actor in replicas]
                seconds["shards"] = sum(status["seconds"] for status in ray.get([a.status.remote() for a in actors]))
    shares = {stage: round(seconds[stage] / seconds["Encode"], 4) for stage in seconds if stage != "Encode"}
    return {"encode_s": round(seconds["Encode"], 1), "shares_of_encode": shares,
            "search_and_refine": round(shares["SearchPrototypes"] + shares["Refine"], 4)}  # fmt: skip
