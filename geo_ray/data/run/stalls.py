"""Ending a pass that waits for what a lost node has taken with it."""

import time
from typing import Any

import ray
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.exceptions import ExecutionTimeoutError

STALLED_S = 60.0
ASKED_EVERY_S = 5.0


class EndsWhenShort(ExecutionCallback):  # type: ignore[misc]
    """Ends a stream of Ray Data when nothing has come of it for a while on a cluster smaller than it began on.

    Workers of a node that has died are started again elsewhere. They may take the CPUs that reading needs, or find
    none, and their blocks wait for them; Ray Data then waits for hours. A new pass asks for what there is.
    """

    def before_execution_starts(self, executor: Any) -> None:
        """Note what there is."""
        self._had = ray.cluster_resources()
        self._num_outputs, self._since, self._asked_at = -1, time.monotonic(), 0.0

    def on_execution_step(self, executor: Any) -> None:
        """Raise ``ExecutionTimeoutError`` where it is so."""
        now = time.monotonic()
        num_outputs = executor._output_node[0].metrics.num_outputs_taken
        if num_outputs != self._num_outputs:
            self._num_outputs, self._since = num_outputs, now
        if now > self._since + STALLED_S and now > self._asked_at + ASKED_EVERY_S:
            self._asked_at, has = now, ray.cluster_resources()
            lost = {name: self._had[name] - has.get(name, 0.0) for name in ("CPU", "GPU") if name in self._had}
            if any(number > 0 for number in lost.values()):
                listed = " and ".join(f"{number:g} {name}" for name, number in lost.items() if number > 0)
                raise ExecutionTimeoutError(f"{listed} of the cluster are gone, and nothing came for {STALLED_S:g} s")
