"""Choices on posteriors made by hand: probabilities, what cancels, crossings, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import with_draws
from synthetic_errors import chained

from bayes_l2l.decisions.choices import MUCH, best, optimal_sizes, overtaken
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.fits import Fit
from bayes_l2l.laws.scaling import Law

EDU, SMOLLM, STARCODER = "fineweb-edu-100b", "smollm-corpus", "starcoder"
LAW = ("E", "log_A", "log_B", "alpha", "beta", "gamma", "c")


def by_laws(fit: Fit) -> Fit:
    """The fit with differences between training sets as the laws say, also beyond the runs."""
    return replace(fit, spec=replace(fit.spec, likelihood=replace(fit.spec.likelihood, differences=None)))


def with_task_laws(fit: Fit, other: str, **changed: float) -> Fit:
    """The fit with the task's law of EDU in every draw on `other`, too, less what is changed."""
    fit = by_laws(fit)
    posterior, cells = fit.posterior, [f"task|{EDU}", f"task|{other}"]
    new = {}
    for name in (*LAW, "residual_scale"):
        values = posterior[name].copy()
        values.loc[{"cell": cells[1]}] = values.sel(cell=cells[0]).to_numpy() + changed.get(name, 0.0)
        new[name] = values
    return with_draws(fit, **new)


@pytest.fixture(scope="module")
def choice(joint):
    return joint.choose(eval_set="task", flops=1e21)


def test_probabilities_are_those_of_the_draws(choice):
    assert choice.draws.shape == (200, 3)
    assert choice.p_best.sum() == pytest.approx(1)
    np.testing.assert_allclose(choice.p_better + choice.p_better.T, 1)
    lowest = choice.draws.argmin(axis=1)
    assert choice.p_best.tolist() == [(lowest == i).mean() for i in range(3)]
    assert choice.regret[choice.best] == choice.regret.min()
    gap = choice.draws.mean(axis=0) - choice.draws.mean(axis=0).min()
    np.testing.assert_allclose(choice.regret - choice.regret.min(), gap)


def test_a_tie_is_shared():
    assert best(np.array([[1.0, 1.0, 2.0], [3.0, 1.0, 2.0]])).tolist() == [0.25, 0.75, 0]


def test_the_draws_are_those_of_one_forecast(joint, choice):
    size = choice.points.iloc[0]
    at = choice.points[["train_set", "params", "tokens"]].assign(eval_set="task")
    np.testing.assert_array_equal(choice.draws, joint.forecast(at).draws)
    assert size["params"] * size["tokens"] * 6 == pytest.approx(1e21)


def test_weights_average_nats(joint):
    sets = [EDU, SMOLLM]
    both = with_draws(joint)
    one = both.choose(eval_set="task", params=1e9, tokens=2e10, train_set=sets, kind="mean")
    names = joint.forecast(train_set=sets, eval_set="task", params=1e9, tokens=2e10, kind="mean")
    np.testing.assert_allclose(one.draws, names.draws)
    assert one.shares == {"task": 1.0}


def test_several_evaluations_are_weighted(handmade_two):
    names, fit = handmade_two
    asked = {"eval_set": names, "params": 1e9, "tokens": 2e10, "kind": "curve"}
    mixed = fit.choose(**asked, weights={names[0]: 3.0, names[1]: 1.0})
    parts = [fit.choose(**asked | {"eval_set": name}) for name in names]
    np.testing.assert_allclose(mixed.draws, 0.75 * parts[0].draws + 0.25 * parts[1].draws)
    np.testing.assert_allclose(mixed.curves, 0.75 * parts[0].curves + 0.25 * parts[1].curves)
    np.testing.assert_allclose(fit.choose(**asked).draws, (parts[0].draws + parts[1].draws) / 2)


