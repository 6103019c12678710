import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from geo_ray.datasets import earth
from geo_ray.errors import BundleError, InputError
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.local import run_local, slices
from geo_ray.pipeline.stage import Runtime
from geo_ray.serve.app import (
    GraphThread,
    ServeConfig,
    build_app,
    concatenated,
    refuse_taken_port,
    serve_forever,
)
from tests.source_tree import environment

BUNDLE = "earth-tiny"
NUM_CROPS = 40
MAX_BODY_BYTES = 2_000_000
NUMBERS = (
    "latitude", "longitude", "probability", "region_probability", "country_probability", "radius_km_50", "radius_km_90",
    "unlike",
)  # fmt: skip
WORDS = ("cell_id", "country", "region", "place")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def crops() -> list[bytes]:
    latlon = earth.locations()[:: len(earth.locations()) // NUM_CROPS][:NUM_CROPS]
    return [
        earth.encode_jpeg(pixels) for pixels in earth.render(earth.jittered_views(latlon, np.random.default_rng(0)))
    ]


def batch_of(contents: list[bytes]):
    ids = [str(row) for row in range(len(contents))]
    return source_batch(ids, ids, contents, [""] * len(ids))


@pytest.fixture(scope="module")
def expected(crops):
    return next(run_local(graph_of(open_bundle(BUNDLE)), [batch_of(crops)]))


@pytest.fixture(scope="module")
def url(ray_session):
    from ray import serve

    port = free_port()
    config = ServeConfig(max_batch_size=8, batch_wait_timeout_s=0.02, max_body_bytes=MAX_BODY_BYTES)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_app(BUNDLE, config), name="test", route_prefix="/")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


@pytest.fixture(scope="module")
def client(url):
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        yield client


