"""Loss to error: closed forms, model files, data, and forecasts from hand-made posteriors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from model_values import values
from synthetic import joint_fit
from synthetic_errors import RICHARDS, chained, errors

from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError, SpecError
from bayes_l2l.fits import load_fit
from bayes_l2l.inference.sampling import sample_errors
from bayes_l2l.laws.error_curves import ERROR_CURVES, ErrorCurve, Richards
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.report.sections import report
from bayes_l2l.structures.error_arrays import ErrorArrays, has_left
from bayes_l2l.structures.error_rate import build_errors, curve_draws, error_draws, learned
from bayes_l2l.structures.models import error_model_names, load_error_spec
from bayes_l2l.structures.protocol import structure_of

LAW = {"reference": 3.0, "ceiling": 0.75, "level": -1.0, "slope": 2.0}
POWER = {"floor": 0.1, "E": 1.5, "sharpness": 40.0}
FORM = st.sampled_from(sorted(ERROR_CURVES))
LOSS = st.floats(1.6, 8.0)


def law(form: str, **changes: float) -> ErrorCurve:
    return ERROR_CURVES[form](**(LAW | (POWER if form == "power" else {}) | changes))


# closed forms


@given(form=FORM, loss=LOSS, less=st.floats(0.01, 1.0))
def test_error_falls_with_loss_and_stays_below_its_ceiling(form, loss, less):
    found = law(form)
    assert found(loss) <= 0.75 + 1e-12
    assert found(loss - less) <= found(loss) + 1e-12


@given(loss=LOSS)
def test_exponential_is_eq_5_of_2403_08540(loss):
    eps, g = 0.75, 2.0
    k = eps * np.exp(-1.0 + g * 3.0)
    assert law("exponential")(loss) == pytest.approx(eps - k * np.exp(-g * loss))


@given(loss=st.floats(6.5, 9.0), shape=st.floats(0.01, 5.0))
def test_richards_is_the_exponential_near_the_ceiling(loss, shape):
    assert law("richards", shape=shape)(loss) == pytest.approx(law("exponential")(loss), rel=1e-3)


@given(loss=LOSS)
def test_richards_is_logistic_and_near_shape_0_gompertz(loss):
    u = -1.0 + 2.0 * (3.0 - loss)
    assert law("richards", shape=1.0)(loss) == pytest.approx(0.75 / (1 + np.exp(u)))
    assert law("richards", shape=1e-7)(loss) == pytest.approx(0.75 * np.exp(-np.exp(u)), abs=1e-5)


@given(loss=st.floats(-1e3, 1e3), shape=st.floats(0.01, 20.0))
def test_richards_never_leaves_zero_to_ceiling(loss, shape):
    assert 0 <= law("richards", slope=50.0, shape=shape)(loss) <= 0.75


@given(loss=st.floats(1.6, 2.2))
def test_power_is_eq_10_of_2411_12925_where_the_ceiling_is_far(loss):
    K = (0.75 - 0.1) * np.exp(1.0) / (3.0 - 1.5) ** 2.0
    found = law("power", sharpness=1e3)(loss)
    expected = K * (loss - 1.5) ** 2.0 + 0.1
    assert found == pytest.approx(min(expected, 0.75), abs=1e-3)


def test_power_is_at_its_floor_at_and_below_the_entropy():
    assert law("power")(np.array([1.5, 1.2])) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("form", sorted(ERROR_CURVES))
def test_pytensor_and_numpy_agree(form):
    import pytensor.tensor as pt

    loss = np.array([2.0, 3.0, 5.0])
    symbolic = type(law(form))(**{name: pt.as_tensor(np.array(value)) for name, value in vars(law(form)).items()})
    np.testing.assert_allclose(symbolic(pt.as_tensor(loss)).eval(), law(form)(loss))


# model files


@pytest.mark.parametrize("name", error_model_names())
def test_a_shipped_model_survives_its_own_dict(name):
    spec = load_error_spec(name)
    assert spec.name == name
    assert load_error_spec(spec.to_dict()) == spec
    assert spec.title
    assert spec.source


def test_the_prefix_may_be_left_out():
    assert load_error_spec("richards") == load_error_spec("error_richards")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curve": "exponentiel"}, "curve is 'exponentiel'; known are exponential, richards, power"),
        ({"predictor": 3}, "predictor must be shared, own, task or an evaluation's name, not 3."),
        ({"priors": {}}, "priors has no 'ceiling', which curve = 'richards' needs."),
        ({"likelihood": {"dist": "Normal"}}, "likelihood has no 'residual_scale'."),
        (
            {"likelihood": {"dist": "Normal", "residual_scale": 0.01, "extrapolation_discrepancy": -1}},
            "likelihood.extrapolation_discrepancy must be a number from 0 to 10",
        ),
        (
            {"likelihood": {"dist": "Normal", "residual_scale": 0.01, "discrepancy": "no"}},
            "likelihood.discrepancy must be a number or a table",
        ),
        ({"color": "red"}, "the model file has an unknown key 'color'"),
    ],
)
def test_a_wrong_model_is_refused_by_name(change, message):
    with pytest.raises(SpecError) as caught:
        load_error_spec(load_error_spec("richards").to_dict() | change)
    assert message in str(caught.value)


def test_nu_is_one_number():
    record = load_error_spec("richards").to_dict()
    record["likelihood"]["nu"] = {"dist": "Gamma", "dims": "cell", "kwargs": {"alpha": 2.0, "beta": 0.1}}
    with pytest.raises(SpecError, match=r"likelihood\.nu\.dims must be left out"):
        load_error_spec(record)


def test_an_unknown_model_is_refused():
    with pytest.raises(SpecError, match="There is no model of errors 'logit'; known are error_exponential"):
        load_error_spec("logit")


# data


def runs(*, seed: int = 0, n_items: float | None = None, chance: float = 0.75) -> pd.DataFrame:
    """The tiny sweep's runs with the error on a task that is learned and on one that is not."""
    rng = np.random.default_rng(seed)
    own = tiny.tiny_sweep(seed=seed).table[["run_id", "train_set", "eval_set", "params", "tokens", "loss"]]
    web = own.assign(eval_set="text", metric="loss", loss=own["loss"] + 0.2)
    quiz = own.assign(eval_set="quiz", metric="error", loss=TRUTH(web["loss"]), chance=chance)
    coin = own.assign(eval_set="coin", metric="error", loss=0.5, chance=0.5)
    both = pd.concat([quiz, coin])
    both["loss"] += 0.01 * rng.standard_normal(len(both))
    if n_items:
        both["n_items"] = n_items
    return pd.concat([own.assign(metric="loss"), web, both], ignore_index=True)


