"""Labels of countries and towns, their features, and the way from a recipe to a bundle that answers."""

import json

import numpy as np
import pytest
import torch

from geo_ray.atlas.labels import ROOT, load_labels
from geo_ray.benchmarks.transfer import countries_alone
from geo_ray.models.bundle import LABEL_FEATURES, LABELS, open_bundle
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.local import run_local
from geo_ray.train.caption_bundle import assemble_captions, caption_features, country_labels, label_features
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.crop_captions import TextTower
from geo_ray.train.crop_runs import train_captions
from geo_ray.train.held_out import read_places
from tests.crops import jpeg_crops

CONFIG = CaptionConfig(
    num_steps=2,
    pairs_per_step=8,
    log_every=1,
    image_size=16,
    num_features=8,
    text_width=32,
    text_layers=1,
    towns_per_label=2,
)


@pytest.fixture(scope="module")
def labels():
    return country_labels(2)


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(0)
    return TextTower(CONFIG).eval()


@pytest.mark.parametrize(("with_subregion", "world"), [(True, ", Northern Europe"), (False, "")])
def test_every_country_has_its_own_largest_towns(with_subregion, world):
    labels = country_labels(2, with_subregion)
    row = labels.ids.tolist().index
    assert labels.texts[row("DK")] == f"A satellite crop in Denmark{world}."
    danish = labels.texts[labels.parents == row("DK")].tolist()
    assert danish == [
        f"A satellite crop close to the town of Copenhagen in the region of Capital Region in Denmark{world}.",
        f"A satellite crop close to the town of Århus in the region of Central Jutland in Denmark{world}.",
    ]
    roots = labels.parents == ROOT
    assert 240 < roots.sum() < 252
    assert (labels.countries[labels.parents[~roots]] == labels.countries[~roots]).all()


def test_towns_have_their_captions_features_and_countries_the_mean(labels, text):
    features = label_features(labels, text, CONFIG)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    row = labels.ids.tolist().index("PE")
    towns = features[labels.parents == row]
    mean = towns.mean(axis=0)
    np.testing.assert_allclose(features[row], mean / np.linalg.norm(mean), atol=1e-6)
    alone = caption_features(labels.texts[labels.parents == row].tolist(), text, CONFIG)
    np.testing.assert_allclose(alone, towns, atol=1e-5)


def test_recipe_to_bundle(tmp_path, ray_session):
    encoder = EncoderSpec(architecture=CONFIG.tower, image_size=16, num_features=8, micro_batch=8)
    said = []
    weights, held_out = train_captions(CONFIG, tmp_path, say=said.append)
    assert len(held_out) == CONFIG.num_held_out
    assert not np.isin(read_places(tmp_path / "places.parquet").countries, held_out).any()
    progress = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in progress] == [1, 2]
    assert all(np.isfinite(line["total"]) for line in progress)
    assemble_captions(CONFIG, weights, held_out, encoder, tmp_path / "bundle", say=said.append)
    bundle = open_bundle(str(tmp_path / "bundle"))
    assert bundle.kind == "zero-shot"
    assert bundle.provenance["held_out"] == list(held_out)
    countries_alone(bundle, tmp_path / "few", ("DK", "PE", "KE"), num_reported=3)
    few = open_bundle(str(tmp_path / "few"))
    assert few.encoder_fingerprint == bundle.encoder_fingerprint
    whole, part = (load_labels(opened.path(LABELS)) for opened in (bundle, few))
    assert part.ids.tolist() == ["DK", "KE", "PE"]
    rows = [whole.ids.tolist().index(code) for code in part.ids]
    np.testing.assert_array_equal(np.load(few.path(LABEL_FEATURES)), np.load(bundle.path(LABEL_FEATURES))[rows])
    names = [str(number) for number in range(6)]
    for opened, known in ((bundle, set(whole.countries)), (few, {"DK", "KE", "PE"})):
        (answer,) = run_local(graph_of(opened), [source_batch(names, names, jpeg_crops(6), [""] * 6)])
        assert (answer["problem"] == "").all()
        assert np.isfinite(answer["latitude"]).all()
        assert set(answer["country"]) <= known
    assert all(sorted(c["cell_id"] for c in row) == ["DK", "KE", "PE"] for row in answer["candidates"])
