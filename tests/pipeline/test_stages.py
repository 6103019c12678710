"""The shipped bundle's graph in process: shapes, bad rows, and that neighbours don't matter. Not how good it is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from geo_ray.cells.partition_file import read_partition
from geo_ray.datasets import earth
from geo_ray.errors import InputError
from geo_ray.models import clip
from geo_ray.models.bundle import CELLS, open_bundle
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.pipeline import stages
from geo_ray.pipeline.cell_stages import RankCells
from geo_ray.pipeline.columns import ANSWER, source_batch, view_columns
from geo_ray.pipeline.graph import OUTPUT, embedding_graph, graph_of
from geo_ray.pipeline.local import slices
from geo_ray.pipeline.stage import Runtime
from geo_ray.pipeline.stages import view_mean

N = 24
BAD = {3: b"", 10: b"not an image", 23: None}
EXACT = ("image_id", "uri", "problem", "cell_id", "country", "region", "place", "bundle_fingerprint")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def batch():
    """Crops from everywhere, both sides of the antimeridian and high latitudes among them; three are bad."""
    rng = np.random.default_rng(0)
    latlon = np.column_stack([rng.uniform(-85, 85, N), rng.uniform(-180, 180, N)])
    latlon[:2] = (-17.0, 179.9), (-17.0, -179.9)
    contents = [earth.encode_jpeg(pixels) for pixels in earth.render(earth.jittered_views(latlon, rng))]
    contents = [BAD.get(row, content) for row, content in enumerate(contents)]
    names = [f"{row:02d}" for row in range(N)]
    return source_batch(names, names, contents, ["fetch_failed" if content is None else "" for content in contents])


@pytest.fixture(scope="module")
def graph():
    return graph_of(open_bundle("earth-tiny")).build(Runtime())


@pytest.fixture(scope="module")
def answer(graph, batch):
    return graph(batch)


def assert_same(a, b):
    """Equal but for the last bits, which matrix products of another number of rows round differently."""
    for name in EXACT:
        np.testing.assert_array_equal(a[name], b[name])
    for name in ("latitude", "longitude", "cell_latitude", "cell_longitude"):
        np.testing.assert_allclose(a[name], b[name], atol=1e-4)
    for name in ("probability", "region_probability", "country_probability", "radius_km_50", "radius_km_90", "unlike"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-3)
    for one, other in zip(a["candidates"], b["candidates"], strict=True):
        assert [c["cell_id"] for c in one] == [c["cell_id"] for c in other]


def test_every_image_is_answered_or_has_a_problem(answer):
    assert tuple(answer) == OUTPUT
    assert all(len(column) == N for column in answer.values())
    assert {row: code for row, code in enumerate(answer["problem"]) if code} == {
        3: "empty",
        10: "undecodable",
        23: "fetch_failed",
    }
    good = answer["problem"] == ""
    for column in ANSWER:
        for row in np.flatnonzero(~good):
            value = answer[column.name][row]
            assert value == column.fill or (np.isnan(value) and np.isnan(column.fill))
    assert (np.abs(answer["latitude"][good]) <= 90).all()
    assert (np.abs(answer["longitude"][good]) <= 180).all()
    unlike = good & (answer["unlike"] < open_bundle("earth-tiny").calibration().likeness.level)
    stated = good & ~unlike
    assert 0 < unlike.sum() < stated.sum() + 10  # crops of the open sea, where nobody took photos
    for name in ("probability", "region_probability", "country_probability"):
        assert ((answer[name][stated] > 0) & (answer[name][stated] <= 1)).all()
        assert np.isnan(answer[name][unlike]).all()
    assert (answer["country_probability"][stated] >= answer["region_probability"][stated]).all()
    assert (answer["radius_km_50"][stated] <= answer["radius_km_90"][stated]).all()
    assert np.isnan(answer["radius_km_50"][unlike]).all()
    assert np.isnan(answer["radius_km_90"][unlike]).all()
    assert all(len(country) == 2 for country in answer["country"][good])


def test_candidates_are_ranked_and_led_by_the_answers_cell(answer):
    for row in np.flatnonzero(answer["problem"] == ""):
        candidates = answer["candidates"][row]
        probabilities = [candidate["probability"] for candidate in candidates]
        assert candidates[0]["cell_id"] == answer["cell_id"][row]
        if np.isnan(answer["probability"][row]):
            assert set(probabilities) == {None}
            continue
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1 + 1e-6
        assert probabilities[0] == answer["probability"][row]


def test_a_rerun_gives_the_same_bits(graph, batch, answer):
    again = graph(batch)
    for name in OUTPUT:
        np.testing.assert_array_equal(again[name], answer[name])


@pytest.mark.parametrize("size", [1, 7, 100])
def test_batch_size_changes_nothing(graph, batch, answer, size):
    parts = [graph(part) for part in slices(batch, size)]
    assert_same({name: np.concatenate([part[name] for part in parts]) for name in OUTPUT}, answer)


def test_row_order_changes_nothing(graph, batch, answer):
    order = np.random.default_rng(1).permutation(N)
    shuffled = graph({name: column[order] for name, column in batch.items()})
    assert_same(shuffled, {name: column[order] for name, column in answer.items()})


def test_all_bad_and_no_images(graph):
    answer = graph(source_batch(["a", "b"], ["", ""], [b"", None], ["", "fetch_failed"]))
    assert answer["problem"].tolist() == ["empty", "fetch_failed"]
    assert np.isnan(answer["latitude"]).all()
    assert answer["candidates"].tolist() == [(), ()]
    assert len(graph(source_batch([], [], [], []))["latitude"]) == 0


@pytest.mark.parametrize("first", [1, 2, 4])
def test_a_graph_in_two_gives_the_same(batch, answer, first):
    head, tail = graph_of(open_bundle("earth-tiny")).split(first)
    middle = head.build(Runtime())(batch)
    assert "bytes" not in middle
    assert_same(tail.build(Runtime())(middle), answer)


def test_fewer_candidates_change_only_the_candidates(batch, answer):
    fewer = graph_of(open_bundle("earth-tiny"), top_k=2).build(Runtime())(batch)
    np.testing.assert_array_equal(fewer["latitude"], answer["latitude"])
    assert [list(c) for c in fewer["candidates"]] == [list(c[:2]) for c in answer["candidates"]]


def test_features_are_those_of_the_index(batch):
    features = embedding_graph(open_bundle("earth-tiny")).build(Runtime())(batch)
    good = features["problem"] == ""
    np.testing.assert_allclose(np.linalg.norm(features["image_features"][good], axis=1), 1, rtol=1e-5)
    assert (features["image_features"][~good] == 0).all()


def test_ranked_cells_are_the_softmax_over_all(batch):
    bundle = open_bundle("earth-tiny")
    stage = RankCells(bundle="earth-tiny", num_features=bundle.num_features, num_cells=3).build(Runtime())
    features = np.random.default_rng(0).normal(size=(4, bundle.num_features)).astype(np.float32)
    ranked = stage({"image_features": features})
    num_cells = len(read_partition(bundle.path(CELLS)))
    assert ((ranked["cells"] >= 0) & (ranked["cells"] < num_cells)).all()
    assert (np.diff(ranked["cell_probabilities"], axis=1) <= 0).all()


def test_features_that_are_not_finite_have_no_answer(monkeypatch, batch):
    """A tower that overflows gives the problem ``no_answer``, and the other rows their answers."""

    def broken(bundle, device, dtype, micro_batch, say):
        return lambda pixels: np.where(
            np.arange(len(pixels))[:, None] == 1, np.nan, np.ones((1, bundle.num_features), "f4")
        )

    monkeypatch.setattr("geo_ray.models.clip.open_encoder", broken)
    answer = graph_of(open_bundle("earth-tiny")).build(Runtime())({name: column[:3] for name, column in batch.items()})
    assert answer["problem"].tolist() == ["", "no_answer", ""]
    assert np.isnan(answer["latitude"]).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [("cpu", None, (16, 0)), ("cpu", 8, (8, 0)), ("cuda", 8, (8, 0)), ("cuda", None, (32, 1))],
)
def test_a_micro_batch_is_measured_on_a_gpu_unless_it_is_asked_for(monkeypatch, device, asked, expected):
    """What those who work together have agreed on counts, not what was measured here."""
    measured = []
    encoder = SimpleNamespace(micro_batch=asked or 16)
    monkeypatch.setattr(clip, "open_encoder", lambda *asked: encoder)
    monkeypatch.setattr(clip, "fastest_micro_batch", lambda encoder: measured.append(1) or 256)

    def agreed(measure):
        assert measure() == 256
        return 32

    runtime = Runtime(device=device, micro_batch_by=agreed)
    stages.Encode(bundle="earth-tiny", num_features=256, micro_batch=asked).build(runtime)
    assert (encoder.micro_batch, len(measured)) == expected


def views_batch(batch, rows_of_views):
    """Items that have the images at these rows as views."""
    names = view_columns(max(len(rows) for rows in rows_of_views))
    n = len(rows_of_views)
    items = source_batch([str(row) for row in range(n)], [""] * n, [None] * n, [""] * n)
    for number, name in enumerate(names):
        items[name] = np.empty(n, dtype=object)
        items[name][:] = [batch["bytes"][rows[number]] if number < len(rows) else None for rows in rows_of_views]
    return items


def test_views_of_an_item_are_averaged(batch):
    bundle = open_bundle("earth-tiny")
    single = embedding_graph(bundle).build(Runtime())(batch)["image_features"].astype(np.float64)
    rows_of_views = [[0, 1, 2], [5], [7, 7], [4, 6]]
    items = views_batch(batch, rows_of_views)
    features = embedding_graph(bundle, num_views=3).build(Runtime())(items)["image_features"]
    for row, rows in enumerate(rows_of_views):
        mean = single[rows].mean(axis=0)
        np.testing.assert_allclose(features[row], mean / np.linalg.norm(mean), atol=1e-6)


def test_an_item_of_equal_views_is_answered_as_one_image(batch, answer):
    items = views_batch(batch, [[0, 0, 0, 0], [1, 1], [2]])
    several = graph_of(open_bundle("earth-tiny"), num_views=4).build(Runtime())(items)
    assert several["cell_id"].tolist() == answer["cell_id"][:3].tolist()
    np.testing.assert_allclose(several["latitude"], answer["latitude"][:3], atol=1e-4)


def test_a_bad_view_is_the_items_problem_and_no_view_is_one_too(batch):
    items = views_batch(batch, [[0, 10], [3, 0], [0, 1]])
    items["bytes"][2] = items["bytes_2"][2] = None
    answer = graph_of(open_bundle("earth-tiny"), num_views=2).build(Runtime())(items)
    assert answer["problem"].tolist() == ["undecodable", "empty", "empty"]


def test_the_mean_of_features_without_a_length_is_the_mean():
    spec = EncoderSpec(architecture="residual-tiny", image_size=48, num_features=2, normalize=False)
    features = np.array([[1, 2], [3, 4], [5, 0]], np.float32)
    np.testing.assert_array_equal(view_mean(features, np.array([2, 1]), spec), [[2, 3], [5, 0]])


def test_more_views_than_allowed_are_refused():
    with pytest.raises(InputError, match="9 views of one item"):
        graph_of(open_bundle("earth-tiny"), num_views=9)
