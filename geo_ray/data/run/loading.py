"""A worker of a bulk run, which says that it loads the model before anything heavy is imported.

Light to import: a process may also end, as where memory runs out, while it imports torch.
"""

import pickle
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError

from geo_ray.data.run.coordinator import Announcer
from geo_ray.data.run.deaths import LOADS
from geo_ray.errors import BundleError, GeoRayError, IndexUnavailableError

MORE_MEMORY = "have fewer workers (--workers), or more memory set aside for each (--worker-memory)"


class Worker:
    """An actor that does with blocks what ``made_by`` makes, given the coordinator: pickled, as that imports torch.

    What can't be loaded is an error of the first call: of one in the making of an actor Ray tries again, and loses the
    reason.
    """

    def __init__(self, made_by: bytes, coordinator: Any) -> None:
        self._refusal: GeoRayError | None = None
        self._does: Callable[[pa.Table], pa.Table] | None = None
        worker, announcer = ray.get_runtime_context().get_actor_id() or "", Announcer(coordinator=coordinator)
        if announcer.begin_loading(worker) >= LOADS:
            why = f"{LOADS} times the process of a worker ended while it loaded the model, as where memory runs out"
            self._refusal = BundleError(f"{why}; {MORE_MEMORY}")
            return
        try:
            self._does = pickle.loads(made_by)(coordinator=coordinator)
        except (RayError, IndexUnavailableError):
            raise  # what died may come back
        except GeoRayError as error:
            self._refusal = error
        except Exception as error:
            why = f"a worker can't load the model: {type(error).__name__}: {' '.join(str(error).split())}"
            self._refusal = BundleError(f"{why}; {MORE_MEMORY}" if _is_of_memory(error) else why)
        announcer.end_loading(worker)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """What became of the block in this row: it travels on, or what is known of it when it is committed."""
        if self._does is None:
            assert self._refusal is not None
            raise self._refusal
        return self._does(rows)


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error)
