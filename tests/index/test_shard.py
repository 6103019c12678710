"""Search of a shard against two loops over everything."""

import numpy as np
import pytest

from geo_ray.index.shard import Searcher, Shard, open_shard
from geo_ray.index.store import write_index
from tests.index.example import NUM_CELLS, example_index


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
            apart = {p: np.linalg.norm(features[row].astype(float) - prototypes[p]) for p in own_prototypes}
            best = min(apart, key=apart.get)
            asked = [best] if members == "prototype" else own_prototypes
            rows = [m for p in asked for m in range(*index.member_offsets[p : p + 2])]
            near = sorted((np.linalg.norm(features[row].astype(float) - stored[m]), m) for m in rows)[:num_members]
            answer[row, rank] = apart[best], [(distance, index.member_latlon[m]) for distance, m in near]
    return answer


@pytest.mark.parametrize("noise", ["own", "drop"])
@pytest.mark.parametrize("members", ["prototype", "cell"])
@pytest.mark.parametrize("num_members", [1, 3, 50])
def test_fast_is_slow(noise, members, num_members):
    index = example_index(noise)
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
        np.testing.assert_allclose(getattr(shuffled, name), value[order], rtol=1e-5)
        parts = [shard.search(cells[i : i + 7], features[i : i + 7], 3, "prototype") for i in range(0, 40, 7)]
        np.testing.assert_allclose(np.concatenate([getattr(part, name) for part in parts]), value, rtol=1e-5)


def test_a_folder_opens_as_a_searcher(tmp_path):
    write_index(example_index(), tmp_path)
    opened = open_shard(tmp_path)
    assert isinstance(opened, Searcher)
    cells, features = queries(5)
    np.testing.assert_array_equal(
        opened.search(cells, features, 2, "cell").member_latlon,
        Shard(example_index()).search(cells, features, 2, "cell").member_latlon,
    )
