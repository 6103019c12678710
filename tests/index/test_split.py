"""Shards: sharded is unsharded is brute force, where distances are equal too; and what is wrong is named."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from geo_ray.errors import BundleError
from geo_ray.index.index_folder import read_index, write_index
from geo_ray.index.merge import Sharded, route
from geo_ray.index.shard import Searcher, Shard, open_shard
from geo_ray.index.split import check_shards, near_owners, read_split, split_index
from tests.index.example import example_index, slow_distances, tied_index


def sharded(folder):
    split = read_split(folder)
    check_shards(split)
    shards = [open_shard(path, generation=split.generation) for path in split.folders]
    return Sharded(shards, split.owners)


def queries(index, num_images, num_candidates, seed=1):
    """Small integers, some of them members; cells in any order."""
    rng = np.random.default_rng(seed)
    features = rng.integers(-1, 2, (num_images, index.member_features.codes.shape[1])).astype(np.float32)
    features[::3] = index.member_features.decode(rng.integers(0, len(index.member_latlon), len(features[::3])))
    features[0] = index.member_features.decode(np.array([0]))[0]  # of which there are many
    return np.stack([rng.permutation(index.num_cells)[:num_candidates] for _ in range(num_images)]), features


@pytest.fixture(scope="module", params=["l2", "ip"])
def tied(request, tmp_path_factory):
    """50,000 x 256 with ties, whole and in 1, 2 and 7 shards."""
    folder = tmp_path_factory.mktemp(request.param)
    index = tied_index(metric=request.param)
    write_index(index, folder / "whole")
    for num_shards in (1, 2, 7):
        split_index(folder / "whole", num_shards, folder / str(num_shards))
    return index, folder


def by_brute_force(index, query, rows, num_members, measure):
    """Ids, distances and places of the nearest of these rows; of equal distances the smaller id."""
    vectors = index.member_features.decode(rows)
    distances = slow_distances(query, vectors, measure, index.member_hubness[rows])
    order = np.lexsort((index.member_ids[rows], distances.round(12)))[:num_members]
    return index.member_ids[rows[order]], distances[order], index.member_latlon[rows[order]]


@pytest.mark.parametrize("members", ["cell", "prototype"])
def test_sharded_is_unsharded_is_brute_force(tied, members):
    index, folder = tied
    cells, features = queries(index, 12, 6)
    whole = Shard(index).search(cells, features, 4, members)
    ties = 0
    for image, rank in np.ndindex(cells.shape):
        first, last = index.cell_offsets[cells[image, rank] : cells[image, rank] + 2]
        if first == last:
            assert np.isinf(whole.member_distance[image, rank]).all()
            continue
        to_prototypes = slow_distances(
            features[image], index.prototype_features.decode(slice(first, last)), index.metric
        )
        assert whole.prototype_distance[image, rank] == pytest.approx(to_prototypes.min(), rel=1e-6)
        best = first + int(to_prototypes.round(12).argmin())
        first, last = (best, best + 1) if members == "prototype" else (first, last)
        rows = np.arange(*index.member_offsets[[first, last]])
        _, distances, places = by_brute_force(index, features[image], rows, 4, index.metric)
        np.testing.assert_array_equal(whole.member_latlon[image, rank, : len(places)], places)
        np.testing.assert_allclose(whole.member_distance[image, rank, : len(places)], distances, rtol=1e-6, atol=1e-6)
        ties += len(np.unique(distances)) < len(distances)
    assert ties > 10
    for num_shards in (1, 2, 7):
        found = sharded(folder / str(num_shards)).search(cells, features, 4, members)
        for name, values in vars(whole).items():
            np.testing.assert_array_equal(getattr(found, name), values)


@pytest.mark.parametrize("measure", [None, "cosine", "csls"])
def test_neighbours_sharded_are_unsharded_are_brute_force(tied, measure):
    index, folder = tied
    cells, features = queries(index, 12, 6)
    whole = Shard(index).neighbours(cells, features, 9, measure)
    for image, own in enumerate(cells):
        rows = np.concatenate([np.arange(*index.cell_members[cell : cell + 2]) for cell in own])
        ids, distances, places = by_brute_force(index, features[image], rows, 9, measure or index.metric)
        assert whole.ids[image].tolist() == ids.tolist()
        np.testing.assert_allclose(whole.distance[image], distances, atol=1e-9)
        np.testing.assert_array_equal(whole.latlon[image], places)
    for num_shards in (1, 2, 7):
        found = sharded(folder / str(num_shards)).neighbours(cells, features, 9, measure)
        for name, values in vars(whole).items():
            np.testing.assert_array_equal(getattr(found, name), values)


def test_all_candidates_empty(tied):
    index, folder = tied
    _, features = queries(index, 3, 2)
    for searcher in (Shard(index), sharded(folder / "7")):
        assert isinstance(searcher, Searcher)
        for cells in (np.full((3, 2), 4), np.full((3, 2), -1), np.zeros((3, 0), np.int64)):
            found = searcher.search(cells, features, 2, "prototype")
            assert np.isinf(found.prototype_distance).all()
            assert found.member_distance.shape == (3, cells.shape[1], 2)
            assert np.isinf(found.member_distance).all()
            near = searcher.neighbours(cells, features, 2)
            assert near.ids.tolist() == [[-1, -1]] * 3 or cells.shape[1] == 0
            assert np.isinf(near.distance).all()


def test_shards_are_balanced_and_their_cells_lie_together(tied):
    index, _ = tied
    for num_shards in (1, 2, 7):
        owners = near_owners(index, num_shards)
        members = np.bincount(owners, weights=np.diff(index.cell_members), minlength=num_shards)
        assert members.sum() == len(index.member_latlon)
        largest = np.diff(index.cell_members).max()
        assert members.max() <= max(len(index.member_latlon) / num_shards + largest, largest)
        assert (members > 0).all()
    halves = near_owners(index, 2)
    x = np.cos(np.radians(index.prototype_latlon.astype(float))).prod(axis=1)
    y = np.cos(np.radians(index.prototype_latlon[:, 0])) * np.sin(np.radians(index.prototype_latlon[:, 1]))
    z = np.sin(np.radians(index.prototype_latlon[:, 0]))
    firsts = index.cell_offsets[:-1][np.diff(index.cell_offsets) > 0]
    own = halves[np.diff(index.cell_offsets) > 0]
    apart = [v[firsts][own == 0].max() <= v[firsts][own == 1].min() + 1e-6 for v in (x, y, z)]
    assert any(apart)  # one plane between them


def test_more_shards_than_cells(tmp_path):
    write_index(example_index(), tmp_path / "whole")
    split_index(tmp_path / "whole", 9, tmp_path / "nine")
    cells, features = queries(example_index(), 5, 7)
    whole = Shard(example_index()).search(cells, features, 2, "cell")
    found = sharded(tmp_path / "nine").search(cells, features, 2, "cell")
    np.testing.assert_array_equal(found.member_latlon, whole.member_latlon)


def test_owners_can_be_given(tmp_path):
    write_index(example_index(), tmp_path / "whole")
    owners = np.array([1, 0, 0, 1, 0, 1, 1])
    split = split_index(tmp_path / "whole", 2, tmp_path / "two", owners)
    index = example_index()
    for number, folder in enumerate(split.folders):
        counts = np.diff(read_index(folder).cell_members)
        np.testing.assert_array_equal(counts, np.diff(index.cell_members) * (owners == number))
    for wrong in (owners[:-1], owners + 1, owners - 1):
        with pytest.raises(ValueError, match="one of 2 shards for each of 7 cells"):
            split_index(tmp_path / "whole", 2, tmp_path / "wrong", wrong)
    with pytest.raises(ValueError, match="num_shards=0"):
        split_index(tmp_path / "whole", 0, tmp_path / "wrong")


def test_a_generation_is_content_and_split(tmp_path):
    write_index(example_index(), tmp_path / "a")
    write_index(example_index(seed=1), tmp_path / "b")
    first, again, more, other = (
        split_index(tmp_path / source, num_shards, tmp_path / f"{number}").generation
        for number, (source, num_shards) in enumerate([("a", 2), ("a", 2), ("a", 3), ("b", 2)])
    )
    assert first == again
    assert len({first, more, other}) == 3
    assert read_split(tmp_path / "0").generation == first


def test_what_is_wrong_with_a_split_is_named(tmp_path):
    for seed, name in ((0, "a"), (1, "b")):
        write_index(example_index(seed=seed), tmp_path / name)
        split_index(tmp_path / name, 2, tmp_path / f"{name}-2")
    folder = tmp_path / "a-2"
    assert read_split(folder).whole.num_members == len(example_index().member_latlon)
    (folder / "shard-001" / "member_codes.npy").write_bytes(b"")
    with pytest.raises(BundleError, match=r"shard-001/member_codes\.npy"):
        check_shards(read_split(folder))
    shutil.rmtree(folder / "shard-001")
    with pytest.raises(BundleError, match="shard-001"):
        check_shards(read_split(folder))
    shutil.copytree(tmp_path / "b-2" / "shard-001", folder / "shard-001")
    with pytest.raises(BundleError, match="shard-001 is not the one"):
        check_shards(read_split(folder))
    np.save(folder / "owners.npy", np.zeros(3, np.int64))
    with pytest.raises(BundleError, match=r"owners\.npy"):
        read_split(folder)
    says = json.loads((folder / "shards.json").read_text())
    for content in ("{", "{}", json.dumps(says | {"format": 9}), json.dumps(says | {"shards": [{"size": 1}]})):
        (folder / "shards.json").write_text(content)
        with pytest.raises(BundleError, match=r"shards\.json"):
            read_split(folder)


def test_an_image_asks_only_shards_that_hold_its_cells():
    owners = np.array([0, 1, 1, 2])
    requests = route(np.array([[0, 1], [2, 1], [-1, 0], [-1, -1]]), owners)
    assert {shard: (i.tolist(), c.tolist()) for shard, (i, c) in requests.items()} == {
        0: ([0, 2], [[0, -1], [-1, 0]]),
        1: ([0, 1], [[-1, 1], [2, 1]]),
    }
    assert route(np.zeros((0, 2), np.int64), owners) == {}
    with pytest.raises(ValueError, match="the index has 4"):
        route(np.array([[4]]), owners)


def test_ids_of_rows_are_kept_where_an_index_has_none(tmp_path):
    index = dataclasses.replace(example_index(), member_ids=None)
    write_index(index, tmp_path / "whole")
    split_index(tmp_path / "whole", 3, tmp_path / "three")
    cells, features = queries(index, 6, 4)
    found = sharded(tmp_path / "three").neighbours(cells, features, 5)
    np.testing.assert_array_equal(found.ids, Shard(index).neighbours(cells, features, 5).ids)