TRUTH = Richards(reference=2.3, ceiling=0.75, level=-0.5, slope=2.5)


def test_errors_meet_the_losses_of_their_runs():
    sweep = Sweep.from_table(runs(n_items=400.0))
    data = ErrorArrays.of(sweep, predictor="text", model="m")
    assert data.cells == [("coin", "code"), ("coin", "web"), ("quiz", "code"), ("quiz", "web")]
    assert data.predictors == ["text"] * 4
    assert data.observed.sum() == 80
    assert (data.per_item == 1 / 400).all()
    np.testing.assert_allclose(data.chance, [0.5, 0.5, 0.75, 0.75])
    table = sweep.table[sweep.table["train_set"] == "web"].set_index(["run_id", "eval_set"])["loss"]
    for error, loss in zip(data.error[:, 3], data.loss[:, 3], strict=True):
        (run,) = table.index[np.isclose(table, error) & (table.index.get_level_values(1) == "quiz")]
        assert table[run[0], "text"] == pytest.approx(loss)
    np.testing.assert_allclose(data.smallest, data.loss.min(axis=0))


def test_a_loss_that_all_sets_have_is_taken_else_each_sets_own():
    assert set(ErrorArrays.of(Sweep.from_table(runs()), predictor="shared", model="m").predictors) == {"text"}
    alone = runs().query("eval_set != 'text'")
    assert ErrorArrays.of(Sweep.from_table(alone), predictor="shared", model="m").predictors == ["code", "web"] * 2


def test_the_evaluation_with_the_smallest_known_error_is_taken():
    table = runs()
    noisy = table[table["eval_set"] == "text"].assign(eval_set="noisy")
    table = pd.concat([table, noisy], ignore_index=True)
    table["loss_se"] = table["eval_set"].map({"text": 0.001, "noisy": 0.03}).fillna(0.01)
    assert set(ErrorArrays.of(Sweep.from_table(table), predictor="shared", model="m").predictors) == {"text"}


def test_a_task_may_read_its_own_cross_entropy():
    table = runs().replace({"eval_set": {"text": "quiz", "quiz": "quiz_error"}}).query("eval_set != 'coin'")
    assert ErrorArrays.of(Sweep.from_table(table), predictor="task", model="m").predictors == ["quiz"] * 2
    with pytest.raises(DataError, match="has no loss on 'coin', which error rate 'coin' is to be a function of"):
        ErrorArrays.of(Sweep.from_table(runs()), predictor="task", model="m")


