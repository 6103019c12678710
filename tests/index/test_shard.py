"""Search of a shard against two loops over everything."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from geo_ray.errors import BundleError, InputError
from geo_ray.index.index_folder import write_index
from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.index.shard import Searcher, Shard, open_shard
from tests.index.example import NUM_CELLS, example_index, slow_distances, tied_index


def queries(n, k=4, seed=1):
    rng = np.random.default_rng(seed)
    cells = np.stack([rng.permutation(NUM_CELLS)[:k] for _ in range(n)]) if n else np.zeros((0, k), np.int64)
    return cells, rng.normal(size=(n, 16)).astype(np.float32)


def slow_search(index, cells, features, num_members, members):
    """Prototype distances, and (distance, place) of members nearest first, by loops over rows and candidates."""
    prototypes, stored = index.prototype_features.decode(), index.member_features.decode()
    answer = {}
    for row, own in enumerate(cells):
        for rank, cell in enumerate(own):
            own_prototypes = range(*index.cell_offsets[cell : cell + 2])
            if not own_prototypes:
                answer[row, rank] = np.inf, []
                continue
            apart = {p: slow_distances(features[row], prototypes[p : p + 1], index.metric)[0] for p in own_prototypes}
            best = min(apart, key=apart.get)
            asked = [best] if members == "prototype" else own_prototypes
            rows = [m for p in asked for m in range(*index.member_offsets[p : p + 2])]
            near = sorted((slow_distances(features[row], stored[m : m + 1], index.metric)[0], m) for m in rows)
            answer[row, rank] = apart[best], [(distance, index.member_latlon[m]) for distance, m in near[:num_members]]
    return answer


@pytest.mark.parametrize("noise", ["own", "drop"])
@pytest.mark.parametrize("members", ["prototype", "cell"])
@pytest.mark.parametrize("num_members", [1, 3, 50])
@pytest.mark.parametrize(("dtype", "metric"), [("int8", "l2"), ("float16", "ip"), ("float32", "l2")])
def test_fast_is_slow(noise, members, num_members, dtype, metric):
    index = example_index(noise, dtype=dtype, metric=metric)
    cells, features = queries(20)
    found = Shard(index).search(cells, features, num_members, members)
    assert found.member_distance.shape == (20, 4, num_members)
    for (row, rank), (prototype, near) in slow_search(index, cells, features, num_members, members).items():
        assert found.prototype_distance[row, rank] == pytest.approx(prototype, abs=1e-4)
        distance = found.member_distance[row, rank]
        np.testing.assert_allclose(distance[: len(near)], [d for d, _ in near], atol=1e-4)
        places = np.array([place for _, place in near]).reshape(-1, 2)
        np.testing.assert_array_equal(found.member_latlon[row, rank, : len(near)], places)
        assert np.isinf(distance[len(near) :]).all()


def test_cells_without_prototypes_hold_nothing():
    found = Shard(example_index()).search(np.array([[2, 6], [6, 2]]), queries(2)[1], 2, "cell")
    assert np.isinf(found.prototype_distance).all()
    assert np.isinf(found.member_distance).all()
    assert (found.member_latlon == 0).all()


def test_no_images():
    found = Shard(example_index()).search(*queries(0), 2, "cell")
    assert found.prototype_distance.shape == (0, 4)
    assert found.member_latlon.shape == (0, 4, 2, 2)


def test_a_member_finds_itself():
    index = example_index()
    features = index.member_features.decode()
    cells = np.searchsorted(index.cell_offsets, index.member_prototypes, side="right") - 1
    found = Shard(index).search(cells[:, None], features, 1, "cell")
    np.testing.assert_allclose(found.member_distance[:, 0, 0], 0, atol=5e-3)
    np.testing.assert_array_equal(found.member_latlon[:, 0, 0], index.member_latlon)


def test_row_order_and_batch_size_change_nothing():
    shard = Shard(example_index())
    cells, features = queries(40)
    whole = shard.search(cells, features, 3, "prototype")
    order = np.random.default_rng(3).permutation(40)
    shuffled = shard.search(cells[order], features[order], 3, "prototype")
    for name, value in vars(whole).items():
        np.testing.assert_array_equal(getattr(shuffled, name), value[order])
        parts = [shard.search(cells[i : i + 7], features[i : i + 7], 3, "prototype") for i in range(0, 40, 7)]
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), value)


def test_a_cell_of_minus_one_is_none():
    shard = Shard(example_index())
    cells, features = queries(10)
    masked = np.where(np.arange(4) % 2, cells, -1)
    found, whole = (shard.search(c, features, 2, "prototype") for c in (masked, cells))
    for name, value in vars(whole).items():
        np.testing.assert_array_equal(getattr(found, name)[:, 1::2], value[:, 1::2])
    assert np.isinf(found.prototype_distance[:, ::2]).all()
    assert np.isinf(found.member_distance[:, ::2]).all()


@pytest.mark.parametrize("measure", [None, "l2", "ip", "cosine", "csls"])
@pytest.mark.parametrize("num_members", [1, 5, 200])
def test_neighbours_are_those_of_all_cells_together(measure, num_members):
    index = example_index(dtype="float16")
    hubness = np.random.default_rng(2).random(len(index.member_latlon)).astype(np.float32)
    index = dataclasses.replace(index, member_hubness=hubness)
    cells, features = queries(15)
    cells[3], cells[4, 1:] = [2, 6, -1, -1], -1
    found = Shard(index).neighbours(cells, features, num_members, measure)
    stored = index.member_features.decode()
    for row, own in enumerate(cells):
        ranges = [range(*index.cell_members[cell : cell + 2]) for cell in own if cell >= 0]
        rows = np.array([m for one in ranges for m in one], np.int64)
        distances = slow_distances(features[row], stored[rows], measure or "l2", hubness[rows])
        order = np.argsort(distances)[:num_members]
        k = len(order)
        assert found.ids[row, :k].tolist() == index.member_ids[rows[order]].tolist()
        np.testing.assert_allclose(found.distance[row, :k], distances[order], atol=1e-9)
        np.testing.assert_array_equal(found.latlon[row, :k], index.member_latlon[rows[order]])
        assert (found.ids[row, k:] == -1).all()
        assert np.isinf(found.distance[row, k:]).all()


def test_neighbours_of_no_images_and_without_ids():
    index = dataclasses.replace(example_index(), member_ids=None)
    shard = Shard(index)
    assert shard.neighbours(*queries(0), 3).ids.shape == (0, 3)
    cells, features = queries(4)
    ids = shard.neighbours(cells, features, 3).ids
    np.testing.assert_array_equal(index.member_latlon[ids], shard.neighbours(cells, features, 3).latlon)


def test_a_gallery_of_one():
    alone = build_index(np.ones((1, 16), np.float32), np.array([[47.0, 8.5]]), np.array([1]), 3, Clustering())
    found = Shard(alone).search(np.tile([0, 1, 2], (3, 1)), queries(3)[1], 2, "prototype")
    assert found.member_latlon[:, 1, 0].tolist() == [[47.0, 8.5]] * 3
    assert np.isfinite(found.member_distance[:, 1, 0]).all()
    assert np.isfinite(found.member_distance).sum() == 3
    assert np.isfinite(found.prototype_distance).sum() == 3


def test_what_cannot_be_searched_is_refused():
    shard = Shard(example_index())
    cells, features = queries(5)
    for wrong in (NUM_CELLS, -2):
        with pytest.raises(ValueError, match=f"the index has {NUM_CELLS}"):
            shard.search(np.full((5, 4), wrong), features, 1, "cell")
    with pytest.raises(ValueError, match="images have 8 features, the index has 16"):
        shard.search(cells, features[:, :8].copy(), 1, "cell")
    features[2] = np.nan
    with pytest.raises(InputError, match="1 of 5 images' feature vectors"):
        shard.search(cells, features, 1, "cell")


def test_a_shard_of_another_generation_is_refused(tmp_path):
    write_index(dataclasses.replace(example_index(), generation="one"), tmp_path)
    assert open_shard(tmp_path, generation="one").index.generation == "one"
    with pytest.raises(BundleError, match="of generation one, not two"):
        open_shard(tmp_path, generation="two")


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_vectors_stay_on_disk(tmp_path, dtype):
    """To open an index allocates next to nothing, to search it buffers that don't grow with it."""
    write_index(tied_index(num_rows=40_000, dtype=dtype), tmp_path)
    rng = np.random.default_rng(0)
    features, cells = rng.normal(size=(8, 256)).astype(np.float32), np.tile(np.arange(60), (8, 1))
    tracemalloc.start()
    try:
        shard = open_shard(tmp_path)
        opened = tracemalloc.get_traced_memory()[1]
        shard.search(cells, features, 1, "cell")
        searched = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    stored = shard.index.member_features.size_bytes
    assert opened < 0.05 * stored
    assert searched < 4 * 2**20


def test_a_folder_opens_as_a_searcher(tmp_path):
    write_index(example_index(), tmp_path)
    opened = open_shard(tmp_path)
    assert isinstance(opened, Searcher)
    cells, features = queries(5)
    np.testing.assert_array_equal(
        opened.search(cells, features, 2, "cell").member_latlon,
        Shard(example_index()).search(cells, features, 2, "cell").member_latlon,
    )
