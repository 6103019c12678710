"""What the numbers of an answer mean."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo_ray.geo.calibration import (
    Calibration,
    ErrorScore,
    Likeness,
    Logistic,
    ProbabilityCalibration,
    RadiusCalibration,
    read_calibration,
)

NAN = float("nan")
STEPS = RadiusCalibration(edges=(10.0, 100.0), radius_km_50=(1.0, 2.0, 3.0), radius_km_90=(4.0, 5.0, 6.0))
ZEROS = np.zeros(6)


def test_bins_hold_their_lower_edge():
    half, most = STEPS.radii_km(np.array([0.0, 9.99, 10.0, 99.0, 100.0, 1e9]), ZEROS)
    assert half.tolist() == [1, 1, 2, 2, 3, 3]
    assert most.tolist() == [4, 4, 5, 5, 6, 6]


def test_an_unknown_score_has_no_radius_and_an_endless_one_the_widest():
    half, most = STEPS.radii_km(np.array([NAN, np.inf]), np.zeros(2))
    assert np.isnan([half[0], most[0]]).all()
    assert (half[1], most[1]) == (3, 6)


def test_no_answers_and_no_edges():
    assert STEPS.radii_km(np.zeros(0), np.zeros(0))[0].shape == (0,)
    constant = RadiusCalibration(edges=(), radius_km_50=(7.0,), radius_km_90=(8.0,))
    assert constant.radii_km(np.array([3.0]), np.zeros(1))[1].tolist() == [8]


def test_a_score_by_hand():
    score = ErrorScore(intercept=1.0, feature_distance=2.0, log_spread=3.0)
    assert score(np.array([0.5]), np.array([np.e - 1])).tolist() == [5.0]
    without = ErrorScore(intercept=1.0, feature_distance=2.0, log_spread=0.0)
    assert without(np.array([0.5]), np.array([NAN])).tolist() == [2.0]  # what isn't asked for may be unknown


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 edges need 3 radii, not 3 and 2"):
        RadiusCalibration(edges=(1.0, 2.0), radius_km_50=(1.0, 2.0, 3.0), radius_km_90=(1.0, 2.0))
    with pytest.raises(ValueError, match="ascend"):
        RadiusCalibration(edges=(2.0, 1.0), radius_km_50=(1.0, 2.0, 3.0), radius_km_90=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="power=0"):
        ProbabilityCalibration(power=0.0)
    with pytest.raises(ValueError, match="one p-value more"):
        Likeness(level=0.1, distances=(1.0,), p_values=(1.0,))
    with pytest.raises(ValueError, match="p-values descend"):
        Likeness(level=0.1, distances=(1.0,), p_values=(0.5, 1.0))


def test_stated_probabilities_by_hand():
    ranked = np.array([[0.64, 0.16, 0.0]])
    assert ProbabilityCalibration().candidates(ranked)[0].tolist() == pytest.approx([0.8, 0.2, 0.0])
    stated = ProbabilityCalibration(power=0.5, other=0.4).candidates(ranked)  # roots 0.8 and 0.4, and 0.4 for all else
    assert stated[0].tolist() == pytest.approx([0.5, 0.25, 0.0])
    assert ProbabilityCalibration().candidates(np.zeros((1, 2))).tolist() == [[0.0, 0.0]]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0.1, 3), st.floats(0, 1))
def test_stating_keeps_the_order_and_never_exceeds_one(probability, power, other):
    ranked = np.array([sorted(probability, reverse=True)])
    stated = ProbabilityCalibration(power=power, other=other).candidates(ranked)[0]
    assert (np.diff(stated) <= 1e-12).all()
    assert stated.sum() <= 1 + 1e-9
    assert (stated >= 0).all()


def test_a_logistic_correction_by_hand():
    assert Logistic()(np.array([0.25, 0.9])).tolist() == pytest.approx([0.25, 0.9])
    assert Logistic(slope=2.0)(np.array([0.75]))[0] == pytest.approx(0.9)  # odds of 3, squared
    assert Logistic(offset=np.log(3.0))(np.array([0.5]))[0] == pytest.approx(0.75)
    assert np.isfinite(Logistic(slope=5.0)(np.array([0.0, 1.0]))).all()


def test_p_values_by_hand():
    likeness = Likeness(level=0.3, distances=(1.0, 2.0), p_values=(1.0, 0.5, 0.25))
    p = likeness.p_value(np.array([0.0, 1.0, 1.5, 2.0, 3.0, np.inf, NAN]))
    assert p[:6].tolist() == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert np.isnan(p[6])
    assert likeness.is_unlike(p).tolist() == [False, False, False, False, True, True, False]


def test_written_and_read_again():
    calibration = Calibration(
        radius=dataclasses.replace(STEPS, score=ErrorScore(intercept=0.5, feature_distance=2.0, log_spread=0.25)),
        probability=ProbabilityCalibration(power=0.5, other=0.1, country=Logistic(slope=2.0, offset=-1.0)),
        likeness=Likeness(level=0.05, distances=(1.0, 2.0), p_values=(1.0, 0.5, 0.25)),
        num_images=10,
        num_places=4,
    )
    assert read_calibration(json.loads(json.dumps(dataclasses.asdict(calibration)))) == calibration
    with pytest.raises(KeyError):
        read_calibration({"edges": [], "radius_km_50": [1.0], "radius_km_90": [2.0]})  # of an earlier version
