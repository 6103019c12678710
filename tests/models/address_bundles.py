"""Bundles of addresses with towers of random weights."""

import numpy as np

from geo_ray.atlas.addresses import Addresses, addresses_of
from geo_ray.atlas.streets import Cutting, cut_streets
from geo_ray.models.address_bundle import write_address_bundle
from geo_ray.models.bundle_writing import Words
from geo_ray.models.checkpoints import read_checkpoint
from tests.atlas.street_graphs import grid

WORDS = Words(description="addresses of a grid", licence="MIT", attribution="nobody", provenance={})


def grid_addresses(width=6, height=5):
    """The addresses of a small grid of streets."""
    graph = grid(width, height)
    return addresses_of(graph, cut_streets(graph, Cutting(min_points=0)))


def write_addresses_of_a_grid(folder, checkpoint):
    """Write a bundle that finds them, of a checkpoint's folder."""
    write_address_bundle(folder, read_checkpoint(checkpoint), grid_addresses(), WORDS)


def addresses_at(latlon):
    """Addresses "Street 0" and so on at places in degrees, whose course isn't known."""
    count = len(latlon)
    names = [f"Street {row}" for row in range(count)]
    return Addresses(
        ids=np.array([f"street-{row}" for row in range(count)], dtype=object),
        texts=np.array([f"located on {name}" for name in names], dtype=object),
        streets=np.array(names, dtype=object),
        neighbourhoods=np.full(count, "", dtype=object),
        crossings=[()] * count,
        latlon=latlon,
        num_points=np.ones(count, np.int64),
        lines=np.full(count, None, dtype=object),
    )
