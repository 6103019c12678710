"""What the processes of a run agree on."""

import pytest

from geo_ray.data.record.ledger import Ledger
from geo_ray.data.run.coordinator import Coordinator


def test_encoders_take_the_micro_batch_that_the_first_has_measured(tmp_path):
    coordinator = Coordinator(Ledger(str(tmp_path)))
    assert coordinator.micro_batch(None) is None
    assert coordinator.micro_batch(256) == 256
    assert coordinator.micro_batch(128) == 256  # who measured at the same time
    assert coordinator.micro_batch(None) == 256


@pytest.mark.parametrize("again", [None, 64])
def test_a_run_that_is_resumed_keeps_its_micro_batch(tmp_path, again):
    Coordinator(Ledger(str(tmp_path))).micro_batch(128)
    assert Coordinator(Ledger(str(tmp_path))).micro_batch(again) == 128


def test_what_is_said_is_told_once(tmp_path):
    coordinator = Coordinator(Ledger(str(tmp_path)))
    coordinator.say("a GPU has no memory")
    assert coordinator.take_events() == [{"name": "said", "text": "a GPU has no memory"}]
    assert coordinator.take_events() == []
