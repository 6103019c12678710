"""A small Earth, so that batches need neither the data package's rasters nor their gigabyte."""

import pytest
import torch

from geo_ray.datasets import earth


@pytest.fixture
def small_earth(monkeypatch):
    """Three rasters of random colours, 90 pixels high."""
    generator = torch.Generator().manual_seed(0)
    pixels = {name: torch.rand((3, 90, 182), generator=generator) * 255 for name in earth.RASTERS}
    monkeypatch.setattr(earth, "raster", pixels.__getitem__)
