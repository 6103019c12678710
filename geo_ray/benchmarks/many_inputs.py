"""What many inputs cost: ``python jobs/benchmark_inputs.py listing memory --json FILE``.

``listing``: a bucket of a million objects, whose names a server on this machine makes up as S3 would list them (1,000 a
page); how long until ``geo-ray geotag`` has committed its first answers, and how long all of it takes to list.
``memory``: the most that a run and all its processes take for 100,000 images, against 10,000.
"""

import argparse
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import psutil

from geo_ray.benchmarks.peak_memory import memory_bytes
from geo_ray.benchmarks.rows import write_json
from geo_ray.data.sources import open_sources
from geo_ray.datasets import earth

BUCKET = "photos"
PAGE = 1000
WAIT_S = 300.0
NUM_CROPS = 1000  # distinct images, read over and over


def key(number: int) -> str:
    """The name of an object."""
    return f"2024/{number // 10_000:04d}/{number:08d}-4f1c2a9e7b.jpg"


def page(first: int, num_objects: int, size_bytes: int) -> str:
    """S3's answer to ListObjectsV2 from an object on."""
    last = min(first + PAGE, num_objects)
    about = f"<LastModified>2024-05-01T00:00:00.000Z</LastModified><ETag>&quot;0&quot;</ETag><Size>{size_bytes}</Size>"
    objects = "".join(f"<Contents><Key>{key(n)}</Key>{about}</Contents>" for n in range(first, last))
    more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < num_objects else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><KeyCount>{last - first}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{objects}</ListBucketResult>"
    )


def serve(num_objects: int, content: bytes, port: Any) -> None:
    """Serve a bucket in which each object is the same image."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            asked = parse_qs(url.query)
            if url.path.strip("/") == BUCKET:
                start = int(asked.get("continuation-token", ["0"])[0])
                self._reply(page(start, num_objects, len(content)).encode(), "application/xml")
            else:
                self._reply(content, "image/jpeg")

        def do_HEAD(self) -> None:
            self._reply(content, "image/jpeg", found=urlsplit(self.path).path.endswith(".jpg"))

        def _reply(self, body: bytes, kind: str, found: bool = True) -> None:
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) if found else 0))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port.put(server.server_port)
        server.serve_forever()


@contextlib.contextmanager
def bucket_of(num_objects: int) -> Iterator[str]:
    """The address of a bucket; the environment names its server meanwhile."""
    context = multiprocessing.get_context("spawn")
    port: Any = context.SimpleQueue()
    server = context.Process(target=serve, args=(num_objects, crops(1)[0], port), daemon=True)
    server.start()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port.get()}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    try:
        yield f"s3://{BUCKET}/2024"
    finally:
        server.terminate()
        server.join()


def crops(count: int) -> list[bytes]:
    """JPEG crops of the data set."""
    latlon = earth.locations()[:: len(earth.locations()) // count][:count]
    return [earth.encode_jpeg(p) for p in earth.render(earth.jittered_views(latlon, np.random.default_rng(0)))]


def listing(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds until the first answers of a bucket of many objects, and until all of it is listed."""
    with tempfile.TemporaryDirectory() as temporary, bucket_of(options.num_objects) as address:
        start = time.monotonic()
        num_listed = sum(shard.num_rows or 0 for shard in open_sources([address]).shards())
        listed = time.monotonic() - start
        output = Path(temporary) / "out"
        start = time.monotonic()
        with run([address, "--output", str(output)]) as process:
            while process.poll() is None and not list(output.glob("parts/*.parquet")):
                if time.monotonic() > start + WAIT_S:
                    raise SystemExit(f"no answers after {WAIT_S:.0f} s")
                time.sleep(0.05)
            first = time.monotonic() - start
            process.send_signal(signal.SIGTERM)
            exit_code = process.wait()
    return [{"name": f"{num_listed:,} objects listed", "first_answers_s": round(first, 1),
             "all_listed_s": round(listed, 1), "exit_code_when_told_to_end": exit_code}]  # fmt: skip


def memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The most memory of runs over few and over many images, all processes together and of the driver alone."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for number, content in enumerate(crops(NUM_CROPS)):
            (root / f"{number}.jpg").write_bytes(content)
        for count in (options.num_images // 10, options.num_images):
            table = root / f"{count}.csv"
            table.write_text("id,path\n" + "".join(f"{n},{n % NUM_CROPS}.jpg\n" for n in range(count)))
            rows.append({"name": f"{count:,} images"} | _peak([str(table), "--output", str(root / f"out-{count}")]))
    rows[-1]["ratio"] = round(rows[1]["all_gib"] / rows[0]["all_gib"], 3)
    rows[-1]["driver_ratio"] = round(rows[1]["driver_gib"] / rows[0]["driver_gib"], 3)
    return rows


def _peak(arguments: list[str]) -> dict[str, Any]:
    start, most, alone = time.monotonic(), 0, 0
    with run(arguments) as process:
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                driver = psutil.Process(process.pid)
                alone = max(alone, driver.memory_full_info().pss)
                most = max(most, memory_bytes(driver))
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"the run ended with exit code {process.returncode}")
    return {
        "all_gib": round(most / 2**30, 2),
        "driver_gib": round(alone / 2**30, 3),
        "seconds": round(time.monotonic() - start, 1),
    }


@contextlib.contextmanager
def run(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """``geo-ray geotag`` as a process on a Ray of its own, ended with the context."""
    command = [sys.executable, "-m", "geo_ray.cli", "geotag", *arguments, "--address", "local"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


BENCHMARKS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {"listing": listing, "memory": memory}


def main() -> None:
    """Parse the arguments, run the benchmarks, print their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="+", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--num-objects", type=int, default=1_000_000, help="of the bucket (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=100_000, help="and a tenth of them (default: %(default)s)")
    options = parser.parse_args()
    rows = [row for name in options.benchmarks for row in BENCHMARKS[name](options)]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    write_json(options.json, {"rows": rows})
