"""Pictures of loss-to-loss relations show what they say: runs, medians, intervals, stars and words."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from synthetic import pairs_fit, with_draws

from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.laws.scaling import Law
from bayes_l2l.plotting import relations
from bayes_l2l.plotting.style import palette
from bayes_l2l.prediction.forecasts import Forecast

EDU, SMOLLM, STARCODER = "fineweb-edu-100b", "smollm-corpus", "starcoder"
LARGE = {"params": 3.3e9, "tokens": 5.04e10}


@pytest.fixture(scope="module")
def large(joint) -> Sweep:
    """Large runs 1% above the median of the curves, of every cell but starcoder's task."""
    at = joint.forecast(**LARGE, kind="mean")
    loss = 1.01 * np.median(at.draws, axis=0)
    table = at.points[["train_set", "eval_set", "params", "tokens"]].assign(loss=loss)
    return Sweep.from_table(table[(table["eval_set"] != "task") | (table["train_set"] != STARCODER)], min_runs=1)


def lines(ax: Axes, **wanted: object) -> list[Line2D]:
    every = [line for line in ax.get_lines() if len(line.get_xdata())]
    return [line for line in every if all(getattr(line, f"get_{k}")() == v for k, v in wanted.items())]


def curve(ax: Axes) -> Line2D:
    return max(ax.get_lines(), key=lambda line: len(line.get_xdata()) if line.get_marker() == "None" else 0)


def on_law(law: Law, at: Forecast) -> float:
    """Median of the law at the one point of a forecast, which has the drift off the law in it besides."""
    (point,) = at.points.itertuples()
    return float(np.median(law.loss(point.params, point.tokens)))


def words(fig: Figure) -> list[str]:
    (legend,) = filter(None, (ax.get_legend() for ax in fig.axes))
    return [text.get_text() for text in legend.get_texts()]


def titles(fig: Figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in fig.axes]


def is_drawn(fig: Figure) -> bool:
    """Whether the figure can be laid out and written; the suite turns warnings into errors."""
    with io.BytesIO() as file:
        fig.savefig(file, format="png", dpi=40)
        return file.tell() > 1000


def test_a_relation_has_runs_median_and_intervals(joint):
    found = joint.translate(EDU, STARCODER)
    ax = relations.loss_to_loss(found, levels=[0.8]).axes[0]
    (dots,) = lines(ax, marker="o")
    np.testing.assert_array_equal(np.array(dots.get_data()), found.pairs[["x", "y"]].to_numpy().T)
    x, y = curve(ax).get_data()
    np.testing.assert_allclose(y, np.median(found.curve(x), axis=0))
    (band,) = (c for c in ax.collections if isinstance(c, PolyCollection))
    corners = band.get_paths()[0].vertices
    left = corners[np.isclose(corners[:, 0], x[0]), 1]
    assert [left.min(), left.max()] == pytest.approx(np.quantile(found.curve(x[0]), [0.1, 0.9]))
    assert {line.get_color() for line in (dots, curve(ax))} == {palette(joint.sweep.train_sets)[STARCODER]}
    assert ax.get_xlabel() == f"{EDU} (nats/token)"
    assert ax.get_ylabel() == "starcoder\n(nats/token)"


def test_the_curve_reaches_a_run_of_20_times_the_compute(joint):
    found = joint.translate(EDU, STARCODER)
    x = curve(relations.loss_to_loss(found).axes[0]).get_xdata()
    seen = joint.sweep.table.query("train_set == @EDU and eval_set == @EDU")
    ahead = joint.forecast(flops=20 * seen["flops"].max(), train_set=EDU, eval_set=EDU, kind="mean")
    assert x[0] == pytest.approx(on_law(found.source_law, ahead), rel=1e-6)
    assert x[-1] == seen["loss"].max()


def test_the_curve_ends_where_a_draw_has_reached_its_entropy(joint):
    posterior = joint.posterior
    one = (posterior["draw"] == 7) & (posterior["chain"] == 0) & (posterior["cell"] == f"{EDU}|{EDU}")
    raised = with_draws(joint, E=posterior["E"].where(~one, 2.65))
    found = raised.translate(EDU, STARCODER)
    x, y = curve(relations.loss_to_loss(found).axes[0]).get_data()
    assert np.median(found.source_law.loss(**LARGE)) < x[0] == 2.65
    assert np.isfinite(y).all()


