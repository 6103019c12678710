"""Features of a table: those of inference, the mean of a place's views, and bad images named."""

import json

import numpy as np
import pyarrow as pa
import pytest

from geo_ray.errors import InputError, OutputError
from geo_ray.models.bundle_writing import Words, write_encoder
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.published import encoder_spec, image_tower
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import embedding_graph
from geo_ray.pipeline.local import run_local
from geo_ray.recipes.smoke import write_fresh_clip
from geo_ray.train.embedding import embed_table, feature_arrays, view_mean
from tests.crops import jpeg_crops
from tests.train.tables import rows_of, write_table

JPEGS = [*jpeg_crops(9), b"no image"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    clip = read_checkpoint(write_fresh_clip(folder / "clip"))
    words = Words(description="", licence="", attribution="", provenance={})
    spec = encoder_spec(clip, features="tokens", num_features=64, normalize=False)
    return write_encoder(folder / "bundle", image_tower(clip), spec, words)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rows = rows_of(20, jpegs=JPEGS)
    return write_table(tmp_path_factory.mktemp("t") / "t", {"train": rows.slice(0, 10), "test": rows.slice(10)})


@pytest.fixture(scope="module")
def alone(encoder):
    """The features of each image by the graph in this process."""
    names = [str(row) for row in range(9)]
    (answer,) = run_local(embedding_graph(encoder), [source_batch(names, names, JPEGS[:9], [""] * 9)])
    return answer["image_features"]


def test_features_are_those_of_inference(encoder, table, alone, ray_session, tmp_path):
    output = str(tmp_path / "f")
    digest = embed_table(table, encoder.ref, output)
    features, latlon, ids = feature_arrays(output, "train")
    assert ids == [f"image-{row}" for row in range(9)]  # the tenth can't be decoded
    np.testing.assert_allclose(features, alone, rtol=1e-4, atol=1e-4)
    assert latlon.shape == (9, 2)
    bad, _, names = feature_arrays(output, "problem")
    assert names == ["image-19", "image-9"]
    assert len(bad) == 2
    assert json.loads((tmp_path / "f" / "_table.json").read_text())["encoder"] == encoder.encoder_fingerprint
    assert embed_table(table, encoder.ref, output) == digest  # it is there already
    with pytest.raises(OutputError, match="holds other features; name another --output"):
        embed_table(table, encoder.ref, output, num_views=2)
    with pytest.raises(InputError, match="has no images of the split night"):
        feature_arrays(output, "night")


def test_views_of_a_place_are_one_row(encoder, table, alone, ray_session, tmp_path):
    embed_table(table, encoder.ref, str(tmp_path / "f"), num_views=2)
    features, _, ids = feature_arrays(str(tmp_path / "f"), "train")
    assert ids == [f"image-{row}" for row in (0, 2, 4, 6, 8)]
    pairs = alone[:8].reshape(4, 2, -1).mean(axis=1)
    np.testing.assert_allclose(features[:4], pairs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features[4], alone[8], rtol=1e-4, atol=1e-4)  # of the other view there is nothing


def test_a_mean_of_unit_features_has_length_one():
    features = np.array([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]], np.float32)
    rows = rows_of(3, features).set_column(0, "image_id", pa.array(["a", "b", "c"]))
    at = rows.schema.get_field_index("view")
    rows = rows.set_column(at, "view", pa.array([2, 0, 1]))
    found = view_mean(rows, num_views=2, normalize=True)
    wanted = np.array([4.5, 5.0]) / np.linalg.norm([4.5, 5.0])
    np.testing.assert_allclose(found["features"].combine_chunks().flatten().to_numpy(), wanted, rtol=1e-6)
    assert found["image_id"].to_pylist() == ["b"]
