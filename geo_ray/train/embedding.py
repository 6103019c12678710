"""A training table with features in place of images, made once by a frozen encoder."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import ray
import ray.data
import torch
from ray.data import ActorPoolStrategy

from geo_ray.errors import InputError, OutputError
from geo_ray.models.bundle import Bundle, open_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import embedding_graph
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote_files import filesystem, remote_errors
from geo_ray.tables.training import MANIFEST, SCHEMA, SPLITS
from geo_ray.train.table_reading import content_of

ROWS_PER_GROUP = 4096
ROWS_PER_BATCH = 128
IMAGES = ("bytes", "uri")


@dataclass(frozen=True, kw_only=True)
class _Embedder:
    """A worker's graph: rows of images to rows of features; those that can't be decoded get their problem."""

    bundle: str
    device: str
    num_threads: int

    def built(self) -> Any:
        """The graph, with the encoder on the device."""
        torch.set_num_threads(self.num_threads)
        return embedding_graph(open_bundle(self.bundle)).build(
            Runtime(device=self.device, num_threads=self.num_threads)
        )


class _EmbeddingWorker:
    """Holds the graph of an ``_Embedder``; an actor of Ray Data's."""

    def __init__(self, embedder: _Embedder) -> None:
        self._graph = embedder.built()

    def __call__(self, rows: pa.Table) -> pa.Table:
        contents = [content_of(row) for row in rows.select(list(IMAGES)).to_pylist()]
        problems = ["" if content is not None else "not_found" for content in contents]
        names = rows["image_id"].to_pylist()
        answer = self._graph(source_batch(names, names, contents, problems))
        features = np.asarray(answer["image_features"], np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        split = np.where(answer["problem"] == "", rows["split"].to_numpy(zero_copy_only=False), "problem")
        kept = [entry.name for entry in SCHEMA if entry.name not in (*IMAGES, "split", "problem")]
        return pa.table(
            {name: rows[name] for name in kept}
            | {
                "problem": pa.array(answer["problem"], pa.string()),
                "split": pa.array(split, pa.string()),
                "features": column,
            }
        )


def view_mean(rows: pa.Table, num_views: int, normalize: bool) -> pa.Table:
    """The rows of a place to one row with the mean of its views' features (PIGEON, appendix B.1)."""
    rows = rows.sort_by("view").slice(0, num_views)
    column = rows["features"].combine_chunks()
    features = column.flatten().to_numpy().reshape(len(rows), -1).mean(axis=0)
    if normalize:
        features = features / max(float(np.linalg.norm(features)), 1e-12)
    mean = pa.FixedSizeListArray.from_arrays(pa.array(features.astype(np.float32)), len(features))
    at = rows.schema.get_field_index("features")
    return rows.slice(0, 1).set_column(at, "features", mean)


def embed_table(
    table: str, bundle: str, output: str, *, num_views: int = 1, num_workers: int = 1, num_threads: int = 1
) -> str:
    """Write a training table with ``features`` of a bundle's encoder, for training a head; returns its digest.

    With ``num_views`` above 1 the images of a place become one row, the mean of as many views. What was written before
    from the same table by the same encoder stays. Needs a connected Ray.
    """
    opened, (fs, root) = open_bundle(bundle), filesystem(output)
    (source_fs, source_root) = filesystem(table)
    with remote_errors(lambda error: InputError(f"training table {table} can't be read ({error})")):
        if not source_fs.exists(f"{source_root}/{MANIFEST}"):
            raise InputError(f"{table} is no training table: it has no {MANIFEST}; build one with geo-ray table")
        source = json.loads(source_fs.cat_file(f"{source_root}/{MANIFEST}"))
    digest = _digest(source["digest"], opened, num_views)
    if fs.exists(f"{root}/{MANIFEST}"):
        if json.loads(fs.cat_file(f"{root}/{MANIFEST}"))["digest"] == digest:
            return digest
        raise OutputError(f"{output} holds other features; name another --output, or delete it")
    if fs.exists(root):
        fs.rm(root, recursive=True)  # what another try left without an end
    wanted = [path for split in SPLITS for path in source_fs.glob(f"{source_root}/split={split}/*.parquet")]
    rows = ray.data.read_parquet(wanted, filesystem=source_fs, partitioning=_hive(source_root))
    use_gpu = "GPU" in ray.cluster_resources()
    embedder = _Embedder(bundle=bundle, device="cuda" if use_gpu else "cpu", num_threads=num_threads)
    rows = rows.map_batches(
        _EmbeddingWorker,
        fn_constructor_kwargs={"embedder": embedder},
        batch_size=ROWS_PER_BATCH,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=num_workers),
        num_cpus=num_threads,
        num_gpus=1 if use_gpu else 0,
    )
    if num_views > 1:
        places = rows.groupby(["split", "place"], num_partitions=max(1, round(ray.cluster_resources().get("CPU", 1))))
        settings = {"num_views": num_views, "normalize": opened.encoder.normalize}
        rows = places.map_groups(view_mean, fn_kwargs=settings, batch_format="pyarrow").random_shuffle(seed=0)
    rows.write_parquet(output, partition_cols=["split"], row_group_size=ROWS_PER_GROUP, **_storage(output))
    manifest = {"digest": digest, "table": table, "encoder": opened.encoder_fingerprint, "num_views": num_views}
    with fs.open(f"{root}/{MANIFEST}", "w") as file:
        json.dump(manifest, file, indent=1)
    return digest


def _digest(source: str, bundle: Bundle, num_views: int) -> str:
    return hashlib.sha256(f"{source} {bundle.encoder_fingerprint} {num_views}".encode()).hexdigest()


def _hive(root: str) -> Any:
    return ray.data.datasource.partitioning.Partitioning("hive", base_dir=root)


def _storage(output: str) -> dict[str, Any]:
    if "://" not in output:
        return {}
    return {"filesystem": pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem(output)[0]))}


def read_features(table: str, split: str) -> Iterator[pa.Table]:
    """The rows of a split of a table with features, file by file."""
    import pyarrow.parquet as pq

    fs, root = filesystem(table)
    for path in sorted(fs.glob(f"{root}/split={split}/*.parquet")):
        with fs.open(path, "rb") as file:
            yield pq.read_table(file, partitioning=None)


def feature_arrays(table: str, split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features (n, D), places (n, 2) in degrees, and ids of a split of a table with features."""
    rows = list(read_features(table, split))
    if not rows:
        raise InputError(f"{table} has no images of the split {split}; build the table with more")
    whole = pa.concat_tables([part.select(["image_id", "latitude", "longitude", "features"]) for part in rows])
    features = whole["features"].combine_chunks().flatten().to_numpy().reshape(len(whole), -1)
    latlon = np.stack([whole["latitude"].to_numpy(), whole["longitude"].to_numpy()], axis=1)
    order = np.argsort(np.array(whole["image_id"].to_pylist()))  # files lie in whatever order they were written
    return features[order], latlon[order], [whole["image_id"][int(row)].as_py() for row in order]