def test_stars_stand_beside_what_the_other_loss_says_of_them(joint, large):
    found = joint.translate(EDU, STARCODER)
    ax = relations.loss_to_loss(found, large=large).axes[0]
    (star,) = lines(ax, marker="*")
    pair = large.pairs(EDU, STARCODER).iloc[0]
    assert (*star.get_xdata(), *star.get_ydata()) == (pair["x"], pair["y"])
    (dash,) = (line for line in lines(ax, marker="_") if line.get_markersize() == 9)
    forecast = found.forecast(pair["x"])
    assert dash.get_ydata()[0] == pytest.approx(np.median(forecast))
    (bar,) = (c for c in ax.collections if not isinstance(c, PolyCollection))
    assert bar.get_segments()[0][:, 1] == pytest.approx(np.quantile(forecast, [0.05, 0.95]))


def test_percents_are_of_the_median_curve(joint, large):
    found = joint.translate(EDU, STARCODER)
    ax = relations.loss_to_loss(found, show="percent", large=large).axes[0]
    (dots,), (star,) = lines(ax, marker="o"), lines(ax, marker="*")
    median = np.median(found.curve(found.pairs["x"].to_numpy()), axis=0)
    np.testing.assert_allclose(dots.get_ydata(), 100 * (found.pairs["y"] / median - 1))
    assert (curve(ax).get_ydata() == 0).all()
    pair = large.pairs(EDU, STARCODER).iloc[0]
    assert star.get_ydata()[0] == pytest.approx(100 * (pair["y"] / np.median(found.curve(pair["x"])) - 1))
    assert ax.get_ylabel() == "starcoder\nless the median (%)"


def test_a_translated_law_is_drawn_against_compute(joint, large):
    found = joint.translate(EDU, STARCODER)
    ax = relations.loss_to_loss(found, show="law", large=large).axes[0]
    flops, loss = curve(ax).get_data()
    for i in (0, 30, -1):
        own = joint.forecast(flops=flops[i], train_set=STARCODER, eval_set=STARCODER, kind="mean")
        assert loss[i] == pytest.approx(on_law(found.law, own))
    runs = joint.sweep.table.query("train_set == @STARCODER and eval_set == @STARCODER")
    np.testing.assert_array_equal(lines(ax, marker="o")[0].get_data(), runs[["flops", "loss"]].to_numpy().T)
    assert len(lines(ax, marker="*")) == 1
    assert flops[-1] >= 20 * runs["flops"].max()


def test_a_translation_is_plotted_in_three_ways(joint, large):
    fig = joint.translate(EDU, STARCODER).plot(large=large)
    assert is_drawn(fig)
    assert [ax.get_ylabel() for ax in fig.axes] == [
        "starcoder\n(nats/token)",
        "starcoder\nless the median (%)",
        "starcoder\n(nats/token)",
    ]
    assert titles(fig) == ["fineweb-edu-100b to starcoder\nsimulated runs, not measured", "", ""]
    assert words(fig) == [
        "fitted runs of equal N and D",
        "posterior median",
        "50% interval",
        "90% interval",
        "end of the fitted runs",
        "forecast of a run from the loss\non the x axis: median, 90% interval",
        "large runs, not fitted",
    ]


def test_a_translation_goes_where_it_is_told(joint):
    found = joint.translate(EDU, STARCODER)
    ours, axes = plt.subplots(1, 3)
    try:
        assert found.plot(ax=axes) is ours
        assert [len(ax.get_lines()) > 0 for ax in axes] == [True] * 3
        with pytest.raises(DataError, match="There are 3 pictures of a translation to draw and 2 axes"):
            found.plot(ax=axes[:2])
    finally:
        plt.close(ours)


def test_a_translation_of_pairs_has_no_law_to_draw():
    fit = pairs_fit()
    assert len(fit.translate(EDU, STARCODER).plot().axes) == 2


def test_exponents_are_rows_of_a_forest(joint):
    pairs = [(EDU, STARCODER), (EDU, "smollm-corpus"), (EDU, ("task", EDU))]
    fig = relations.exponents(joint, pairs)
    dots = [line.get_xdata()[0] for line in lines(fig.axes[0], marker="o") if len(line.get_xdata())]
    assert dots == pytest.approx([np.median(joint.translate(*pair).kappa) for pair in pairs])
    K = np.median(joint.translate(EDU, STARCODER).K)
    assert f"{K:.3g} (" in " ".join(text.get_text() for text in fig.findobj(plt.Text))
    assert words(fig) == ["posterior median", "50% interval", "90% interval", "losses in proportion"]
    with pytest.raises(DataError, match="There is no pair"):
        relations.exponents(joint, [])


