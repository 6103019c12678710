"""What images cost that end the process they are decoded in: ``python jobs/benchmark_poison.py --json FILE``.

Each case is geotagged twice by the bundle that ships, as the command does it, on a Ray of its own: first in peace, then
with images that end their process by a crash (SIGSEGV) or as the kernel does when memory runs out (SIGKILL).
Every image must have one row, those that were answered the answers of the run in peace, and the time be at most three
times its own and a minute. Seconds are those of the run once Ray has started.
"""

import argparse
import ctypes
import io
import json
import os
import signal
import tarfile
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geo_ray.benchmarks.bounded import default_bound, run_bounded
from geo_ray.benchmarks.chaos import NUM_CROPS
from geo_ray.benchmarks.disturbance import TOLERANCE, differences
from geo_ray.benchmarks.many_inputs import crops
from geo_ray.benchmarks.rows import say, write_json
from geo_ray.data.record.ledger import EVENTS, PREDICTIONS
from geo_ray.data.run.job import geotag
from geo_ray.data.run.plan import worker_memory
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.pipeline.columns import KILLS_WORKER, Batch, Column
from geo_ray.pipeline.graph import Graph
from geo_ray.pipeline.stage import Runtime, Stage, StageSpec
from geo_ray.remote.place import Place, plan
from geo_ray.remote.runtime import connected

Signal = Literal["SIGSEGV", "SIGKILL"]

MARK = b"ends its process"  # behind the end of a JPEG, where decoders don't look
MOST_TIMES, MORE_S = 3, 60.0  # what a run may take: so many times as long as in peace, and so much more


@dataclass(frozen=True, kw_only=True)
class Case:
    """So many images as files or in a tar, which of them are poisoned, how those end their process, and who decodes."""

    name: str
    num_images: int
    poisoned: tuple[int, ...]
    in_tar: bool = False
    decode_apart: bool = False
    dies_by: Signal = "SIGSEGV"

    @property
    def label(self) -> str:
        """The case, in words."""
        return f"{self.name}, {'decoding apart' if self.decode_apart else 'one process'}, {self.dies_by}"

    def image_id(self, number: int) -> str:
        """The id that an image gets."""
        return f"images.tar#{number:04d}" if self.in_tar else _file_name(number)


