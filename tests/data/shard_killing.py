"""Shards that die while a bulk job runs. Run as a program, it removes a node of a cluster: FOLDER INDEX OUTPUT."""

import json
import sys
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import ray

from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.remote.place import Place
from geo_ray.remote.shard_actors import NAMESPACE
from tests.remote.clusters import cluster

NUMBERS = ("latitude", "longitude", "probability", "radius_km_90")


def same_answers(output, expected):
    """Whether two outputs have the same rows: words and cells equal, numbers within 1e-6."""
    ours, theirs = (pq.read_table(folder / "predictions").sort_by("image_id") for folder in (output, expected))
    words = [name for name in ours.column_names if name in ("image_id", "cell_id", "country", "region", "problem")]
    close = [
        np.allclose(ours[name].to_numpy(), theirs[name].to_numpy(), rtol=0, atol=1e-6, equal_nan=True)
        for name in NUMBERS
    ]
    return ours.select(words).equals(theirs.select(words)) and all(close)


def shard_actors():
    """The names of the running shards' actors."""
    named = ray.util.list_named_actors(all_namespaces=True)
    return sorted(row["name"] for row in named if row["namespace"] == NAMESPACE and "/shard-" in row["name"])


def searched():
    """How many searches the shards have answered since they started."""
    return sum(status["calls"] for status in statuses())


def statuses():
    """What each shard says of itself."""
    return ray.get([ray.get_actor(name, namespace=NAMESPACE).status.remote() for name in shard_actors()])


def once_searching(act, timeout_s=120):
    """Call ``act`` as soon as the shards have answered some searches."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if len(shard_actors()) and searched() > 3:
            act()
            return
        time.sleep(0.02)


def kill_a_shard():
    """End the process of a shard's actor; Ray starts it again."""
    name = shard_actors()[0]
    ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=False)
    return name


def main(folder, index, output):
    """Geotag on three nodes that share six shards, of which the one with the most is removed in mid-job."""
    lost = []
    with cluster(2, num_cpus=2, head_cpus=2) as (nodes, workers):
        job = prepare(GeotagOptions(inputs=(folder,), output=output, index=index))
        place = Place(num_workers=1, batch_size=16, num_index_shards=3, num_index_replicas=2, cpus_per_index_shard=0.5)

        def remove():
            held = [status["node"] for status in statuses()]
            victim = max(workers, key=lambda node: held.count(node.node_id))
            nodes.remove_node(victim, allow_graceful=False)
            lost.append(held.count(victim.node_id))

        watch = threading.Thread(target=once_searching, args=(remove,))
        watch.start()
        start = time.monotonic()
        geotag(job, place)
        watch.join()
    print(json.dumps({"lost": lost[0], "seconds": time.monotonic() - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
