"""Shares of answers, and that shuffled captions are no better than chance."""

import numpy as np
import pytest

from geo_ray.benchmarks.transfer import accuracy, accuracy_by_class, shuffled_accuracies

TRUTH = np.array(["DK"] * 6 + ["PE"] * 2, dtype=object)


def test_every_class_counts_alike():
    right = np.array([True, True, True, False, False, False, True, True])
    assert accuracy(right, TRUTH) == {"images": 5 / 8, "classes": 0.75}
    assert accuracy_by_class(right, TRUTH) == {"DK": 0.5, "PE": 1.0}


def test_a_shuffle_of_two_classes_is_right_or_wrong_in_all():
    answers = TRUTH.copy()
    shuffled = shuffled_accuracies(answers, TRUTH, np.random.default_rng(0), 400)
    assert set(shuffled) == {0.0, 1.0}
    assert shuffled.mean() == pytest.approx(0.5, abs=0.08)


def test_a_shuffle_is_the_same_as_renamed_answers():
    rng = np.random.default_rng(0)
    names = np.array(["AA", "BB", "CC", "DD"], dtype=object)
    truth = np.repeat(names, [5, 9, 3, 7])
    answers = rng.choice(np.append(names, "ZZ"), len(truth))  # also with what is the truth of no image
    expected = []
    again = np.random.default_rng(7)
    for _ in range(20):
        caption_of = dict(zip(names, names[again.permutation(4)], strict=True))  # whose caption a class has now
        right = np.array([caption_of[name] == answer for name, answer in zip(truth, answers, strict=True)])
        expected.append(accuracy(right, truth)["classes"])
    np.testing.assert_allclose(shuffled_accuracies(answers, truth, np.random.default_rng(7), 20), expected)


def test_shuffled_captions_are_right_by_chance_alone():
    truth = np.repeat(np.array([f"{number:02d}" for number in range(18)], dtype=object), 10)
    shuffled = shuffled_accuracies(truth, truth, np.random.default_rng(0))
    assert shuffled.mean() == pytest.approx(1 / 18, abs=0.01)