@pytest.fixture
def handmade_two(joint) -> tuple[list[str], Fit]:
    """Two training sets with two evaluations in common: the task, and their own losses under one name."""
    fit = with_draws(joint)
    posterior = fit.posterior.isel(cell=slice(0, 4))
    names = ["web", "task", "web", "task"]
    cells = [f"{e}|{t}" for e, t in zip(names, posterior["train_set"].values, strict=True)]
    order = [cells.index(c) for c in sorted(cells, key=lambda c: c.split("|")[::-1])]
    posterior = posterior.assign_coords(cell=cells, eval_set=("cell", names)).isel(cell=order)
    table = fit.sweep.table[fit.sweep.table["train_set"] != STARCODER]
    table = table.assign(eval_set=table["eval_set"].replace({EDU: "web", SMOLLM: "web"}))
    groups = {name: group.to_dataset() for name, group in fit.tree.children.items()}
    text = ("run_id", "train_set", "eval_set", "metric")
    kept = {c: ("row", table[c].to_numpy(dtype=object if c in text else float)) for c in groups["observed_data"]}
    groups |= {"posterior": posterior, "observed_data": xr.Dataset(kept)}
    return ["web", "task"], replace(fit, tree=xr.DataTree.from_dict(groups))


def test_identical_sets_are_not_decided_and_it_hardly_matters(joint):
    same = with_task_laws(joint, SMOLLM).choose(eval_set="task", flops=1e21, train_set=[EDU, SMOLLM])
    assert same.p_best.max() < 0.65
    assert not same.decided
    assert not same.matters
    assert str(same).startswith("not decided: ")
    assert "It hardly matters" in str(same)
    law = with_task_laws(joint, SMOLLM).choose(eval_set="task", flops=1e21, train_set=[EDU, SMOLLM], kind="mean")
    assert law.p_best.tolist() == [0.5, 0.5]
    assert law.regret.tolist() == [0, 0]


def test_a_regret_is_also_told_in_compute(joint):
    """A regret is worth the compute without which the law of the best set would be as much worse."""
    choice = joint.choose(eval_set="task", flops=1e21)
    place, (low, high) = choice.train_sets.index(choice.best), (choice.budgets[0], 1e21)
    other = choice.regret.drop(choice.best).idxmin()
    kept = 1e21 * (1 - choice.lost_flops[other])
    assert low <= kept < high
    law = np.interp(np.log([kept, 1e21]), np.log(choice.budgets), choice.curves[:, :, place].mean(axis=0))
    assert law[0] - law[1] == pytest.approx(choice.regret[other], rel=1e-6)
    assert (choice.lost_flops.sort_values().index == choice.regret.sort_values().index).all()
    same = with_task_laws(joint, SMOLLM).choose(eval_set="task", flops=1e21, train_set=[EDU, SMOLLM])
    assert same.if_wrong == pytest.approx(same.regret[same.best] / (1 - same.p_best[same.best]))


def test_a_recommendation_says_the_answer_the_cost_and_what_would_change_it(handmade_two):
    names, fit = handmade_two
    choice = fit.choose(eval_set=names, weights=[1, 3], params=1e9, tokens=2e10)
    verdict, cost, *others = choice.recommendation(next_run=False)
    assert f": {choice.best} for the lowest loss on web (weight 0.25) and task (weight 0.75)" in verdict
    assert f"the best of 2 with probability {choice.p_best[choice.best]:.2f}" in verdict
    assert "of the FLOPs were lost" in cost or "expected regret 0 nats/token" in cost
    table = choice.by_evaluation()
    alone = table[table["train_set"] != choice.best]
    for row in alone.itertuples():
        assert f"by {row.eval_set} alone {row.train_set}, with probability {row.p_best:.2f}" in others
    assert table["weight"].tolist() == [0.25, 0.75]
    np.testing.assert_allclose(np.einsum("e,des->ds", [0.25, 0.75], choice.each), choice.draws)
    assert str(choice).startswith(verdict)
    assert cost in choice._repr_html_()


