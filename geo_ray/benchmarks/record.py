"""What a run's record costs, on moto's S3: ``python jobs/benchmark_record.py --num-parts 100000 --json FILE``.

From the last image to ``_SUCCESS``: seconds, requests, and the driver's memory. Parts appear in the store as workers
would write them, but at once, so that all of the run's time is the record's; blocks are told to the driver's part of
the run in their order. ``--before COMMIT`` does the same in that commit's code, of a time when all was left to the end.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import ray

from geo_ray.benchmarks.rows import say, write_json
from geo_ray.data.record.blocks import Block
from geo_ray.data.record.ledger import PARTS, SUFFIX, Ledger
from geo_ray.data.record.output_tables import prediction_table
from geo_ray.data.record.prediction_files import BLOCKS_PER_FILE, Inventory, parquet_bytes, settle
from geo_ray.data.run.preparation import BLOCKS_PER_SHARD
from geo_ray.data.run.settling import BackgroundSettler
from geo_ray.pipeline.columns import ANSWER, source_batch

BUCKET, OUTPUT = "runs", "s3://runs/out"
ROWS = 4  # of a part here; the store holds all parts in memory
ROWS_OF_A_RUN, IMAGES_PER_S = 512, 2400  # what a run's own time is reckoned from
ALLOWED = 0.02  # of a run's own time
ACCOUNT = "123456789012"  # moto's
AT_ONCE = 2000  # parts that are put there at a time

# In an earlier commit's code, whose record had other names; prints what ``_end`` answers.
BEFORE = """
import json, sys, time
import psutil, ray
from geo_ray.data.record.ledger import Ledger
from geo_ray.data.record.prediction_files import settle
from geo_ray.data.run.job import _write_files

shard_ids = json.load(sys.stdin)
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
process = psutil.Process()
held, start = process.memory_info().rss, time.perf_counter()
ledger = Ledger(sys.argv[1])
files = settle(ledger, shard_ids, lambda groups: _write_files(ledger, groups))
ledger.finish({"files": sorted(files)})
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "driver_mib": (process.memory_info().rss - held) / 2**20, "files": len(files)}))
"""


def shard_of(number: int) -> str:
    """The id of a shard."""
    return f"{number:020x}"


def block_of(number: int) -> Block:
    """The block of this number among those of all shards, in order."""
    shard, within = divmod(number, BLOCKS_PER_SHARD)
    return Block(shard_of(shard), within, last=within == BLOCKS_PER_SHARD - 1)


def serve(content: bytes, port: Any) -> None:
    """An S3 of moto's: ``/fill?FIRST-STOP`` puts parts into its bucket, ``/counts`` says what was asked for since."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    counts: Counter[str] = Counter()
    answer = DomainDispatcherApplication.__call__

    def counted(self: Any, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        if path == "/fill":
            backend = s3_backends[ACCOUNT]["aws"]
            for number in range(*map(int, query.split("-"))):
                backend.put_object(BUCKET, f"out/{PARTS}/{block_of(number).name}{SUFFIX}", content)
        elif path != "/counts":
            counts[f"{environ['REQUEST_METHOD']} {_kind(path, query)}"] += 1
            return list(answer(self, environ, start))
        start("200 OK", [("Content-Type", "application/json")])
        body = json.dumps(counts).encode()
        if path == "/counts":
            counts.clear()
        return [body]

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    setattr(DomainDispatcherApplication, "__call__", counted)  # noqa: B010, mypy takes an assignment for a mistake
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    s3_backends[ACCOUNT]["aws"].create_bucket(BUCKET, "us-east-1")
    port.send(server.get_host_and_port()[1])
    port.recv()


def _kind(path: str, query: str) -> str:
    """What a request is about: a listing or deletion of many, or the folder of an object."""
    if "list-type" in query:
        return "listing"
    if query.startswith("delete"):
        return "batch"
    pieces = path.split("/")
    return pieces[3] if len(pieces) > 4 else "record"


@contextmanager
def store(content: bytes) -> Iterator[str]:
    """The address of an S3 in a process of its own, which the environment names meanwhile."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(content, theirs), daemon=True)
    process.start()
    address = f"http://127.0.0.1:{ours.recv()}"
    os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    try:
        yield address
    finally:
        process.kill()
        process.join()


def part() -> bytes:
    """A part of a few answers."""
    ids = [f"photos/2024/05/{number:012d}.jpg" for number in range(ROWS)]
    batch = source_batch(ids, ids, [None] * ROWS, [""] * ROWS)
    return parquet_bytes(prediction_table(batch | {column.name: column.blank(ROWS) for column in ANSWER}))


def asked(address: str) -> dict[str, int]:
    """The requests since this was asked last, by kind."""
    with urlopen(f"{address}/counts") as response:
        return dict(sorted(json.load(response).items()))


def fill(address: str, first: int, stop: int) -> None:
    """Put parts into the store."""
    with urlopen(f"{address}/fill?{first}-{stop}"):
        return


def now(address: str, num_parts: int, held: int) -> dict[str, Any]:
    """This code: files are made while blocks come, and the rest when the last has come.

    ``held`` are the bytes of this process that aren't counted as the run's.
    """
    process, ledger = psutil.Process(), Ledger(OUTPUT)
    inventory = Inventory(ledger)
    settler = BackgroundSettler(inventory, lambda: None)
    start = time.perf_counter()
    for number in range(num_parts):
        if number % AT_ONCE == 0:
            fill(address, number, min(num_parts, number + AT_ONCE))
        block = block_of(number)
        inventory.done.add(block)
        settler.add(block)
    during, on_the_way = time.perf_counter() - start, asked(address)
    start = time.perf_counter()
    settler.finish()
    settle(inventory, _shard_ids(num_parts), settler.write_all)
    ledger.finish({"files": inventory.files})
    seconds = time.perf_counter() - start
    rss = (process.memory_info().rss - held) / 2**20
    assert inventory.num_rows == num_parts * ROWS, inventory.num_rows
    row = {"seconds": seconds, "driver_mib": rss, "files": len(inventory.files)}
    return row | {"requests": asked(address), "seconds_on_the_way": during, "requests_on_the_way": on_the_way}


def resumed(address: str, num_parts: int) -> dict[str, Any]:
    """What a run that finds all done reads before it begins."""
    start = time.perf_counter()
    done = Inventory(Ledger(OUTPUT)).done
    seconds = time.perf_counter() - start
    assert len(done) == num_parts
    return {"seconds": seconds, "requests": asked(address)}


def before(address: str, num_parts: int, commit: str) -> dict[str, Any]:
    """An earlier commit's code: all parts are there when the last image has come."""
    for first in range(0, num_parts, AT_ONCE):
        fill(address, first, min(num_parts, first + AT_ONCE))
    asked(address)
    with tempfile.TemporaryDirectory() as folder:
        tree = f"{folder}/tree"
        subprocess.run(["git", "worktree", "add", "--detach", tree, commit], check=True, capture_output=True)
        try:
            run = subprocess.run(
                [sys.executable, "-c", BEFORE, OUTPUT],
                input=json.dumps(_shard_ids(num_parts)),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                env=os.environ | {"PYTHONPATH": tree},
                cwd=tree,
            )
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], check=True)
    return dict(json.loads(run.stdout.splitlines()[-1])) | {"requests": asked(address)}


