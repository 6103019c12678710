import pytest
from prediction_rows import answer, problem

from geo_ray.errors import InputError
from geo_ray.evaluation.matching import match
from geo_ray.evaluation.tables import read_predictions, read_truth


@pytest.fixture
def pairs_of(make_run, make_truth):
    """The matched ids, predicted and true, and how they were found."""

    def pairs(predicted, true):
        predictions = read_predictions(str(make_run([answer(name, 1.0, 2.0) for name in predicted])))
        truth = read_truth(str(make_truth("image_id,latitude,longitude\n" + "".join(f"{name},1,2\n" for name in true))))
        found = match(predictions, truth)
        ids, true_ids = predictions.ids.to_pylist(), truth.ids.to_pylist()
        rows = zip(found.prediction_rows, found.truth_rows, strict=True)
        return {(ids[row], true_ids[true_row]) for row, true_row in rows}, found

    return pairs


def test_same_ids_in_any_order(pairs_of):
    pairs, found = pairs_of(["a", "b", "c"], ["c", "d", "a"])
    assert pairs == {("a", "a"), ("c", "c")}
    assert found.describe() == (
        "2 images matched by image id; 1 predictions without truth, 1 rows of truth without prediction"
    )


@pytest.mark.parametrize(
    ("predicted", "true", "by"),
    [
        (["a.jpg", "b.JPEG"], ["a", "b"], "image id without extension"),
        (["a", "b"], ["a.png", "b.webp"], "image id without extension"),
        (["a/b/1.jpg", "a/b/2.jpg"], ["a_b_1", "a_b_2"], "image id without extension, '/' as '_'"),
        (["a_b_1.jpg", "a_b_2.jpg"], ["a/b/1.jpg", "a/b/2.jpg"], "image id without extension, '/' as '_'"),
        (["00/a.jpg", "01/b.jpg"], ["a", "b"], "file name without extension"),
    ],
)
def test_ids_that_are_file_names(pairs_of, predicted, true, by):
    pairs, found = pairs_of(predicted, true)
    assert pairs == set(zip(predicted, true, strict=True))
    assert found.by == by


def test_a_dot_is_no_extension(pairs_of):
    with pytest.raises(InputError, match="no image id"):
        pairs_of(["photo.2014"], ["photo.2015", "photo"])


def test_the_same_name_in_two_folders_is_told_apart(pairs_of):
    pairs, _ = pairs_of(["x/1.jpg", "y/1.jpg"], ["y/1", "x/1"])
    assert pairs == {("x/1.jpg", "x/1"), ("y/1.jpg", "y/1")}


def test_an_id_for_two_images_is_refused(pairs_of):
    with pytest.raises(InputError, match="'1' stand for several images"):
        pairs_of(["x/1.jpg", "y/1.jpg"], ["1"])


def test_nothing_in_common_names_both_sides_and_the_remedy(pairs_of):
    with pytest.raises(InputError, match=r"run \('a', 'b'\) is in .*truth.csv \('c'\).*check that"):
        pairs_of(["a", "b"], ["c"])


def test_empty_tables_have_nothing_in_common(pairs_of):
    with pytest.raises(InputError, match=r"run \(none\)"):
        pairs_of([], ["c"])


def test_problems_are_matched_too(make_run, make_truth):
    predictions = read_predictions(str(make_run([problem("a")])))
    assert len(match(predictions, read_truth(str(make_truth("id,lat,lon\na,1,2\n"))))) == 1
