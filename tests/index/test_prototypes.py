"""Clusters of places and the index made of them."""

import numpy as np
import pytest
from sklearn.cluster import OPTICS

from geo_ray.errors import InputError
from geo_ray.geo.sphere import great_circle_km, pairwise_km, spherical_mean
from geo_ray.index import prototypes
from geo_ray.index.index_folder import read_index, write_parts
from geo_ray.index.prototypes import CLUSTERINGS, Clustering, build_cells, build_index, cluster_places
from tests.index.example import NUM_CELLS, assert_same_index, example_rows


def towns(center, seed):
    """Three towns and some farms within 100 km of a point."""
    rng = np.random.default_rng(seed)
    offsets = [rng.normal(shift, 0.01, (12, 2)) for shift in (-0.4, 0.0, 0.5)] + [rng.uniform(-1, 1, (10, 2))]
    latlon = np.concatenate(offsets) + center
    latlon[:, 1] = (latlon[:, 1] + 180) % 360 - 180
    return latlon


@pytest.mark.parametrize("center", [(48, 10), (-17, 180), (70, -180), (0, 0)])
@pytest.mark.parametrize("seed", range(3))
def test_clusters_are_those_of_great_circle_distances(center, seed):
    latlon = towns(center, seed)
    oracle = OPTICS(min_samples=3, xi=0.15, metric="precomputed").fit(pairwise_km(latlon, latlon)).labels_
    labels = cluster_places(latlon, Clustering())
    np.testing.assert_array_equal(labels, oracle)
    assert labels.max() >= 2


def test_noise_on_its_own():
    latlon = towns((48, 10), 0)
    dropped, kept = (cluster_places(latlon, Clustering(noise=noise)) for noise in ("drop", "own"))
    assert (dropped == -1).any()
    np.testing.assert_array_equal(kept[dropped >= 0], dropped[dropped >= 0])
    alone = kept[dropped == -1]
    assert sorted(alone) == list(range(dropped.max() + 1, kept.max() + 1))


@pytest.mark.parametrize("center", [(48, 10), (-17, 180)])
def test_noise_joined_to_its_nearest_cluster(center):
    latlon = towns(center, 0)
    dropped, joined = (cluster_places(latlon, Clustering(noise=noise)) for noise in ("drop", "nearest"))
    clustered = np.flatnonzero(dropped >= 0)
    assert 0 < len(clustered) < len(latlon)
    nearest = clustered[pairwise_km(latlon, latlon[clustered]).argmin(axis=1)]
    np.testing.assert_array_equal(joined, dropped[nearest])


def test_noise_alone_is_one_cluster(monkeypatch):
    """OPTICS may find nothing."""
    monkeypatch.setattr(prototypes, "optics_clusters", lambda latlon, min_samples, xi: np.full(len(latlon), -1))
    latlon = np.array([[0.0, 0.0], [10.0, 10.0], [-30.0, 50.0], [60.0, -100.0], [5.0, 170.0]])
    for noise, expected in (("drop", [-1] * 5), ("own", [0, 1, 2, 3, 4]), ("nearest", [0] * 5)):
        assert cluster_places(latlon, Clustering(noise=noise)).tolist() == expected


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_points_are_one_cluster(n):
    assert cluster_places(np.zeros((n, 2)), Clustering()).tolist() == [0] * n


def test_one_place_many_times_is_one_cluster():
    assert set(cluster_places(np.tile([[48.0, 2.0]], (50, 1)), Clustering())) == {0}


def test_an_index_is_its_clusters():
    features, latlon, cells = example_rows()
    index = build_index(features, latlon, cells, NUM_CELLS, Clustering())
    assert len(index.cell_offsets) == NUM_CELLS + 1
    prototypes, members = index.prototype_features.decode(), index.member_features.decode()
    for cell in range(NUM_CELLS):
        rows = np.flatnonzero(cells == cell)
        labels = cluster_places(latlon[rows], Clustering()) if len(rows) else np.zeros(0, int)
        first, last = index.cell_offsets[cell : cell + 2]
        assert last - first == labels.max(initial=-1) + 1
        for label, prototype in enumerate(range(first, last)):
            own = rows[labels == label]
            mine = slice(*index.member_offsets[prototype : prototype + 2])
            np.testing.assert_array_equal(index.member_ids[mine], own)
            np.testing.assert_array_equal(index.member_latlon[mine], latlon[own].astype(np.float32))
            np.testing.assert_allclose(members[mine], features[own], atol=0.02)
            np.testing.assert_allclose(prototypes[prototype], features[own].mean(axis=0), atol=0.02)
            away = great_circle_km(index.prototype_latlon[prototype].astype(np.float64), spherical_mean(latlon[own]))
            assert away < 0.01
    assert index.member_counts.sum() == len(index.member_latlon) == len(index.member_prototypes)


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_an_index_written_cell_by_cell_is_the_one_in_memory(tmp_path, dtype):
    features, latlon, cells = example_rows()
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    arguments = (latlon, cells, NUM_CELLS, Clustering(noise="nearest"), dtype, "ip", "abc")
    write_parts(build_cells(mapped, *arguments), tmp_path / "index")
    assert_same_index(read_index(tmp_path / "index"), build_index(features, *arguments))


