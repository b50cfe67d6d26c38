"""Relations one by one: which cells are related, what is believed, what is recovered, and forecasts from a source."""

from __future__ import annotations

import copy
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from backtested import by_hand
from model_values import some_point, values
from scipy import stats

from bayes_l2l.cli import main
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError, ForecastError, SpecError
from bayes_l2l.evaluation.backtests import Backtest
from bayes_l2l.fits import fit, load_fit
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw
from bayes_l2l.point_fits.point_fit import fit_point
from bayes_l2l.structures.models import load_spec, model_names
from bayes_l2l.structures.pairwise import PairArrays, build_pairwise, ordered_pairs

MODELS = Path(__file__).resolve().parents[2] / "models"
ABLATIONS = MODELS.parent / "benchmarks" / "models"
PAIRS = [name for name in model_names() if load_spec(name).structure == "pairwise"]
LARGE = {"params": 3e9, "tokens": 6e10}
SCATTER = 0.001
#: Losses of two sets, from that of the set "web".
TRUTH = {
    "code": ShiftedPowerLaw(K=0.7, kappa=1.1, E0=1.8, E1=0.8),
    "math": ShiftedPowerLaw(K=1.2, kappa=0.9, E0=1.8, E1=1.4),
}
FEW = {"draws": 400, "tune": 400, "chains": 2, "cores": 2}


def related_sweep(*, seed=0):
    """Three sets whose losses are shifted power laws of each other, up to noise; one has a large run."""
    rng = np.random.default_rng(seed)
    params, tokens = (np.append(side, LARGE[name]) for side, name in zip(tiny.grid(), LARGE, strict=True))
    web = tiny.truth("web").loss(params, tokens)
    parts = []
    for name in ("code", "math", "web"):
        loss = TRUTH[name](web) if name in TRUTH else web
        part = {"params": params, "tokens": tokens, "loss": loss * np.exp(SCATTER * rng.standard_normal(len(loss)))}
        parts.append(pd.DataFrame(part).assign(train_set=name, eval_set=name).iloc[: None if name == "web" else -1])
    return Sweep.from_table(pd.concat(parts, ignore_index=True), name="related", simulated=True)


def relation(source, target):
    """The true relation between two of the sets."""
    from_web = TRUTH.get(target)
    if source == "web":
        return from_web
    back = TRUTH[source].inverse()
    return back if from_web is None else back.then(from_web)


def record(name="train_to_train", **changed):
    """A shipped model file as parsed, with top entries changed, or left out (None)."""
    top = tomllib.loads((MODELS / f"{name}.toml").read_text(encoding="utf-8"))
    return {key: value for key, value in (top | changed).items() if value is not None}


SPEC = load_spec(record(law="generalised", law_error=0.05))


@pytest.fixture(scope="module")
def sweep():
    return related_sweep()


@pytest.fixture(scope="module")
def compiled(sweep):
    """The one model that is compiled in this module."""
    return CompiledModel(SPEC, sweep)


@pytest.fixture(scope="module")
def fitted(compiled, sweep):
    return fit(sweep, compiled=compiled, random_seed=1, **FEW)


# Model files


def changed(**parts):
    """The shipped file with some entries of its tables changed."""
    top = copy.deepcopy(record())
    for path, value in parts.items():
        *parents, key = path.split("__")
        part = top
        for parent in parents:
            part = part[parent]
        part[key] = value
    return top


