"""Covariates: scalers that invert, and losses of what is known alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from geo_ray.errors import InputError
from geo_ray.train.covariates import OFFSETS, CovariateHeads, Scaler


@given(arrays(np.float64, 20, elements=st.floats(-400, 9000), unique=True))
def test_scalers_invert(values):
    for offset in (None, OFFSETS["elevation_m"]):
        scaler = Scaler.fit(values, offset)
        scaled = scaler.scaled(values)
        assert abs(scaled.mean()) < 1e-6
        assert scaled.std() == pytest.approx(1)
        np.testing.assert_allclose(scaler.inverted(scaled), values, rtol=1e-9, atol=1e-6)


def test_what_is_missing_stays_missing_and_counts_for_nothing():
    values = np.array([1.0, np.nan, 3.0, 100.0])
    scaler = Scaler.fit(values, 1.0)
    assert scaler == Scaler.fit(values[[0, 2, 3]], 1.0)
    assert np.isnan(scaler.scaled(values)).tolist() == [False, True, False, False]


def test_values_that_cannot_be_learned_are_named():
    with pytest.raises(InputError, match="population has 1 known values"):
        Scaler.fit(np.array([5.0, np.nan]), name="population")
    with pytest.raises(InputError, match=r"elevation_m of -430 is not above -408"):
        Scaler.fit(np.array([-430.0, 1.0, 2.0]), 408.0, name="elevation_m")


def test_losses_are_weighted_as_the_papers():
    torch.manual_seed(0)
    heads, features = CovariateHeads(6, num_regressions=2), torch.randn(3, 6)
    climate, month, scaled = torch.tensor([4, 29, 0]), torch.tensor([0, 11, 5]), torch.randn(3, 2)
    losses = heads.losses(heads(features), climate, month, scaled)
    torch.testing.assert_close(losses["climate"], 2 * F.cross_entropy(heads.climate(features), climate))
    torch.testing.assert_close(losses["month"], F.cross_entropy(heads.month(features), month))
    torch.testing.assert_close(losses["regressions"], 8 * F.mse_loss(heads.regressions(features), scaled))


def test_what_is_unknown_is_left_out_of_losses():
    torch.manual_seed(0)
    heads, features = CovariateHeads(6, num_regressions=2), torch.randn(3, 6)
    known = heads.losses(heads(features[:1]), torch.tensor([4]), torch.tensor([2]), torch.tensor([[0.5, -1.0]]))
    scaled = torch.tensor([[0.5, -1.0], [torch.nan, torch.nan], [torch.nan, torch.nan]])
    some = heads.losses(heads(features), torch.tensor([4, -1, -1]), torch.tensor([2, -1, -1]), scaled)
    for name, loss in known.items():
        torch.testing.assert_close(some[name], loss)
    none = heads.losses(heads(features), torch.full((3,), -1), torch.full((3,), -1), torch.full((3, 2), torch.nan))
    sum(none.values()).backward()
    assert all(loss.item() == 0 for loss in none.values())
    assert all(parameter.grad.abs().max() == 0 for parameter in heads.parameters())


def test_a_model_without_months_has_no_head_for_them():
    heads, unknown = CovariateHeads(6, with_month=False), torch.full((3,), -1)
    assert set(heads.losses(heads(torch.randn(3, 6)), unknown, unknown, torch.zeros((3, 6)))) == {
        "climate",
        "regressions",
    }
