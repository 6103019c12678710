"""A node that dies with two shards on it."""

import json
import logging
import subprocess
import sys

LOG = logging.getLogger(__name__)


def test_the_same_answers_when_a_node_dies(tmp_path):
    """In a process of its own, as a cluster of several nodes can't be started beside the session's Ray."""
    command = [sys.executable, "-m", "tests.remote.node_loss", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.strip().splitlines()[-1])
    LOG.warning("longest waits by replicas: %s", report["longest_wait_s"])
    assert report["on_lost_node"] == {"two": 4, "one": 2}
    assert report["replicas_apart"]
    assert report["longest_wait_s"]["two"] < 20
    assert report["restarts"] >= 2
    assert report["all_on_the_other_node"]
