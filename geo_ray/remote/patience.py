"""What keeps Ray Data's executor from taking a CPU while it has nothing to do."""

import time
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

PAUSE_S = 0.03
BUSY_S = 0.015  # of a CPU; a step that does nothing but look takes 2 to 5 ms


class Patience(ExecutionCallback):  # type: ignore[misc]  # mypy skips Ray
    """Waits a little after each step of the executor's loop that had little to do.

    While consumers are slower than what is read for them no task runs, and then the loop of Ray 2.60 waits for nothing:
    it took 0.6 of a core beside a training on two.
    """

    def __init__(self) -> None:
        self._before = time.thread_time()

    def on_execution_step(self, executor: Any) -> None:
        """Wait, unless the step has worked."""
        if time.thread_time() - self._before < BUSY_S:
            time.sleep(PAUSE_S)
        self._before = time.thread_time()


def be_patient() -> None:
    """Let the datasets that are made in this process from now on run so."""
    context = DataContext.get_current()
    if Patience not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, Patience]
