"""Published weights to bundles, on checkpoints of the exact published form with random weights."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from geo_ray.atlas.labels import load_labels
from geo_ray.errors import InputError, OutputError
from geo_ray.index.gallery import read_gallery
from geo_ray.models import published
from geo_ray.models.bundle import GALLERY, LABEL_FEATURES, LABELS, open_bundle
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.clip import open_encoder
from geo_ray.models.geoclip import CLIP_FEATURES, LocationEncoder, embed_locations, read_geoclip
from geo_ray.models.published import Import, LabelChoice, import_bundle
from geo_ray.models.texts import TextEncoder
from tests.models.checkpoint_files import TINY, write_hugging_face

FEW = LabelChoice(num_cities=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_hugging_face(tmp_path_factory.mktemp("hf"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def imported(output, **what):
    import_bundle(Import(**what), output, say=lambda text: None)
    return open_bundle(str(output))


def test_streetclip_keeps_tower_captions_and_licence(checkpoint, tmp_path):
    bundle = imported(tmp_path / "b", kind="streetclip", source=str(checkpoint), labels=FEW)
    assert bundle.kind == "zero-shot"
    assert "CC-BY-NC" in bundle.licence
    assert bundle.provenance["source"] == str(checkpoint)
    labels = load_labels(bundle.path(LABELS))
    features = np.load(bundle.path(LABEL_FEATURES))
    given = read_checkpoint(checkpoint)
    rows = [0, len(labels.ids) - 1]
    np.testing.assert_allclose(features[rows], TextEncoder(given)(labels.texts[rows].tolist()), atol=1e-5)
    assert bundle.probing.logit_scale == pytest.approx(given.logit_scale)
    assert bundle.encoder.preprocessing == "transformers"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    lengths = np.linalg.norm(open_encoder(bundle, "cpu", "float32")(pixels), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_the_bundle_of_a_folder_is_the_same_twice_and_depends_on_method_and_labels(checkpoint, tmp_path):
    what = {"kind": "openclip", "source": str(checkpoint), "labels": FEW}
    first = imported(tmp_path / "1", **what)
    assert imported(tmp_path / "2", **what).fingerprint == first.fingerprint
    beam = imported(tmp_path / "3", **what, method="beam")
    assert beam.fingerprint != first.fingerprint
    assert beam.encoder_fingerprint == first.encoder_fingerprint


def test_the_tree_and_the_papers_countries(checkpoint, tmp_path):
    tree = imported(tmp_path / "t", kind="openclip", source=str(checkpoint), method="tree",
                    labels=LabelChoice(num_cities=1))  # fmt: skip
    assert set(load_labels(tree.path(LABELS)).levels) == {"country", "region", "city"}
    paper = imported(tmp_path / "p", kind="openclip", source=str(checkpoint),
                     labels=LabelChoice(countries="paper", num_cities=1))  # fmt: skip
    assert "A Street View photo in Swaziland." in load_labels(paper.path(LABELS)).texts


def test_ones_own_labels(checkpoint, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("name,parent,latitude,longitude,text\nnorth,,60,10,a photo of fjords\nsouth,,-30,20,a savanna\n")
    bundle = imported(tmp_path / "b", kind="openclip", source=str(checkpoint), labels=LabelChoice(file=table))
    assert load_labels(bundle.path(LABELS)).texts.tolist() == ["a photo of fjords", "a savanna"]


def test_geoclip_adds_its_adapter_and_gallery(tmp_path, monkeypatch):
    """A fiftieth of it, as each place is embedded; that all 100,000 are read is in test_geoclip."""
    whole = read_geoclip()
    some = replace(whole, gallery_latlon=whole.gallery_latlon[::50])
    monkeypatch.setattr(published, "read_geoclip", lambda: some)
    shape = json.loads(json.dumps(TINY)) | {"projection_dim": CLIP_FEATURES}
    folder = write_hugging_face(tmp_path / "hf", shape)
    bundle = imported(tmp_path / "b", kind="geoclip", source=str(folder))
    gallery = read_gallery(bundle.path(GALLERY))
    assert bundle.kind == "gallery"
    np.testing.assert_array_equal(gallery.latlon, some.gallery_latlon)
    location_encoder = LocationEncoder()
    location_encoder.load_state_dict(whole.location_encoder)
    expected = embed_locations(location_encoder.eval(), some.gallery_latlon)
    np.testing.assert_allclose(gallery.features, expected, atol=1e-3)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    features = open_encoder(bundle, "cpu", "float32")(pixels)
    assert features.shape == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_geoclip_needs_the_features_of_vit_l_14(checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"GeoCLIP needs CLIP ViT-L/14's 768"):
        imported(tmp_path / "b", kind="geoclip", source=str(checkpoint))


def test_what_cannot_be_imported_is_named(checkpoint, tmp_path):
    with pytest.raises(InputError, match="sha256"):
        imported(tmp_path / "a", kind="openclip", source=str(checkpoint), sha256="0" * 64)
    with pytest.raises(InputError, match="which CLIP weights"):
        Import(kind="openclip")
    with pytest.raises(InputError, match="there are: streetclip, openclip, geoclip"):
        Import(kind="plonk")
    broken = shutil.copytree(checkpoint, tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    torch.save({}, broken / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        imported(tmp_path / "b", kind="openclip", source=str(broken))
    assert not (tmp_path / "b").exists()


def test_a_folder_that_holds_something_is_not_written_to(checkpoint, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match="holds something"):
        imported(tmp_path / "b", kind="openclip", source=str(checkpoint), labels=FEW)
    assert (tmp_path / "b" / "thesis.txt").read_text() == "x"
