"""A small CLIP: its batches, a step, and that steps teach it."""

import itertools

import numpy as np
import pytest
import torch

from geo_ray.models.towers import ResidualTower
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.crop_captions import (
    CaptionBatch,
    ContrastiveModel,
    TextTower,
    caption_batches,
    caption_losses,
    country_weights,
    tokenize,
)
from geo_ray.train.held_out import NamedPlaces

CONFIG = CaptionConfig(pairs_per_step=16, image_size=16, num_features=8, text_width=32, text_layers=1)
CONSTANTS = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.25))


@pytest.fixture
def places():
    rng = np.random.default_rng(0)
    countries = np.array(["SE", "FR", "JP"], dtype=object)[np.arange(60) % 3]
    towns = np.array([f"Town {number % 20}" for number in range(60)], dtype=object)
    latlon = np.stack([rng.uniform(-60, 60, 60), rng.uniform(-180, 180, 60)], axis=1)
    return NamedPlaces(
        latlon=latlon,
        countries=countries,
        regions=np.char.add(countries.astype(str), " south").astype(object),
        towns=towns,
    )


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model():
    torch.manual_seed(0)
    return ContrastiveModel(ResidualTower(16, (8, 16), (1, 1), 8), TextTower(CONFIG))


def test_batches_follow_seed_and_rank(small_earth, places):
    first, again, other = (list(itertools.islice(caption_batches(places, CONFIG, rank), 2)) for rank in (0, 0, 1))
    for batch, same in zip(first, again, strict=True):
        for name in ("pixels", "tokens", "true", "said"):
            assert torch.equal(getattr(batch, name), getattr(same, name))
        assert batch.pixels.shape == (16, 3, 16, 16)
        assert len(batch.tokens) == len(batch.true) == len(batch.said) == 16
        assert 0 <= batch.pixels.min() <= batch.pixels.max() <= 1
    assert not torch.equal(first[0].pixels, other[0].pixels)
    assert not torch.equal(first[0].pixels, first[1].pixels)


def test_equal_captions_say_the_same(small_earth, places):
    batch = next(caption_batches(places, CONFIG, 0))
    for a, b in itertools.combinations(range(16), 2):
        assert torch.equal(batch.tokens[a], batch.tokens[b]) == torch.equal(batch.said[a], batch.said[b])


def test_a_countrys_weight_is_the_root_of_its_blocks(places):
    latlon = np.array([[0.1, 0.1], [0.11, 0.1], [10.0, 10.0], [20.0, 20.0], [30.0, 30.0], [40.0, 40.0]])
    countries = np.array(["AA"] * 5 + ["BB"], dtype=object)
    names = np.full(6, "x", dtype=object)
    weights = country_weights(NamedPlaces(latlon=latlon, countries=countries, regions=names, towns=names))
    assert weights.sum() == pytest.approx(1)
    assert weights[:5].sum() / weights[5] == pytest.approx(np.sqrt(np.sqrt(2) + 3))
    assert weights[:2].sum() / weights[2] == pytest.approx(np.sqrt(2))


def test_tokens_are_clips_and_no_longer_than_needed():
    tokens = tokenize(["A satellite crop in France.", "A satellite crop in France in the region of Île-de-France."], 48)
    start, end = 49406, 49407
    assert tokens[0, :7].tolist()[0] == start
    assert (tokens == end).sum(dim=1).tolist() == [1, 1]
    assert tokens[1, -1] == end
    assert tokens.shape[1] < 48
    assert tokenize(["word " * 100], 48).shape == (1, 48)


def test_padding_does_not_change_a_texts_features(one_thread):
    text = model().text.eval()
    tokens = tokenize(["A satellite crop in France."], 48)
    padded = torch.nn.functional.pad(tokens, (0, 9))
    with torch.no_grad():
        torch.testing.assert_close(text(padded), text(tokens), rtol=1e-5, atol=1e-6)


def test_features_have_length_one(small_earth, places, one_thread):
    batch = next(caption_batches(places, CONFIG, 0))
    images, texts, scale = model()(batch.pixels, batch.tokens)
    for features in (images, texts):
        assert features.shape == (16, 8)
        torch.testing.assert_close(features.norm(dim=1), torch.ones(16))
    assert scale.item() == pytest.approx(1 / 0.07)


def test_steps_lower_the_loss_and_are_the_same_every_time(small_earth, places, one_thread):
    batch = next(caption_batches(places, CONFIG, 0))

    def history():
        net = model()
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
        values = []
        for _ in range(15):
            losses = caption_losses(net, batch, CONSTANTS)
            losses["total"].backward()
            optimizer.step()
            optimizer.zero_grad()
            values.append(losses["total"].item())
        return values

    first = history()
    assert first[-1] < first[0] - 0.3
    assert history() == first


def test_the_loss_compares_an_image_with_its_own_caption(small_earth, places, one_thread):
    """After some steps, captions of other images fit worse than an image's own."""
    batch, net = next(caption_batches(places, CONFIG, 0)), model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(15):
        caption_losses(net, batch, CONSTANTS)["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
    crossed = CaptionBatch(pixels=batch.pixels.flip(0), tokens=batch.tokens, true=batch.true, said=batch.said)
    own, others = (caption_losses(net, case, CONSTANTS)["total"].item() for case in (batch, crossed))
    assert own < others
