"""Bulk runs that can't go on: each ends with one clear line and the right exit code, and ``--resume`` completes it.

Those are processes of their own, as users start them; most are completed in this one, which spares its start.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time

import pyarrow.parquet as pq
import pytest

from geo_ray.cli import main
from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.errors import OutputError
from geo_ray.remote.place import Place
from tests.crops import write_crops
from tests.data.s3_server import s3_server

NUM_BLOCKS, NUM_IMAGES = 16, 256  # so that there is a middle
AGAIN = 75


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops") / "in"
    write_crops(folder, NUM_IMAGES)
    return folder


@pytest.fixture
def start(ray_session, crops):
    """Starts ``geo-ray geotag`` as a process, on the session's Ray; what is left of them is ended."""
    started = []

    def begin(output, *options, inputs=crops):
        command = [sys.executable, "-m", "geo_ray.cli", "geotag", str(inputs), "--output", str(output)]
        command += ["--workers", "1", "--address", ray_session.get_runtime_context().gcs_address, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def ended(process, timeout_s=200):
    """The exit code of a run that has ended, and the lines it left on stderr."""
    _, stderr = process.communicate(timeout=timeout_s)
    return process.returncode, stderr.splitlines()


def names_below(folder):
    with contextlib.suppress(FileNotFoundError):
        return [name for name in os.listdir(folder) if name.endswith(".parquet")]
    return []


def until_under_way(process, output, num_parts=2):
    """Wait until some blocks are committed."""
    while process.poll() is None and len(names_below(output / "parts")) < num_parts:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


def assert_complete(output, crops):
    """Each image has one row, and the run says that it is done."""
    rows = pq.read_table(output / "predictions", columns=["image_id", "problem"]).to_pylist()
    assert sorted(row["image_id"] for row in rows) == sorted(path.name for path in crops.iterdir())
    assert not any(row["problem"] for row in rows)
    assert (output / "_SUCCESS").exists()


def resumed(output, crops):
    """Complete a run, which says what is to be done again."""
    options = GeotagOptions(inputs=(str(crops),), output=str(output), resume=True)
    geotag(prepare(options), Place(num_workers=1))
    assert_complete(output, crops)


def events(output):
    return [json.loads(line)["event"] for line in (output / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_under_way_be_committed(start, crops, tmp_path, number):
    output = tmp_path / "out"
    process = start(output)
    until_under_way(process, output)
    process.send_signal(number)
    code, lines = ended(process)
    assert code == AGAIN
    assert lines == [
        f"{number.name}: what is under way is finished first; once more ends at once",
        f"geo-ray geotag: stopped; what is done stays in {str(output)!r}, --resume completes it",
    ]
    left = names_below(output / "parts")
    assert 2 <= len(left) < NUM_BLOCKS  # what waited to be answered was left
    assert events(output)[-1] == "stopped"
    assert not (output / "_SUCCESS").exists()
    resumed(output, crops)


def test_a_second_signal_ends_at_once(start, crops, tmp_path):
    output = tmp_path / "out"
    process = start(output)
    until_under_way(process, output)
    os.kill(process.pid, signal.SIGSTOP)  # so that both are there before it has ended by the first
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    code, lines = ended(process)
    first, second = signal.SIGINT, signal.SIGTERM  # of signals that wait, which comes first isn't said
    if code == 128 + first:
        first, second = second, first
    assert code == 128 + second
    assert lines == [f"{first.name}: what is under way is finished first; once more ends at once"]
    assert events(output)[-1] == "started"
    assert ended(start(output, "--resume")) == (0, [])
    assert_complete(output, crops)


def test_ctrl_c_before_a_run_has_begun(monkeypatch, capsys, tmp_path):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("geo_ray.cli.geotag._geotag_bulk", interrupted)
    assert main(["geotag", str(tmp_path), "--output", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "geo-ray geotag: interrupted\n"


@pytest.fixture
def small_disk(tmp_path):
    """A file system in memory that can be filled and made larger; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("a file system can't be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk, size):
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_disk_that_is_too_small_and_one_that_fills_up(start, crops, small_disk):
    output = small_disk / "out"
    code, lines = ended(start(output))
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith(
        f"geo-ray geotag: output {str(output)!r} has room for 8 MB, and the answers of {NUM_IMAGES} images"
    )
    assert not names_below(output / "parts")  # before the first image
    resize(small_disk, "64m")
    process = start(output, "--resume")
    until_under_way(process, output)
    os.kill(process.pid, signal.SIGSTOP)
    with contextlib.suppress(OSError), open(small_disk / "others", "wb") as others:
        while True:
            others.write(bytes(2**16))
    os.kill(process.pid, signal.SIGCONT)
    code, lines = ended(process)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"geo-ray geotag: output {str(output)!r} ")
    assert "([Errno 28] No space left" in lines[0] or "has room for 0 MB" in lines[0]  # who notices first
    assert not (output / "_SUCCESS").exists()
    assert not (output / "_LOCK").exists()
    assert names_below(output / "parts")
    (small_disk / "others").unlink()
    resumed(output, crops)
    assert not list(output.rglob(".partial-*"))


@contextlib.contextmanager
def no_right_to_write(folder):
    """Nothing can be written in the folder meanwhile; for root too, where its file system knows immutable folders."""
    take, give = (["chattr", "+i"], ["chattr", "-i"]) if os.geteuid() == 0 else (["chmod", "555"], ["chmod", "755"])
    if subprocess.run([*take, str(folder)], capture_output=True).returncode:
        pytest.skip("root can't be kept from writing here")
    try:
        yield
    finally:
        subprocess.run([*give, str(folder)], check=True)


def test_permission_that_is_lost_in_mid_run(start, crops, tmp_path):
    output = tmp_path / "out"
    process = start(output)
    until_under_way(process, output)
    with no_right_to_write(output / "parts"):
        code, lines = ended(process)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"geo-ray geotag: output {str(output)!r} can't be written ([Errno ")
    assert "not permitted" in lines[0] or "denied" in lines[0]
    assert not (output / "_LOCK").exists()
    resumed(output, crops)


def test_a_bucket_that_is_not_there(crops, capsys):
    with s3_server("photos"):
        assert main(["geotag", str(crops), "--output", "s3://nowhere/out"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("geo-ray geotag: output 's3://nowhere/out' can't be written (")
    assert "bucket does not exist" in lines[0]


def test_a_second_run_on_the_same_output_is_refused(start, crops, tmp_path):
    output = tmp_path / "out"
    first = start(output)
    until_under_way(first, output)
    os.kill(first.pid, signal.SIGSTOP)  # it would be done before the second has started
    here = re.escape(f"({os.uname().nodename}, process {first.pid})")
    with pytest.raises(OutputError, match=f"is being written by another run {here}") as refusal:
        resumed(output, crops)
    assert refusal.value.exit_code == 2
    os.kill(first.pid, signal.SIGCONT)
    assert ended(first) == (0, [])
    assert_complete(output, crops)


def write_tars(folder, crops, number):
    """The first so many crops of the folder in two tars."""
    paths = sorted(crops.iterdir())[:number]
    folder.mkdir()
    for name, some in (("a.tar", paths[::2]), ("b.tar", paths[1::2])):
        with tarfile.open(folder / name, "w") as tar:
            for path in some:
                tar.add(path, path.name)


def test_a_container_that_cannot_be_read_now(start, crops, tmp_path):
    """One that is there and can be opened, but reading it is an error of the disk: so is a process's memory at 0."""
    tars, output = tmp_path / "tars", tmp_path / "out"
    write_tars(tars, crops, 60)
    (tars / "b.tar").rename(tmp_path / "kept")
    (tars / "b.tar").symlink_to("/proc/self/mem")
    code, lines = ended(start(output, inputs=tars))
    assert code == AGAIN
    assert lines == [
        "geo-ray geotag: 1 of 2 pieces of the inputs can't be read (b.tar: [Errno 5] Input/output error); "
        "all others are answered and written, --resume tries these again"
    ]
    assert pq.read_table(output / "predictions").num_rows == 30
    assert not (output / "_SUCCESS").exists()
    (tars / "b.tar").unlink()
    (tmp_path / "kept").rename(tars / "b.tar")
    assert ended(start(output, "--resume", inputs=tars)) == (0, [])
    rows = pq.read_table(output / "predictions", columns=["image_id", "problem"])
    assert len(set(rows["image_id"].to_pylist())) == len(rows) == 60
    assert set(rows["problem"].to_pylist()) == {""}
    assert (output / "_SUCCESS").exists()
