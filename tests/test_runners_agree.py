"""One graph, four faces: in process, Ray Data, Ray Serve over HTTP and the command line give the same answers."""

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from geo_ray.data.record.output_tables import prediction_table
from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.data.sources import list_inputs, read_bytes
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.local import run_local, slices
from geo_ray.remote.place import Place
from tests.crops import write_crops
from tests.source_tree import ROOT, environment

NUM_IMAGES = 500
NUMBERS = ("latitude", "longitude", "probability", "radius_km_50", "radius_km_90")
WORDS = ("cell_id", "country", "region", "place")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_crops(folder, NUM_IMAGES, seed=3)
    return folder


@pytest.fixture(scope="module")
def local(folder):
    """The oracle's rows by id, in batches of an odd size."""
    inputs = list_inputs([str(folder)])
    contents = [read_bytes(item.uri)[0] for item in inputs]
    batch = source_batch([i.image_id for i in inputs], [i.uri for i in inputs], contents, [""] * len(inputs))
    answers = run_local(graph_of(open_bundle("earth-tiny")), slices(batch, 37))
    return {row["image_id"]: row for answer in answers for row in prediction_table(answer).to_pylist()}


def read_rows(output):
    return {row["image_id"]: row for row in pq.read_table(output / "predictions").to_pylist()}


def assert_same(rows, oracle):
    assert rows.keys() == oracle.keys()
    for image_id, row in rows.items():
        expected = oracle[image_id]
        assert [row[name] for name in WORDS] == [expected[name] for name in WORDS]
        both = (np.array([each[n] for n in NUMBERS], float) for each in (row, expected))  # None is NaN
        np.testing.assert_allclose(*both, rtol=0, atol=1e-6)
        assert [c["cell_id"] for c in row["candidates"]] == [c["cell_id"] for c in expected["candidates"]]


def test_ray_data(folder, local, tmp_path, ray_session):
    options = GeotagOptions(inputs=(str(folder),), output=str(tmp_path))
    geotag(prepare(options), Place(num_workers=2, batch_size=100))
    assert_same(read_rows(tmp_path), local)


def test_ray_serve_over_http(folder, local, ray_session):
    from ray import serve

    from geo_ray.serve.app import build_app

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(build_app("earth-tiny"))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

            def locate(image_id):
                answer = client.post("/v1/locate", files={"image": (folder / image_id).read_bytes()})
                answer.raise_for_status()
                return answer.json()

            with ThreadPoolExecutor(16) as threads:
                rows = dict(zip(local, threads.map(locate, local), strict=True))
    finally:
        serve.shutdown()
    assert_same(rows, local)


def test_command_line_from_a_source_tree(folder, local, tmp_path, source_tree_python):
    command = [source_tree_python, ROOT / "jobs" / "geotag.py", folder, "--output", tmp_path, "--address", "local"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment())
    assert run.returncode == 0, run.stderr
    assert f"{NUM_IMAGES} images (no problems)" in run.stdout
    assert_same(read_rows(tmp_path), local)
