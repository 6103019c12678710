"""Where the server's locators compute."""

import pytest

from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline import search_size
from geo_ray.serve.app import ServeConfig, runtime_of


@pytest.mark.parametrize(
    ("num_gpus", "expected"), [(0.0, ("cpu", None)), (1.0, ("cuda", "cuda")), (0.5, ("cuda", "cuda"))]
)
def test_with_a_gpu_places_are_searched_there(num_gpus, expected):
    runtime = runtime_of(open_bundle("earth-tiny"), ServeConfig(num_gpus=num_gpus))
    assert (runtime.device, runtime.search_device) == expected


def test_but_not_where_what_is_searched_is_large(monkeypatch):
    monkeypatch.setattr(search_size, "MAX_SEARCH_BYTES", 1000)
    runtime = runtime_of(open_bundle("earth-tiny"), ServeConfig(num_gpus=1.0))
    assert (runtime.device, runtime.search_device) == ("cuda", None)
