"""When a stream is ended because a lost node has what it waits for."""

from types import SimpleNamespace

import pytest
from ray.data.exceptions import ExecutionTimeoutError

from geo_ray.data.run import stalls
from geo_ray.data.run.stalls import ASKED_EVERY_S, STALLED_S, EndsWhenShort


@pytest.fixture
def stream(monkeypatch):
    """A stream that has begun on 4 CPUs and a GPU, with what the test may change of it and of the world."""
    state = SimpleNamespace(now=1000.0, resources={"CPU": 4.0, "GPU": 1.0, "memory": 9.0}, asked=0)

    def resources():
        state.asked += 1
        return dict(state.resources)

    monkeypatch.setattr(stalls.ray, "cluster_resources", resources)
    monkeypatch.setattr(stalls.time, "monotonic", lambda: state.now)
    state.metrics = SimpleNamespace(num_outputs_taken=0)
    executor = SimpleNamespace(_output_node=[SimpleNamespace(metrics=state.metrics)])
    callback = EndsWhenShort()
    callback.before_execution_starts(executor)

    def step(after_s, outputs=0):
        state.now += after_s
        state.metrics.num_outputs_taken += outputs
        callback.on_execution_step(executor)

    state.step = step
    step(0)
    return state


def test_a_smaller_cluster_ends_it_when_nothing_comes(stream):
    stream.resources = {"CPU": 2.0, "memory": 4.0}
    stream.step(STALLED_S)
    with pytest.raises(ExecutionTimeoutError, match="2 CPU and 1 GPU of the cluster are gone"):
        stream.step(1)


def test_it_goes_on_while_something_comes(stream):
    stream.resources = {"CPU": 2.0, "GPU": 1.0}
    for _ in range(10):
        stream.step(STALLED_S - 1, outputs=1)


@pytest.mark.parametrize("resources", [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0, "memory": 1.0}])
def test_a_slow_stream_on_all_of_its_cluster_is_left_alone(stream, resources):
    stream.resources = resources
    for _ in range(10):
        stream.step(STALLED_S)


def test_the_cluster_is_not_asked_at_each_step(stream):
    stream.step(STALLED_S + 1)
    before = stream.asked
    for _ in range(10):
        stream.step(ASKED_EVERY_S / 10.5)
    assert stream.asked == before
    stream.step(ASKED_EVERY_S)
    assert stream.asked == before + 1
