"""Search of a gallery against brute force in float64, whatever batch an image comes in, and its files."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_ray.errors import BundleError
from geo_ray.geo.sphere import great_circle_km
from geo_ray.index import gallery as module
from geo_ray.index.gallery import Gallery, GallerySearch, read_gallery, write_gallery

bounded = settings(max_examples=60, deadline=None, derandomize=True)
SEARCH = GallerySearch(logit_scale=39.687, num_candidates=50)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def places(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-90, 90, n), rng.uniform(-180, 180, n)], axis=1)


def example(num_places=5000, num_images=40, num_features=64, dtype=np.float16, seed=0):
    """A gallery, and images near some of its places."""
    rng = np.random.default_rng(seed)
    features = unit(rng.normal(size=(num_places, num_features))).astype(dtype)
    near = features[rng.integers(0, num_places, num_images)].astype(np.float64)
    images = unit(near + rng.uniform(0, 0.3, (num_images, 1)) * rng.normal(size=(num_images, num_features)))
    return Gallery(features=features, latlon=places(num_places, seed)), images


def brute_force(gallery, images, logit_scale):
    """Rows by probability, the lowest first among equal ones, and all probabilities; by the definition, in float64."""
    wide = gallery.features.astype(np.float64)
    cosine = np.stack([(wide * image).sum(axis=1) for image in images.astype(np.float64)])
    weights = np.exp(logit_scale * (cosine - cosine.max(axis=1, keepdims=True)))
    return np.argsort(-cosine, axis=1, kind="stable"), weights / weights.sum(axis=1, keepdims=True)


def check(gallery, images, parameters):
    found = gallery.search(images, parameters)
    k = min(parameters.num_candidates, len(gallery.latlon))
    rows, probability = brute_force(gallery, images, parameters.logit_scale)
    np.testing.assert_array_equal(found.cells, rows[:, :k])
    expected = np.take_along_axis(probability, found.cells, axis=1)
    np.testing.assert_allclose(found.candidate_probability, expected, atol=1e-6)
    assert (np.diff(found.candidate_probability, axis=1) <= 0).all()
    assert (found.candidate_probability.sum(axis=1) <= 1 + 1e-12).all()
    np.testing.assert_array_equal(found.candidate_latlon, gallery.latlon[found.cells])
    return found


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("logit_scale", [0.5, 39.687, 100.0, 1e5])
def test_the_answer_is_brute_forces(dtype, logit_scale):
    check(*example(dtype=dtype), GallerySearch(logit_scale=logit_scale, num_candidates=50))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_size_of_geoclips_features(dtype):
    gallery, images = example(9000, 40, 512, dtype)
    found = check(gallery, images, SEARCH)
    assert (found.winner == 0).all()
    np.testing.assert_array_equal(found.latlon, gallery.latlon[found.cells[:, 0]])
    np.testing.assert_array_equal(found.top_latlon, found.latlon)


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 5), st.integers(1, 30), st.integers(1, 20))
@bounded
def test_of_equal_places_the_first_win(seed, num_places, num_kinds, num_candidates, block):
    rng = np.random.default_rng(seed)
    kinds = unit(rng.normal(size=(num_kinds, 7))).astype(rng.choice([np.float16, np.float32]))
    gallery = Gallery(features=kinds[rng.integers(0, num_kinds, num_places)], latlon=places(num_places))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GALLERY_BLOCK", block)
        patch.setattr(module, "QUERY_BLOCK", 2)
        patch.setattr(module, "NUM_SPARE", 3)
        check(gallery, unit(rng.normal(size=(5, 7))), GallerySearch(logit_scale=20.0, num_candidates=num_candidates))


def test_places_nearer_to_each_other_than_fixed_point_are_told_apart():
    rng = np.random.default_rng(3)
    image = unit(rng.normal(size=(1, 64)))
    features = np.repeat(unit(image + 0.1 * rng.normal(size=(1, 64))), 12, axis=0)
    for row in range(1, 12):  # each place an ulp of one small component nearer or further than the first
        component = np.argsort(np.abs(features[0]))[row - 1]
        features[row, component] = np.nextafter(features[row, component], np.float32(1 if row % 2 else -1))
    gallery = Gallery(features=features, latlon=places(12))
    rows, _ = brute_force(gallery, image, 1.0)
    assert not np.array_equal(rows[0], np.arange(12))
    check(gallery, image, GallerySearch(logit_scale=100.0, num_candidates=5))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_batch_and_neighbours_change_not_a_bit(dtype):
    gallery, images = example(9000, 300, 96, dtype)
    whole = gallery.search(images, SEARCH)
    order = np.random.default_rng(1).permutation(300)
    for rows in ([0], [7, 3], order[:255], order[:256], order[:257], order):
        part = gallery.search(images[rows], SEARCH)
        np.testing.assert_array_equal(part.cells, whole.cells[rows])
        np.testing.assert_array_equal(part.candidate_probability, whole.candidate_probability[rows])
        np.testing.assert_array_equal(part.spread_km, whole.spread_km[rows])


def test_the_matrix_product_rounds_nothing():
    """In whatever order the products are added, and as integers show."""
    gallery, images = example(200, 9, 512, np.float32)
    ((_, fixed),) = gallery._blocks()
    queries = module._fixed_point(images.astype(np.float64), 26)
    product = queries @ fixed.T
    order = np.random.default_rng(0).permutation(512)
    np.testing.assert_array_equal(queries[:, order] @ fixed[:, order].T, product)
    whole = [[int(x) for x in row] for row in np.ldexp(queries, 26)]
    others = [[int(x) for x in row] for row in np.ldexp(fixed[:20], 26)]
    exact = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in others] for x in whole]
    assert (np.ldexp(product[:, :20], 52) == np.array(exact, dtype=object)).all()
    assert np.abs(queries - images).max() <= 2.0**-27


def test_every_half_precision_number_below_one_is_in_fixed_point():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    below = every[np.abs(every) < 1]
    np.testing.assert_array_equal(module._fixed_point(below[None], module.GALLERY_BITS["float16"])[0], below)


def test_no_images():
    gallery, images = example(30, 3, 8)
    found = gallery.search(images[:0], SEARCH)
    assert found.cells.shape == (0, 30)
    assert found.candidate_latlon.shape == (0, 30, 2)
    assert found.latlon.shape == found.top_latlon.shape == (0, 2)
    assert found.spread_km.shape == found.winner.shape == (0,)


def test_a_gallery_of_one_answers_with_it():
    gallery, images = example(1, 3, 8)
    found = gallery.search(images, SEARCH)
    assert (found.cells == 0).all()
    assert (found.candidate_probability == 1).all()
    assert (found.spread_km == 0).all()
    np.testing.assert_array_equal(found.latlon, np.repeat(gallery.latlon, 3, axis=0))


def test_by_hand():
    """Cosines 1, 0.6 and 0; two candidates of three places."""
    features = np.array([[0, 1], [1, 0], [0.6, 0.8]], np.float32)
    latlon = np.array([[10.0, 20.0], [0.0, 179.0], [0.0, -179.0]])
    found = Gallery(features=features, latlon=latlon).search(
        np.array([[1, 0]], np.float32), GallerySearch(logit_scale=5.0, num_candidates=2)
    )
    weights = np.exp([5.0, 3.0, 0.0])
    assert found.cells.tolist() == [[1, 2]]
    assert found.latlon.tolist() == [[0.0, 179.0]]
    np.testing.assert_allclose(found.candidate_probability, [weights[:2] / weights.sum()], rtol=1e-6)
    apart = great_circle_km(latlon[1], latlon[2])
    np.testing.assert_allclose(found.spread_km, weights[1] / weights[:2].sum() * apart, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [("logit_scale", 0.0), ("logit_scale", -1.0), ("logit_scale", 1e7), ("logit_scale", np.nan),
     ("logit_scale", np.inf), ("num_candidates", 0)],
)  # fmt: skip
def test_parameters_that_cannot_work_are_refused(name, value):
    with pytest.raises(ValueError, match=re.escape(f"gallery search: {name}={value} must be")):
        GallerySearch(**{"logit_scale": 1.0, name: value})


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 0.5])
def test_image_features_that_are_not_of_length_one_are_refused(value):
    gallery, images = example(30, 3, 8)
    images[1] *= value
    with pytest.raises(ValueError, match=r"image features \[1\] of 3 are not of length one"):
        gallery.search(images, SEARCH)


def test_a_gallery_that_cannot_be_searched_is_refused(tmp_path):
    gallery, _ = example(30, 3, 8)
    with pytest.raises(ValueError, match="features are float64, not one of"):
        Gallery(features=gallery.features.astype(np.float64), latlon=gallery.latlon)
    with pytest.raises(ValueError, match="0 features for 0 places"):
        Gallery(features=gallery.features[:0], latlon=gallery.latlon[:0])
    with pytest.raises(ValueError, match=r"features.npy: 30 of 30 vectors are not finite and of length one"):
        write_gallery(tmp_path / "g", gallery.features * np.float16(2), gallery.latlon)
    with pytest.raises(ValueError, match="look swapped"):
        write_gallery(tmp_path / "g", gallery.features, np.tile([20.0, 95.0], (30, 1))[:, ::-1].copy())
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_written_and_read_again(tmp_path, dtype):
    gallery, images = example(dtype=dtype)
    write_gallery(tmp_path / "gallery", gallery.features, gallery.latlon)
    again = read_gallery(tmp_path / "gallery")
    assert again.features.dtype == dtype
    assert isinstance(again.features.base, np.memmap)
    before, after = gallery.search(images, SEARCH), again.search(images, SEARCH)
    for name in vars(before):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


@pytest.mark.parametrize("name", ["features", "latlon"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "short", "narrow", "flat", "type", "nan", "text"])
def test_a_damaged_array_is_named(tmp_path, name, damage):
    gallery, _ = example(30, 3, 8)
    write_gallery(tmp_path, gallery.features, gallery.latlon)
    path = tmp_path / f"{name}.npy"
    content, array = path.read_bytes(), np.load(path)
    path.unlink()
    if damage in ("empty", "truncated", "text"):
        path.write_bytes({"empty": b"", "truncated": content[:-3], "text": b"latitude,longitude\n"}[damage])
    elif damage != "missing":
        changed = {"short": array[:-1], "narrow": array[:, :-1], "flat": array.ravel(), "type": array.astype(np.int64)}
        changed["nan"] = np.where(array == array[11, 1], np.nan, array).astype(array.dtype)
        np.save(path, changed[damage])
    with pytest.raises(BundleError, match=f"{name}.npy"):
        read_gallery(tmp_path)


def test_a_damaged_description_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"gallery\.json"):
        read_gallery(tmp_path)
    gallery, _ = example(30, 3, 8)
    write_gallery(tmp_path, gallery.features, gallery.latlon)
    path = tmp_path / "gallery.json"
    sizes = json.loads(path.read_text())
    path.write_text(json.dumps(sizes | {"format": 99}))
    with pytest.raises(BundleError, match="gallery format 99 is not 1"):
        read_gallery(tmp_path)
    path.write_text(json.dumps(sizes | {"num_places": 0}))
    with pytest.raises(BundleError, match="no places"):
        read_gallery(tmp_path)
    path.write_text(json.dumps(sizes | {"num_features": 9}))
    with pytest.raises(BundleError, match=r"features\.npy holds float16 \(30, 8\), gallery.json says"):
        read_gallery(tmp_path)
    for content in ("{", "[]", "{}", '{"format": null}'):
        path.write_text(content)
        with pytest.raises(BundleError, match=r"gallery\.json"):
            read_gallery(tmp_path)