def post(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/v1/locate", files={"image": ("a.jpg", content)})


def assert_agrees(answer: dict, expected, row: int) -> None:
    for name in NUMBERS:
        value = np.nan if answer[name] is None else answer[name]
        assert value == pytest.approx(expected[name][row], abs=1e-6, nan_ok=True), name
    for name in WORDS:
        assert answer[name] == expected[name][row], name
    assert answer["bundle"]["fingerprint"] == expected["bundle_fingerprint"][row]
    assert [c["cell_id"] for c in answer["candidates"]] == [c["cell_id"] for c in expected["candidates"][row]]


class TestServed:
    def test_agrees_with_the_local_runner_one_by_one(self, client, crops, expected):
        for row in range(10):
            response = post(client, crops[row])
            assert response.status_code == 200
            assert_agrees(response.json(), expected, row)

    def test_agrees_with_the_local_runner_all_at_once(self, client, crops, expected):
        with ThreadPoolExecutor(16) as pool:
            responses = list(pool.map(lambda crop: post(client, crop), crops))
        assert {response.status_code for response in responses} == {200}
        for row, response in enumerate(responses):
            assert_agrees(response.json(), expected, row)
        assert len({response.json()["request_id"] for response in responses}) == NUM_CROPS

    def test_bad_images_among_good_ones(self, client, crops, expected, tmp_path):
        Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
        bad = [b"", b"text", crops[0][:-500], (tmp_path / "bomb.png").read_bytes()]
        with ThreadPoolExecutor(8) as pool:
            responses = list(pool.map(lambda content: post(client, content), [*bad, *crops[:4]]))
        problems = ["empty", "undecodable", "undecodable", "too_large"]
        assert [(r.status_code, r.json()["problem"]) for r in responses[:4]] == [(422, problem) for problem in problems]
        for row, response in enumerate(responses[4:]):
            assert_agrees(response.json(), expected, row)

    def test_problem_is_the_local_runners(self, client, crops):
        contents = [b"", b"text", crops[0][: len(crops[0]) // 2]]
        local = next(run_local(graph_of(open_bundle(BUNDLE)), [batch_of(contents)]))
        assert [post(client, content).json()["problem"] for content in contents] == list(local["problem"])

    @pytest.mark.parametrize("num_bytes", [MAX_BODY_BYTES + 1, 15 * MAX_BODY_BYTES])
    def test_oversized_body(self, client, num_bytes):
        response = post(client, bytes(num_bytes))
        assert response.status_code == 413
        assert response.json()["problem"] == "too_large"

    def test_another_server_on_the_same_ray_is_refused(self, url):
        """Serve would keep the first one's host and port, and ending the second would end both."""
        with pytest.raises(InputError, match="already runs"):
            serve_forever(BUNDLE, port=free_port())

    def test_health(self, client):
        response = client.get("/healthz")
        assert response.status_code == 200
        assert response.json()["status"] == "ok"


class TestParts:
    """What the deployments are made of, without Serve."""

    def test_split_graph_answers_as_the_whole(self, crops, expected):
        head, tail = graph_of(open_bundle(BUNDLE)).split_at_pixels()
        decode, answer = head.build(Runtime()), tail.build(Runtime())
        decoded = [decode(row) for row in slices(batch_of([*crops, b"text"]), 1)]
        assert "bytes" not in decoded[0]
        answers = answer(concatenated(decoded))
        for name in NUMBERS:
            np.testing.assert_array_equal(answers[name][:-1], expected[name])
        assert list(answers["problem"]) == [""] * NUM_CROPS + ["undecodable"]

    def test_graph_thread_answers_as_the_graph(self, crops):
        head, _ = graph_of(open_bundle(BUNDLE)).split_at_pixels()
        thread = GraphThread(head, Runtime())
        answer = asyncio.run(thread(batch_of(crops[:3])))
        np.testing.assert_array_equal(answer["pixels"], head.build(Runtime())(batch_of(crops[:3]))["pixels"])

    def test_concatenated_undoes_slices(self, crops):
        batch = batch_of(crops[:5])
        again = concatenated(list(slices(batch, 2)))
        assert {name: list(column) for name, column in again.items()} == {name: list(c) for name, c in batch.items()}


class TestRefused:
    @pytest.mark.parametrize(
        ("field", "value"),
        [("max_batch_size", 0), ("batch_wait_timeout_s", -1.0), ("max_body_bytes", 0), ("num_replicas", 0),
         ("num_ingress_replicas", 0), ("num_gpus", -1.0), ("max_ongoing_requests", 15), ("max_queued_requests", 0)],
    )  # fmt: skip
    def test_settings(self, field, value):
        with pytest.raises(ValueError, match=f"{field}={value}"):
            ServeConfig(**{field: value})

    def test_unknown_bundle(self):
        with pytest.raises(BundleError, match="no-such-bundle"):
            build_app("no-such-bundle")

    def test_taken_port(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(InputError, match=f"127.0.0.1:{port}"):
                refuse_taken_port("127.0.0.1", port)
        refuse_taken_port("127.0.0.1", port)


FOREVER = """
import ray
from geo_ray.serve.app import serve_forever
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
serve_forever("earth-tiny", port={port}, announce=lambda line: print(line, flush=True))
ray.shutdown()
print("ended", flush=True)
"""


def lines_until(stream, wanted: str) -> str:
    """What is printed up to a line that contains ``wanted``, or to the end."""
    lines = []
    for line in stream:
        lines.append(line)
        if wanted in line:
            break
    return "".join(lines)


def test_serve_forever_answers_and_ends_cleanly_from_a_source_tree(crops, source_tree_python):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [source_tree_python, "-c", FOREVER.format(port=port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    ) as process:
        try:
            printed = lines_until(process.stdout, "curl -F image=@")
            assert f"{url}/v1/locate" in printed
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                assert post(client, crops[0]).status_code == 200
            process.send_signal(signal.SIGTERM)
            printed = lines_until(process.stdout, "ended")
            assert "ended" in printed
            assert "Traceback" not in printed
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    refuse_taken_port("127.0.0.1", port)  # free again


class FakeServe:
    """Records what is asked of Ray Serve; the process signals itself as soon as the application runs."""

    def __init__(self, number: int, failure: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._number, self._failure = number, failure

    def status(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(proxies={})

    def start(self, **options) -> None:
        self.calls.append("start")

    def run(self, app, **options) -> None:
        self.calls.append("run")
        if self._failure:
            raise self._failure
        os.kill(os.getpid(), self._number)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("failure", [None, RuntimeError("no room for a replica")])
def test_serve_forever_shuts_down_and_gives_the_signals_back(monkeypatch, number, failure):
    fake = FakeServe(number, failure)
    monkeypatch.setattr("geo_ray.serve.app.serve", fake)
    monkeypatch.setattr("geo_ray.serve.app.build_app", lambda bundle, config: None)
    monkeypatch.setattr("geo_ray.serve.app.ray.is_initialized", lambda: True)
    before = signal.getsignal(number)
    lines: list[str] = []
    with pytest.raises(RuntimeError, match="no room") if failure else contextlib.nullcontext():
        serve_forever(BUNDLE, port=free_port(), announce=lines.append)
    assert fake.calls == ["start", "run", "shutdown"]
    assert signal.getsignal(number) is before
    assert any("curl -F image=@" in line for line in lines) is (failure is None)


def test_serve_forever_leaves_starting_ray_to_its_caller():
    code = "from geo_ray.serve.app import serve_forever; serve_forever('earth-tiny')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "call ray.init first" in done.stderr
