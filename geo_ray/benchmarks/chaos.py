"""A bulk run through faults against the same run in peace: ``python jobs/chaos.py --output DIR --json FILE``.

A cluster of three nodes on this machine, with ray's worker processes killed all the time, a node lost, and the driver
killed twice and resumed. Says whether each image has exactly one row, whether the answers are those of the run in
peace, and how much work was done twice: by the log that workers write before they begin (``data/run/trace.py``).
"""

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from ray.cluster_utils import Cluster

from geo_ray.benchmarks.disturbance import compare_answers, repeated_shares
from geo_ray.benchmarks.rows import write_json
from geo_ray.data.run.trace import WORK_LOG, rows_by_act
from geo_ray.datasets import earth

NUM_CROPS = 2000  # distinct images, read over and over under ids of their own
STORE_BYTES = 100 * 2**20  # of a node's object store
BROKEN = (b"", b"<html>404 Not Found</html>", b"\xff\xd8\xff\xe0 cut")  # and a JPEG of which the half is missing
BATCH_SIZE = "64"  # a worker notes each batch that it begins: smaller ones tell better what was lost with it
MAX_REPEATED = 0.15
MAX_DRIVERS = 12
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # a node dies with them, which is another fault


@dataclass(kw_only=True)
class Faults:
    """What is done to a run: when, by seconds or by the share of images that are done; and what was done."""

    kill_every_s: float = float("inf")
    lose_node_at: float = float("inf")
    kill_driver_at: list[float] = field(default_factory=list)
    rng: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    node_lost_at: float | None = None
    drivers_killed_at: list[float] = field(default_factory=list)


