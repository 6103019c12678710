"""The Ray Serve runner: an ingress that decodes and a locator that answers in batches, two parts of the one graph."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import ray
from fastapi import FastAPI
from ray import serve

from geo_ray.errors import InputError
from geo_ray.models.bundle import Bundle, open_bundle
from geo_ray.pipeline.columns import Batch, source_batch
from geo_ray.pipeline.graph import Graph, graph_of
from geo_ray.pipeline.local import slices
from geo_ray.pipeline.search_size import fits_gpu
from geo_ray.pipeline.stage import Runtime
from geo_ray.serve.http import create_api
from geo_ray.serve.schema import BundleInfo, bundle_info

APP_NAME = "geo-ray"


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How wide, and what a request may cost. The cap on pixels is the bundle's.

    A batch is padded to the tower's micro-batch anyway, so up to that size a fuller batch costs no more.
    """

    max_batch_size: int = 16
    batch_wait_timeout_s: float = 0.005
    max_body_bytes: int = 20 * 2**20
    max_ongoing_requests: int = 32  # an ingress replica holds as many uploads in memory
    max_queued_requests: int = 128  # more are answered 503
    num_replicas: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    num_ingress_replicas: int = 1
    ingress_num_cpus: float = 0.5
    top_k: int | None = None  # candidates to report; None: the graph's default
    within: str | None = None  # a bundle of cells, in whose most probable ones addresses are looked for

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_body_bytes", "max_queued_requests", "num_replicas", "num_ingress_replicas"):
            if getattr(self, name) < 1:
                raise ValueError(f"serve: {name}={getattr(self, name)} must be at least 1")
        for name in ("batch_wait_timeout_s", "num_cpus", "num_gpus", "ingress_num_cpus"):
            if getattr(self, name) < 0:
                raise ValueError(f"serve: {name}={getattr(self, name)} must not be negative")
        if self.max_ongoing_requests < self.max_batch_size:
            raise ValueError(
                f"serve: max_ongoing_requests={self.max_ongoing_requests} must be at least "
                f"max_batch_size={self.max_batch_size}, or batches never fill"
            )


class GraphThread:
    """A built graph on a thread of its own, so that the replica's event loop stays free.

    One thread, because silencing Pillow's warnings is not thread-safe and torch counts its threads by caller.
    """

    def __init__(self, graph: Graph, runtime: Runtime) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="graph")
        self._built = self._thread.submit(graph.build, runtime).result()

    async def __call__(self, batch: Batch) -> Batch:
        """The graph's output for a batch."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._built, batch)


def concatenated(rows: list[Batch]) -> Batch:
    """One batch of batches with the same columns."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


class Locator:
    """Deployment: decoded rows to answers, many requests at once."""

    def __init__(self, graph: Graph, runtime: Runtime, config: ServeConfig) -> None:
        self._graph = GraphThread(graph, runtime)
        self.locate.set_max_batch_size(config.max_batch_size)
        self.locate.set_batch_wait_timeout_s(config.batch_wait_timeout_s)

    @serve.batch  # type: ignore[untyped-decorator]  # mypy skips Ray
    async def locate(self, rows: list[Batch]) -> list[Batch]:
        """The answer to each batch of one row."""
        return list(slices(await self._graph(concatenated(rows)), 1))


@serve.ingress()
class Ingress:
    """Deployment: the HTTP interface; decodes, and asks the locator where there is something to locate."""

    def __init__(self, graph: Graph, locator: Any, bundle: BundleInfo, config: ServeConfig) -> None:
        self._graph = GraphThread(graph, Runtime())
        self._locator, self._bundle, self._config = locator, bundle, config

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica, after the constructor."""
        return create_api(self.locate, self._bundle, self._config.max_body_bytes)

    async def locate(self, request_id: str, content: bytes) -> Batch:
        """A batch of one row: the answer, or the decoded row where it has a problem."""
        row = await self._graph(source_batch([request_id], [""], [content], [""]))
        if row["problem"][0]:
            return row
        answer: Batch = await self._locator.locate.remote(row)
        return answer


def runtime_of(bundle: Bundle, config: ServeConfig) -> Runtime:
    """Where a locator computes: with a GPU places are searched there too, where what is searched leaves it room."""
    if not config.num_gpus:
        return Runtime()
    return Runtime(device="cuda", search_device="cuda" if fits_gpu(bundle) else None)


def build_app(bundle_ref: str, config: ServeConfig | None = None) -> serve.Application:
    """The application for ``serve.run``; the bundle is checked here, before anything starts."""
    config = config or ServeConfig()
    bundle = open_bundle(bundle_ref)
    graph = graph_of(bundle, config.top_k, within=config.within)
    decode, answer = graph.split_at_pixels()  # smaller than most files, and of one size
    quick_stop = {"graceful_shutdown_wait_loop_s": 0.2}  # Serve looks every 2 s whether the last request has ended
    locator = serve.deployment(Locator).options(
        num_replicas=config.num_replicas,
        max_ongoing_requests=2 * config.max_batch_size,  # one batch runs while the next one fills
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
        **quick_stop,
    )
    ingress = serve.deployment(Ingress).options(
        num_replicas=config.num_ingress_replicas,
        max_ongoing_requests=config.max_ongoing_requests,
        max_queued_requests=config.max_queued_requests,
        ray_actor_options={"num_cpus": config.ingress_num_cpus},
        **quick_stop,
    )
    return ingress.bind(decode, locator.bind(answer, runtime_of(bundle, config), config), bundle_info(bundle), config)


def serve_forever(
    bundle_ref: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    config: ServeConfig | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM, then take the application down; call from the main thread, with Ray connected.

    There is no authentication yet: whoever reaches ``host`` is answered. Raises ``InputError`` where the port is
    taken, or where Serve already runs on this Ray: it would keep its own address, and end with ours.
    """
    if not ray.is_initialized():
        raise RuntimeError("serve_forever needs a connected Ray: call ray.init first")
    if serve.status().proxies:
        raise InputError("Ray Serve already runs on this Ray: end it (serve.shutdown) or use another Ray")
    app = build_app(bundle_ref, config)
    refuse_taken_port(host, port)
    stop = threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        serve.start(http_options={"host": host, "port": port})
        serve.run(app, name=APP_NAME, route_prefix="/")
        url = f"http://{host}:{port}"
        announce(f"serving {bundle_ref} at {url} (documentation: {url}/docs); stop with Ctrl-C")
        announce(f"try: curl -F image=@photo.jpg {url}/v1/locate")
        stop.wait()
        announce("stopping")
    finally:
        serve.shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)


def refuse_taken_port(host: str, port: int) -> None:
    """Raise ``InputError`` where nothing can listen at this address: Serve's own error comes late and names no port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"can't listen at {host}:{port} ({error.strerror}); choose another --host or --port"
            ) from error
