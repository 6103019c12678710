"""The benchmark's data and its rows."""

import json

import numpy as np
import pytest

from geo_ray.benchmarks.index_search import Bench, GatedBench, bench, bench_gated
from geo_ray.benchmarks.mixture import Mixture, cell_centers, cell_counts, mixture_cells, mixture_queries
from geo_ray.index.engines import HNSW, IVF
from geo_ray.index.index_folder import concat, read_index
from geo_ray.models.bundle import open_bundle

SMALL = Mixture(num_vectors=3000, num_features=24, num_cells=200)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_every_way_to_search_has_a_row(metric):
    said = []
    options = Bench(mixture=SMALL, num_queries=100, num_neighbours=3, batch_size=32, num_threads=1, metric=metric)
    answer = bench(options, said.append)
    rows = {row["name"]: row for row in answer["rows"]}
    assert list(rows) == ["flat", "ivf", "hnsw", "hnswlib", "cell-gated", "cell-gated int8"]
    for row in rows.values():
        assert 0 <= row["recall_at_1"] <= 1
        assert row["queries_per_second"] > 0
        assert row["build_s"] >= 0
    assert rows["flat"]["recall_at_1"] == rows["cell-gated"]["recall_at_1"] == 1
    assert min(row["recall_at_1"] for row in rows.values()) > 0.9
    assert rows["cell-gated"]["size_bytes"] > 3000 * 24 * 4 > rows["cell-gated int8"]["size_bytes"] > 3000 * 24
    assert len(said) == len(rows)
    assert "not of images" in json.loads(json.dumps(answer))["data"]


def test_cell_gated_search_of_large_indexes_has_rows():
    options = GatedBench(
        mixture=SMALL, num_queries=40, num_members=2, num_candidates=(2, 5), batch_size=16, num_threads=1
    )
    rows = bench_gated(options, lambda line: None)["rows"]
    assert [row["name"] for row in rows] == [f"{t} K={k}" for t in ("int8", "float16", "float32") for k in (2, 5)]
    assert all(row["exact"] == 1 for row in rows)
    assert rows[-1]["stored_bytes"] > 3000 * 24 * 4


def test_members_are_in_the_real_cells_proportions():
    real = np.diff(read_index(open_bundle("earth-tiny").path("index")).cell_members)
    counts = cell_counts(Mixture(num_vectors=1_000_000))
    assert counts.sum() == 1_000_000
    np.testing.assert_allclose(counts, real * (1_000_000 / real.sum()), atol=1)
    twice = Mixture(num_vectors=5000, num_cells=2000)
    assert len(cell_counts(twice)) == len(cell_centers(twice)) == 2000
    assert cell_counts(twice).sum() == 5000


def test_members_are_the_same_in_every_type_and_of_length_one():
    whole, half = (concat(mixture_cells(SMALL, dtype)) for dtype in ("float32", "float16"))
    np.testing.assert_allclose(whole.member_features.squared_norms, 1, atol=1e-5)
    np.testing.assert_allclose(half.member_features.decode(), whole.member_features.decode(), atol=1e-3)
    np.testing.assert_array_equal(np.diff(whole.cell_members), cell_counts(SMALL))


def test_a_query_lies_near_a_member_of_a_cell_that_it_names():
    index = concat(mixture_cells(SMALL, "float32"))
    queries, cells = mixture_queries(SMALL, index, 50, 4, 0.5)
    assert cells.shape == (50, 4)
    nearest = (queries @ index.member_features.decode().T).argmax(axis=1)
    cell_of = np.searchsorted(index.cell_members, nearest, side="right") - 1
    assert (cells == cell_of[:, None]).any(axis=1).mean() > 0.9
    assert all(len(set(row)) == 4 for row in cells.tolist())


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="must begin with Flat"):
        Bench(engines=(IVF(), HNSW()))
    with pytest.raises(ValueError, match="num_queries=0"):
        Bench(num_queries=0)
    with pytest.raises(ValueError, match="num_vectors=0"):
        Mixture(num_vectors=0)