@pytest.mark.parametrize(
    ("keep", "predictor", "message"),
    [
        ("metric == 'loss'", "shared", "has no error rates (rows of metric 'error' or 'accuracy')."),
        ("metric == 'error'", "shared", "has error rates of models trained on 'code', but neither their loss"),
        ("metric == metric", "txt", "has no loss on 'txt', which 'error_richards' takes error as a function of"),
    ],
)
def test_what_errors_cannot_be_a_function_of_is_said(keep, predictor, message):
    with pytest.raises(DataError) as caught:
        ErrorArrays.of(Sweep.from_table(runs().query(keep)), predictor=predictor, model="error_richards")
    assert message in str(caught.value)


def test_errors_of_runs_without_the_loss_are_noted():
    table = runs()
    gone = table.index[(table["eval_set"] == "text") & (table["train_set"] == "web")][:3]
    data = ErrorArrays.of(Sweep.from_table(table.drop(gone)), predictor="text", model="m")
    (note,) = data.notes
    assert note.code == "errors_without_loss"
    assert note.data["rows"] == 6
    assert data.observed.sum() == 74


def test_without_chance_the_largest_error_stands_for_it():
    table = runs().drop(columns="chance")
    data = ErrorArrays.of(Sweep.from_table(table), predictor="shared", model="m")
    assert data.chance[0] == table.query("eval_set == 'coin'")["loss"].max()


# model


@pytest.mark.parametrize("form", sorted(ERROR_CURVES))
def test_the_likelihood_is_student_t_about_the_law_with_binomial_noise(form):
    from scipy.stats import t

    spec = load_error_spec(form)
    data = structure_of(spec).arrange(spec, Sweep.from_table(runs(n_items=200.0)))
    model = build_errors(spec, data)
    point = model.initial_point(random_seed=1)
    names = ["ceiling", "level", "slope", "residual_scale", "nu", "log_likelihood"]
    names += {"power": ["floor", "E", "sharpness"], "richards": ["shape"]}.get(form, [])
    found = dict(zip(names, values(model, point, *names), strict=True))
    fields = {name: value for name, value in found.items() if name not in ("residual_scale", "nu", "log_likelihood")}
    curve = ERROR_CURVES[form](reference=data.reference, **fields)(data.loss)
    inside = np.clip(curve, 0, 1)
    off = spec.likelihood.discrepancy.kwargs["value"] * data.chance * np.maximum(data.loss - data.reference, 0)
    scale = np.sqrt(found["residual_scale"] ** 2 + 0.002**2 + off**2 + inside * (1 - inside) / 200)
    density = t.logpdf(data.error, df=found["nu"], loc=curve, scale=scale)
    assert found["log_likelihood"] == pytest.approx((density * data.observed).sum())


