"""Search by torch against search by numpy: the same answers, also on ties and near-ties. The device is a CPU here."""

import numpy as np
import pytest

from geo_ray.index import on_device
from geo_ray.index.features import encode_features
from geo_ray.index.gallery import Gallery, GallerySearch
from geo_ray.index.index_folder import PrototypeIndex
from geo_ray.index.nearest import BlockSearch
from geo_ray.index.on_device import DeviceHead, DeviceRows
from geo_ray.index.probe import ROOT, Probe, Probing
from geo_ray.index.refine import rank_cells
from geo_ray.index.shard import Shard
from geo_ray.index.threads import Workers
from tests.index.example import NUM_CELLS, example_index, tied_index

DEVICE = "cpu"


def assert_same(ours, theirs):
    """Equal to the last bit in every field."""
    for name, expected in vars(theirs).items():
        np.testing.assert_array_equal(getattr(ours, name), expected, err_msg=name)


def images_of(index: PrototypeIndex, count, num_cells, seed=1):
    """Candidate cells, and images that are members, members but for a float's last digits, or far from all."""
    rng = np.random.default_rng(seed)
    cells = np.stack([rng.permutation(index.num_cells)[:num_cells] for _ in range(count)])
    features = index.member_features.decode(rng.integers(0, len(index.member_features), count))
    features[::3] *= np.float32(1 + 2**-22)
    features[1::3] = rng.integers(-1, 2, features[1::3].shape)
    cells[5] = -1
    return cells, features


@pytest.fixture(scope="module")
def large():
    """50,000 members of 768 features with many equal ones, and images that are equally near to many of them."""
    index = tied_index(num_features=768)
    return index, images_of(index, 200, 5)


@pytest.mark.parametrize("members", ["prototype", "cell"])
def test_cells_are_searched_with_the_same_answers(large, members):
    index, (cells, features) = large
    found = Shard(index, device=DEVICE).search(cells, features, 3, members)
    assert_same(found, Shard(index).search(cells, features, 3, members))
    ties = (found.member_distance[..., 0] == found.member_distance[..., 1]) & np.isfinite(found.member_distance[..., 0])
    assert ties.mean() > 0.1


@pytest.mark.parametrize("measure", [None, "cosine", "csls"])
def test_neighbours_are_the_same(large, measure):
    index, (cells, features) = large
    found = Shard(index, device=DEVICE).neighbours(cells, features, 4, measure)
    assert_same(found, Shard(index).neighbours(cells, features, 4, measure))


@pytest.mark.parametrize("members", ["prototype", "cell"])
@pytest.mark.parametrize("num_members", [1, 3, 50])
@pytest.mark.parametrize(("dtype", "metric"), [("int8", "l2"), ("float16", "ip"), ("float32", "l2"), ("int8", "ip")])
def test_all_kinds_of_features_and_metrics(members, num_members, dtype, metric):
    index = example_index(dtype=dtype, metric=metric)
    rng = np.random.default_rng(3)
    cells = np.stack([rng.permutation(NUM_CELLS)[:4] for _ in range(30)])
    features = rng.normal(size=(30, 16)).astype(np.float32)
    found = Shard(index, device=DEVICE).search(cells, features, num_members, members)
    assert_same(found, Shard(index).search(cells, features, num_members, members))


@pytest.mark.parametrize("products", [1, 7, 100, 2**16])
def test_batches_of_products_change_nothing(monkeypatch, products):
    index = tied_index(num_rows=600, num_features=16, num_cells=9)
    cells, features = images_of(index, 40, 4)
    expected = Shard(index).search(cells, features, 5, "prototype")
    monkeypatch.setattr(on_device, "PRODUCTS", products)
    assert_same(Shard(index, device=DEVICE).search(cells, features, 5, "prototype"), expected)


def test_no_images_and_an_index_without_members():
    index = example_index()
    none = np.zeros((0, 4), np.int64), np.zeros((0, 16), np.float32)
    assert_same(Shard(index, device=DEVICE).search(*none, 2, "cell"), Shard(index).search(*none, 2, "cell"))
    empty = encode_features(np.zeros((0, 16), np.float32))
    search = BlockSearch(empty, "l2", on_device=DeviceRows(empty.codes, DEVICE))
    rows, distance = search.nearest(
        np.ones((2, 16), np.float32), np.array([0, 1]), np.zeros((2, 2), np.int64), 3, Workers(1)
    )
    assert (rows == -1).all()
    assert np.isinf(distance).all()


def test_the_head_ranks_the_same():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 300))
    weight[:, 100:200] = weight[:, :100]  # ties
    weight[:, 200:] = weight[:, :100] * (1 + 2e-14)  # near-ties, which only float64 tells apart
    bias = np.tile(rng.normal(size=100).astype(np.float32), 3)
    features = rng.normal(size=(500, 64)).astype(np.float32)
    cells, probability = DeviceHead(weight, bias, DEVICE).rank(features, 40, 1.3)
    expected = rank_cells(features @ weight + bias, 40, 1.3)
    np.testing.assert_array_equal(cells, expected[0])
    np.testing.assert_array_equal(probability, expected[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("cosines", [1, 2**12, 2**25])
def test_a_gallery_answers_the_same(monkeypatch, dtype, cosines):
    monkeypatch.setattr(on_device, "COSINES", cosines)
    rng = np.random.default_rng(0)
    num_places = 500 if cosines == 1 else 9000
    features = rng.normal(size=(num_places, 64))
    features[num_places // 2 :] = features[: num_places - num_places // 2]  # each place twice
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(dtype)
    places = np.stack([rng.uniform(-90, 90, num_places), rng.uniform(-180, 180, num_places)], axis=1)
    images = features[rng.integers(0, num_places, 60)] + rng.normal(0, 0.02, (60, 64))
    images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    search = GallerySearch(logit_scale=39.687)
    found, expected = (Gallery(features=features, latlon=places, device=one).search(images, search)
                       for one in (DEVICE, None))  # fmt: skip
    np.testing.assert_array_equal(found.cells, expected.cells)
    np.testing.assert_array_equal(found.latlon, expected.latlon)
    np.testing.assert_allclose(found.candidate_probability, expected.candidate_probability, rtol=1e-12)


@pytest.mark.parametrize("method", ["greedy", "beam", "tree"])
def test_labels_are_probed_the_same(method):
    rng = np.random.default_rng(0)
    parents = np.concatenate([np.full(20, ROOT), rng.integers(0, 20, 400)])
    labels = rng.normal(size=(420, 32)).astype(np.float32)
    labels[200:220] = labels[180:200]
    places = np.stack([rng.uniform(-90, 90, 420), rng.uniform(-180, 180, 420)], axis=1)
    images = rng.normal(size=(300, 32)).astype(np.float32)
    probing = Probing(method=method)
    found, expected = (Probe(parents, places, labels, probing, one)(images) for one in (DEVICE, None))
    assert_same(found, expected)
