"""Graphs of toy stages: what is refused, what is skipped, and that a cut changes nothing."""

import pickle

import numpy as np
import pytest

from geo_ray.data.record.output_tables import feature_table
from geo_ray.errors import InputError
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import Graph, embedding_graph, graph_of
from geo_ray.pipeline.local import run_local, slices
from geo_ray.pipeline.stage import Runtime, StageSpec, run_stage
from tests.crops import jpeg_crops
from tests.pipeline.toys import Length, Twice

OUTPUT = ("image_id", "length", "note", "pair", "problem")
WHOLE = Graph((Length(), Twice()), output=OUTPUT)


def batch():
    contents = [b"abc", b"", None, b"x", b"yy"]
    return source_batch(list("abcde"), [""] * 5, contents, ["", "", "fetch_failed", "", ""])


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_rows_with_a_problem_are_kept_and_skipped():
    answer = WHOLE.build(Runtime())(batch())
    assert answer["problem"].tolist() == ["", "empty", "fetch_failed", "", ""]
    assert answer["length"].tolist() == [3, -1, -1, 1, 2]
    assert answer["note"].tolist() == [["long"], (), (), [], []]
    np.testing.assert_array_equal(answer["pair"], [[3, 6], [np.nan, np.nan], [np.nan, np.nan], [1, 2], [2, 4]])
    assert answer["image_id"].tolist() == list("abcde")


def test_all_bad_and_no_rows():
    bad = source_batch(["a", "b"], ["", ""], [None, None], ["fetch_failed", "not_a_file"])
    answer = WHOLE.build(Runtime())(bad)
    assert answer["problem"].tolist() == ["fetch_failed", "not_a_file"]
    assert np.isnan(answer["pair"]).all()
    nothing = WHOLE.build(Runtime())(source_batch([], [], [], []))
    assert nothing["pair"].shape == (0, 2)
    assert nothing["problem"].shape == (0,)


def test_the_input_is_not_changed():
    given = batch()
    WHOLE.build(Runtime())(given)
    assert_same(given, batch())


def test_codes_are_whole_where_the_source_has_fixed_width_strings():
    given = batch() | {"problem": np.array(["", "", "x", "", ""])}
    assert WHOLE.build(Runtime())(given)["problem"].tolist() == ["", "empty", "x", "", ""]


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_batch_size_changes_nothing(size):
    whole = WHOLE.build(Runtime())(batch())
    parts = list(run_local(WHOLE, slices(batch(), size)))
    assert_same({name: np.concatenate([part[name] for part in parts]) for name in OUTPUT}, whole)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_graph_in_two_gives_the_same(first):
    head, tail = WHOLE.split(first)
    middle = head.build(Runtime())(batch())
    assert "uri" not in middle
    assert ("bytes" in middle) == (first == 0)
    assert_same(tail.build(Runtime())(middle), WHOLE.build(Runtime())(batch()))


def test_a_cut_graph_knows_the_problems_even_where_nobody_asks():
    head, tail = Graph((Length(), Twice()), output=("pair",)).split(1)
    pairs = tail.build(Runtime())(head.build(Runtime())(batch()))["pair"]
    np.testing.assert_array_equal(pairs, WHOLE.build(Runtime())(batch())["pair"])


def test_a_column_that_nobody_writes_is_refused():
    with pytest.raises(ValueError, match=r"Twice reads \['length'\], which no earlier stage writes"):
        Graph((Twice(), Length()), output=OUTPUT)
    with pytest.raises(ValueError, match=r"no stage writes the output columns \['pair'\]"):
        Graph((Length(),), output=OUTPUT)
    with pytest.raises(ValueError, match=r"Length reads \['bytes'\]"):
        Graph((Length(),), inputs=("image_id", "problem"), output=("length",))


def test_a_stage_that_loses_rows_is_refused():
    """One row would otherwise be broadcast over all."""

    def lossy(batch):
        return {"pair": np.zeros((1, 2), np.float32)}

    given = {"length": np.arange(3), "problem": np.array(["", "", ""], dtype=object)}
    with pytest.raises(ValueError, match=r"Twice answered pair of shape \(1, 2\), not \(3, 2\)"):
        run_stage(Twice(), lossy, given)


def test_specs_are_small_and_pickle():
    for graph in (graph_of(open_bundle("earth-tiny")), embedding_graph(open_bundle("earth-tiny"))):
        content = pickle.dumps(graph)
        assert len(content) < 5000
        assert pickle.loads(content) == graph
        assert all(isinstance(stage, StageSpec) for stage in graph.stages)


def test_the_limit_of_pixels_is_the_bundles_unless_asked_for():
    bundle = open_bundle("earth-tiny")
    assert graph_of(bundle).stages[0].max_pixels == bundle.max_pixels == 100_000_000
    for graph in (graph_of(bundle, max_pixels=7), embedding_graph(bundle, max_pixels=7)):
        assert graph.stages[0].max_pixels == 7


def test_top_k_is_within_the_refined_cells():
    bundle = open_bundle("earth-tiny")
    num_cells = bundle.refinement.num_cells
    assert graph_of(bundle, num_cells).stages[-1].num_reported == num_cells
    for top_k in (0, num_cells + 1):
        with pytest.raises(InputError, match=f"top_k={top_k} must be from 1 to {num_cells}"):
            graph_of(bundle, top_k)


def test_hashes_are_made_beside_decoding():
    """What looks at pixels on CPUs is in the part that decodes: a GPU doesn't wait for it."""
    bundle = open_bundle("earth-tiny")
    plain, hashed = embedding_graph(bundle), embedding_graph(bundle, with_hashes=True)
    decode, encode, locate = hashed.parts()
    assert [type(stage).__name__ for stage in decode.stages] == ["Decode", "Hash"]
    assert [type(stage).__name__ for stage in encode.stages] == ["Encode"]
    assert locate.stages == ()
    assert (*plain.output, "phash") == hashed.output
    names = ["a", "b", "bad"]
    contents = [*jpeg_crops(2, seed=3), b"no image"]
    batch = source_batch(names, names, contents, [""] * 3)
    whole = hashed.build(Runtime())(batch)
    apart = batch
    for part in (decode, encode):
        apart = part.build(Runtime())(apart)
    np.testing.assert_array_equal(apart["phash"], whole["phash"])
    np.testing.assert_array_equal(plain.build(Runtime())(batch)["image_features"], whole["image_features"])
    table = feature_table(whole)
    assert table["phash"].null_count == 1
    assert table["phash"][0].as_py() == int(whole["phash"][0]) != table["phash"][1].as_py()
    assert "phash" not in feature_table(plain.build(Runtime())(batch)).column_names