INPUTS = (
    Case(name="1 of 65", num_images=65, poisoned=(40,)),
    Case(name="1 of 65", num_images=65, poisoned=(40,), dies_by="SIGKILL"),
    Case(name="2 of 2,000", num_images=2000, poisoned=(300, 1500)),
    Case(name="1 of 1,000 in a tar", num_images=1000, poisoned=(700,), in_tar=True),
)
CASES = tuple(replace(case, decode_apart=apart) for case in INPUTS for apart in (False, True))


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a stage reads and writes, for one that does the same and something beside."""

    stage: StageSpec

    @property
    def reads(self) -> tuple[str, ...]:
        """What the stage reads."""
        return self.stage.reads

    @property
    def writes(self) -> tuple[Column, ...]:
        """What the stage writes."""
        return self.stage.writes


@dataclass(frozen=True, kw_only=True)
class Deadly(Around):
    """The stage that decodes, in which images with the mark end the process in their turn; none without ``dies_by``."""

    dies_by: Signal | None

    def build(self, runtime: Runtime) -> Stage:
        """The stage, which is watched."""
        run = self.stage.build(runtime)

        def watched(batch: Batch) -> Batch:
            marked = [row for row, content in enumerate(batch["bytes"]) if content.endswith(MARK)]
            if marked and self.dies_by:
                run({name: column[: marked[0]] for name, column in batch.items()})
                _die(self.dies_by)
            return run(batch)

        return watched


def _die(by: Signal) -> None:
    if by == "SIGSEGV":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Counted(Around):
    """The stage that loads the model, which leaves a line in a file before it does."""

    log: str

    def build(self, runtime: Runtime) -> Stage:
        """The stage, which is counted."""
        with open(self.log, "ab", buffering=0) as file:  # one write: lines of several processes don't mix
            file.write(b"loads\n")
        return self.stage.build(runtime)


def watched_graph(graph: Graph, dies_by: Signal | None, log: Path) -> Graph:
    """The graph with deaths while decoding, and a line in the log for each time that the model is loaded."""
    decode, encode, *others = graph.stages
    watched: tuple[StageSpec, ...] = (Deadly(stage=decode, dies_by=dies_by), Counted(stage=encode, log=str(log)))
    return replace(graph, stages=(*watched, *others))


def _file_name(number: int) -> str:
    return f"{number:04d}.jpg"


def write_inputs(folder: Path, case: Case) -> Path:
    """The images of a case: a folder of files, or a tar in it."""
    folder.mkdir()
    distinct = crops(min(NUM_CROPS, case.num_images))
    contents = {
        _file_name(number): distinct[number % len(distinct)] + (MARK if number in case.poisoned else b"")
        for number in range(case.num_images)
    }
    if not case.in_tar:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return folder
    with tarfile.open(folder / "images.tar", "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return folder / "images.tar"


def run(inputs: Path, output: Path, case: Case, dies_by: Signal | None) -> dict[str, Any]:
    """Geotag the inputs on a Ray of this process; what came of it, in seconds and counts."""
    log = output.with_suffix(".log")
    job = prepare(GeotagOptions(inputs=(str(inputs),), output=str(output), max_problem_share=1.0))
    _check_blocks(case, job.work.rows_per_block)
    job = replace(job, work=replace(job.work, graph=watched_graph(job.work.graph, dies_by, log)))
    with connected("local") as resources:
        place = plan(resources["CPU"], 0, memory=resources["memory"], memory_per_worker=worker_memory(job))
        manifest = geotag(job, _apart(place) if case.decode_apart else place)
    events = Counter(json.loads(line)["event"] for line in (output / EVENTS).read_text().splitlines())
    return {
        "seconds": round(manifest["seconds"], 1),
        "loads": len(log.read_text().splitlines()),
        "deaths": events["worker_died"],
        "passes_again": events["pass_again"],
    }


def _check_blocks(case: Case, rows_per_block: int) -> None:
    if len({number // rows_per_block for number in case.poisoned}) < len(case.poisoned):
        raise SystemExit(f"{case.label}: blocks of {rows_per_block} rows have two poisoned images together")


def _apart(place: Place) -> Place:
    """As where there are GPUs. With other CPUs than those who decode, or Ray Data has both in one process."""
    return replace(place, num_workers=1, cpus_per_worker=2, decode_apart=True)


def measure(case: Case, root: Path) -> dict[str, Any]:
    """Both runs of a case, each in a process of its own, and whether they are as asked."""
    root.mkdir()
    inputs = write_inputs(root / "inputs", case)
    peace, poisoned = (
        run_bounded(partial(run, inputs, root / name, case, dies_by), default_bound()).answer
        for name, dies_by in (("peace", None), ("poisoned", case.dies_by))
    )
    answers = (pq.read_table(root / name / PREDICTIONS) for name in ("poisoned", "peace"))
    limit = round(MOST_TIMES * peace["seconds"] + MORE_S, 1)
    found = {"case": case.label, "peace_s": peace["seconds"], "poisoned_s": poisoned["seconds"], "limit_s": limit}
    found |= compare(*answers) | {name: poisoned[name] for name in ("deaths", "loads", "passes_again")}
    passed = (
        found["rows"] == found["ids"] == case.num_images and found["others_equal"]
        and found[KILLS_WORKER] == [case.image_id(number) for number in case.poisoned]
        and found["poisoned_s"] <= limit
    )  # fmt: skip
    return found | {"loads_in_peace": peace["loads"], "passed": passed}


def compare(ours: pa.Table, theirs: pa.Table) -> dict[str, Any]:
    """How many rows and ids the first answers have, who kills workers, and whether all others are as in the second."""
    killers = ours.filter(pc.equal(ours["problem"], KILLS_WORKER))["image_id"]
    others, known = (table.filter(pc.invert(pc.is_in(table["image_id"], killers))) for table in (ours, theirs))
    words, largest = differences(others, known)
    return {
        "rows": len(ours),
        "ids": len(set(ours["image_id"].to_pylist())),
        KILLS_WORKER: sorted(killers.to_pylist()),
        "others_equal": not words and largest <= TOLERANCE,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows, for the terminal: seconds of runs and of what they may take, and how often the model was loaded."""
    texts = [[_text(value) for value in row.values()] for row in rows]
    columns = [list(rows[0]), *texts]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in columns)


def _text(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def main() -> int:
    """Parse the arguments, run the cases, print and write the rows; 1 where one is not as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORDS", default="", help="of the cases, those that have this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.label]
    if not cases:
        parser.error(f"--only {options.only!r}: no case has that in its name: {'; '.join(c.label for c in CASES)}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for number, case in enumerate(cases):
            rows.append(measure(case, Path(temporary) / str(number)))
            say(rows[-1])
            write_json(options.json, {"rows": rows})
    print(table(rows))
    return 0 if all(row["passed"] for row in rows) else 1
