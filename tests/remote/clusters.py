"""A Ray cluster of several nodes on this machine, of which one can die; for processes that have no Ray yet."""

import contextlib
import os

os.environ["RAY_AUTH_MODE"] = "disabled"

import ray
from ray.cluster_utils import Cluster

STORE = 80 * 2**20  # bytes of a node's object store; Ray's least is 75 MiB


@contextlib.contextmanager
def cluster(num_nodes, num_cpus=1, head_cpus=0):
    """The cluster and its nodes beside a head, by default without CPUs.

    Ray connects the driver to any of these, as they have one address; what it is connected to is the last of the nodes.
    """
    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": head_cpus, "object_store_memory": STORE, "include_dashboard": False},
    )
    try:
        workers = [nodes.add_node(num_cpus=num_cpus, object_store_memory=STORE) for _ in range(num_nodes)]
        nodes.wait_for_nodes()
        ray.init(address=nodes.address, logging_level="error", log_to_driver=False)
        own = ray.get_runtime_context().get_node_id()  # without it, the driver can't go on
        yield nodes, sorted(workers, key=lambda node: node.node_id == own)
    finally:
        ray.shutdown()
        nodes.shutdown()
