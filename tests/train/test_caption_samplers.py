"""Captions of photos: the papers' words, said as often as the papers say them."""

import numpy as np
import pytest

from geo_ray.atlas.climate import ZONES
from geo_ray.train.caption_samplers import SAMPLERS, Scene, facing, pigeon, pigeotto, rng_of, streetclip

WHOLE = Scene(
    country="Sweden",
    region="Skåne",
    town="Lund",
    climate="temperate oceanic",
    drive_side="right",
    month=12,
    heading=80.0,
)
NUM_DRAWS = 20_000
CLIMATE, DRIVES = "temperate oceanic climate", "drive on the right side"
# By the thresholds of methods 1.6: the place is kept by 0.7 beside a climate and always without one.
PIGEON = {
    "in Sweden": 0.4 * 0.7 + 0.6,
    "region of Skåne": 0.6 * 0.88,
    "town of Lund": 0.4 * 0.88,
    CLIMATE: 0.4,
    DRIVES: 0.6 * 0.3,
    "facing east": 0.3,
    "in December": 0.3,
}
PIGEOTTO = {"in Sweden": 0.45 * 0.8 + 0.55, "region of Skåne": 0.91, "town of Lund": 0.91, CLIMATE: 0.45,
            DRIVES: 0.55 * 0.2, "facing": 0.0, "December": 0.0}  # fmt: skip


def drawn(sampler, scene, count=NUM_DRAWS):
    rng = np.random.default_rng(0)
    return [sampler(scene, rng) for _ in range(count)]


@pytest.mark.parametrize(("sampler", "shares"), [(pigeon, PIGEON), (pigeotto, PIGEOTTO)])
def test_parts_are_said_as_often_as_in_the_paper(sampler, shares):
    captions = drawn(sampler, WHOLE)
    for words, share in shares.items():
        found = np.mean([words in caption for caption in captions])
        assert abs(found - share) <= 3 * np.sqrt(share * (1 - share) / NUM_DRAWS), words


def test_pigeons_parts_are_told_in_any_order_after_the_place():
    captions = [caption for caption in drawn(pigeon, WHOLE, 3000) if "facing" in caption and "December" in caption]
    first = [caption.index("facing") < caption.index("December") for caption in captions]
    assert 0.4 < np.mean(first) < 0.6
    assert all(caption.startswith("A Street View photo") for caption in captions if "Sweden" in caption)


@pytest.mark.parametrize("sampler", [pigeon, pigeotto])
def test_climate_and_driving_side_are_never_told_together_and_something_always_is(sampler):
    captions = drawn(sampler, WHOLE, 3000)
    assert not any("climate" in caption and "drive" in caption for caption in captions)
    assert all("Sweden" in caption or "climate" in caption for caption in captions)
    assert not any("  " in caption or caption != caption.strip() for caption in captions)


def test_the_words_are_the_papers():
    assert streetclip(WHOLE, rng_of(0, 0, 0)) == (
        "A Street View photo close to the town of Lund in the region of Skåne in Sweden."
    )
    captions = set(drawn(pigeotto, WHOLE, 500))
    assert "A photo I took close to the town of Lund in the region of Skåne in Sweden." in captions
    assert "This location has a temperate oceanic climate." in captions


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_unknown_is_never_said(name):
    captions = set(drawn(SAMPLERS[name], Scene(country="Chad"), 500))
    start = "A photo I took" if name == "pigeotto" else "A Street View photo"
    assert captions == {f"{start} in Chad."}


@pytest.mark.parametrize("zone", ZONES)
def test_every_zone_has_words(zone):
    captions = " ".join(drawn(pigeotto, Scene(country="Chad", climate=ZONES[zone]), 40))
    article = "an" if zone == "EF" else "a"
    assert f"This location has {article} {ZONES[zone]} climate." in captions


def test_views_face_around_from_the_heading():
    assert [facing(80.0, view, 4) for view in range(4)] == ["east", "south", "west", "north"]
    edges = (0.0, 45.0, 45.1, 135.0, 135.1, 225.0, 225.1, 315.0, 315.1, -10.0)
    assert [facing(degrees, 0, 4) for degrees in edges] == [
        "north", "north", "east", "east", "south", "south", "west", "west", "north", "north",
    ]  # fmt: skip
    assert [facing(0.0, view, 5) for view in range(5)] == ["north", "east", "south", "south", "west"]


def test_a_row_is_drawn_alike_wherever_and_anew_each_epoch():
    def of(seed, epoch, row):
        return pigeon(WHOLE, rng_of(seed, epoch, row))

    assert all(of(1, 2, row) == of(1, 2, row) for row in range(20))
    for change in ((2, 2), (1, 3)):
        assert any(of(1, 2, row) != of(*change, row) for row in range(20))
