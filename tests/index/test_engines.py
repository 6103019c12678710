"""Engines against sorting by definition; exactly equal answers for equal distances, sharded or not."""

import json

import numpy as np
import pytest

from geo_ray.errors import BundleError, InputError
from geo_ray.index.engines import HNSW, IVF, Flat, HnswLib, build_engine, open_engine
from tests.index.example import slow_distances, tied_index

PARAMETERS = [Flat(), IVF(), HNSW(), HnswLib()]


def clusters(n=600, num_features=16, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(20, num_features))
    vectors = centers[rng.integers(0, 20, n)] + 0.3 * rng.normal(size=(n, num_features))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute(vectors, queries, metric, k):
    distances = np.stack([slow_distances(query, vectors, metric) for query in queries])
    rows = np.argsort(distances.round(12), axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(distances, rows, axis=1)


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda p: p.kind)
@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_engines_find_the_nearest(parameters, metric, num_threads, tmp_path):
    vectors, queries = clusters(), clusters(40, seed=1)
    rows, distances = brute(vectors, queries, metric, 5)
    engine = build_engine(parameters, vectors, metric, num_threads)
    found, apart = engine.search(queries, 5)
    assert (found == rows).mean() > 0.98
    same = found == rows
    np.testing.assert_allclose(apart[same], distances[same], atol=1e-3)
    engine.save(tmp_path)
    opened = open_engine(tmp_path, num_threads)
    assert opened.info == engine.info
    for one, other in zip(opened.search(queries, 5), (found, apart), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_flat_is_brute_force_with_ties(metric):
    """50,000 x 256 with equal distances, more of them than are listed at first."""
    vectors = tied_index().member_features.codes
    queries = np.concatenate([vectors[:3], vectors[-4:], np.random.default_rng(3).integers(-1, 2, (4, 256))])
    queries = queries.astype(np.float32)
    rows, distances = brute(vectors, queries, metric, 10)
    found, apart = build_engine(Flat(), vectors, metric).search(queries, 10)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_allclose(apart, distances, atol=1e-9)
    assert len(np.unique(apart[0])) < 10


def test_flat_decides_what_float32_cannot():
    rng = np.random.default_rng(5)
    vectors = (1000 + rng.normal(0, 1e-3, (500, 64))).astype(np.float32)
    queries = (1000 + rng.normal(0, 1e-3, (30, 64))).astype(np.float32)
    for metric in ("l2", "ip"):
        engine = build_engine(Flat(), vectors, metric)
        rows, _ = engine.search(queries, 3)
        np.testing.assert_array_equal(rows, brute(vectors, queries, metric, 3)[0])
        np.testing.assert_array_equal(engine.search(queries[7:8], 3)[0], rows[7:8])


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda p: p.kind)
@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_fewer_vectors_than_asked_for(parameters, metric):
    vectors = clusters(3)
    engine = build_engine(parameters, vectors, metric)
    rows, distances = engine.search(vectors, 5)
    assert sorted(rows[0, :3].tolist()) == [0, 1, 2]
    assert (rows[:, 3:] == -1).all()
    assert np.isinf(distances[:, 3:]).all()
    one = build_engine(parameters, vectors[:1], metric)
    assert one.search(vectors, 2)[0].tolist() == [[0, -1]] * 3
    assert engine.search(vectors[:0], 2)[0].shape == (0, 2)


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda p: p.kind)
def test_what_cannot_work_is_refused(parameters, tmp_path):
    vectors = clusters(50)
    with pytest.raises(InputError, match="no vectors"):
        build_engine(parameters, vectors[:0])
    spoilt = vectors.copy()
    spoilt[3, 3] = np.nan
    with pytest.raises(InputError, match="1 of 50 feature vectors"):
        build_engine(parameters, spoilt)
    engine = build_engine(parameters, vectors, encoder_fingerprint="abc")
    with pytest.raises(InputError, match="1 of 50 images' feature vectors"):
        engine.search(spoilt, 1)
    with pytest.raises(ValueError, match="images have 4 features, the index has 16"):
        engine.search(vectors[:, :4].copy(), 1)
    engine.save(tmp_path)
    assert open_engine(tmp_path, encoder_fingerprint="abc").info.num_vectors == 50
    with pytest.raises(BundleError, match="built with encoder abc, not def"):
        open_engine(tmp_path, encoder_fingerprint="def")
    (path,) = (p for p in tmp_path.iterdir() if p.name in ("vectors.npy", "engine.faiss", "engine.hnswlib"))
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match="can't be opened"):
            open_engine(tmp_path)
    path.unlink()
    with pytest.raises(BundleError, match="can't be opened"):
        open_engine(tmp_path)


def test_a_damaged_description_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"engine\.json"):
        open_engine(tmp_path)
    build_engine(Flat(), clusters(5)).save(tmp_path)
    says = json.loads((tmp_path / "engine.json").read_text())
    for change in ({"kind": "annoy"}, {"format": 9}, {"surprise": 1}, {"num_vectors": 6}):
        (tmp_path / "engine.json").write_text(json.dumps(says | change))
        with pytest.raises(BundleError, match=str(tmp_path)):
            open_engine(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: IVF(num_probes=0), "num_probes=0"),
        (lambda: IVF(num_lists=-1), "num_lists=-1"),
        (lambda: HNSW(num_links=0), "num_links=0"),
        (lambda: HnswLib(ef_search=0), "ef_search=0"),
    ],
)
def test_parameters_that_cannot_work_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        wrong()
