"""Captions: StreetCLIP's words, and parts left out as often as asked."""

import itertools

import numpy as np
import pytest
import torch

from geo_ray.atlas.geonames import english_names
from geo_ray.models.contrastive import holds
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.captions import WITH_ARTICLE, country_words, draw_captions, number_of, place_caption
from geo_ray.train.held_out import NamedPlaces


def places(n, town="Lund", region="Skåne", country="SE"):
    return NamedPlaces(
        latlon=np.zeros((n, 2)),
        countries=np.full(n, country, dtype=object),
        regions=np.full(n, region, dtype=object),
        towns=np.full(n, town, dtype=object),
    )


def test_the_whole_caption_is_streetclips():
    whole = place_caption(town="Lund", region="Skåne", country="Sweden")
    assert whole == "A satellite crop close to the town of Lund in the region of Skåne in Sweden."
    assert place_caption(country="the Netherlands") == "A satellite crop in the Netherlands."


def test_the_part_of_the_world_follows_the_country_or_stands_alone():
    both = place_caption(town="Lund", country="Sweden", subregion="Northern Europe")
    assert both == "A satellite crop close to the town of Lund in Sweden, Northern Europe."
    assert place_caption(subregion="the Caribbean") == "A satellite crop in the Caribbean."


def test_countries_are_named_as_in_a_sentence():
    assert country_words("NL") == "the Netherlands"
    assert country_words("FR") == "France"
    assert country_words("KR") == "South Korea"
    assert set(english_names()) >= WITH_ARTICLE
    assert not any(country_words(code).lower().startswith("the the ") for code in english_names())


def test_parts_are_left_out_as_often_as_asked():
    config = CaptionConfig(town_share=0.5, region_share=0.25, country_share=0.8, subregion_share=0.6)
    captions = draw_captions(places(4000), config, np.random.default_rng(0)).texts
    words = ("Lund", "Skåne", "Sweden", "Northern Europe")
    share = {word: np.mean([word in caption for caption in captions]) for word in words}
    assert share["Lund"] == pytest.approx(0.5, abs=0.03)
    assert share["Skåne"] == pytest.approx(0.25, abs=0.03)
    assert share["Northern Europe"] == pytest.approx(0.6, abs=0.03)
    nothing_else = 0.2 * 0.5 * 0.75 * 0.4
    assert share["Sweden"] == pytest.approx(0.8 + nothing_else, abs=0.03)  # always, where nothing else is named
    assert len(set(captions)) == 15


@pytest.mark.parametrize("missing", [{"town": ""}, {"region": ""}, {"town": "", "region": ""}])
def test_what_is_unknown_is_left_out(missing):
    captions = draw_captions(places(300, **missing), CaptionConfig(), np.random.default_rng(1)).texts
    assert not any(gap in caption for caption in captions for gap in ("town of in", "region of in", "of .", "  "))
    assert all(any(word in caption for word in ("Lund", "Skåne", "Sweden", "Northern")) for caption in captions)


def test_captions_follow_the_generator():
    first, again, other = (draw_captions(places(20), CaptionConfig(), np.random.default_rng(s)) for s in (3, 3, 4))
    assert first.texts == again.texts != other.texts


def test_what_a_caption_says_is_true_of_its_place():
    captions = draw_captions(places(500), CaptionConfig(), np.random.default_rng(5))
    words = ("Lund", "Skåne", "Sweden", "Northern Europe")
    assert (captions.true == captions.true[0]).all()
    assert captions.true[0].tolist() == [number_of(word) for word in words]
    for text, said in zip(captions.texts, captions.said, strict=True):
        assert [number != 0 for number in said] == [word in text for word in words]
    assert set(np.unique(captions.said)) == {0, *captions.true[0].tolist()}


def test_a_caption_holds_for_every_image_of_which_it_is_true():
    """Two towns of Sweden and one of France: "in Northern Europe" is true of two, a town's own of one."""
    both = NamedPlaces(
        latlon=np.zeros((3, 2)),
        countries=np.array(["SE", "SE", "FR"], dtype=object),
        regions=np.array(["Skåne", "Skåne", "Occitanie"], dtype=object),
        towns=np.array(["Lund", "Malmö", "Foix"], dtype=object),
    )
    only = {"town_share": 0.0, "region_share": 0.0, "country_share": 0.0, "subregion_share": 0.0}
    for share, wanted in (("subregion_share", [[1, 1, 0], [1, 1, 0], [0, 0, 1]]), ("town_share", np.eye(3))):
        captions = draw_captions(both, CaptionConfig(**(only | {share: 1.0})), np.random.default_rng(0))
        found = holds(torch.from_numpy(captions.true), torch.from_numpy(captions.said))
        np.testing.assert_array_equal(found, np.array(wanted, bool))


def test_equal_captions_can_be_the_only_positives():
    captions = draw_captions(places(50), CaptionConfig(positives="equal"), np.random.default_rng(6))
    assert captions.true.shape == (50, 1)
    for one, other in itertools.combinations(range(50), 2):
        same = captions.texts[one] == captions.texts[other]
        assert (captions.said[one] == captions.true[other]).all() == same


def test_numbers_of_texts_are_the_same_in_every_process():
    assert number_of("Sweden") == 63711158307159351
    assert number_of("") == 0
