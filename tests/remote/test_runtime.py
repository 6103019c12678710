"""How much shared memory a local Ray gets."""

from types import SimpleNamespace

import pytest

from geo_ray.remote import runtime
from geo_ray.remote.runtime import LEAST_STORE_BYTES, store_bytes

GIB = 2**30


@pytest.mark.parametrize(
    ("num_cpus", "block_bytes", "free", "expected"),
    [
        (4, 0, 64 * GIB, GIB),
        (4, GIB // 16, 64 * GIB, GIB),
        (18, GIB // 8, 64 * GIB, 4.5 * GIB),
        (18, GIB // 8, 6 * GIB, 3 * GIB),  # half of what is free
        (18, GIB // 8, GIB // 4, LEAST_STORE_BYTES),
    ],
)
def test_room_for_two_blocks_a_cpu(monkeypatch, num_cpus, block_bytes, free, expected):
    monkeypatch.setattr(runtime.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert store_bytes(num_cpus, block_bytes) == expected


def test_images_travel_twice_to_gpus(monkeypatch):
    monkeypatch.setattr(runtime.shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * GIB))
    assert store_bytes(18, GIB // 8, with_gpus=True) == 13.5 * GIB


def test_a_machine_without_such_a_folder(monkeypatch):
    monkeypatch.setattr(runtime, "SHARED_MEMORY", "/nowhere")
    assert store_bytes(64, GIB) == LEAST_STORE_BYTES
