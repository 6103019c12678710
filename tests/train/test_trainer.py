"""Runs through Ray Train: whatever ends one, it goes on from its last checkpoint as if nothing had happened."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file

from geo_ray.errors import InputError, OutputError, TrainingError
from geo_ray.train.config import LoopConfig, Scale
from geo_ray.train.progress import Progress, Watching, progress_text, read_progress
from geo_ray.train.run_folder import RunFolder, complete_steps
from geo_ray.train.trainer import check_room, run_work
from tests.data.s3_server import s3_server
from tests.source_tree import environment
from tests.train.pairs import PairsWork

CONFIG = LoopConfig(
    num_steps=40, learning_rate=1e-2, log_every=10, precision="fp32", checkpoint_every=10, validate_every=20
)
ONE = Scale(threads_per_worker=1)
TWO = Scale(num_workers=2, threads_per_worker=1)


@pytest.fixture(scope="module")
def whole(ray_session, tmp_path_factory):
    """The run that nothing ended."""
    folder = tmp_path_factory.mktemp("whole")
    watching = Watching(tensorboard=str(folder / "board"))
    return run_work(PairsWork(config=CONFIG), folder, ONE, watching=watching, say=lambda text: None)


def assert_same(folder, whole):
    found, wanted = load(folder.read("weights.safetensors")), load_file(whole.local / "weights.safetensors")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-4, msg=name)


def test_a_run_says_what_it_does_and_a_finished_one_is_left_alone(whole):
    lines = read_progress(whole)
    assert [line["step"] for line in lines if "total" in line] == [10, 20, 30, 40]
    assert [line["step"] for line in lines if "validation error" in line] == [20, 40]
    assert json.loads(whole.read("best.json"))["step"] in (20, 40)
    said, before = [], (whole.local / "weights.safetensors").stat().st_mtime_ns
    run_work(PairsWork(config=CONFIG), whole, ONE, say=said.append)
    assert said == [f"finished before: {whole.uri}/weights.safetensors"]
    assert (whole.local / "weights.safetensors").stat().st_mtime_ns == before


def test_another_runs_output_is_refused_by_name(whole):
    other = PairsWork(config=dataclasses.replace(CONFIG, learning_rate=0.5))
    with pytest.raises(
        OutputError, match=r"holds another run: learning_rate was 0\.01, is 0\.5; name another --output"
    ):
        run_work(other, whole, ONE)
    with pytest.raises(OutputError, match="holds another run: table was None, is 'abc'"):
        run_work(PairsWork(config=CONFIG), whole, ONE, data={"table": "abc"})


def test_one_of_two_workers_that_is_killed(whole, tmp_path):
    work = PairsWork(config=CONFIG, kill_at=27, mark=str(tmp_path / "killed"))
    folder = run_work(work, tmp_path / "run", TWO, say=lambda text: None)
    assert (tmp_path / "killed").exists()
    assert_same(folder, whole)
    steps = [line["step"] for line in read_progress(folder) if "total" in line]
    assert steps == [10, 20, 30, 40]
    assert complete_steps(folder) == [20, 30]


SCRIPT = """
import ray
from geo_ray.train.config import Scale
from geo_ray.train.trainer import run_work
from tests.train.pairs import PairsWork
from tests.train.test_trainer import CONFIG
ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
work = PairsWork(config=CONFIG, pause_s={pause_s})
run_work(work, "{output}", Scale(threads_per_worker=1))
"""


def test_a_driver_that_is_killed_with_its_checkpoints_on_s3(whole):
    """Drivers of their own: the session's Ray knows nothing of this server."""
    with s3_server("runs"):
        folder = RunFolder("s3://runs/first")
        slow, fast = (SCRIPT.format(output=folder.uri, pause_s=pause_s) for pause_s in (0.2, 0.0))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        driver = subprocess.Popen([sys.executable, "-c", slow], env=environment(), **quiet)
        for _ in range(600):
            if complete_steps(folder):
                break
            time.sleep(0.2)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        time.sleep(3)  # Ray's processes end when their driver is gone
        held = complete_steps(folder)
        assert held
        assert held[-1] < 40
        done = subprocess.run([sys.executable, "-c", fast], env=environment(), check=False, capture_output=True,
                              text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        assert f"going on after step {held[-1]:,}" in done.stdout
        assert_same(folder, whole)


def test_a_node_that_is_lost(whole, tmp_path):
    """Two nodes with a worker each; with one gone the run goes on with one worker."""
    script = NODES.format(output=tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    folder = RunFolder(tmp_path / "run")
    assert json.loads(folder.read("finished.json"))["workers"] == 1
    assert "two workers" in done.stdout
    assert_same(folder, whole)


NODES = """
import os
os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "5"  # it asks once more for as many as there were
import threading, time, ray
from ray.cluster_utils import Cluster
from geo_ray.train.config import Scale
from geo_ray.train.run_folder import RunFolder, complete_steps
from geo_ray.train.trainer import run_work
from tests.train.pairs import PairsWork
from tests.train.test_trainer import CONFIG
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1, "object_store_memory": 100 * 2**20}})
node = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
ray.init(address=cluster.address, log_to_driver=False)
folder = RunFolder("{output}")

def lose():
    while not complete_steps(folder):
        time.sleep(0.1)
    print("two workers" if len(ray.nodes()) == 2 else "one", flush=True)
    cluster.remove_node(node, allow_graceful=False)

threading.Thread(target=lose, daemon=True).start()
run_work(PairsWork(config=CONFIG, pause_s=0.15), folder, Scale(num_workers=1, max_workers=2, threads_per_worker=1))
ray.shutdown()
cluster.shutdown()
"""


def test_a_loss_that_is_no_number_is_told_at_once(ray_session, tmp_path):
    start = time.monotonic()
    with pytest.raises(TrainingError, match="the loss is nan in a batch of image 48, image 49"):
        run_work(PairsWork(config=CONFIG, bad_step=5), tmp_path, ONE, say=lambda text: None)
    assert time.monotonic() - start < 90  # it isn't tried again
    assert not (tmp_path / "finished.json").exists()


def test_more_workers_than_there_is_room_for(ray_session, tmp_path):
    with pytest.raises(InputError, match="9 workers of 2 CPUs need 18 CPUs, Ray has 4; name fewer --num-workers"):
        run_work(PairsWork(config=CONFIG), tmp_path, Scale(num_workers=9))
    with pytest.raises(InputError, match="2 workers of 2 CPUs and 1 for the data need 5 CPUs, Ray has 4"):
        check_room(Scale(num_workers=2), {"CPU": 4.0}, streams=True)
    with pytest.raises(InputError, match="3 workers need as many GPUs, Ray has 2"):
        check_room(Scale(num_workers=3), {"CPU": 64.0, "GPU": 2.0})
    with pytest.raises(ValueError, match="max_workers=2 must be at least num_workers=3"):
        Scale(num_workers=3, max_workers=2)


def test_figures_for_tensorboard_and_mlflow(whole, tmp_path, monkeypatch):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = event_accumulator.EventAccumulator(str(whole.local / "board"))
    board.Reload()
    assert [event.step for event in board.Scalars("total")] == [10, 20, 30, 40]
    told = []
    mlflow = SimpleNamespace(
        active_run=lambda: None, set_experiment=told.append, start_run=lambda: None,
        log_metrics=lambda metrics, step: told.append((metrics, step)),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: name)
        Progress(RunFolder(tmp_path / "run"), Watching(mlflow="places"))({"step": 5.0, "total": 0.25})
    assert told == ["places", ({"step": 5.0, "total": 0.25}, 5)]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"mlflow is not installed: pip install 'geo-ray\[watch\]'"):
        Watching(mlflow="x")


def test_lines_of_progress():
    line = {"step": 50.0, "total": 1.2345, "learning_rate": 1e-4, "images_per_second": 2000.0, "images_per_step": 256.0,
            "time": 1.0}  # fmt: skip
    said = progress_text(line, 1050)
    assert said == "step 50 of 1,050: loss 1.23, learning_rate 0.0001; 2,000 images/s, 2 min 08 s left"
    found = {"step": 50.0, "validation cell_accuracy": 0.5, "validation error_km": 1234.5, "time": 1.0}
    assert progress_text(found, 100) == "step 50: validation: cell_accuracy 0.5, error_km 1234"
    assert np.isfinite(line["total"])