def test_what_all_share_cancels(joint):
    """A set that is a hair better in every draw is the best, however uncertain the loss of either is."""
    wide = joint.posterior["E"] + xr.DataArray(
        np.random.default_rng(0).normal(0, 0.3, (2, 100)), dims=["chain", "draw"]
    )
    deviating = 0 * joint.posterior["size_effect_scale"] + 0.05
    fit = with_draws(
        joint, E=wide, residual_scale=1e-6 * joint.posterior["residual_scale"], size_effect_scale=deviating
    )
    found = with_task_laws(fit, SMOLLM, E=0.001).choose(eval_set="task", flops=1e21, train_set=[EDU, SMOLLM])
    assert found.draws.std(axis=0).min() > 0.2
    assert found.p_better.loc[EDU, SMOLLM] == 1
    assert found.decided
    assert str(found).startswith(f"decided: {EDU} ")


def test_a_crossing_that_is_built_in_is_found(joint):
    """SMOLLM has a lower asymptote, and a larger scale such that both laws meet at 1e20 FLOPs in every draw."""
    posterior = joint.posterior
    edu = {name: posterior[name].sel(cell=f"task|{EDU}") for name in LAW}
    size = optimal_sizes(joint, [EDU], {"task": 1.0}, np.array([1e20])).iloc[0]
    new, gap = {}, 0.05
    law = Law(**{name: values.to_numpy() for name, values in edu.items()})
    reducible = law.loss(size["params"], size["tokens"]) - law.E
    log_K = np.log1p(gap / reducible)
    more = {"E": -gap, "log_A": log_K / law.alpha, "log_B": log_K / law.beta}
    for name in LAW:
        values = posterior[name].copy()
        values.loc[{"cell": f"task|{SMOLLM}"}] = edu[name].to_numpy() + more.get(name, 0.0)
        new[name] = values
    fit = with_draws(by_laws(joint), **new, residual_scale=1e-6 * posterior["residual_scale"])
    found = fit.choose(eval_set="task", flops=1e21, train_set=[EDU, SMOLLM])
    row = found.crossings().iloc[0]
    assert (row["below"], row["above"], row["probability"]) == (EDU, SMOLLM, 1.0)
    assert row["q0.05"] == pytest.approx(1e20, rel=0.1)
    assert row["q0.95"] == pytest.approx(1e20, rel=0.1)
    assert f"below 1e+20 FLOPs {EDU}, above it {SMOLLM}: probability 1.00" in str(found)
    assert found.p_best_along[EDU].iloc[0] == 1
    assert found.p_best_along[SMOLLM].iloc[-1] == 1


def test_the_last_crossing_counts():
    budgets = np.geomspace(1e18, 1e22, 5)
    lead = np.array([[1, -1, 1, -1, -1], [1, 1, 1, 1, -3], [1, 1, 1, 1, 1], [-1, 1, 1, -1, -1]], dtype=float)
    np.testing.assert_allclose(overtaken(budgets, lead), [10**20.5, 10**21.25])


def test_tables(choice):
    table = choice.table(quantiles=[0.05, 0.95])
    columns = ["train_set", "params", "tokens", "flops", "kind", "mean", "sd", "median", "q0.05", "q0.95", "p_best"]
    assert list(table) == [*columns, "regret", "lost_flops", "p_better_than_best", "extrapolation"]
    assert table["train_set"][0] == choice.best
    assert table["p_better_than_best"][0] == 0.5
    pairs = choice.pairs()
    assert len(pairs) == 3
    first = pairs.iloc[0]
    assert first["p_better"] == choice.p_better.loc[first["train_set"], first["rival"]]
    assert (pairs["q0.05"] < pairs["q0.95"]).all()
    assert list(choice.crossings()) == ["below", "above", "probability", "q0.05", "median", "q0.95"]
    assert "3 training sets on task, 200 draws" in repr(choice)


def test_an_open_choice_names_the_run_that_would_tell_most(joint):
    close = with_task_laws(joint, SMOLLM).choose(eval_set="task", flops=1e21, train_set=[EDU, SMOLLM])
    run = close.next_run
    assert run["flops"] <= 1.001e20
    what = f"{run['train_set']}, {run['params']:.3g} parameters and {run['tokens']:.3g} tokens"
    expected = f"this would tell most: {what}" if run["reduction"] >= MUCH else f"would tell much, {what} the most"
    assert expected in str(close)