def borrowed():
    """The joint model with the prior of kappa for its gamma."""
    priors, kappa = record("joint")["priors"], record()["priors"]["kappa"]
    return record("joint", priors=priors | {"gamma": kappa | {"dims": "cell"}})


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: record(relation=None), "The model file has no 'relation'."),
        (lambda: record(bootstrap=None), "The model file has no 'bootstrap'."),
        (lambda: record(relation="train_to_tset"), "relation is 'train_to_tset'; known are train_to_train, "),
        (lambda: record(relation="train_to_tset"), "; did you mean 'train_to_test'?"),
        (lambda: record(relation=["train_to_test"]), "relation is ['train_to_test']; known are"),
        (
            lambda: record(bootstrap=3),
            "bootstrap must be 0 (E fixed at its point fit) or a number from 10, not 3.",
        ),
        (lambda: record(bootstrap=True), "bootstrap must be 0"),
        (lambda: record(law_error=-0.1), "law_error must be a number of at least 0, not -0.1."),
        (lambda: record("law", relation="train_to_train"), "the model file has an unknown key 'relation'"),
        (lambda: changed(priors__gamma=1.0), "priors (structure = 'pairwise') has an unknown key 'gamma'"),
        (lambda: changed(priors__kappa__dims="cell"), "priors.kappa.dims may be pair or nothing; it is cell."),
        (lambda: changed(priors__E_fraction=0.5), "priors.E_fraction must be Normal with numbers for mu and sigma"),
        (borrowed, "priors.gamma has an effect along source_set, which only structure = 'pairwise' has."),
        (lambda: changed(likelihood__size_effect_scale=0.1), "likelihood has an unknown key 'size_effect_scale'"),
        (lambda: changed(likelihood__nu=4.0), "likelihood.nu belongs to dist = 'StudentT'."),
        (lambda: changed(likelihood__dist="StudentT"), "likelihood has no 'nu', which dist = 'StudentT' needs."),
        (lambda: changed(likelihood__dist="Cauchy"), "likelihood.dist is 'Cauchy'; known are Normal, StudentT."),
    ],
)
def test_what_is_wrong_in_a_file_is_named(made, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        load_spec(made())


def test_a_scale_without_its_prior_is_refused():
    top = record()
    del top["priors"]["scale"]
    with pytest.raises(SpecError, match=r"^priors has no 'scale', which structure = 'pairwise' needs\.$"):
        load_spec(top)


def test_every_relation_is_a_model_and_every_ablation_a_file():
    assert set(PAIRS) == {"train_to_train", "train_to_test", "test_to_test"}
    assert {load_spec(name).relation for name in PAIRS} == set(PAIRS)
    for name in ("train_to_train", "train_to_test"):
        endings = ("no_pooling", "complete_pooling", "plug_in")
        partial, *others = load_spec(name), *(load_spec(ABLATIONS / f"{name}_{ending}.toml") for ending in endings)
        assert {spec.relation for spec in others} == {name}
        wide, one, fixed = others
        assert partial.priors["kappa"].dims == wide.priors["kappa"].dims == ("pair",)
        assert all(isinstance(value, float) for value in wide.priors["kappa"].kwargs.values())
        assert one.priors["kappa"].dims == one.priors["scale"].dims == ()
        assert (fixed.bootstrap, fixed.law) == (0, "kaplan")
        assert fixed.priors == partial.priors


# Pairs


def test_pairs_of_every_relation():
    cells = [("a", "a"), ("t", "a"), ("b", "b"), ("t", "b"), ("u", "b")]
    aa, ta, bb, tb, ub = cells
    assert ordered_pairs(cells, relation="train_to_train") == [(aa, bb), (bb, aa)]
    assert ordered_pairs(cells, relation="train_to_test") == [(aa, ta), (bb, tb), (bb, ub)]
    assert ordered_pairs(cells, relation="test_to_test") == [(ta, tb), (tb, ta)]


def test_runs_are_paired_by_size_and_repeats_are_averaged():
    rows = [("a", 1e8, 3.0), ("a", 1e8, 3.2), ("a", 2e8, 2.8), ("a", 4e8, 2.5), ("b", 2e8, 3.3), ("b", 1e8, 3.6)]
    rows = [(name, name, params, 1e9, loss) for name, params, loss in rows]
    frame = pd.DataFrame(rows, columns=["train_set", "eval_set", "params", "tokens", "loss"])
    data = PairArrays.of(Sweep.from_table(frame.assign(run_id=range(len(frame)))), spec=SPEC)
    assert data.labels == ["a@a -> b@b", "b@b -> a@a"]
    arrays = data.arrays()
    both = arrays["weight"][:, 0] > 0
    # the largest run of a pair counts as one, whatever larger one a side has alone
    np.testing.assert_allclose(sorted(arrays["weight"][:, 0]), [0, 0.5, 1])
    np.testing.assert_allclose(sorted(arrays["loss0"][both, 0]), [2.8, 3.1])
    np.testing.assert_allclose(sorted(arrays["loss1"][both, 0]), [3.3, 3.6])
    np.testing.assert_allclose(arrays["loss0"][~both, 0], np.sqrt(2.8 * 3.1))
    np.testing.assert_allclose(arrays["reference1"][0], np.sqrt(3.3 * 3.6))
    # E lies below every loss of a cell, the unpaired ones too
    np.testing.assert_allclose(arrays["smallest0"], [2.5, 3.3])
    # too few runs for a law
    np.testing.assert_allclose(data.E_centre, SPEC.priors["E_fraction"].kwargs["mu"])
    np.testing.assert_allclose(data.E_spread, SPEC.priors["E_fraction"].kwargs["sigma"])


def test_entropies_come_from_the_cells_own_laws(sweep):
    loose, fixed = (PairArrays.of(sweep, spec=replace(SPEC, bootstrap=n, law_error=0.0)) for n in (50, 0))
    wider = PairArrays.of(sweep, spec=replace(SPEC, law_error=0.3))
    np.testing.assert_allclose(wider.E_spread, np.hypot(loose.E_spread, 0.3))
    np.testing.assert_array_equal(wider.E_centre, loose.E_centre)
    assert (fixed.E_spread == 0).all()
    for i, (_, train) in enumerate(fixed.cells):
        rows = sweep.table[sweep.table["train_set"] == train]
        point = fit_point(rows["params"], rows["tokens"], rows["loss"], law="generalised")
        fraction = 1 / (1 + np.exp(-fixed.E_centre[i]))
        assert fraction * fixed.runs.smallest[i] == pytest.approx(point.E, rel=1e-6)
    assert (loose.E_spread > 0.01).all()


@pytest.mark.parametrize(
    ("relation_", "message"),
    [
        ("train_to_train", "it needs two training sets, each evaluated on its own data"),
        ("train_to_test", "it needs a training set that is evaluated on its own data"),
        ("test_to_test", "it needs one evaluation of two training sets."),
    ],
)
def test_a_sweep_without_such_pairs_is_refused(sweep, relation_, message):
    spec = replace(SPEC, relation=relation_)
    only = sweep.select(train_sets=["web"])
    with pytest.raises(DataError, match=re.escape(message)):
        PairArrays.of(only, spec=spec)


# The model


@pytest.mark.parametrize("name", PAIRS)
def test_the_models_likelihood_is_computed_by_hand_from_what_it_reports(name, sweep):
    try:  # PyTensor has moved it
        from pytensor.graph.traversal import ancestors
    except ImportError:
        from pytensor.graph.basic import ancestors

    spec = load_spec(name)
    table = sweep.table.assign(loss_se=np.where(sweep.table.index % 3 == 0, 0.01, np.nan))
    others = table.assign(eval_set="task", loss=table["loss"] * 1.1 + 0.2)
    both = Sweep.from_table(pd.concat([table, others], ignore_index=True))
    data = PairArrays.of(both, spec=replace(spec, bootstrap=min(spec.bootstrap, 10)))
    model = build_pairwise(spec, data)
    # nutpie refuses new data for an array that the model does not use
    assert set(data.arrays()) <= {node.name for node in ancestors([model["log_likelihood"]])}
    point = some_point(model)
    student = spec.likelihood.dist == "StudentT"
    names = ["K", "kappa", "E0", "E1", "residual_scale", "log_likelihood", *(["nu"] if student else [])]
    K, kappa, E0, E1, scatter, found, *nu = values(model, point, *names)
    assert K.shape == scatter.shape == (len(data.labels),)

    total = 0.0
    for i, (source, target) in enumerate(data.pairs):
        sides = []
        for evaluation, train in (source, target):
            rows = both.table[(both.table["eval_set"] == evaluation) & (both.table["train_set"] == train)]
            sides.append(rows.set_index(["params", "tokens"])[["loss", "loss_se"]])
        x, y = (side.loc[sides[0].index.intersection(sides[1].index)] for side in sides)
        assert (E0[i] < sides[0]["loss"].min(), E1[i] < sides[1]["loss"].min()) == (True, True)
        curve = K[i] * (x["loss"] - E0[i]) ** kappa[i] + E1[i]
        # the slope of log y in log x amid the pair's runs, by a difference
        middle = np.exp(np.log(x["loss"]).mean())
        at = [np.log(K[i] * (middle * factor - E0[i]) ** kappa[i] + E1[i]) for factor in (1 - 1e-6, 1 + 1e-6)]
        slope = (at[1] - at[0]) / 2e-6
        noise = [(side["loss_se"] / side["loss"]).fillna(0.0) for side in (x, y)]
        sd = np.sqrt(scatter[i] ** 2 * (1 + slope**2) + noise[1] ** 2 + slope**2 * noise[0] ** 2)
        residual = np.log(y["loss"] / curve)
        law = stats.t(nu[0], scale=sd) if student else stats.norm(scale=sd)
        flops = 6 * np.array([n * d for n, d in residual.index])
        total += (law.logpdf(residual) * (flops / flops.max()) ** spec.likelihood.weight_exponent).sum()
    assert found == pytest.approx(total, rel=1e-5)


def test_what_is_simulated_is_recovered(fitted):
    """Exponents, scales and curves of all six relations, the latter within a tenth of a percent."""
    posterior = fitted.posterior
    assert posterior["K"].sizes == {"chain": 2, "draw": 400, "pair": 6}
    for pair in posterior["pair"].values:
        one = posterior.sel(pair=pair)
        source, target = (str(one[side].values).split("@")[1] for side in ("source", "target"))
        truth = relation(source, target)
        for name in ("K", "kappa", "E0", "E1"):
            assert abs(float(one[name].mean()) - getattr(truth, name)) < 4 * float(one[name].std()), (pair, name)
        assert float(one["kappa"].std()) < 0.15 * truth.kappa
        x = np.median(fitted.sweep.table.query("train_set == @source")["loss"])
        y = ShiftedPowerLaw(*(one[name] for name in ("K", "kappa", "E0", "E1")))(x)
        assert float(y.mean()) == pytest.approx(truth(x), rel=2e-3)
        assert float(y.std()) / truth(x) < 2e-3
    assert float(posterior["residual_scale"].mean()) == pytest.approx(SCATTER, rel=0.4)
    assert not [note for note in fitted.notes if note.severity == "serious"]


def test_a_compiled_model_is_refitted_and_refuses_other_pairs(compiled):
    moved = related_sweep(seed=4).up_to(2e19)
    again = fit(moved, compiled=compiled, **(FEW | {"draws": 50, "tune": 100}))
    assert again.posterior.sizes["pair"] == 6
    with pytest.raises(DataError, match=r"compiled for 6 pairs of cells and related has other ones"):
        fit(moved.select(train_sets=["web", "code"]), compiled=compiled, **FEW)


def test_the_prior_is_drawn_by_the_same_graph(compiled):
    prior = compiled.prior(200, seed=1)
    assert {"K", "kappa", "E0", "E1", "residual_scale"} <= set(prior)
    assert prior.sizes["pair"] == 6
    assert 0.5 < float(prior["kappa"].median()) < 2
    smallest = related_sweep().table.groupby("train_set")["loss"].min().max()
    assert float(prior["E0"].max()) < smallest


# Forecasts


def test_a_missing_run_is_forecast_from_the_sources_run(fitted):
    forecast = fitted.forecast(train_set=["code", "math"], **LARGE)
    web = tiny.truth("web").loss(**LARGE)
    for i, name in enumerate(forecast.points["train_set"]):
        draws = forecast.draws[:, i]
        truth = TRUTH[name](web)
        assert abs(draws.mean() - truth) < 4 * draws.std()
        assert draws.std() / truth < 0.02
    assert forecast.points["extrapolation"].max() > 5


def test_a_curve_is_the_relation_at_the_sources_loss(fitted):
    posterior = fitted.posterior.sel(pair="web@web -> code@code")
    K, kappa, E0, E1 = (posterior[name].to_numpy().ravel() for name in ("K", "kappa", "E0", "E1"))
    table = fitted.sweep.table
    x = table.loc[(table["train_set"] == "web") & (table["params"] == LARGE["params"]), "loss"].item()
    curve = fitted.forecast(train_set="code", kind="mean", **LARGE).draws[:, 0]
    np.testing.assert_allclose(curve, K * (x - E0) ** kappa + E1, rtol=1e-10)
    run = fitted.forecast(train_set="code", **LARGE).draws[:, 0]
    slope = kappa * (curve - E1) / curve * x / (x - E0)
    z = np.log(run / curve) / (posterior["residual_scale"].to_numpy().ravel() * np.hypot(1, slope))
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * z.size))


