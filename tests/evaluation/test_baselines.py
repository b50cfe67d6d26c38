"""The point fit is the least of its objective wherever it starts, and its bootstrap is a forecast table."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from bayes_l2l.errors import DataError, ForecastError, SpecError
from bayes_l2l.evaluation import baseline as baselines
from bayes_l2l.evaluation import scores
from bayes_l2l.laws.scaling import law_loss
from bayes_l2l.point_fits import point_fit as pointfit

TRUE = {
    "kaplan": {"E": 1.9, "A": 3e7, "B": 2e9, "alpha": 0.4, "beta": 0.5, "gamma": 0.5},
    "chinchilla": {"E": 1.7, "A": 9e7, "B": 1e9, "alpha": 0.34, "beta": 0.29, "gamma": 1.0},
    "overtraining": {"E": 1.7, "A": 9e7, "B": 1e9, "alpha": 0.3, "beta": 0.3, "gamma": 1.0},
    "generalised": {"E": 1.8, "A": 4e7, "B": 2e9, "alpha": 0.36, "beta": 0.33, "gamma": 0.75},
}


def grid():
    """An isoFLOP grid: six budgets, eight sizes."""
    flops, ratio = np.meshgrid(np.geomspace(2e17, 5e19, 6), np.geomspace(3, 300, 8), indexing="ij")
    params = np.sqrt(flops / 6 / ratio).ravel()
    return params, flops.ravel() / 6 / params


def noisy(law, *, sd=0.005, seed=1):
    params, tokens = grid()
    loss = law_loss(params, tokens, **TRUE[law])
    # heavy tails: a robust loss has something to do
    return params, tokens, loss * np.exp(sd * np.random.default_rng(seed).standard_t(3, len(loss)))


def sweep(law="kaplan", *, evals=("web", "code")):
    rows = []
    for i, evaluation in enumerate(evals):
        params, tokens, loss = noisy(law, seed=i)
        ids = [f"r{k}" for k in range(len(loss))]
        rows.append(
            pd.DataFrame(
                {
                    "run_id": ids,
                    "train_set": "web",
                    "eval_set": evaluation,
                    "params": params,
                    "tokens": tokens,
                    "flops": 6 * params * tokens,
                    "loss": loss,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize("law", TRUE)
def test_an_exact_law_is_recovered(law):
    params, tokens = grid()
    fit = pointfit.fit_point(params, tokens, law_loss(params, tokens, **TRUE[law]), law=law)
    assert fit.converged
    for name, value in TRUE[law].items():
        assert getattr(fit, name) == pytest.approx(value, rel=2e-3), name
    assert fit.predict(3e9, 6e10) == pytest.approx(law_loss(3e9, 6e10, **TRUE[law]), rel=1e-6)


@pytest.mark.parametrize("law", TRUE)
def test_derivatives_are_those_of_the_residuals(law):
    runs = pointfit.Runs.of(*noisy(law), law=law)
    theta = runs.starts(3, seed=2)
    _, jacobian = runs.residuals(theta)
    for k, direction in enumerate(runs.subspace.T):
        step = 1e-5 * direction
        difference = (runs.residuals(theta + step)[0] - runs.residuals(theta - step)[0]) / 2e-5
        np.testing.assert_allclose(jacobian[..., k], difference, atol=1e-8)


@pytest.mark.parametrize("law", ["kaplan", "chinchilla"])
def test_no_general_optimiser_finds_less(law):
    params, tokens, loss = noisy(law)
    fit = pointfit.fit_point(params, tokens, loss, law=law)

    def objective(v):
        E, log_A, log_B, alpha, beta = np.exp(v[0]), v[1], v[2], np.exp(v[3]), np.exp(v[4])
        gamma = beta if law == "kaplan" else 1.0
        constants = {"A": np.exp(log_A), "B": np.exp(log_B), "alpha": alpha, "beta": beta, "gamma": gamma}
        size = np.abs(np.log(law_loss(params, tokens, E=E, **constants) / loss))
        huber = np.where(size <= 1e-3, size**2 / 2, 1e-3 * (size - 5e-4))
        return huber.sum()

    v = np.array([np.log(fit.E), fit.log_A, fit.log_B, np.log(fit.alpha), np.log(fit.beta)])
    assert objective(v) == pytest.approx(fit.objective, rel=1e-9)
    for shift in (0.0, 0.02, -0.02):
        # in units of 1e-6: Nelder-Mead stops on absolute changes
        found = minimize(lambda u: 1e6 * objective(u), v + shift, method="Nelder-Mead", options={"maxiter": 4000})
        assert found.fun / 1e6 > fit.objective * (1 - 1e-6)


@pytest.mark.parametrize("law", TRUE)
def test_the_end_does_not_depend_on_the_start(law):
    ends = [pointfit.fit_point(*noisy(law), law=law, seed=seed, n_starts=8) for seed in range(3)]
    assert all(end.converged for end in ends)
    np.testing.assert_allclose([end.objective for end in ends], ends[0].objective, rtol=1e-7)
    np.testing.assert_allclose([end.predict(3e9, 6e10) for end in ends], ends[0].predict(3e9, 6e10), rtol=1e-3)


def test_the_named_members_fix_what_they_say():
    fit = {law: pointfit.fit_point(*noisy("generalised"), law=law) for law in TRUE}
    assert fit["kaplan"].gamma == pytest.approx(fit["kaplan"].beta)
    assert fit["chinchilla"].gamma == 1
    assert fit["overtraining"].gamma == 1
    assert fit["overtraining"].alpha == pytest.approx(fit["overtraining"].beta)
    assert all(fit["generalised"].objective <= other.objective * (1 + 1e-9) for other in fit.values())
    assert fit["chinchilla"].objective <= fit["overtraining"].objective


def test_a_weight_of_two_is_a_run_given_twice():
    params, tokens, loss = noisy("chinchilla")
    weights = np.where(np.arange(len(loss)) % 3, 1.0, 2.0)
    twice = np.repeat(np.arange(len(loss)), weights.astype(int))
    weighted = pointfit.fit_point(params, tokens, loss, law="chinchilla", weights=weights)
    repeated = pointfit.fit_point(params[twice], tokens[twice], loss[twice], law="chinchilla")
    assert weighted.objective == pytest.approx(repeated.objective, rel=1e-8)
    np.testing.assert_allclose(weighted.E, repeated.E, rtol=1e-4)


def test_a_few_wild_runs_hardly_move_the_fit():
    params, tokens, loss = noisy("kaplan", sd=1e-3)
    clean = pointfit.fit_point(params, tokens, loss)
    loss[[5, 20]] *= 1.2
    wild = pointfit.fit_point(params, tokens, loss)
    assert wild.predict(3e9, 6e10) == pytest.approx(clean.predict(3e9, 6e10), rel=5e-3)


def test_constants_too_large_for_a_float_stay_in_logarithms():
    law = pointfit.PointLaw(E=1.0, log_A=2000.0, log_B=20.0, alpha=0.001, beta=0.3)
    assert np.isinf(law.A)
    np.testing.assert_allclose(law.B, np.exp(20))
    assert 1 < law.predict(1e9, 1e10) < 10


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"law": "power"}, SpecError, "no law 'power'; the members of the family are kaplan, chinchilla"),
        ({"n": 4}, DataError, "The kaplan law has 5 parameters and cannot be fitted to 4 runs alone"),
        ({"loss": -1.0}, DataError, "Run 3 has loss -1, which must be finite and above 0."),
        ({"loss": np.nan}, DataError, "Run 3 has loss nan, which must be finite and above 0."),
        (
            {"weights": np.ones(3)},
            DataError,
            "The weights must be one finite number of at least 0 for each run",
        ),
        ({"weights": np.zeros(48)}, DataError, "and not all 0"),
        ({"n_starts": 0}, SpecError, "n_starts must be at least 1, not 0."),
    ],
)
def test_bad_input_is_refused_with_a_sentence(change, error, sentence):
    n = change.pop("n", None)
    params, tokens, loss = (column[:n] for column in noisy("kaplan"))
    loss[2] = change.pop("loss", loss[2])
    with pytest.raises(error, match=re.escape(sentence)):
        pointfit.fit_point(params, tokens, loss, **change)


@pytest.fixture(scope="module")
def fit():
    return baselines.bootstrap(sweep(), n_boot=60, seed=3)


def points(**columns):
    return pd.DataFrame({"params": [3e9, 1e9], "tokens": [6e10, 2e10], **columns})


def test_a_forecast_is_the_table_of_the_contract(fit):
    table = fit.forecast(points(train_set="web", eval_set="code"), quantiles=(0.05, 0.5, 0.95))
    names = "train_set eval_set params tokens flops kind mean sd median q0.05 q0.5 q0.95 extrapolation"
    assert table.columns.tolist() == names.split()
    np.testing.assert_allclose(table["extrapolation"], table["flops"] / 5e19)
    np.testing.assert_allclose(table["flops"], 6 * table["params"] * table["tokens"])
    assert (table["q0.05"] < table["q0.5"]).all()
    assert (table["q0.5"] < table["q0.95"]).all()
    truth = law_loss(table["params"], table["tokens"], **TRUE["kaplan"])
    np.testing.assert_allclose(table["median"], truth, rtol=0.02)


def test_a_forecast_can_be_scored_as_it_is(fit):
    at = points(train_set="web", eval_set="code")
    actual = at.assign(loss=law_loss(at["params"], at["tokens"], **TRUE["kaplan"]))
    averages = scores.summary(scores.score_table(fit.forecast(at), actual))
    assert averages["n"].item() == 2
    assert {"crps", "coverage50", "coverage80", "coverage90", "coverage95"} <= set(averages)


def test_points_without_names_mean_every_cell(fit):
    table = fit.forecast(points())
    assert list(zip(table["params"], table["eval_set"], strict=True)) == [
        (3e9, "code"),
        (3e9, "web"),
        (1e9, "code"),
        (1e9, "web"),
    ]
    assert len(fit.forecast(points(train_set="web"))) == 4


def test_a_run_is_less_sure_than_its_curve(fit):
    curve, run = (fit.forecast(points(train_set="web", eval_set="web"), kind=k) for k in ("curve", "run"))
    assert (run["sd"] > curve["sd"]).all()
    assert curve["kind"].tolist() == ["mean", "mean"]


def test_a_seed_gives_the_same_forecast(fit):
    again = baselines.bootstrap(sweep(), n_boot=60, seed=3)
    pd.testing.assert_frame_equal(fit.forecast(points()), again.forecast(points()))
    other = baselines.bootstrap(sweep(), n_boot=60, seed=4)
    assert not np.allclose(fit.forecast(points())["mean"], other.forecast(points())["mean"], rtol=1e-9)


def test_cells_of_a_training_set_share_their_resamples():
    one = sweep(evals=("web",))
    both = pd.concat([one, one.assign(eval_set="copy").sample(frac=1, random_state=1)])
    fit = baselines.bootstrap(both, n_boot=10)
    web, copy = (fit.cells[e, "web"].resampled.predict(3e9, 6e10) for e in ("web", "copy"))
    np.testing.assert_allclose(web, copy, rtol=1e-4)
    assert np.ptp(web) > 1e-3


def test_a_refit_is_the_point_fit_of_its_resample():
    table = sweep(evals=("web",))
    fit = baselines.bootstrap(table, n_boot=3, seed=5)
    n = len(table)
    counts = np.random.default_rng(5).multinomial(n, np.full(n, 1 / n), size=3)
    run = table.groupby("run_id").ngroup()
    cold = [pointfit.fit_point(table["params"], table["tokens"], table["loss"], weights=c[run]) for c in counts]
    warm = fit.cells["web", "web"].resampled
    np.testing.assert_allclose(warm.objective, [law.objective for law in cold], rtol=1e-6)


def test_a_sweep_is_read_through_its_table_and_errors_have_no_law(fit):
    class Sweep:
        table = pd.concat([sweep(), sweep(evals=("accuracy",)).assign(metric="error")])
        table["metric"] = table["metric"].fillna("loss")

    again = baselines.bootstrap(Sweep(), n_boot=60, seed=3)
    assert set(again.cells) == {("web", "web"), ("code", "web")}
    pd.testing.assert_frame_equal(fit.forecast(points()), again.forecast(points()))


def test_columns_of_different_lengths_are_refused():
    params, tokens, loss = noisy("kaplan")
    with pytest.raises(DataError, match=r"one length, not of the shapes \(48,\), \(48,\), \(47,\)"):
        pointfit.fit_point(params, tokens, loss[1:])


def test_no_resamples_are_refused():
    with pytest.raises(SpecError, match="n_boot must be at least 1, not 0"):
        baselines.bootstrap(sweep(), n_boot=0)


def test_runs_that_leave_the_law_open_still_give_a_finite_forecast():
    few = sweep(evals=("web",)).iloc[::8]  # one model size for each budget
    fit = baselines.bootstrap(few, n_boot=20)
    assert np.isfinite(fit.forecast(points()).select_dtypes("number")).all(axis=None)


def test_a_cell_with_too_few_runs_is_named():
    few = pd.concat([sweep(), sweep(evals=("rare",)).head(4)])
    with pytest.raises(DataError, match=r"rare of web: The kaplan law has 5 parameters .* 4 runs"):
        baselines.bootstrap(few, n_boot=2)


@pytest.mark.parametrize(
    ("at", "options", "error", "sentence"),
    [
        (
            points(train_set="books"),
            {},
            DataError,
            "No cell was fitted for books, asked for by 2 of 2 points; ",
        ),
        (
            points(train_set="web", eval_set=["web", "maths"]),
            {},
            DataError,
            "No cell was fitted for maths of web, asked for by 1 of 2 points; fitted are code of web, web of web.",
        ),
        (points().drop(columns="tokens"), {}, ForecastError, "have no column 'tokens'"),
        (points().iloc[:0], {}, ForecastError, "There are no points to forecast."),
        (
            points(),
            {"kind": "law"},
            ForecastError,
            "kind is 'law'; it must be 'predictive' (a run) or 'mean' (the law).",
        ),
        (points(), {"quantiles": (5, 50)}, ForecastError, "A quantile must lie between 0 and 1, not 5."),
    ],
)
def test_a_bad_request_is_refused_with_a_sentence(fit, at, options, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        fit.forecast(at, **options)


@pytest.mark.slow
def test_converged_figures_of_the_papers_sweep(real_data):
    """Relative error of the six 3.3B runs' own losses, against converged fits made elsewhere."""
    folder = real_data / "loss_to_loss"
    small, large = (pd.read_csv(folder / f"{name}.csv") for name in ("sweep", "extrapolation"))
    errors = {law: [] for law in ("kaplan", "chinchilla", "generalised")}
    entropies = {}
    for train, runs in small.groupby("data"):
        star = large[large["data"] == train].iloc[0]
        for law, found in errors.items():
            fit = pointfit.fit_point(runs["params"], runs["tokens"], runs["val_loss"], law=law)
            assert fit.converged
            found.append(100 * abs(fit.predict(star["params"], star["tokens"]) / star["val_loss"] - 1))
            entropies[law, train] = fit.E
    assert np.mean(errors["kaplan"]) == pytest.approx(4.05, abs=0.02)
    assert np.mean(errors["chinchilla"]) == pytest.approx(4.6, abs=0.05)
    assert np.mean(errors["generalised"]) == pytest.approx(4.6, abs=0.05)
    # Table 7 of the paper, fitted by its authors
    published = {
        "fineweb-100b": 2.17,
        "fineweb-edu-100b": 1.97,
        "proof-pile-2": 1.32,
        "slimpajama-chunk1": 1.97,
        "smollm-corpus": 1.53,
        "starcoder": 0.85,
    }
    for train, entropy in published.items():
        assert entropies["kaplan", train] == pytest.approx(entropy, abs=0.01)
