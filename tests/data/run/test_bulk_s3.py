"""Input, bundle and output on S3: killed and resumed, and through requests that fail or are slow, exactly once.

Jobs run by the command line with a Ray of their own: workers are processes that must be born with the address of the
server in their environment, and what is killed must take no other test's Ray with it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import s3fs

from geo_ray.data.record.rehearsal import BLOCK
from geo_ray.data.run.block_reader import BlockReader
from geo_ray.data.sources import open_sources
from geo_ray.models.bundle import shipped_bundles
from tests.crops import write_crops
from tests.data.faulty_proxy import faulty_proxy
from tests.data.s3_server import s3_server
from tests.data.shard_killing import same_answers
from tests.data.source_files import small_images, write_all
from tests.local_answers import write_local_answers

NUM_IMAGES = 120  # 8 blocks of 16 at most
COMMITS_BEFORE_KILL = 4
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def s3(crops):
    """A server with the crops and the bundle that ships."""
    with s3_server() as client:
        upload(client, crops, "in")
        upload(client, shipped_bundles()["earth-tiny"], "earth-tiny")
        yield client


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    write_crops(folder, NUM_IMAGES)
    return folder


@pytest.fixture(scope="module")
def local(crops, tmp_path_factory):
    """The answers of one who knows nothing of S3."""
    return write_local_answers(crops, tmp_path_factory.mktemp("local"))


def upload(client, folder, prefix):
    for path in (path for path in folder.rglob("*") if path.is_file()):
        key = f"{prefix}/{path.relative_to(folder).as_posix()}"
        client.put_object(Bucket="photos", Key=key, Body=path.read_bytes())


def keys(client, prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="photos", Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


def content(client, key):
    return client.get_object(Bucket="photos", Key=key)["Body"].read()


@contextlib.contextmanager
def running(output, cache, endpoint, *options):
    """The process of a job, in a group of its own; at the end it is gone with all that it began."""
    command = [sys.executable, "-m", "geo_ray.cli", "geotag", "s3://photos/in", "--bundle", "s3://photos/earth-tiny",
               "--output", f"s3://photos/{output}", "--address", "local", "--batch-size", "64", *options]  # fmt: skip
    environment = os.environ | {"AWS_ENDPOINT_URL": endpoint, "XDG_CACHE_HOME": str(cache)}
    log = cache / f"{output}{len(options)}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process, log
        finally:
            end(process)


def end(process):
    """SIGKILL to the process and its group, and to whatever it has begun that outlives it."""
    begun = []
    with contextlib.suppress(psutil.NoSuchProcess):
        begun = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for one in psutil.wait_procs(begun, 20)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def complete(output, cache, endpoint, *options):
    """Run a job to its end."""
    with running(output, cache, endpoint, "--workers", "1", *options) as (process, log):
        assert process.wait(TIMEOUT_S) == 0, log.read_text()[-3000:]


def check(client, output, local, tmp_path):
    """Every image once, with the answers of the local run; returns the events."""
    assert f"{output}/_SUCCESS" in keys(client, output)
    assert not keys(client, f"{output}/parts/")
    (tmp_path / "predictions").mkdir()
    for key in keys(client, f"{output}/predictions/"):
        (tmp_path / "predictions" / Path(key).name).write_bytes(content(client, key))
    manifest = json.loads(content(client, f"{output}/manifest.json"))
    assert (manifest["num_images"], manifest["problems"]) == (NUM_IMAGES, {})
    assert same_answers(tmp_path, local)
    return [json.loads(line) for line in content(client, f"{output}/events.jsonl").decode().splitlines()]


def until(condition, process, log):
    """Wait until something is so, while the process lives."""
    end_at = time.monotonic() + TIMEOUT_S
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end_at, log.read_text()[-3000:]
        time.sleep(0.05)


def test_killed_and_resumed(s3, local, tmp_path):
    """The server holds back each commit after some, so that the kill finds the run half-way."""
    commits = []

    def hold(method, path):
        if method != "PUT" or "/parts/" not in path or BLOCK.name in path:  # that is written before the first image
            return False
        commits.append(path)
        return len(commits) > COMMITS_BEFORE_KILL

    cache = tmp_path / "cache"
    cache.mkdir()
    with (
        faulty_proxy(os.environ["AWS_ENDPOINT_URL"], hold=hold) as proxy,
        running("killed", cache, proxy.url, "--workers", "2") as (process, log),
    ):
        until(lambda: proxy.held and len(keys(s3, "killed/parts/")) == COMMITS_BEFORE_KILL, process, log)
        end(process)
    assert "killed/_LOCK" in keys(s3, "killed")
    assert not keys(s3, "killed/predictions")
    complete("killed", cache, os.environ["AWS_ENDPOINT_URL"], "--resume")
    events = check(s3, "killed", local, tmp_path)
    started = [event["num_blocks_done"] for event in events if event["event"] == "started"]
    assert started[0] == 0
    assert started[1] >= COMMITS_BEFORE_KILL
    assert "killed/_LOCK" not in keys(s3, "killed")


def test_requests_that_fail_or_are_slow(s3, local, tmp_path):
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"], fault_share=0.02, slow_share=0.05, seed=1) as proxy:
        complete("faulty", tmp_path, proxy.url)
    check(s3, "faulty", local, tmp_path)
    assert proxy.num_requests > NUM_IMAGES
    assert len(proxy.faults) > proxy.num_requests / 200
    assert proxy.num_slow > proxy.num_requests / 100


@pytest.mark.parametrize("name", ["folder", "webdataset", "parquet binary", "zip", "msgpack", "a.csv"])
def test_sources_are_read_through_faults(s3, tmp_path, monkeypatch, name):
    """Every tenth request fails and every tenth is slow: all images come, each once, in the blocks that they are in."""
    images = small_images(40)
    source = write_all(tmp_path, images)[name]
    upload(s3, tmp_path, "sources")
    (text,) = (text.replace(str(tmp_path), "s3://photos/sources") for text in source.inputs)
    reader = BlockReader(head=b"", num_views=1, rows_per_block=16, rows_per_batch=16)
    expected = blocks(reader, text)
    assert sum(len(ids) for ids, _ in expected) == len(images)
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"], fault_share=0.1, slow_share=0.1, seed=2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            assert blocks(reader, text) == expected
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
        assert proxy.num_requests > 3


def blocks(reader, text):
    """Ids and contents of the blocks of an input."""
    read = [images for shard in open_sources([text]).shards() for images in reader.blocks(shard, frozenset())]
    assert not [images.failure for images in read if images.failure]
    return [
        ([i for _, batch in images.batches for i in batch["image_id"]],
         [c for _, batch in images.batches for c in batch["bytes"]])
        for images in read
    ]  # fmt: skip