def test_the_picture_shows_every_set(choice):
    fig = choice.plot()
    left, right = fig.axes[:2]
    assert [label.get_text() for label in left.get_yticklabels()] == choice.table()["train_set"].tolist()
    assert left.get_legend().get_texts()[0].get_text() == "difference of runs: median"
    assert {text.get_text() for text in right.get_legend().get_texts()} > set(choice.train_sets)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"eval_set": "task"}, ForecastError, "Say for what size to choose"),
        ({"eval_set": "task", "flops": 1e21, "params": 1e9}, ForecastError, "Say for what size to choose"),
        ({"eval_set": "task", "flops": -1.0}, ForecastError, "flops must be positive"),
        ({"eval_set": "tusk", "flops": 1e21}, DataError, "'tusk' was not fitted; did you mean 'task'"),
        ({"eval_set": EDU, "flops": 1e21}, DataError, f"{SMOLLM} was not fitted on {EDU}"),
        ({"eval_set": ["task", "task"], "flops": 1e21}, ForecastError, "each once"),
        ({"eval_set": "task", "flops": 1e21, "train_set": [EDU]}, ForecastError, "nothing to choose from"),
        ({"eval_set": "task", "flops": 1e21, "train_set": ["edu"]}, DataError, "'edu' was not fitted"),
        ({"eval_set": "task", "flops": 1e21, "weights": [1, 2]}, ForecastError, "weights must be 1 positive"),
        ({"eval_set": "task", "flops": 1e21, "weights": {"x": 1}}, ForecastError, "weights must name"),
        ({"eval_set": "task", "flops": 1e21, "weights": [0]}, ForecastError, "weights must be 1 positive"),
    ],
)
def test_a_wrong_question_is_refused(arguments, error, said, joint):
    with pytest.raises(error, match=said):
        joint.choose(**arguments)


# error rates and accuracies


@pytest.mark.parametrize(("metric", "word"), [("error", "lowest error rate"), ("accuracy", "highest accuracy")])
def test_the_lower_error_rate_is_the_higher_accuracy(metric, word):
    """Both ways the same set is the best, with the same probability and regret."""
    at = {"eval_set": "quiz", "flops": 1e21}
    choice, other = (chained(metric=name).choose(**at) for name in (metric, "error"))
    assert choice.best == other.best
    np.testing.assert_allclose(choice.p_best, other.p_best)
    np.testing.assert_allclose(choice.regret, other.regret)
    np.testing.assert_allclose(choice.scatter, 0.01)
    table = choice.table()
    assert table["mean"].is_monotonic_decreasing == (metric == "accuracy")
    assert table["metric"].unique().tolist() == [metric]
    assert (choice.pairs()["mean"] > 0).all()
    assert f"for the {word} on quiz" in str(choice)
    assert {"error": "in error rate", "accuracy": "in accuracy"}[metric] in str(choice)
    pd.testing.assert_frame_equal(choice.crossings(), other.crossings())
    assert choice.plot().axes[0].get_xlabel().endswith("(fraction)")


def test_a_set_at_chance_is_left_out_and_noted():
    fit = chained(metric="accuracy", learned=False)
    choice = fit.choose(eval_set="quiz", flops=1e21)
    assert sorted(choice.train_sets) == [SMOLLM, STARCODER]
    assert np.isfinite(choice.draws).all()
    (note,) = [note for note in choice.notes if note.code == "at_chance"]
    assert note.data["tasks"] == {"quiz": [EDU]}
    with pytest.raises(DataError, match=f"quiz of models trained on {EDU} has not left chance"):
        fit.choose(eval_set="quiz", flops=1e21, train_set=[EDU, SMOLLM])


def test_losses_and_accuracies_are_not_averaged():
    with pytest.raises(ForecastError, match=r"not by several of them: quiz \(accuracy\), task \(loss\)"):
        chained(metric="accuracy").choose(eval_set=["quiz", "task"], flops=1e21)