def _shard_ids(num_parts: int) -> list[str]:
    return [shard_of(number) for number in range(-(-num_parts // BLOCKS_PER_SHARD))]


def _row(way: str, num_parts: int, found: dict[str, Any]) -> dict[str, Any]:
    own = num_parts * ROWS_OF_A_RUN / IMAGES_PER_S
    return {"way": way, "parts": num_parts} | found | {"share_of_run": found["seconds"] / own}


def _extrapolated(small: dict[str, Any], large: dict[str, Any], num_parts: int) -> dict[str, Any]:
    """Seconds and memory of so many parts, as a line through two measurements says."""

    def at(name: str) -> float:
        slope = (large[name] - small[name]) / (large["parts"] - small["parts"])
        return float(large[name] + slope * (num_parts - large["parts"]))

    seconds = at("seconds")
    own = num_parts * ROWS_OF_A_RUN / IMAGES_PER_S
    row = {
        "way": f"{large['way']}, extrapolated",
        "parts": num_parts,
        "seconds": seconds,
        "share_of_run": seconds / own,
    }
    return row | {"driver_mib": at("driver_mib")}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-parts", type=int, default=100_000, help="blocks of the run (default: %(default)s)")
    parser.add_argument("--extrapolate", type=int, default=2_000_000, metavar="PARTS", help="(default: %(default)s)")
    parser.add_argument("--before", metavar="COMMIT", help="also in this commit's code, as 74acec3")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    num_parts = max(arguments.num_parts // BLOCKS_PER_FILE, 10) * BLOCKS_PER_FILE
    counts, rows = (num_parts // 10, num_parts), list[dict[str, Any]]()
    content = part()
    with store(content) as address:
        print(f"parts of {ROWS} rows, {len(content):,} bytes", flush=True)
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        now(address, BLOCKS_PER_FILE, 0)  # so that all is imported and connected
        held = psutil.Process().memory_info().rss
        for count in counts:
            rows.append(_row("now", count, now(address, count, held)))
            say(rows[-1])
            say(_row("now, resumed", count, resumed(address, count)))
        ray.shutdown()
    rows.append(_extrapolated(rows[0], rows[1], arguments.extrapolate))
    say(rows[-1])
    if arguments.before:
        ends = []
        for count in counts:
            with store(content) as address:
                ends.append(_row("before", count, before(address, count, arguments.before)))
            say(ends[-1])
        rows += [*ends, _extrapolated(ends[0], ends[1], arguments.extrapolate)]
        say(rows[-1])
    print(f"allowed: {ALLOWED:.0%} of a run's own time at {IMAGES_PER_S:,} images/s")
    write_json(arguments.json, rows)
