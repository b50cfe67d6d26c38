"""Pictures of over-training and of error rates show the draws and the runs that they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from synthetic_errors import chained

from bayes_l2l.data.datasets import large_runs
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError
from bayes_l2l.plotting import over_training as multiples
from bayes_l2l.structures.error_rate import curve_draws


def lines(fig, **look):
    return [line for line in fig.axes[0].lines if all(getattr(line, f"get_{k}")() == v for k, v in look.items())]


def words(fig):
    return [text.get_text() for text in fig.axes[0].get_legend().get_texts()]


def test_a_line_of_equal_m_is_the_median_law_along_it(handmade):
    fig = multiples.multiples(handmade, cell="starcoder", values=[20, 200])
    for multiple in (20, 200):
        (line,) = lines(fig, label=f"M = {multiple}")
        flops, loss = line.get_data()
        params = np.sqrt(flops / (6 * multiple))
        at = {"train_set": "starcoder", "eval_set": "starcoder", "params": params, "tokens": multiple * params}
        draws = handmade.forecast(pd.DataFrame(at), kind="mean").draws
        np.testing.assert_allclose(loss, np.median(draws, axis=0))


def test_runs_have_the_colour_of_their_m(handmade):
    table = handmade.sweep.table.query("train_set == 'starcoder'")
    fig = multiples.multiples(handmade, cell="starcoder")
    dots = lines(fig, marker="o")
    assert sorted(dot.get_ydata()[0] for dot in dots) == pytest.approx(sorted(table["loss"]))
    colour = {float(dot.get_xdata()[0]): to_hex(dot.get_color()) for dot in dots}
    by_m = table.assign(m=table["tokens"] / table["params"]).sort_values("m")
    assert len({colour[flops] for flops in by_m["flops"].iloc[[0, -1]]}) == 2
    assert sum(word.startswith("M = ") for word in words(fig)) == 5


def test_large_runs_are_stars_with_their_forecast(handmade):
    large = large_runs("simulated")
    fig = multiples.multiples(handmade, cell="starcoder", large=large)
    (star,) = lines(fig, marker="*")
    truth = large.table.query("train_set == 'starcoder'")
    assert star.get_ydata() == pytest.approx(truth["loss"].to_numpy())
    assert words(fig)[-1] == "large runs, not fitted"


def with_errors():
    """Runs with a loss and an error of each, the errors of one training set apart."""
    rows = []
    for train in ("fineweb-edu-100b", "smollm-corpus", "starcoder"):
        for i, loss in enumerate((3.4, 3.0, 2.6)):
            run = {"train_set": train, "run_id": f"{train}-{i}", "params": 1e8 * (i + 1), "tokens": 1e9}
            rows.append(run | {"eval_set": "task", "metric": "loss", "loss": loss})
            rows.append(run | {"eval_set": "quiz", "metric": "error", "loss": 0.7 - 0.1 * i})
    return Sweep.from_table(pd.DataFrame(rows))


def test_errors_are_drawn_against_the_loss_of_the_same_run():
    fit = chained(jitter=0.05)
    fig = multiples.errors(fit, "quiz", runs=with_errors())
    dots = lines(fig, marker="o")
    assert [dot.get_data()[0].tolist() for dot in dots] == [[3.4, 3.0, 2.6]] * 3
    assert dots[0].get_data()[1] == pytest.approx([0.7, 0.6, 0.5])
    curves = lines(fig, linewidth=1.3)
    law = curve_draws(fit.errors, "quiz", "fineweb-edu-100b")
    x, y = curves[0].get_data()
    inside = x > 2.6  # beyond the runs a task goes on at a pace of its own
    each = [np.median(law(value)) for value in x[inside]]
    np.testing.assert_allclose(y[inside], each)
    assert fig.axes[0].get_xlabel() == "loss on task (nats/token)"
    (chance,) = lines(fig, linestyle=":")
    assert chance.get_ydata() == [0.75, 0.75]


def test_a_task_at_chance_has_runs_and_no_curve():
    fig = multiples.errors(chained(learned=False), "quiz", runs=with_errors())
    assert len(lines(fig, marker="o")) == 3
    assert len(lines(fig, linewidth=1.3)) == 2
    assert words(fig)[0] == "fineweb-edu-100b, at chance: no law"


def test_unknown_tasks_and_fits_without_errors_are_refused(handmade):
    with pytest.raises(DataError, match="No error rate or accuracy of 'quix' was fitted; fitted are: quiz"):
        multiples.errors(chained(), "quix", runs=with_errors())
    with pytest.raises(DataError, match="No error rate and no accuracy was fitted: give the table rows of metric"):
        multiples.errors(handmade, "quiz", runs=with_errors())


def test_accuracies_are_drawn_as_such_from_the_fitted_runs():
    fit = chained(metric="accuracy")
    fig = multiples.errors(fit)
    dots = lines(fig, marker="o")
    table = fit.errors.sweep.table.query("eval_set == 'quiz' and train_set == 'fineweb-edu-100b'")
    assert sorted(dots[0].get_ydata()) == pytest.approx(sorted(table["loss"]))
    x, y = lines(fig, linewidth=1.3)[0].get_data()
    assert y[0] > y[-1]
    assert x[0] < x[-1]
    (chance,) = lines(fig, linestyle=":")
    assert chance.get_ydata() == [0.25, 0.25]
    assert (fig.axes[0].get_ylabel(), fig.axes[0].get_title("left").split(" against")[0]) == (
        "accuracy", "Accuracy on quiz",
    )  # fmt: skip


def test_runs_without_the_task_are_refused():
    fit = chained()
    with pytest.raises(DataError, match="joint has no values of 'quiz': leave the runs out"):
        multiples.errors(fit, "quiz", runs=fit.sweep)