def write_inputs(folder: Path, num_images: int, corrupt_share: float, rng: random.Random) -> tuple[Path, set[str]]:
    """A manifest of this many images, and the ids of those that are corrupt."""
    folder.mkdir(parents=True)
    places = earth.locations()
    views = earth.jittered_views(places[:: len(places) // NUM_CROPS][:NUM_CROPS], np.random.default_rng(0))
    contents = [earth.encode_jpeg(pixels) for pixels in earth.render(views)]
    for number, content in enumerate(contents):
        (folder / f"{number:04d}.jpg").write_bytes(content)
    for number, content in enumerate((*BROKEN, contents[0][: len(contents[0]) // 2])):
        (folder / f"broken-{number}.jpg").write_bytes(content)
    bad = set(rng.sample(range(num_images), round(num_images * corrupt_share)))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_id", "path"])
        for number in range(num_images):
            broken = f"broken-{number % (len(BROKEN) + 1)}.jpg"
            rows.writerow([name(number), broken if number in bad else f"{number % NUM_CROPS:04d}.jpg"])
    return manifest, {name(number) for number in bad}


def name(number: int) -> str:
    """The id of an image."""
    return f"image-{number:06d}"


@contextlib.contextmanager
def cluster_of_three(cpus_per_node: int, work_log: Path) -> Iterator[Cluster]:
    """A head and two nodes, whose workers write the log."""
    os.environ[WORK_LOG] = str(work_log)
    arguments = {"num_cpus": cpus_per_node, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=arguments | {"include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(**arguments)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()
        del os.environ[WORK_LOG]


def worker_processes(cluster: Cluster) -> list[psutil.Process]:
    """The running processes that Ray's nodes of this cluster have started to run tasks and actors."""
    found = []
    for node in cluster.list_all_nodes():
        for started in node.all_processes["raylet"]:
            with contextlib.suppress(psutil.Error):
                found += psutil.Process(started.process.pid).children(recursive=True)
    titles = [(process, _title(process)) for process in found]
    return [process for process, title in titles if title.startswith("ray::") and not title.startswith(AGENTS)]


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()
    return ""


def kill_one(cluster: Cluster, faults: Faults) -> None:
    """SIGKILL one of the worker processes, whatever it does."""
    processes = worker_processes(cluster)
    victim = faults.rng.choice(processes) if processes else None
    with contextlib.suppress(psutil.Error):
        if victim is not None and (title := _title(victim)):
            victim.kill()
            faults.killed[title] += 1


def run(manifest: Path, output: Path, options: argparse.Namespace, faults: Faults) -> dict[str, Any]:
    """Geotag the images on a new cluster while the faults happen; what it took."""
    log = output.with_suffix(".log")
    with cluster_of_three(options.cpus_per_node, log) as cluster:
        start, exit_codes = time.monotonic(), list[int]()
        while not exit_codes or exit_codes[-1]:
            if len(exit_codes) == MAX_DRIVERS:
                raise SystemExit(f"{MAX_DRIVERS} drivers did not complete the run: exit codes {exit_codes}")
            with start_driver(cluster, manifest, output, options.apart, resume=bool(exit_codes)) as driver:
                exit_codes.append(disturb(cluster, driver, faults, log, options.num_images))
            if exit_codes[-1] not in (0, 75, -signal.SIGKILL):
                raise SystemExit(f"a driver ended with exit code {exit_codes[-1]}: see {output}.err")
        seconds = time.monotonic() - start
    counts = rows_by_act(log)
    events = [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]
    return {
        "seconds": round(seconds, 1),
        "images_per_second": round(options.num_images / seconds, 1),
        "exit_codes": exit_codes,
        "passes_again": sum(event["event"] == "pass_again" for event in events),
        "rows": dict(counts),
        "repeated": repeated_shares(counts, options.num_images),
    }


@contextlib.contextmanager
def start_driver(
    cluster: Cluster, manifest: Path, output: Path, apart: bool, resume: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """``geo-ray geotag`` as a process of its own, ended with the context; what it prints goes beside the output."""
    module = "geo_ray.benchmarks.apart" if apart else "geo_ray.cli"
    command = [sys.executable, "-m", module, "geotag", str(manifest), "--output", str(output)]
    command += ["--batch-size", BATCH_SIZE, "--address", cluster.address, *(["--resume"] if resume else [])]
    with open(f"{output}.out", "ab") as out, open(f"{output}.err", "ab") as err:
        driver = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
    try:
        yield driver
    finally:
        driver.kill()
        driver.wait()


def disturb(cluster: Cluster, driver: subprocess.Popen[bytes], faults: Faults, log: Path, num_images: int) -> int:
    """Let the faults happen while a driver runs; its exit code."""
    kill_at = time.monotonic() + faults.kill_every_s
    while driver.poll() is None:
        time.sleep(0.1)
        done = rows_by_act(log)["done"] / num_images
        if time.monotonic() > kill_at:
            kill_at += faults.kill_every_s
            kill_one(cluster, faults)
        if faults.node_lost_at is None and done >= faults.lose_node_at:
            cluster.remove_node(faults.rng.choice(list(cluster.worker_nodes)), allow_graceful=False)
            faults.node_lost_at = round(done, 3)
        if faults.kill_driver_at and done >= faults.kill_driver_at[0]:
            faults.kill_driver_at.pop(0)
            driver.kill()
            faults.drivers_killed_at.append(round(done, 3))
    return driver.wait()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both runs and what they have in common."""
    rng = random.Random(options.seed)
    root: Path = options.output
    manifest, bad = write_inputs(root / "inputs", options.num_images, options.corrupt_share, rng)
    peace = run(manifest, root / "undisturbed", options, Faults(rng=rng))
    points = sorted(rng.uniform(0.1, 0.85) for _ in range(options.kill_drivers))
    faults = Faults(
        kill_every_s=options.kill_every, lose_node_at=rng.uniform(0.35, 0.65), kill_driver_at=list(points), rng=rng
    )
    disturbed = run(manifest, root / "disturbed", options, faults)
    ids = [name(number) for number in range(options.num_images)]
    found = compare_answers(root / "disturbed", root / "undisturbed", ids, bad)
    found["faults"] = {
        "workers_killed": dict(faults.killed),
        "node_lost_at": faults.node_lost_at,
        "drivers_killed_at": faults.drivers_killed_at,
    }
    found["passed"] = (
        found["exactly_once"] and found["answers_equal"] and found["problems_are_the_bad_ones"]
        and disturbed["repeated"]["begun"] < MAX_REPEATED and faults.node_lost_at is not None
        and len(faults.drivers_killed_at) == options.kill_drivers
    )  # fmt: skip
    asked = {key: value for key, value in vars(options).items() if key not in ("output", "json")}
    return {"options": asked, "num_corrupt": len(bad), "undisturbed": peace, "disturbed": disturbed, **found}


def table(result: dict[str, Any]) -> str:
    """The result, for the terminal."""
    faults, runs = result["faults"], (result["undisturbed"], result["disturbed"])
    rows: list[tuple[str, list[str]]] = [("", ["undisturbed", "disturbed"])]
    for label, key in (("seconds", "seconds"), ("images/s", "images_per_second"), ("exit codes", "exit_codes"),
                       ("passes begun again", "passes_again")):  # fmt: skip
        rows.append((label, [str(one[key]) for one in runs]))
    for label, act in (("read again", "read"), ("answered again", "begun"), ("committed again", "committed")):
        rows.append((label, [f"{one['repeated'][act]:.1%}" for one in runs]))
    lines = [f"{label:24}{peace:>24}{disturbed:>28}" for label, (peace, disturbed) in rows]
    killed = ", ".join(f"{count} {title}" for title, count in faults["workers_killed"].items()) or "none"
    lines += [
        f"workers killed: {killed}",
        f"node lost when {faults['node_lost_at']} was done; driver killed when {faults['drivers_killed_at']} was done",
        f"rows {result['num_rows']:,}: {result['num_missing']} missing, {result['num_doubled']} doubled, "
        f"{result['num_unknown']} unknown; problems {result['problems'] or 'none'} of {result['num_corrupt']} corrupt",
        f"columns that differ: {result['columns_that_differ'] or 'none'}; numbers differ by at most "
        f"{result['largest_difference']:.2g}",
        f"exactly once {result['exactly_once']}, answers equal {result['answers_equal']}, passed {result['passed']}",
    ]
    return "\n".join(lines)


def main() -> int:
    """Parse the arguments, run, print and write the result; 1 where it is not as asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for inputs and outputs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--num-images", type=int, default=20_000)
    parser.add_argument("--corrupt-share", type=float, default=0.0, help="of the images (default: none)")
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="SECONDS", help="a worker process")
    parser.add_argument("--kill-drivers", type=int, default=2, metavar="N", help="how often (default: %(default)s)")
    parser.add_argument("--cpus-per-node", type=int, default=2, metavar="N", help="of three (default: %(default)s)")
    parser.add_argument("--apart", action="store_true", help=(
        "decode, encode and locate in processes of their own, as where there are GPUs"))  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = measure(options)
    print(table(result))
    write_json(options.json, result)
    return 0 if result["passed"] else 1
