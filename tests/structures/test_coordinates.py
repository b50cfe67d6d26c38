"""Coordinates of the sampler are one to one, with the right Jacobians, and straight where they should be."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from bayes_l2l.structures.coordinates import between, log_odds

CASES = {
    "odds": (log_odds(0.25), np.linspace(-6, 4, 41)),
    "between": (between(0.0, 0.25, 0.03), np.linspace(1e-4, 0.2499, 41)),
    "wide prior": (between(-1.0, 2.0, 50.0), np.linspace(-0.999, 1.999, 41)),
}


@pytest.mark.parametrize("name", CASES)
def test_there_and_back_is_the_same_value(name):
    transform, x = CASES[name]
    np.testing.assert_allclose(transform.backward(transform.forward(x)).eval(), x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_jacobian_is_that_of_finite_differences(name):
    transform, x = CASES[name]
    y, step = transform.forward(x).eval(), 1e-5
    slope = (transform.backward(y + step).eval() - transform.backward(y - step).eval()) / (2 * step)
    np.testing.assert_allclose(transform.log_jac_det(y).eval(), np.log(slope), rtol=1e-5, atol=1e-5)


def test_large_odds_are_sampled_as_they_are_and_small_ones_by_their_logarithm():
    def steps(odds):
        return np.diff(log_odds(0.25).forward(np.log(odds)).eval())

    np.testing.assert_allclose(steps(np.array([2.0, 3.0, 4.0, 5.0])), 4.0, rtol=1e-3)
    np.testing.assert_allclose(steps(np.array([1e-4, 1e-3, 1e-2])), np.log(10), rtol=0.02)


def test_a_bounded_value_never_leaves_its_bounds():
    y = np.array([-700.0, -40.0, 0.0, 40.0, 700.0])
    x = between(0.0, 0.25, 0.03).backward(y).eval()
    assert ((x >= 0) & (x <= 0.25)).all()
    assert np.isfinite(between(0.0, 0.25, 0.03).log_jac_det(y).eval()).all()


def test_the_prior_is_the_same_in_any_coordinates():
    bounds = {"lower": 0.0, "upper": 0.25}
    transform = between(0.0, 0.25, 0.03)
    with pm.Model() as model:
        pm.TruncatedNormal("c", 0.06, 0.03, **bounds, default_transform=transform)
    density = model.compile_logp(jacobian=False)
    for value in (0.01, 0.06, 0.2):
        expected = pm.logp(pm.TruncatedNormal.dist(0.06, 0.03, **bounds), value).eval()
        assert density({"c_between__": transform.forward(value).eval()}) == pytest.approx(expected)
