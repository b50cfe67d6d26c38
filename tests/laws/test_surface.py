"""The smooth surface of log loss: exact where it can be, and honest about what runs scatter."""

from __future__ import annotations

import numpy as np
import pytest

from bayes_l2l.laws.surface import FEWEST_FOR_QUADRATIC, fit_surface

RNG = np.random.default_rng(0)


def runs(n: int, *, seed: int = 0):
    """Logarithms of N and D of runs that do not lie on a line."""
    rng = np.random.default_rng(seed)
    return rng.uniform(np.log(1e8), np.log(1e10), n), rng.uniform(np.log(1e9), np.log(1e11), n)


def quadratic(n, d):
    n, d = n - 20.0, d - 23.0
    return 1.0 - 0.08 * n - 0.06 * d + 0.01 * n**2 - 0.004 * n * d + 0.007 * d**2


def test_a_quadratic_is_found_exactly_and_goes_on_beyond_the_runs():
    sizes = runs(30)
    surface = fit_surface(*sizes, quadratic(*sizes))
    assert surface.coefficients.shape == (6,)
    np.testing.assert_allclose(surface.coefficients[3:], [0.01, -0.004, 0.007], rtol=1e-8)
    np.testing.assert_allclose(surface.residuals, 0, atol=1e-12)
    assert surface.residual_scale < 1e-12
    ahead = np.array([25.0, 26.0]), np.array([27.0, 25.0])
    np.testing.assert_allclose(surface.log_loss(*ahead), quadratic(*ahead), rtol=1e-8)
    assert surface.log_loss(25.0, 27.0) == pytest.approx(quadratic(25.0, 27.0))


def test_few_runs_have_a_plane():
    n, d = runs(FEWEST_FOR_QUADRATIC - 1)
    surface = fit_surface(n, d, 2 - 0.1 * n + 0.05 * d)
    np.testing.assert_allclose(surface.coefficients[1:], [-0.1, 0.05])
    assert len(fit_surface(*runs(FEWEST_FOR_QUADRATIC), np.zeros(FEWEST_FOR_QUADRATIC)).coefficients) == 6


def test_residuals_are_what_is_left():
    sizes = runs(12)
    log_loss = quadratic(*sizes) + 0.01 * RNG.standard_normal(12)
    surface = fit_surface(*sizes, log_loss)
    np.testing.assert_allclose(surface.residuals, log_loss - surface.log_loss(*sizes), atol=1e-12)
    assert surface.residuals.sum() == pytest.approx(0, abs=1e-12)
    assert surface.residual_scale == pytest.approx(np.sqrt((surface.residuals**2).sum() / 6))


@pytest.mark.parametrize("n", [8, 12, 40])
def test_the_scale_is_that_of_the_noise_however_few_the_runs(n):
    """Degrees of freedom are counted: the mean variance over many sweeps is the noise's."""
    sizes = runs(n)
    rng = np.random.default_rng(n)
    plane = 2 - 0.1 * sizes[0]
    squares = [fit_surface(*sizes, plane + 0.02 * rng.standard_normal(n)).residual_scale ** 2 for _ in range(2000)]
    assert np.sqrt(np.mean(squares)) == pytest.approx(0.02, rel=0.04)


def test_runs_on_a_line_count_as_many_terms_as_they_determine():
    """At one number of tokens per parameter the surface is a parabola: three terms of six."""
    n = np.linspace(18, 22, 11)
    log_loss = 1 - 0.1 * n + 0.01 * RNG.standard_normal(11)
    surface = fit_surface(n, n + 3, log_loss)
    parabola = log_loss - np.polyval(np.polyfit(n - 20, log_loss, 2), n - 20)
    np.testing.assert_allclose(surface.residuals, parabola, atol=1e-10)
    assert surface.residual_scale == pytest.approx(np.sqrt((parabola**2).sum() / 8))


def test_runs_through_which_a_plane_passes_say_nothing_of_what_they_scatter():
    surface = fit_surface(*runs(3), [1.0, 1.1, 0.9])
    np.testing.assert_allclose(surface.residuals, 0, atol=1e-12)
    assert np.isnan(surface.residual_scale)
