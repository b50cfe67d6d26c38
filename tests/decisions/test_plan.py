"""Plans: exact where everything is normal, honest where nothing is to be learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic import with_draws
from synthetic_errors import chained

from bayes_l2l.decisions.plans import Ensemble
from bayes_l2l.errors import DataError, ForecastError, TableError

EDU, SMOLLM, STARCODER = "fineweb-edu-100b", "smollm-corpus", "starcoder"


def normal_ensemble(
    loadings: np.ndarray,
    goals: np.ndarray,
    noise: float,
    *,
    means: float | np.ndarray = 0.0,
    measure="sd",
    n=40_000,
):
    """Goals and observations that are linear in standard normal parameters; a candidate an observation."""
    rng = np.random.default_rng(0)
    theta = rng.standard_normal((n, loadings.shape[1]))
    shown = theta @ loadings.T + noise * rng.standard_normal((n, len(loadings)))
    return Ensemble(theta @ goals.T + means, shown, [np.array([k]) for k in range(len(loadings))], measure)


def exact(loadings: np.ndarray, goal: np.ndarray, noise: float, chosen: list[int]) -> float:
    """Standard deviation of the goal given these observations, by the precision of the parameters."""
    precision = np.eye(len(goal)) + loadings[chosen].T @ loadings[chosen] / noise**2
    return float(np.sqrt(goal @ np.linalg.solve(precision, goal)))


LOADINGS = np.random.default_rng(1).standard_normal((6, 3)) * np.array([1.0, 0.5, 0.2])
GOAL = np.array([1.0, -1.0, 2.0])


def test_what_a_run_leaves_is_exact_where_all_is_normal():
    ensemble = normal_ensemble(LOADINGS, GOAL[None], 0.3)
    left, doubt = ensemble.singles()
    now = exact(LOADINGS, GOAL, 0.3, [])
    expected = np.array([exact(LOADINGS, GOAL, 0.3, [k]) for k in range(6)]) / now
    np.testing.assert_allclose(left, expected, atol=0.01)
    np.testing.assert_allclose(doubt, expected**2, atol=0.02)


def test_a_batch_is_conditioned_run_by_run():
    ensemble = normal_ensemble(LOADINGS, GOAL[None], 0.3)
    order, path = ensemble.batch(np.ones(6), budget=4.0, runs=3)
    assert len(set(order)) == 3
    expected = [exact(LOADINGS, GOAL, 0.3, order[: n + 1]) for n in range(3)]
    np.testing.assert_allclose(path, np.array(expected) / exact(LOADINGS, GOAL, 0.3, []), atol=0.01)
    first = int(np.argmin([exact(LOADINGS, GOAL, 0.3, [k]) for k in range(6)]))
    assert order[0] == first


def test_a_copy_of_a_run_is_not_picked_before_something_new():
    loadings = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.7]])
    order, _ = normal_ensemble(loadings, np.array([[1.0, 1.0]]), 0.2).batch(np.ones(3), budget=2.0, runs=2)
    assert sorted(order) in ([0, 2], [1, 2])


def test_the_cheaper_runs_are_taken_where_they_tell_more_together():
    loadings = np.array([[1.0, 0.3], [1.0, 0.0], [0.0, 1.0]])
    order, _ = normal_ensemble(loadings, np.array([[1.0, 1.0]]), 0.1).batch(np.array([4.0, 2, 2]), budget=4.0, runs=2)
    assert sorted(order) == [1, 2]


def test_runs_that_tell_nothing_are_not_planned():
    rng = np.random.default_rng(0)
    ensemble = Ensemble(
        rng.standard_normal((2000, 1)), rng.standard_normal((2000, 40)), [np.array([k]) for k in range(40)]
    )
    order, path = ensemble.batch(np.ones(40), budget=8.0, runs=8)
    assert len(order) <= 2
    assert (path > 0.99).all()
    assert (ensemble.singles()[0] > 0.99).all()


def test_of_several_goals_the_mean_standard_deviation_is_to_go():
    goals = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    def mean(chosen: list[int]) -> float:
        return float(np.mean([exact(LOADINGS, goal, 0.3, chosen) for goal in goals]))

    order, path = normal_ensemble(LOADINGS, goals, 0.3).batch(np.ones(6), budget=2.0, runs=2)
    np.testing.assert_allclose(path[-1], mean(order) / mean([]), atol=0.01)
    assert order[0] == int(np.argmin([mean([k]) for k in range(6)]))


def test_scatter_beside_the_draws_is_as_good_as_in_them():
    inside = normal_ensemble(LOADINGS, GOAL[None], 0.3)
    beside = replace(normal_ensemble(LOADINGS, GOAL[None], 0.0), alone=np.diag([0.0] + [0.09] * 6))
    np.testing.assert_allclose(beside.singles(), inside.singles(), atol=0.02)


def test_where_near_runs_deviate_together_a_batch_is_spread():
    """Two near runs tell most where each scatters alone, and little more than one where they scatter together."""
    loadings = np.array([[1.0], [1.0], [0.9]])
    ensemble = replace(normal_ensemble(loadings, np.array([[1.0]]), 0.0), alone=np.diag([0.0, 0.5, 0.5, 0.5]))
    near = ensemble.alone.copy()
    near[1, 2] = near[2, 1] = 0.49
    for covariance, picked in ((ensemble.alone, [0, 1]), (near, [0, 2])):
        order, path = replace(ensemble, near=covariance).batch(np.ones(3), budget=2.0, runs=2)
        assert sorted(order) in (picked, [1, 2] if covariance is near else picked)
        # What is reported is what the model says.
        read = loadings[order, 0]
        np.testing.assert_allclose(path[-1], (1 + read @ read / 0.5) ** -0.5, atol=0.02)


def test_expected_regret_of_two_options_is_the_closed_form():
    """Of losses whose difference d is normal: s phi(u) - d Phi(-u), u = d / s; runs take off what they give."""
    from scipy.stats import norm

    loadings, goals, means = np.array([[1.0, -1.0]]), np.eye(2), np.array([0.0, 0.5])
    ensemble = normal_ensemble(loadings, goals, 1.0, means=means, measure="regret")

    def expected_gain(s: float) -> float:
        return s * norm.pdf(0.5 / s) - 0.5 * norm.cdf(-0.5 / s)

    learnt = np.sqrt(2 - 2 / (1 + 2))  # variance of the difference less what is left of it
    regret = expected_gain(np.sqrt(2))
    left, doubt = ensemble.singles()
    assert left[0] == pytest.approx((regret - expected_gain(learnt)) / regret, abs=0.03)
    assert doubt[0] == pytest.approx(expected_gain(np.sqrt(2 / 3)) / regret, abs=0.03)


# From a fit


@pytest.fixture(scope="module")
def plan(joint):
    return joint.plan(goal="task@starcoder", budget=1e20, flops=1e21)


def test_a_plan_of_a_forecast(joint, plan):
    assert plan.measure == "sd"
    size = plan.goal.split(" at ")[1].split()
    forecast = joint.forecast(train_set=STARCODER, eval_set="task", params=float(size[0]), tokens=float(size[3]))
    assert plan.before == pytest.approx(forecast.draws.std(), rel=0.1)
    columns = ["train_set", "params", "tokens", "flops", "after", "reduction", "reduction_per_flop", "extrapolation"]
    assert list(plan.candidates) == columns
    assert (plan.candidates["reduction_per_flop"].diff().dropna() <= 0).all()
    np.testing.assert_allclose(
        plan.candidates["flops"], 6 * plan.candidates["params"] * plan.candidates["tokens"], rtol=0.05
    )
    assert plan.batch["total_flops"].iloc[-1] <= 1.0001e20
    assert (plan.batch["after"].diff().dropna() <= 0).all()
    assert plan.batch["train_set"].iloc[0] == STARCODER  # has few runs, and the task's own law
    assert plan.batch["after"].iloc[-1] < plan.before
    assert f"now {plan.before:.3g} nats/token" in str(plan)


def test_a_plan_for_a_law_over_a_range(joint):
    budgets = [1e19, 1e20, 1e21]
    found = joint.plan(goal=STARCODER, budget=1e20, flops=budgets)
    each = [joint.plan(goal=STARCODER, budget=1e20, flops=c).before for c in budgets]
    assert found.before == pytest.approx(np.mean(each), rel=0.1)
    assert found.batch["after"].iloc[-1] < found.before
    assert "at 3 sizes of 3.34e+08 to 3.1e+09" in found.goal


def test_enough(plan):
    assert plan.enough(plan.before) == 0
    assert plan.enough(plan.batch["after"].iloc[0]) == 1
    assert plan.enough(0.0) is None


def test_sizes_of_other_sets_that_a_set_lacks_are_candidates(joint, plan):
    lacked = joint.sweep.table.query("train_set == @EDU")[["params", "tokens"]].drop_duplicates()
    mine = joint.sweep.table.query("train_set == @STARCODER")[["params", "tokens"]].drop_duplicates()
    offered = plan.candidates.query("train_set == @STARCODER").merge(lacked, on=["params", "tokens"])
    assert len(offered) == len(lacked) - len(mine)


def test_candidates_of_ones_own(joint):
    mine = pd.DataFrame({"train_set": STARCODER, "params": [1e8, 1e9, 1e10], "tokens": 1e10})
    found = joint.plan(goal=STARCODER, budget=1e20, params=3e9, tokens=5e10, candidates=mine, runs=2)
    assert sorted(found.candidates["params"]) == [1e8, 1e9]  # the third is beyond the budget
    assert len(found.batch) <= 2


def test_only_the_sets_that_are_named_are_run(joint):
    found = joint.plan(goal=STARCODER, budget=1e19, flops=1e21, train_set=EDU)
    assert set(found.candidates["train_set"]) == {EDU}


def test_a_plan_of_a_choice(joint):
    choice = joint.choose(eval_set="task", flops=1e21)
    found = choice.plan(budget=1e20)
    assert found.measure == "regret"
    assert found.before == choice.regret.min()
    assert (found.candidates["after"] <= found.before).all()
    assert found.candidates["reduction"].between(0, 1).all()
    assert len(choice.plan(runs=1).batch) <= 1


def test_a_run_of_the_goals_own_size_on_another_set_tells_of_what_they_share(joint):
    """The deviation that runs of one size share is the same draw for all of them."""
    shared = joint.posterior.assign(size_effect_scale=0 * joint.posterior["size_effect_scale"] + 0.1)
    fit = with_draws(joint, size_effect_scale=shared["size_effect_scale"])
    candidates = pd.DataFrame({"train_set": EDU, "params": [3e9, 2e9], "tokens": [5e10, 7.5e10]})
    found = fit.plan(goal=SMOLLM, budget=1e22, params=3e9, tokens=5e10, candidates=candidates).candidates
    same, other = found.sort_values("params", ascending=False)["reduction"]
    assert same > 0.5
    assert other < 0.5 * same


def test_a_budget_below_every_run_still_has_candidates(joint):
    """No size that another set has run is that cheap: those about the compute-optimal one are left."""
    found = joint.plan(goal=SMOLLM, budget=1e12, flops=1e21)
    assert (found.candidates["flops"] <= 1e12 * (1 + 1e-9)).all()
    assert len(found.candidates)


def test_the_picture_names_what_it_shows(plan):
    ax = plan.plot().axes[0]
    assert ax.get_ylabel() == "standard deviation of the forecast (nats/token)"
    assert "the batch, run by run" in [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"goal": STARCODER, "budget": 1e20}, ForecastError, "Say at what size the goal is"),
        ({"goal": STARCODER, "budget": -1.0, "flops": 1e21}, ForecastError, "budget must be positive"),
        ({"goal": STARCODER, "budget": 1e-9, "flops": 1e21}, ForecastError, "for the budget: 1e-09 is too little"),
        ({"goal": STARCODER, "budget": 1e3, "flops": 1e21}, ForecastError, "1e\\+03 FLOPs is too small for any run"),
        ({"goal": STARCODER, "budget": 1e20, "flops": 1e21, "runs": 0}, ForecastError, "runs must be at least 1"),
        ({"goal": "x@y", "budget": 1e20, "flops": 1e21}, DataError, "y"),
        ({"goal": STARCODER, "budget": 1e20, "flops": 1e21, "train_set": "x"}, DataError, "'x' was not fitted"),
        (
            {"goal": STARCODER, "budget": 1e20, "flops": 1e21, "candidates": pd.DataFrame({"params": [1e9]})},
            TableError,
            "no column 'train_set'",
        ),
        (
            {
                "goal": STARCODER,
                "budget": 1e20,
                "flops": 1e21,
                "candidates": pd.DataFrame({"train_set": [EDU, EDU], "params": [1e9, "many"], "tokens": [-1, 1e9]}),
            },
            TableError,
            r"index 1, column 'params': 'many' is not a number\n  index 0, column 'tokens': -1 must be above 0",
        ),
        (
            {
                "goal": STARCODER,
                "budget": 1e10,
                "flops": 1e21,
                "candidates": pd.DataFrame({"train_set": [EDU], "params": [1e9], "tokens": [1e9]}),
            },
            ForecastError,
            "No candidate costs at most",
        ),
    ],
)
def test_a_wrong_plan_is_refused(arguments, error, said, joint):
    with pytest.raises(error, match=said):
        joint.plan(**arguments)


def test_a_choice_has_its_size_already(joint):
    choice = joint.choose(eval_set="task", flops=1e21)
    with pytest.raises(ForecastError, match="has its sizes already"):
        joint.plan(goal=choice, budget=1e20, flops=1e21)


# error rates and accuracies


def test_a_plan_of_an_accuracy():
    fit = chained(metric="accuracy", jitter=0.05)
    made = fit.plan(goal="quiz@starcoder", budget=1e20, flops=1e21, runs=3)
    sd = fit.forecast(made_at(fit), eval_set="quiz", train_set="starcoder").draws.std(axis=0)
    assert made.before == pytest.approx(sd[0], rel=0.02)
    assert made.batch["after"].iloc[-1] < made.before
    assert str(made).splitlines()[0].endswith("in accuracy")
    assert made.plot().axes[0].get_ylabel().endswith("(fraction)")


def made_at(fit):
    """Where that goal is."""
    points = fit.forecast(eval_set="quiz", train_set="starcoder", flops=1e21).points
    return points[["train_set", "eval_set", "params", "tokens"]]


def test_a_plan_of_a_choice_by_accuracy():
    choice = chained(metric="accuracy", jitter=0.05).choose(eval_set="quiz", flops=1e21)
    made = choice.plan(runs=2)
    assert made.before == pytest.approx(choice.regret.min())
    assert made.metric == "accuracy"


def test_nothing_is_planned_for_a_task_at_chance():
    fit = chained(metric="accuracy", learned=False)
    with pytest.raises(DataError, match="quiz of models trained on fineweb-edu-100b has not left chance"):
        fit.plan(goal="quiz@fineweb-edu-100b", budget=1e20, flops=1e21)
    assert fit.plan(goal="quiz@starcoder", budget=1e20, flops=1e21).before > 0


def test_a_run_tells_nothing_of_what_its_evaluation_departs_by_further_on(joint):
    """The law is known; a run beyond the others is off by what its evaluation departs by up to there."""
    known = {name: 0 * values + values.mean(["chain", "draw"]) for name, values in joint.posterior.items()}
    likelihood = replace(joint.spec.likelihood, discrepancy=None, differences=None)
    spec = replace(joint.spec, likelihood=likelihood)
    fit = replace(with_draws(joint, **known | {"size_effect_scale": 0 * known["size_effect_scale"]}), spec=spec)
    largest = fit.sweep.table.loc[fit.sweep.table["eval_set"] == EDU, "flops"].max()
    way = np.array([2.0, 5.0])  # factors e of compute beyond the runs, of the candidate and of the goal
    params = np.sqrt(np.exp(way) * largest / 120)
    candidate = pd.DataFrame({"train_set": [EDU], "params": params[:1], "tokens": 20 * params[:1]})
    found = fit.plan(goal=EDU, params=params[1], tokens=20 * params[1], budget=1e25, candidates=candidate)
    loss = fit.forecast(train_set=EDU, eval_set=EDU, params=params[1], tokens=20 * params[1], kind="mean")
    scale = float(known["residual_scale"].sel(cell=f"{EDU}|{EDU}")[0, 0])
    middle = np.exp(np.log(loss.draws).mean())
    assert found.before == pytest.approx(middle * scale * np.sqrt(1 + way[1] ** 2), rel=0.05)
    left = 1 + way[1] ** 2 - way[0] ** 4 / (1 + way[0] ** 2)
    expected = np.sqrt(left / (1 + way[1] ** 2))
    assert found.candidates["after"][0] / found.before == pytest.approx(expected, rel=1e-6)
