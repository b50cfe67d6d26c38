"""Pictures of calibration show coverage as it is, and how much of it chance could make."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from backtested import by_hand
from matplotlib import pyplot as plt

from bayes_l2l.errors import ForecastError
from bayes_l2l.evaluation.backtests import Backtest
from bayes_l2l.plotting import calibration

N = 2000


def with_pit(values: np.ndarray, model: str = "law") -> pd.DataFrame:
    return by_hand(np.full(len(values), 20.0), model=model).assign(pit=values)


@pytest.fixture(scope="module")
def uniform() -> np.ndarray:
    return (np.arange(N) + 0.5) / N


def line(ax, color) -> np.ndarray:
    (found,) = [drawn for drawn in ax.get_lines() if drawn.get_color() == color]
    return np.array(found.get_data())


def test_calibrated_forecasts_lie_on_the_diagonal_and_overconfident_ones_below(uniform):
    sure = 0.5 + np.clip(3 * (uniform - 0.5), -0.5, 0.5)
    fig = calibration.reliability(
        Backtest(pd.concat([with_pit(uniform), with_pit(sure, "narrow")], ignore_index=True))
    )
    held, below = fig.axes
    for ax in (held, below):
        nominal, share = line(ax, calibration.drawing.COLOURS[0])
        np.testing.assert_allclose(share, nominal, atol=0.001)
    nominal, share = line(held, calibration.drawing.COLOURS[1])
    np.testing.assert_allclose(share[:-1], nominal[:-1] / 3, atol=0.001)
    said = [text.get_text() for text in below.get_legend().get_texts()]
    assert said[:2] == ["law: 2000 losses", "narrow: 2000 losses"]


def test_the_band_holds_what_chance_makes_of_calibrated_forecasts():
    rng = np.random.default_rng(5)
    low, high = calibration._binomial(50, np.array([0.5, 0.9]))
    share = np.array([[(rng.uniform(size=50) < level).mean() for level in (0.5, 0.9)] for _ in range(4000)])
    within = ((low <= share) & (share <= high)).mean(axis=0)
    assert ((within > 0.88) & (within < 0.97)).all()


def test_coverage_is_drawn_at_each_distance_with_its_number():
    near, far = by_hand([3.0, 4.0] * 10, held=0.9), by_hand([30.0] * 8, held=0.5)
    fig = calibration.coverage_by_extrapolation(Backtest(pd.concat([near, far], ignore_index=True)))
    (ax,) = fig.axes
    (bars,) = ax.containers
    x, y = bars.lines[0].get_data()
    np.testing.assert_allclose(x, [np.sqrt(12), 30])
    np.testing.assert_allclose(y, [0.9, 0.5])
    assert [text.get_text() for text in ax.texts] == ["20", "8"]
    (low, high) = bars.lines[2][0].get_segments()[1][:, 1]
    assert 0.2 < low < 0.35
    assert 0.65 < high < 0.8


def test_simulated_runs_are_said_to_be_simulated(uniform):
    measured = Backtest(with_pit(uniform))
    simulated = Backtest(measured.frame.assign(simulated=True))
    for draw in (calibration.reliability, calibration.coverage_by_extrapolation):
        assert "simulated runs, not measured" in draw(simulated).axes[0].get_title(loc="left")
        assert "simulated" not in draw(measured).axes[0].get_title(loc="left")


def test_what_is_not_there_is_not_drawn(uniform):
    found = Backtest(with_pit(uniform))
    with pytest.raises(ForecastError, match="no column 'law'"):
        calibration.reliability(found, by="law")
    with pytest.raises(ForecastError, match="no 70% intervals"):
        calibration.coverage_by_extrapolation(found, level=0.7)


def test_calibration_goes_where_it_is_told(uniform):
    backtest = Backtest(with_pit(uniform))
    ours, axes = plt.subplots(1, 3)
    try:
        assert calibration.reliability(backtest, ax=axes[:2]) is ours
        assert calibration.coverage_by_extrapolation(backtest, ax=axes[2]) is ours
        assert all(len(ax.get_lines()) for ax in axes)
    finally:
        plt.close(ours)
