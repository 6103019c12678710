"""One run at a time: the lock of one that lives is respected, that of a dead one is not."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest

from geo_ray.data.record.lease import LOCK, Lease, _started
from geo_ray.data.record.storage import open_store
from geo_ray.errors import OutputError

# A process that holds the lease of a folder until its input ends, or is killed.
HOLDER = """
import sys
from geo_ray.data.record.lease import Lease
from geo_ray.data.record.storage import open_store
with Lease(open_store(sys.argv[1]), renewed_s=0.1):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    return open_store(str(tmp_path / "out") if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def folder(tmp_path):
    return open_store(str(tmp_path / "out"))


@pytest.fixture
def holder(folder):
    """Another process that holds the lease."""
    command = [sys.executable, "-c", HOLDER, folder.uri]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def lease(store, stale_s=0.8):
    return Lease(store, renewed_s=0.05, stale_s=stale_s)


def lock_of(store):
    return json.loads(store.read(LOCK))


def write_lock(store, **entries):
    """The lock of a run as it was left, of this process on this machine but for ``entries``."""
    mine = {"token": "other", "pid": os.getpid(), "started": _started(os.getpid())}
    place = {"host": socket.gethostname(), "space": os.readlink("/proc/self/ns/pid")}
    store.write(LOCK, json.dumps(mine | place | {"alive_at": time.time()} | entries).encode())


def seconds_to_take(lease):
    start = time.monotonic()
    with lease:
        return time.monotonic() - start


def test_the_lock_is_there_while_it_is_held(store):
    with lease(store) as held:
        lock = lock_of(store)
        assert (lock["pid"], lock["host"]) == (os.getpid(), socket.gethostname())
        held.check()
    assert store.read(LOCK) is None


def test_the_lock_goes_with_a_run_that_fails(store):
    with pytest.raises(KeyError), lease(store):
        raise KeyError
    assert store.read(LOCK) is None


def test_a_run_that_lives_is_not_disturbed(store):
    with lease(store) as held:
        with (
            pytest.raises(OutputError, match=f"being written by another run .*, process {os.getpid()}.; wait for"),
            lease(store),
        ):
            pass
        held.check()
        assert lock_of(store)["token"] == held._mine["token"]
    with lease(store):
        pass


def test_it_gives_signs_of_life(store):
    with lease(store):
        first = lock_of(store)["alive_at"]
        until = time.monotonic() + 10
        while lock_of(store)["alive_at"] == first and time.monotonic() < until:
            time.sleep(0.02)
        assert lock_of(store)["alive_at"] > first


def test_a_second_process_is_refused_while_the_first_lives(folder, holder):
    with pytest.raises(OutputError, match=f"another run .{socket.gethostname()}, process {holder.pid}"), lease(folder):
        pass
    assert lock_of(folder)["pid"] == holder.pid
    holder.communicate("", timeout=20)
    assert folder.read(LOCK) is None


def test_the_lock_of_a_killed_process_is_taken_over_at_once(folder, holder):
    holder.kill()
    holder.wait()
    assert lock_of(folder)["pid"] == holder.pid
    assert seconds_to_take(lease(folder, stale_s=600.0)) < 60


def test_a_killed_process_that_nobody_has_waited_for_is_dead_too(folder, holder):
    holder.kill()
    until = time.monotonic() + 20
    while _started(holder.pid) is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert holder.returncode is None
    assert seconds_to_take(lease(folder, stale_s=600.0)) < 60


def test_another_process_that_has_got_the_number_is_not_the_run(folder):
    write_lock(folder, started=_started(os.getpid()) - 1)
    assert seconds_to_take(lease(folder, stale_s=600.0)) < 60


@pytest.mark.parametrize("elsewhere", [{"host": "another-machine"}, {"space": "pid:[1]"}])
def test_a_silent_run_elsewhere_is_waited_for_and_taken_over(folder, elsewhere):
    write_lock(folder, pid=2**22 + 1, **elsewhere)
    assert 0.4 < seconds_to_take(lease(folder)) < 60


@pytest.mark.parametrize("content", [b"", b"{", b'{"token": "other"}', b'{"host": "h", "space": ""}'])
def test_a_lock_that_says_nothing_is_taken_over_when_it_is_old(folder, content):
    folder.write(LOCK, content)
    assert 0.4 < seconds_to_take(lease(folder)) < 60


def test_a_run_elsewhere_that_gives_signs_of_life_is_respected(folder):
    write_lock(folder, host="another-machine")
    ended = threading.Event()

    def live():
        while not ended.wait(0.1):
            write_lock(folder, host="another-machine")

    other = threading.Thread(target=live)
    other.start()
    try:
        with pytest.raises(OutputError, match="another-machine"), lease(folder):
            pass
    finally:
        ended.set()
        other.join()
    assert lock_of(folder)["token"] == "other"


def test_a_run_that_ends_meanwhile_is_followed(folder):
    write_lock(folder, host="another-machine")
    threading.Timer(0.3, folder.delete, [LOCK]).start()
    assert seconds_to_take(lease(folder, stale_s=600.0)) < 60


def test_a_run_that_was_taken_over_notices_and_leaves_the_lock(store):
    with lease(store) as held:
        write_lock(store)
        held._thread.join(10)
        assert not held._thread.is_alive()
        with pytest.raises(OutputError, match="was taken over by another run; this one ends here"):
            held.check()
    assert lock_of(store)["token"] == "other"


def test_a_run_that_was_taken_over_does_not_wait_to_notice(store):
    with Lease(store, renewed_s=600.0) as held:
        held.check()
        write_lock(store)
        with pytest.raises(OutputError, match="was taken over"):
            held.check()


def test_of_many_that_begin_at_a_time_one_does(store):
    """Also where all of them find the lock of a run that is dead."""
    write_lock(store, started=1)
    ready, ended, entered, refused = threading.Barrier(6), threading.Event(), [], []

    def begin():
        ready.wait()
        try:
            with lease(store, stale_s=600.0) as held:
                entered.append(held)
                while not (ended.wait(0.02) or held._lost):
                    pass
        except OutputError:
            refused.append(1)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 30
    while sum(thread.is_alive() for thread in threads) > 1 and time.monotonic() < until:
        time.sleep(0.02)
    surviving = [held for held in entered if not held._lost]
    ended.set()
    for thread in threads:
        thread.join()
    assert len(surviving) == 1
    assert len(refused) + len(entered) == 6


def test_renewal_goes_on_after_an_error_that_passes(folder, monkeypatch):
    with lease(folder) as held:
        write, failures = folder.write, iter([OutputError("no space"), OutputError("no space")])

        def flaky(name, content):
            if (error := next(failures, None)) is not None:
                raise error
            write(name, content)

        monkeypatch.setattr(folder, "write", flaky)
        first = lock_of(folder)["alive_at"]
        until = time.monotonic() + 10
        while lock_of(folder)["alive_at"] == first and time.monotonic() < until:
            time.sleep(0.02)
        assert lock_of(folder)["alive_at"] > first
        held.check()
