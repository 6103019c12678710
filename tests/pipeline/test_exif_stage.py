"""EXIF of inputs in the graph: what is read, left out and compared, and that nothing is looked at unasked."""

import pickle

import numpy as np
import pytest

from geo_ray.errors import InputError
from geo_ray.geo.sphere import great_circle_km
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import CODES, source_batch
from geo_ray.pipeline.exif_stage import CompareExif, ReadExif
from geo_ray.pipeline.graph import OUTPUT, graph_of
from geo_ray.pipeline.stage import Runtime, StageSpec, run_stage
from tests.gps_photos import PARIS, photo, plain

EXIF_COLUMNS = ("exif_latitude", "exif_longitude", "exif_distance_km")
PHOTOS = {"paris": photo(), "plain": plain(), "gone": None, "text": b"no image", "null": photo(tags={1: "N"})}


@pytest.fixture(scope="module")
def bundle():
    return open_bundle("earth-tiny")


def batch():
    problems = ["fetch_failed" if content is None else "" for content in PHOTOS.values()]
    return source_batch(list(PHOTOS), [""] * len(PHOTOS), list(PHOTOS.values()), problems)


def answers(graph):
    """The graph's answers, and the same in two parts."""
    whole = graph.build(Runtime())(batch())
    head, tail = graph.split_at_pixels()
    parts = tail.build(Runtime())(head.build(Runtime())(batch()))
    assert parts.keys() == whole.keys()
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name])
    return whole


def test_read_gives_points_and_nan():
    stage = ReadExif()
    answer = run_stage(stage, stage.build(Runtime()), batch())
    assert answer["problem"].tolist() == ["", "", "fetch_failed", "", ""]
    latlon = np.stack([answer["exif_latitude"], answer["exif_longitude"]], axis=1)
    np.testing.assert_allclose(latlon[0], PARIS)
    assert np.isnan(latlon[1:]).all()


def test_only_the_first_view_is_read():
    first = source_batch(["a"], [""], [plain()], [""]) | {"bytes_2": np.array([photo()], dtype=object)}
    stage = ReadExif()
    assert np.isnan(run_stage(stage, stage.build(Runtime()), first)["exif_latitude"]).all()


def test_skip_gives_a_problem_and_no_coordinates():
    stage = ReadExif(skip=True)
    answer = run_stage(stage, stage.build(Runtime()), batch())
    assert answer["problem"].tolist() == ["has_location", "", "fetch_failed", "", ""]
    assert np.isnan(answer["exif_latitude"]).all()
    assert np.isnan(answer["exif_longitude"]).all()
    assert "has_location" in CODES


def test_skip_spares_whatever_looks_like_a_position():
    """Without hemispheres nobody knows where it is, but the photo says something; compare has nothing to compare."""
    content = photo(tags={2: (48.0, 51.0, 30.0), 4: (2.0, 17.0, 40.2)})
    for skip, problem in ((True, "has_location"), (False, "")):
        stage = ReadExif(skip=skip)
        answer = run_stage(stage, stage.build(Runtime()), source_batch(["a"], [""], [content], [""]))
        assert answer["problem"].tolist() == [problem]
        assert np.isnan(answer["exif_latitude"]).all()


def test_the_distance_by_hand():
    """A degree of latitude is 111.195 km on this sphere; across the antimeridian two degrees are two."""
    columns = {
        "latitude": np.array([1.0, 0.0, 0.0]),
        "longitude": np.array([0.0, 179.0, 0.0]),
        "exif_latitude": np.array([0.0, 0.0, np.nan]),
        "exif_longitude": np.array([0.0, -179.0, np.nan]),
    }
    distance = CompareExif().build(Runtime())(columns)["exif_distance_km"]
    np.testing.assert_allclose(distance, [111.195, 222.390, np.nan], rtol=1e-5)


def test_compare_answers_all_and_adds_columns(bundle):
    answer, alone = answers(graph_of(bundle, exif="compare")), answers(graph_of(bundle))
    for name in alone:
        np.testing.assert_array_equal(answer[name], alone[name])
    assert answer.keys() - alone.keys() == set(EXIF_COLUMNS)
    there = np.array([[answer["latitude"][0], answer["longitude"][0]]])
    np.testing.assert_allclose(answer["exif_distance_km"][0], great_circle_km(there, np.array([PARIS]))[0])
    assert np.isnan(answer["exif_distance_km"][1:]).all()


def test_skip_answers_the_others_in_the_usual_columns(bundle):
    answer, alone = answers(graph_of(bundle, exif="skip")), answers(graph_of(bundle))
    assert tuple(answer) == OUTPUT
    assert answer["problem"].tolist() == ["has_location", *alone["problem"][1:]]
    assert np.isnan(answer["latitude"][0])
    np.testing.assert_array_equal(answer["latitude"][1:], alone["latitude"][1:])


def test_skipped_photos_are_not_decoded(bundle, monkeypatch):
    monkeypatch.setattr("geo_ray.pipeline.stages.decode_image", lambda *_: pytest.fail("decoded"))
    head, _ = graph_of(bundle, exif="skip").split_at_pixels()
    answer = head.build(Runtime())(source_batch(["a"], [""], [photo()], [""]))
    assert answer["problem"].tolist() == ["has_location"]


def test_ignore_reads_nothing(bundle, monkeypatch):
    monkeypatch.setattr("geo_ray.pipeline.exif_stage.gps_position", lambda _: pytest.fail("read"))
    graph = graph_of(bundle)
    assert graph == graph_of(bundle, exif="ignore")
    assert not any(isinstance(stage, ReadExif | CompareExif) for stage in graph.stages)
    assert tuple(answers(graph)) == OUTPUT


@pytest.mark.parametrize("exif", ["ignore", "skip", "compare"])
def test_the_head_ends_with_the_pixels(bundle, exif):
    """Bytes don't travel to the workers, and of EXIF only what is compared there."""
    head, tail = graph_of(bundle, exif=exif).split_at_pixels()
    assert len(head.stages) == (1 if exif == "ignore" else 2)
    assert "pixels" in head.output
    assert "bytes" not in head.output
    assert ("exif_latitude" in head.output) == (exif == "compare")
    assert tail.inputs == head.output


def test_stages_are_specs_and_pickle(bundle):
    graph = graph_of(bundle, exif="compare")
    assert pickle.loads(pickle.dumps(graph)) == graph
    assert all(isinstance(stage, StageSpec) for stage in graph.stages)


def test_an_unknown_choice_is_refused(bundle):
    with pytest.raises(InputError, match="exif='yes' must be one of ignore, skip, compare"):
        graph_of(bundle, exif="yes")