def test_several_sources_are_mixed_in_equal_parts(fitted):
    params, tokens = (float(side[7]) for side in tiny.grid())
    at = {"train_set": "code", "params": params, "tokens": tokens, "kind": "curve"}
    mixed, *single = (fitted.forecast(**at, source=s).draws[:, 0] for s in (None, "web@web", "math"))
    parts = [np.isclose(mixed, one, rtol=1e-12) for one in single]
    assert (parts[0] ^ parts[1]).all()
    assert parts[0].sum() == parts[1].sum() == mixed.size / 2


def test_forecasts_that_have_no_source_are_refused(fitted, handmade):
    with pytest.raises(
        ForecastError,
        match=r"No run of 5e\+09 parameters and 1e\+11 tokens was fitted on a source of code@code: fit again "
        r"with the source's run in the table, or fit the joint model, which needs none\.$",
    ):
        fitted.forecast(train_set="code", params=5e9, tokens=1e11)
    with pytest.raises(ForecastError, match="was fitted on math of code@code"):
        fitted.forecast(train_set="code", source="math", **LARGE)
    with pytest.raises(ForecastError, match=r"source 'wbe'; fitted sources are code@code, math@math, web@web\.$"):
        fitted.forecast(train_set="code", source="wbe", **LARGE)
    with pytest.raises(ForecastError, match="has no laws, so no compute-optimal size"):
        fitted.forecast(flops=1e21)
    with pytest.raises(ForecastError, match="forecasts from all its cells together: leave out the source"):
        handmade.forecast(**LARGE, source="starcoder")