def test_priors_of_richards_are_of_the_curve_at_the_reference():
    data = ErrorArrays.of(Sweep.from_table(runs()), predictor="shared", model="m")
    model = build_errors(RICHARDS, data)
    names = ["ceiling", "level", "slope", "shape", "level_effect", "rate_effect"]
    point = model.initial_point(random_seed=1)
    found = dict(zip(names, values(model, point, *names), strict=True))
    level, rate = found.pop("level_effect"), found.pop("rate_effect")
    law = Richards(reference=data.reference, **found)

    def fallen(loss):
        return np.log(-np.log(law(loss) / law.ceiling))

    np.testing.assert_allclose(fallen(data.reference), level)
    slope = (fallen(data.reference - 1e-5) - fallen(data.reference + 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, rate[[0, 0, 1, 1]], rtol=1e-4)


# forecasts


def test_errors_are_forecast_through_the_losses():
    fit = chained()
    found = fit.forecast(train_set="starcoder", params=1e9, tokens=2e10, kind="mean")
    table = found.table(quantiles=[0.05, 0.5, 0.95])
    assert list(table)[:4] == ["train_set", "eval_set", "metric", "params"]
    assert dict(zip(table["eval_set"], table["metric"], strict=True)) == {
        "starcoder": "loss", "task": "loss", "quiz": "error",
    }  # fmt: skip
    loss, error = (found.draws[:, table["eval_set"] == name][:, 0] for name in ("task", "quiz"))
    law = Richards(reference=3.0, ceiling=0.75, level=-0.5, slope=1.5)
    beyond = loss < 2.6
    np.testing.assert_allclose(error[~beyond], law(loss[~beyond]))


def test_losses_are_forecast_as_without_errors():
    points = pd.DataFrame({"params": [1e9], "tokens": [2e10], "train_set": ["starcoder"], "eval_set": ["task"]})
    np.testing.assert_array_equal(chained().forecast(points).draws, joint_fit().forecast(points).draws)


def test_a_run_scatters_about_the_law():
    fit = chained()
    points = pd.DataFrame({"params": [2e7], "tokens": [4e8], "train_set": ["smollm-corpus"], "eval_set": ["quiz"]})
    curve, run = (fit.forecast(points, kind=kind).table()["sd"].item() for kind in ("curve", "run"))
    assert run > curve
    assert run > 0.008


def test_beyond_the_runs_a_task_may_go_on_at_another_pace():
    beside = errors(draws=1000)
    at = pd.DataFrame({"eval_set": ["quiz", "quiz"], "train_set": ["starcoder", "smollm-corpus"]})
    within, beyond = (error_draws(beside, at, np.full((2000, 2), x), kind="mean") for x in (2.7, 2.2))
    np.testing.assert_allclose(within, np.broadcast_to(within[0], within.shape))
    law = curve_draws(beside, "quiz", "starcoder")
    pace = np.exp(RICHARDS.likelihood.extrapolation_discrepancy * np.array([-1.0, 1.0]))
    low, high = np.quantile(beyond[:, 0], [0.1587, 0.8413])
    np.testing.assert_allclose([high, low], law(2.6 - pace[:, None] * 0.4)[:, 0], rtol=0.03)
    np.testing.assert_array_equal(beyond[:, 0], beyond[:, 1])


def test_a_task_at_chance_is_not_forecast():
    fit = chained(learned=False)
    found = fit.forecast(eval_set="quiz", params=1e9, tokens=2e10)
    table = found.table().set_index("train_set")
    assert table.loc["fineweb-edu-100b", ["mean", "median", "q0.05"]].isna().all()
    assert table.loc["starcoder", ["mean", "median", "q0.05"]].notna().all()
    (note,) = [note for note in found.notes if note.code == "at_chance"]
    assert note.data["tasks"] == {"quiz": ["fineweb-edu-100b"]}
    assert note.message.startswith("quiz (trained on fineweb-edu-100b) has not left chance")
    quiet = fit.forecast(eval_set="quiz", train_set="starcoder", params=1e9, tokens=2e10)
    assert "at_chance" not in [note.code for note in quiet.notes]


@pytest.mark.parametrize(
    ("gained", "scatter", "left"),
    [(0.2, 0.01, True), (0.0, 0.01, False), (0.2, 0.15, False), (0.015, 0.0, False), (-0.2, 0.0, False)],
)
def test_chance_is_left_by_more_than_runs_scatter(gained, scatter, left):
    loss = np.linspace(4.0, 2.5, 20)
    up_and_down = scatter * (-1.0) ** np.arange(20)
    error = 0.75 - gained * (loss < 3.0) + up_and_down
    order = np.random.default_rng(0).permutation(20)
    assert has_left(error[order], loss[order], chance=0.75) is left


def test_better_than_chance_from_the_first_is_no_progress_either():
    loss = np.linspace(4.0, 2.5, 20)
    assert not has_left(np.full(20, 0.6), loss, chance=0.75)
    assert not has_left(0.9 - 0.05 * (loss < 3.0), loss, chance=0.75)


def test_tasks_at_chance_alone_are_not_sampled():
    stuck = Sweep.from_table(runs().query("eval_set != 'quiz'"))
    found = sample_errors(stuck, spec=RICHARDS, settings=SamplerSettings(draws=5, tune=5, chains=2))
    assert learned(found) == {("coin", "code"): False, ("coin", "web"): False}
    assert [note.code for note in found.notes] == ["at_chance"]
    at = pd.DataFrame({"eval_set": ["coin"], "train_set": ["web"]})
    assert np.isnan(error_draws(found, at, np.full((10, 1), 2.0), kind="predictive")).all()


def test_error_rates_are_within_zero_and_one():
    falling = replace(errors(), spec=load_error_spec("exponential"))
    at = pd.DataFrame({"eval_set": ["quiz"], "train_set": ["starcoder"]})
    drawn = error_draws(falling, at, np.full((200, 1), 0.5), kind="predictive")
    assert drawn.min() == 0
    assert drawn.max() <= 1


def test_errors_are_saved_with_the_fit(tmp_path):
    fit = chained(jitter=0.1)
    again = load_fit(fit.save(tmp_path / "fit.nc"))
    assert again.error_cells == fit.error_cells
    one, two = (f.forecast(eval_set="quiz", params=1e9, tokens=2e10).draws for f in (fit, again))
    np.testing.assert_array_equal(one, two)


def test_a_budget_is_spent_as_for_the_loss():
    found = chained().forecast(train_set="starcoder", eval_set=["task", "quiz"], flops=1e20)
    assert found.points["params"].nunique() == 1


def test_a_report_has_error_rates_in_its_table_of_forecasts():
    page = report(chained())
    assert "losses (nats/token) and error rates of compute-optimal runs" in page
    assert page.count("<td>quiz</td>") == 3


def test_a_report_has_a_picture_of_every_task():
    page = report(chained(metric="accuracy", learned=False))
    assert "losses (nats/token) and accuracies of compute-optimal runs" in page
    assert "Accuracy on quiz against the loss on task: runs and laws." in page
    assert "fineweb-edu-100b at chance, no law" in page


@pytest.mark.parametrize("kind", ["mean", "predictive"])
def test_errors_are_the_same_in_whatever_parts_they_are_made(kind, monkeypatch):
    fit, sizes = chained(), {"params": np.geomspace(1e8, 1e10, 5), "tokens": 2e10}
    whole = fit.forecast(**sizes, kind=kind)
    monkeypatch.setattr("bayes_l2l.posterior.draws._AT_ONCE", 2 * len(whole.draws))
    np.testing.assert_allclose(fit.forecast(**sizes, kind=kind).draws, whole.draws, rtol=1e-12)


def test_accuracies_come_back_as_accuracies():
    points = pd.DataFrame({"params": [1e9], "tokens": [2e10]})
    wrong, right = (chained(metric=metric).forecast(points, eval_set="quiz") for metric in ("error", "accuracy"))
    np.testing.assert_allclose(right.draws, 1 - wrong.draws)
    assert set(right.table()["metric"]) == {"accuracy"}
    assert right.table()["q0.95"].to_numpy() == pytest.approx(1 - wrong.table()["q0.05"].to_numpy())
    assert set(chained().forecast(points, eval_set="quiz").points["metric"]) == {"error"}  # a file of before


def test_accuracies_are_fitted_as_the_error_rates_that_they_stand_for():
    wrong = runs()
    rate = wrong["metric"] == "error"
    right = wrong.assign(
        loss=wrong["loss"].where(~rate, 1 - wrong["loss"]), metric=wrong["metric"].replace("error", "accuracy")
    )
    both = [ErrorArrays.of(Sweep.from_table(table), predictor="shared", model="m") for table in (wrong, right)]
    np.testing.assert_allclose(both[1].error, both[0].error)
    np.testing.assert_array_equal(both[1].learned, both[0].learned)
    assert [set(data.metrics) for data in both] == [{"error"}, {"accuracy"}]


def test_a_fit_with_accuracies_is_saved_and_read(tmp_path):
    from bayes_l2l.fits import load_fit

    fit = chained(metric="accuracy")
    read = load_fit(fit.save(tmp_path / "fit.nc"))
    at = {"eval_set": "quiz", "params": 1e9, "tokens": 2e10}
    np.testing.assert_array_equal(read.forecast(**at).draws, fit.forecast(**at).draws)


def test_unknown_tasks_are_refused():
    with pytest.raises(DataError, match=r"The evaluation 'quix' was not fitted; fitted are .*quiz"):
        chained().forecast(eval_set="quix", params=1e9, tokens=2e10)


# recovery


@pytest.mark.slow
def test_the_law_is_recovered_and_chance_is_recognised():
    sweep = Sweep.from_table(runs())
    settings = SamplerSettings(draws=300, tune=500, chains=2, seed=3, target_accept=0.95)
    # Without what the law may depart by, beyond the runs or amid them.
    record = RICHARDS.to_dict()
    record["likelihood"] |= {"discrepancy": 0.0, "extrapolation_discrepancy": 0.0}
    spec = load_error_spec(record | {"predictor": "text"})
    found = sample_errors(sweep, spec=spec, settings=settings)
    assert learned(found) == {
        ("coin", "code"): False, ("coin", "web"): False, ("quiz", "code"): True, ("quiz", "web"): True,
    }  # fmt: skip
    at = pd.DataFrame({"eval_set": ["quiz"] * 2, "train_set": ["web"] * 2})
    loss = np.array([2.4, 2.9])
    drawn = error_draws(found, at, np.tile(loss, (600, 1)), kind="mean")
    low, high = np.quantile(drawn, [0.005, 0.995], axis=0)
    assert (low < TRUTH(loss)).all()
    assert (TRUTH(loss) < high).all()
    assert (high - low < 0.06).all()