def test_features_that_are_not_finite_are_refused_before_they_are_averaged():
    features, latlon, cells = example_rows()
    features[[5, 7], 3] = np.nan
    cells[[5, 7]] = 3
    with pytest.raises(InputError, match=r"2 of \d+ feature vectors hold NaN"):
        build_index(features, latlon, cells, NUM_CELLS, Clustering(noise="own"))


def test_places_and_cells_that_cannot_be_are_refused():
    features, latlon, cells = example_rows()
    with pytest.raises(ValueError, match="don't fit num_cells=3"):
        build_index(features, latlon, cells, 3, Clustering())
    latlon[4] = [200, 10]
    with pytest.raises(ValueError, match="row 4"):
        build_index(features, latlon, cells, NUM_CELLS, Clustering())


@pytest.mark.parametrize("center", [(48, 10), (-17, 180), (89.9, 0)])
def test_a_cell_too_large_is_clustered_in_pieces(center):
    rng = np.random.default_rng(1)
    latlon = np.concatenate([towns(center, seed) for seed in range(6)])[rng.permutation(276)]
    latlon[:, 0] = latlon[:, 0].clip(-90, 90)
    whole = Clustering(noise="nearest", max_points=276)
    np.testing.assert_array_equal(cluster_places(latlon, whole), cluster_places(latlon, Clustering(noise="nearest")))
    pieces = cluster_places(latlon, Clustering(noise="nearest", max_points=100))
    assert np.unique(pieces).tolist() == list(range(pieces.max() + 1))
    assert pieces.max() >= 3
    spreads = [pairwise_km(latlon[pieces == label], latlon[pieces == label]).max() for label in np.unique(pieces)]
    assert max(spreads) < pairwise_km(latlon, latlon).max()


def test_pieces_hold_every_point_once_and_not_too_many(monkeypatch):
    seen = []

    def one_cluster(latlon, min_samples, xi):
        seen.append(latlon)
        return np.zeros(len(latlon), np.int64)

    monkeypatch.setattr(prototypes, "optics_clusters", one_cluster)
    latlon = np.stack([np.zeros(1001), np.linspace(-60, 60, 1001)], axis=1)
    labels = cluster_places(latlon, Clustering(max_points=100))
    assert [len(piece) for piece in seen] == np.bincount(labels).tolist()
    assert 10 < len(seen) <= 16
    assert max(map(len, seen)) <= 100
    assert sorted(np.concatenate(seen)[:, 1].tolist()) == latlon[:, 1].tolist()
    assert all((np.diff(latlon[labels == label, 1]) < 0.13).all() for label in range(len(seen)))  # neighbours


def test_parameters_of_the_papers():
    assert {name: (c.min_samples, c.xi, c.noise) for name, c in CLUSTERINGS.items()} == {
        "pigeon": (3, 0.15, "drop"),
        "pigeotto": (10, 0.1, "drop"),
        "pigeotto-code": (100, 0.1, "drop"),
    }


def test_every_image_is_kept_where_noise_stands_alone():
    features, latlon, cells = example_rows()
    index = build_index(features, latlon, cells, NUM_CELLS, Clustering(noise="own"))
    assert len(index.member_latlon) == len(latlon)
    assert (np.diff(index.cell_offsets) > 0).tolist() == [True, True, False, True, True, True, False]


def test_a_prototype_on_the_antimeridian_is_there():
    latlon = np.array([[-17.0, 179.9], [-17.0, -179.9]])
    index = build_index(np.ones((2, 4), np.float32), latlon, np.zeros(2, np.int64), 1, Clustering())
    prototype = index.prototype_latlon[0].astype(np.float64)
    assert great_circle_km(prototype, np.array([-17.0, 180.0])) < 0.1


def test_no_images_are_an_empty_index():
    index = build_index(np.zeros((0, 8), np.float32), np.zeros((0, 2)), np.zeros(0, np.int64), 4, Clustering())
    assert index.cell_offsets.tolist() == [0, 0, 0, 0, 0]
    assert index.member_offsets.tolist() == [0]
    assert index.member_offsets.dtype == np.int64
    assert index.member_features.codes.shape == (0, 8)


def test_refuses_what_cannot_work():
    with pytest.raises(ValueError, match="min_samples=1"):
        Clustering(min_samples=1)
    with pytest.raises(ValueError, match=r"xi=1\.5"):
        Clustering(xi=1.5)
    with pytest.raises(ValueError, match="max_points=5"):
        Clustering(max_points=5)
    misspelt = Clustering()
    object.__setattr__(misspelt, "noise", "keep")  # as where no type checker looks
    with pytest.raises(ValueError, match="noise='keep'"):
        misspelt.__post_init__()