# The paper's figures


def panels(fig: Figure) -> list[tuple[str, str]]:
    """What is on the x and the y axis of every panel."""
    return [
        tuple(text.removesuffix("(nats/token)").rstrip() for text in (ax.get_xlabel(), ax.get_ylabel()))
        for ax in fig.axes
    ]


def test_train_to_train(joint, large):
    fig = relations.train_to_train(joint, source=EDU, large=large)
    assert is_drawn(fig)
    assert panels(fig) == [(EDU, SMOLLM), (EDU, STARCODER)]
    assert titles(fig) == [f"{SMOLLM}\nsimulated runs, not measured", STARCODER]
    only = relations.train_to_train(joint, source=EDU, targets=[STARCODER], show="law")
    assert panels(only) == [("training compute C (FLOPs)", STARCODER)]
    assert "fitted runs" in words(only)


def test_train_to_test(joint, large):
    fig = relations.train_to_test(joint, eval_set="task", large=large)
    assert is_drawn(fig)
    assert panels(fig) == [(name, f"task of {name}") for name in (EDU, SMOLLM, STARCODER)]
    # The task was not measured on starcoder's large run: no star there.
    assert [len(lines(ax, marker="*")) for ax in fig.axes] == [1, 1, 0]
    assert panels(relations.train_to_test(joint, eval_set="task", train_sets=[SMOLLM])) == [
        (SMOLLM, f"task of {SMOLLM}")
    ]


def test_test_to_test(joint):
    fig = relations.test_to_test(joint, eval_set="task", source=SMOLLM)
    assert is_drawn(fig)
    assert panels(fig) == [(f"task of {SMOLLM}", f"task of {name}") for name in (EDU, STARCODER)]


def test_overview_has_one_of_each_kind(joint):
    fig = relations.overview(joint, source=EDU, target=STARCODER, eval_set="task")
    assert panels(fig) == [(EDU, STARCODER), (EDU, f"task of {EDU}"), (f"task of {EDU}", f"task of {STARCODER}")]


def test_panels_go_where_they_are_told(joint):
    ours, axes = plt.subplots(1, 2)
    try:
        assert relations.train_to_train(joint, source=EDU, ax=axes) is ours
        assert all(lines(ax, marker="o") for ax in axes)
        with pytest.raises(DataError, match="There are 1 pairs to draw and 2 axes to draw them in"):
            relations.train_to_train(joint, source=EDU, targets=[SMOLLM], ax=axes)
    finally:
        plt.close(ours)


def test_five_panels_stand_in_two_rows_and_nothing_is_kept(joint):
    before = plt.get_fignums()
    fig = relations.grid(joint, [(EDU, cell) for cell in joint.cells[1:]])
    assert len(fig.axes) == 5
    assert plt.get_fignums() == before
    assert len({ax.get_subplotspec().rowspan.start for ax in fig.axes}) == 2


def test_cells_that_share_no_run_have_a_curve(joint):
    from dataclasses import replace

    table = joint.sweep.table
    apart = table[(table["train_set"] != STARCODER) | (table["params"] < 5e7)]
    apart = apart[(apart["train_set"] != EDU) | (apart["params"] >= 5e7)]
    found = replace(joint.translate(EDU, STARCODER), sweep=replace(joint.sweep, table=apart))
    assert found.pairs.empty
    fig = relations.loss_to_loss(found)
    assert is_drawn(fig)
    assert len(curve(fig.axes[0]).get_xdata()) > 10


def test_what_cannot_be_drawn_is_refused(joint, handmade):
    with pytest.raises(DataError, match="show is 'ratio'; it must be one of relation, percent, law"):
        relations.train_to_train(joint, source=EDU, show="ratio")
    with pytest.raises(DataError, match="There is no pair of fitted cells to draw"):
        relations.train_to_test(joint, eval_set="moon")
    with pytest.raises(DataError, match="has no cell 'moon'"):
        relations.train_to_train(joint, source="moon")
    with pytest.raises(ForecastError, match="fit the joint model"):
        relations.train_to_train(handmade, source=EDU)


def test_large_runs_may_be_of_other_cells_alone(joint):
    other = pd.DataFrame([{"train_set": "moon", "eval_set": "moon", **LARGE, "loss": 2.0}])
    fig = relations.train_to_train(joint, source=EDU, large=Sweep.from_table(other, min_runs=1))
    assert all(not lines(ax, marker="*") for ax in fig.axes)
