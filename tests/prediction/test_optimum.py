"""Compute-optimal sizes: tables, exponents, what is said once, and the picture, on posteriors made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic import pairs_fit, with_draws
from synthetic_errors import chained

from bayes_l2l.data.sizes import budgets_of
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.prediction.optimum import laws_of

BUDGETS = [1e18, 1e21]


def codes(found) -> list[str]:
    return [note.code for note in found.notes]


def test_sizes_are_where_the_law_is_lowest_along_equal_compute(handmade):
    found = handmade.optimum(BUDGETS, train_set="starcoder")
    law = laws_of(handmade, found.cells)
    assert found.params.shape == (2, 1000, 1)
    for budget, sizes, tokens in zip(BUDGETS, found.params, found.tokens, strict=True):
        np.testing.assert_allclose(6 * sizes * tokens, budget)
        at = [law.loss(sizes * times, tokens / times) for times in (0.9, 1, 1.1)]
        assert (at[1] < np.minimum(at[0], at[2])).all()
    np.testing.assert_allclose(found.exponents, np.broadcast_to(law.beta / (law.alpha + law.beta), (2, 1000, 1)))


def test_the_table_has_intervals_of_sizes_and_exponents(handmade):
    found = handmade.optimum(BUDGETS, train_set=["starcoder", "proof-pile-2"])
    table = found.table(quantiles=[0.1, 0.9])
    assert list(table)[:5] == ["train_set", "eval_set", "flops", "params", "tokens"]
    assert table[["train_set", "flops"]].to_numpy().tolist() == [
        [name, budget] for name in ("proof-pile-2", "starcoder") for budget in BUDGETS
    ]
    row, place = table.iloc[3], found.cells.index(("starcoder", "starcoder"))
    assert row["params_q0.9"] == pytest.approx(np.quantile(found.params[1, :, place], 0.9))
    assert row["tokens_per_param"] == pytest.approx(np.median(found.tokens[1, :, place] / found.params[1, :, place]))
    assert row["params_exponent"] + row["tokens_exponent"] == pytest.approx(1)
    assert row["extrapolation"] == pytest.approx(1e21 / handmade.max_flops["starcoder"])
    assert not found.shared
    assert "shared_optimum" not in codes(found)
    assert str(found).count("\n") == 1
    assert str(found).startswith("at 1e+21 FLOPs, proof-pile-2: N* grows as C^0.")


def test_what_the_model_assumes_is_said_once(joint):
    found = joint.optimum(1e21)
    assert found.shared
    assert [len(found.cells), len(found.table())] == [3, 1]
    assert found.table()[["train_set", "eval_set"]].iloc[0].tolist() == ["all", "all"]
    assert "shared_optimum" in codes(found)
    assert "all training sets: N* grows as" in str(found)
    (alone,) = joint.optimum(1e21, train_set="starcoder").table().to_dict("records")
    assert alone["train_set"] == "starcoder"
    assert alone["params"] == pytest.approx(found.table()["params"].item())


def test_the_correction_of_short_runs_moves_small_budgets(joint):
    without = with_draws(joint, c=joint.posterior["c"] * 0)
    (small, large), (plain, far) = (fit.optimum([2e17, 1e23]).table()["params"] for fit in (joint, without))
    assert small < 0.95 * plain
    assert large == pytest.approx(far, rel=0.01)
    assert joint.forecast(flops=2e17).points["params"].iloc[0] == pytest.approx(small)


def test_by_default_the_budgets_are_those_of_the_runs(handmade):
    found = handmade.optimum()
    runs = handmade.sweep.table["flops"]
    assert len(found.flops) == 8
    assert (np.abs(np.log(found.flops[:, None] / runs.to_numpy())).min(axis=1) < 0.02).all()
    assert budgets_of(np.geomspace(1.2e18, 9e19, 400)).tolist() == pytest.approx([10**18.5, 1e19, 10**19.5])
    assert budgets_of(np.geomspace(1.3e17, 2e20, 40)).tolist() == pytest.approx([1e18, 1e19, 1e20])


def test_an_optimum_that_no_runs_are_about_is_noted(handmade):
    assert "optimum_not_seen" not in codes(handmade.optimum(1e19, train_set="starcoder"))
    table = handmade.sweep.table
    wide = table[table["tokens"] / table["params"] > 60]
    groups = {name: group.to_dataset() for name, group in handmade.tree.children.items()}
    groups["observed_data"] = groups["observed_data"].isel(row=wide.index.to_numpy())
    found = replace(handmade, tree=type(handmade.tree).from_dict(groups)).optimum(1e19, train_set="starcoder")
    (note,) = [n for n in found.notes if n.code == "optimum_not_seen"]
    assert "no minimum was seen there" in note.message
    assert note.data["flops"] == [1e19]


def test_far_budgets_are_noted(handmade):
    assert "far_extrapolation" in codes(handmade.optimum([1e19, 1e24]))
    assert "far_extrapolation" not in codes(handmade.optimum(1e21))


def test_what_is_refused(joint):
    with pytest.raises(DataError, match="The training set 'starcode' was not fitted; did you mean 'starcoder'"):
        joint.optimum(1e21, train_set="starcode")
    with pytest.raises(ForecastError, match="flops must be positive and finite, not -1"):
        joint.optimum([1e21, -1])
    with pytest.raises(ForecastError, match="has no laws, so no compute-optimal size"):
        pairs_fit().optimum(1e21)


def lines(fig, **wanted) -> list:
    return [line for ax in fig.axes for line in ax.get_lines() if all(
        getattr(line, f"get_{name}")() == value for name, value in wanted.items())]  # fmt: skip


def test_the_picture_has_a_curve_with_its_minimum_a_budget(handmade):
    found = handmade.optimum(1e21, train_set="starcoder")
    fig = found.plot()
    (ax,) = fig.axes
    assert ax.get_xscale() == "log"
    curves = lines(fig, linewidth=1.3)
    assert len(curves) == 9  # eight budgets of the runs, and the one that was asked about
    minima = [box.lines[0].get_xydata()[0] for box in ax.containers]
    for curve, (n, loss) in zip(curves, minima, strict=True):
        x, y = curve.get_data()
        assert x[np.argmin(y)] == pytest.approx(n, rel=0.15)
        assert y.min() == pytest.approx(loss, rel=2e-3)
    assert len({curve.get_color() for curve in curves}) == 9
    dots = [line for line in lines(fig, marker="o", linestyle="None") if len(line.get_xdata()) > 1]
    runs = handmade.sweep.table.query("train_set == 'starcoder'")
    assert sum(len(dot.get_xdata()) for dot in dots) == len(runs)
    assert "simulated runs, not measured" in ax.get_title("left")
    said = [text.get_text() for text in ax.get_legend().get_texts()]
    assert said[0] == "1e+21 FLOPs"
    assert said[-1] == "minimum N*: median, 90% interval"


def test_several_cells_have_a_panel_each(joint):
    fig = joint.optimum(1e21).plot()
    assert [ax.get_title("left").split(":")[0] for ax in fig.axes] == [
        "fineweb-edu-100b", "smollm-corpus", "starcoder",
    ]  # fmt: skip


def test_an_optimum_of_accuracies_is_that_of_the_loss_they_read():
    fit = chained(metric="accuracy")
    found = fit.optimum(1e21, eval_set="quiz", train_set="starcoder")
    np.testing.assert_array_equal(found.params, fit.optimum(1e21, eval_set="task", train_set="starcoder").params)
    with pytest.raises(DataError, match="The picture is of losses"):
        found.plot()


def test_points_far_below_the_runs_are_noted(handmade):
    at = {"train_set": "starcoder", "params": 7e3, "tokens": 100}
    (note,) = [note for note in handmade.forecast(**at).notes if note.code == "far_below"]
    assert "1 of 1 points are far smaller than every fitted run" in note.message
    short = {"train_set": "starcoder", "params": 1e9, "tokens": 1e5}
    assert "times fewer tokens" in next(n for n in handmade.forecast(**short).notes if n.code == "far_below").message
    runs = handmade.sweep.table.query("train_set == 'starcoder'")
    seen = pd.concat([runs, runs.assign(params=runs["params"] / 2)])[["train_set", "eval_set", "params", "tokens"]]
    assert "far_below" not in [note.code for note in handmade.forecast(seen).notes]