# The fit


def test_a_fit_is_summarised_saved_and_checked(fitted, tmp_path, capsys):
    assert sorted(fitted.cells) == [("code", "code"), ("math", "math"), ("web", "web")]
    summary = fitted.summary()
    assert summary.index.names == ["variable", "pair"]
    assert ("kappa", "web@web -> code@code") in summary.index
    assert summary[["mean", "rhat"]].notna().all(axis=None)
    path = fitted.save(tmp_path / "fit.nc")
    again = load_fit(path)
    assert again.spec == SPEC
    assert again.posterior.equals(fitted.posterior)
    np.testing.assert_array_equal(
        again.forecast(train_set="code", **LARGE).draws, fitted.forecast(train_set="code", **LARGE).draws
    )
    assert main(["check", str(path)]) == 0
    assert "6 pairs of cells" in capsys.readouterr().err
    where = ["--params", "3e9", "--tokens", "6e10", "--train-set", "code", "--source", "web@web"]
    assert main(["forecast", str(path), *where]) == 0
    assert capsys.readouterr().out.count("\n") == 2


def test_a_rollout_of_other_models_is_refused_as_for_laws(fitted):
    with pytest.raises(ForecastError, match="was not backtested"):
        fitted.forecast(train_set="code", rollout=Backtest(by_hand(5.0, model="law")), **LARGE)


def test_pictures_of_laws_are_refused(fitted):
    from bayes_l2l.plotting import laws as plots

    with pytest.raises(DataError, match="has no laws: fit the joint model"):
        plots.entropy(fitted)
