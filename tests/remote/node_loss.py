"""Kills a node that holds two shards amid a stream of batches; prints what happened as JSON.

``python -m tests.remote.node_loss FOLDER``, in a process of its own: it starts and ends a cluster.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from geo_ray.remote.shard_group import start_shards
from tests.remote.clusters import cluster
from tests.remote.shards import LIGHT, answered, batches, whole_shard, written_split

NUM_SHARDS = 4


def stream(group, folder, during=lambda: None, number=40, pause_s=0.1):
    """Seconds that each batch waits; all answers are those of one shard. ``during`` is called before the tenth."""
    searcher, expected, waits = group.searcher(), whole_shard(folder), []
    for count, (cells, features) in enumerate(batches(number)):
        if count == 10:
            during()
        waits.append(answered(searcher, expected, cells, features))
        time.sleep(pause_s)
    return waits


def main(folder):
    """Two replicas, then one, of the same shards; the node that dies holds two of the four shards without replicas."""
    split = written_split(folder, NUM_SHARDS)
    with (
        cluster(2, num_cpus=2) as (nodes, workers),  # one node has room for all shards
        start_shards(str(split), replace(LIGHT, num_replicas=2)) as twofold,
        start_shards(str(split), LIGHT) as single,
    ):
        lost = workers[0]
        held = {"two": twofold.status(), "one": single.status()}
        on_lost = {name: sum(row["node"] == lost.node_id for row in rows) for name, rows in held.items()}
        apart = [{row["node"] for row in held["two"] if row["shard"] == shard} for shard in range(NUM_SHARDS)]
        two = stream(twofold, split, lambda: nodes.remove_node(lost, allow_graceful=False))
        one = stream(single, split, number=20)
        after = single.status()
        report = {
            "on_lost_node": on_lost,
            "replicas_apart": all(len(shard_nodes) == 2 for shard_nodes in apart),
            "longest_wait_s": {"two": max(two), "one": max(one)},
            "restarts": sum(row["restarts"] for row in after),
            "all_on_the_other_node": {row["node"] for row in after} == {workers[1].node_id},
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
