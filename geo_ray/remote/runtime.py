"""Connecting to Ray."""

import contextlib
import importlib
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator

import ray
import ray._private.worker

from geo_ray.errors import InputError

MAX_TEMP_BYTES = 40
LEAST_STORE_BYTES = 2**30
BLOCKS_PER_CPU = 2  # one that is being written, and one that waits to be read
BLOCKS_PER_CPU_OF_GPU = 6  # the same of images as they are read (files may take twice what pixels do) and as decoded
GPUS = "/proc/driver/nvidia/gpus"  # a folder for each
SHARED_MEMORY = "/dev/shm"  # where Ray has its object store


@contextlib.contextmanager
def connected(
    address: str,
    num_cpus: int | None = None,
    block_bytes: int = 0,
    num_gpus: int | None = None,
    module: str = "ray.data",
) -> Iterator[dict[str, float]]:
    """The resources of a Ray that is connected while the context lasts.

    ``module`` is what will be run on it, which this process imports while Ray starts.

    A local one gets room for two blocks of ``block_bytes`` in shared memory for each of its CPUs, for six where there
    are GPUs, as far as there is that much.

    ``local`` starts one on this machine, with two logical CPUs more than it has cores, so that reading and bookkeeping,
    which mostly wait, run beside a worker a core; it has the GPUs that there are, or as many as it is told to think
    there are. ``auto`` joins the cluster that ``RAY_ADDRESS`` names, as it does
    inside ``ray job submit``, and is ``local`` without it. Anything else is the address of a cluster.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "local")
    # Errors that matter are raised where results are asked for; others are of Ray's own actors, when they are killed.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    threading.Thread(target=importlib.import_module, args=(module,), daemon=True).start()
    with _reports_to_nowhere():
        if address == "local":
            _start_local(num_cpus or (os.cpu_count() or 1) + 2, block_bytes, num_gpus)
        else:
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of this process, for the reason below
            with _stderr_to_nowhere():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        _quiet_data()
        try:
            yield ray.cluster_resources()
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _reports_to_nowhere() -> Iterator[None]:
    """Drops the paragraph that Ray prints on the driver's output for each process that dies, while the context lasts.

    No setting of Ray 2.60 does: what a thread receives of the cluster's errors goes to this function, whatever
    ``log_to_driver`` says. Ray's log files have it all, and what died is told by who waited for it.
    """
    kept = ray._private.worker.print_to_stdstream
    ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: None
    try:
        yield
    finally:
        ray._private.worker.print_to_stdstream = kept


def _start_local(num_cpus: int, block_bytes: int, num_gpus: int | None) -> None:
    # Every actor pool logs an error about its constructor arguments: ray-project/ray#53727. The setting is itself
    # announced on stderr, by C++ code, so that is turned away while Ray starts; failures to start are exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray ends processes that have been idle for a second, and the next task pays for new ones: a second of CPU each.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
    with _stderr_to_nowhere():
        ray.init(
            address="local",
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            _temp_dir=_temp_dir(),
            include_dashboard=False,
            object_store_memory=store_bytes(num_cpus, block_bytes, bool(num_gpus) or os.path.isdir(GPUS)),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


def store_bytes(num_cpus: int, block_bytes: int, with_gpus: bool = False) -> int:
    """Bytes of shared memory for what travels between processes; Ray's own default is a third of the memory."""
    blocks_per_cpu = BLOCKS_PER_CPU_OF_GPU if with_gpus else BLOCKS_PER_CPU
    wanted = max(LEAST_STORE_BYTES, blocks_per_cpu * num_cpus * block_bytes)
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:  # no Linux
        return LEAST_STORE_BYTES
    return min(wanted, max(LEAST_STORE_BYTES, free // 2))


def _temp_dir() -> str | None:
    """Where Ray puts its sockets: a shorter folder where the usual one's name leaves no room, None for the usual one.

    A socket's path may have 107 bytes, of which Ray's own part takes 64. ``InputError`` where there is no such folder.
    """
    usual = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(usual)) <= MAX_TEMP_BYTES:
        return None
    if os.access("/tmp", os.W_OK):
        return "/tmp/ray"
    raise InputError(
        f"the folder for temporary files, {usual!r}, has too long a name for Ray's sockets; set RAY_TMPDIR to one of "
        f"at most {MAX_TEMP_BYTES} bytes"
    )


@contextlib.contextmanager
def _stderr_to_nowhere() -> Iterator[None]:
    """Drops what any code of this process writes to standard error while the context lasts."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _quiet_data() -> None:
    """Ray Data's settings for long jobs: quiet where nobody watches, and patience with nodes that take long to come."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.execution_no_progress_timeout_s = 7200
    context.max_consecutive_actor_init_deaths = 3
    context.issue_detectors_config.detectors = []  # they warn in paragraphs, of memory that our workers do take
    logger = logging.getLogger("ray.data")
    logger.setLevel(logging.WARNING)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler):  # what is logged as an error is raised too; the log file has it
            handler.setLevel(logging.CRITICAL)
