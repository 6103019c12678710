"""Where places are searched and images decoded: on GPUs where that suits them, unless asked for otherwise."""

from dataclasses import replace

import numpy as np
import pytest

from geo_ray.data.run.plan import with_decoding, with_search
from geo_ray.data.run.preparation import GeotagOptions
from geo_ray.errors import InputError
from geo_ray.index.shard import open_shard
from geo_ray.models.bundle import INDEX, open_bundle
from geo_ray.models.head_file import read_head
from geo_ray.pipeline import search_size
from geo_ray.pipeline.search_size import search_bytes
from geo_ray.remote.place import Place

GPU = Place(num_workers=1, gpus_per_worker=1.0, decode_apart=True, num_locators=1)


def placed(place, search="auto", **settings):
    options = GeotagOptions(inputs=("photos",), output="out", search=search, **settings)
    return with_search(place, options, open_bundle("earth-tiny"))


def test_the_bytes_are_those_of_what_lies_on_the_device():
    bundle = open_bundle("earth-tiny")
    index = open_shard(bundle.path(INDEX)).index
    stored = [index.prototype_features, index.member_features]
    held = sum(each.size_bytes + each.squared_norms.nbytes for each in stored)
    held += read_head(bundle)[0].astype(np.float64).nbytes
    rows = sum(map(len, stored))
    assert held <= search_bytes(bundle) <= held + 8 * rows


@pytest.mark.parametrize(
    ("search", "settings", "on_gpu"),
    [
        ("auto", {}, True), ("gpu", {}, True), ("cpu", {}, False),
        ("auto", {"index": "shards"}, False), ("auto", {"features": True}, False),
    ],
)  # fmt: skip
def test_on_gpus(search, settings, on_gpu):
    assert placed(GPU, search, **settings) == replace(GPU, search_on_gpu=on_gpu)


def test_what_is_large_is_searched_on_cpus_unless_asked_for(monkeypatch):
    monkeypatch.setattr(search_size, "MAX_SEARCH_BYTES", 1000)
    assert not placed(GPU).search_on_gpu
    assert placed(GPU, "gpu").search_on_gpu


@pytest.mark.parametrize("search", ["auto", "cpu"])
def test_without_gpus(search):
    assert placed(Place(), search) == Place()


@pytest.mark.parametrize(("place", "settings"), [(Place(), {}), (GPU, {"index": "shards"}), (GPU, {"features": True})])
def test_what_can_not_be(place, settings):
    with pytest.raises(InputError, match="--search gpu"):
        placed(place, "gpu", **settings)


def decoded(place, decode="auto", cpus=16.0, preprocessing="fast", card="H100"):
    options = GeotagOptions(inputs=("photos",), output="out", decode=decode)
    bundle = open_bundle("earth-tiny")
    bundle = replace(bundle, encoder=replace(bundle.encoder, preprocessing=preprocessing))
    resources = {"CPU": cpus, "GPU": 8.0, f"accelerator_type:{card}": 1.0}
    return with_decoding(place, options, bundle, resources).decode_on_gpu


@pytest.mark.parametrize(
    ("decode", "num_workers", "cpus", "on_gpu"),
    [
        ("auto", 1, 16.0, False), ("auto", 1, 6.0, True), ("auto", 8, 48.0, True), ("auto", 8, 128.0, False),
        ("cpu", 1, 4.0, False), ("gpu", 1, 64.0, True),
    ],
)  # fmt: skip
def test_gpus_with_few_cpus_decode(decode, num_workers, cpus, on_gpu):
    assert decoded(replace(GPU, num_workers=num_workers), decode, cpus) == on_gpu


def test_gpus_without_a_decoder_leave_it_to_cpus():
    assert decoded(GPU, cpus=4.0, card="A100-40G")
    assert not decoded(GPU, cpus=4.0, card="T4")
    assert decoded(GPU, "gpu", card="T4")


def test_workers_that_may_come_count():
    assert decoded(replace(GPU, max_workers=8), cpus=32.0)


def test_exact_pixels_are_made_on_cpus():
    assert not decoded(GPU, cpus=4.0, preprocessing="open_clip")
    with pytest.raises(InputError, match="exact pixels of open_clip"):
        decoded(GPU, "gpu", preprocessing="open_clip")


def test_cpus_decode_without_gpus():
    assert not decoded(Place(), cpus=4.0)
    with pytest.raises(InputError, match="--decode gpu needs a GPU"):
        decoded(Place(), "gpu")
