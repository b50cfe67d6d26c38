"""Translations agree with the laws, with each other and with their inverses, draw by draw."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from bayes_l2l.data.simulation import simulated_sweep
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.fits import Fit, fit, load_fit
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.laws.scaling import Law
from bayes_l2l.prediction.translations import Translation
from bayes_l2l.structures.models import load_spec

EDU, SMOLLM, STARCODER = "fineweb-edu-100b", "smollm-corpus", "starcoder"
TASK = ("task", STARCODER)
N, D = np.geomspace(1e7, 1e10, 7), np.geomspace(3e9, 1e8, 7)


def assert_equal_laws(one: Law, other: Law, *, rtol: float = 1e-9) -> None:
    for name in vars(one):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol, err_msg=name)


def assert_equal_relations(one: Translation, other: Translation) -> None:
    assert (one.source, one.target) == (other.source, other.target)
    for name in vars(one.relation):
        np.testing.assert_allclose(getattr(one.relation, name), getattr(other.relation, name), rtol=1e-9)
    assert_equal_laws(one.law, other.law)
    for mine, its in zip(one.noise, other.noise, strict=True):
        np.testing.assert_array_equal(mine.scale, its.scale)
        assert mine.residuals == its.residuals


def with_posterior(fit: Fit, posterior: xr.Dataset) -> Fit:
    groups = {name: group.to_dataset() for name, group in fit.tree.children.items()}
    return replace(fit, tree=xr.DataTree.from_dict(groups | {"posterior": posterior}))


def own_law(fit: Fit, cell: str | tuple[str, str]) -> Law:
    i = fit.cells.index(fit.sweep.cell(cell))
    draws = fit.posterior.stack(sample=("chain", "draw"), create_index=False).isel(cell=i)
    return Law(**{name: draws[name].to_numpy() for name in ("E", "log_A", "log_B", "alpha", "beta", "gamma", "c")})


# Between two laws of one progress


progress = st.fixed_dictionaries(
    {
        "a": st.floats(0.2, 1.5),
        "b": st.floats(0.2, 1.5),
        "log_A": st.floats(5, 25),
        "log_B": st.floats(5, 28),
        "c": st.floats(0, 0.2),
    }
)
cell = st.fixed_dictionaries({"E": st.floats(0.05, 4), "log_K": st.floats(-2, 2), "gamma": st.floats(0.2, 1.8)})


def law_of(R: dict[str, float], cell: dict[str, float]) -> Law:
    """E + K R^gamma as a law: its A and B stand inside R."""
    a, b, gamma = R["a"], R["b"], cell["gamma"]
    log_A, log_B = (R["log_A"] + cell["log_K"] / (gamma * a), R["log_B"] + cell["log_K"] / (gamma * b))
    return Law(E=cell["E"], log_A=log_A, log_B=log_B, alpha=a * gamma, beta=b * gamma, gamma=gamma, c=R["c"])


@given(progress, cell, cell)
def test_a_law_translates_to_the_other(R, one, other):
    source, target = law_of(R, one), law_of(R, other)
    relation = source.relation_to(target)
    assert relation.kappa == pytest.approx(other["gamma"] / one["gamma"])
    assert np.log(relation.K) == pytest.approx(other["log_K"] - relation.kappa * one["log_K"], abs=1e-9)
    assert_equal_laws(source.translate(relation), target, rtol=1e-8)
    np.testing.assert_allclose(source.translate(relation).optimal(1e21), source.optimal(1e21), rtol=1e-7)


@given(progress, st.tuples(cell, cell, cell))
def test_relations_compose_and_invert(R, cells):
    laws = [law_of(R, one) for one in cells]
    there = laws[0].relation_to(laws[1])
    for found, direct in (
        (there.then(laws[1].relation_to(laws[2])), laws[0].relation_to(laws[2])),
        (there.inverse(), laws[1].relation_to(laws[0])),
    ):
        assert [found.kappa, found.E0, found.E1] == pytest.approx([direct.kappa, direct.E0, direct.E1])
        assert np.log(found.K) == pytest.approx(np.log(direct.K), abs=1e-9)


# A fit


@pytest.mark.parametrize(
    ("source", "target"), [(EDU, STARCODER), (EDU, ("task", EDU)), (("task", EDU), "task@starcoder"), (EDU, EDU)]
)
def test_the_translated_law_is_the_targets_own_in_every_draw(joint, source, target):
    found = joint.translate(source, target)
    assert found.K.shape == found.kappa.shape == (200,)
    assert_equal_laws(found.source_law, own_law(joint, source))
    assert_equal_laws(found.law, own_law(joint, target))
    np.testing.assert_allclose(found.law.optimal(1e21), found.source_law.optimal(1e21))


def test_the_curve_passes_through_both_losses_of_every_size(joint):
    found = joint.translate(EDU, TASK)
    for n, d in zip(N, D, strict=True):
        x, y = found.source_law.loss(n, d), own_law(joint, TASK).loss(n, d)
        np.testing.assert_allclose(np.diagonal(found.curve(x)), y)


def test_composition_and_inversion_are_the_direct_relation(joint):
    there, on = joint.translate(EDU, SMOLLM), joint.translate(SMOLLM, TASK)
    assert_equal_relations(there.then(on), joint.translate(EDU, TASK))
    assert_equal_relations(there.inverse(), joint.translate(SMOLLM, EDU))
    assert_equal_relations(there.then(on).then(on.inverse()), there)
    np.testing.assert_allclose(there.then(there.inverse()).K, 1)


def test_a_name_alone_is_the_sets_own_loss(joint):
    found = joint.translate(source=EDU, target=TASK)
    assert found.source == (EDU, EDU)
    assert found.target == TASK
    assert_equal_relations(found, joint.translate(f"{EDU}@{EDU}", "task@starcoder"))
    assert repr(found) == "<Translation of fineweb-edu-100b@fineweb-edu-100b to task@starcoder, 200 draws>"
    assert found.notes == joint.notes


def test_pairs_are_the_fitted_runs_of_equal_size(joint):
    pairs = joint.translate(EDU, TASK).pairs
    assert len(pairs) == 15  # what starcoder has
    run = pairs.iloc[3]
    rows = joint.sweep.table.query("params == @run.params and tokens == @run.tokens")
    losses = rows.set_index(["eval_set", "train_set"])["loss"]
    assert [losses[EDU, EDU], losses[TASK]] == [run["x"], run["y"]]


def test_draws_that_do_not_reach_a_loss_have_no_translation(joint):
    found = joint.translate(EDU, SMOLLM)
    E0 = np.sort(found.relation.E0)
    at = float(E0[:2].mean())  # one draw alone is below
    curve = found.curve([at, 2.4])
    assert np.isfinite(curve[:, 1]).all()
    assert np.flatnonzero(np.isfinite(curve[:, 0])).tolist() == [int(np.argmin(found.relation.E0))]
    assert found.curve(2.4).shape == (200, 1)


def test_below_e0_is_no_loss_even_where_the_power_is_defined(joint):
    same = joint.translate(EDU, EDU)
    assert (same.kappa == 1).all()
    assert np.isnan(same.curve(0.5)).all()
    np.testing.assert_allclose(same.curve(2.5), 2.5)


def test_a_table_summarises_relation_and_law(joint):
    found = joint.translate(EDU, TASK)
    table = found.table(quantiles=[0.95, 0.05])
    assert list(table) == ["source", "target", "variable", "mean", "sd", "median", "q0.05", "q0.95"]
    assert set(table["source"]) == {f"{EDU}@{EDU}"}
    assert set(table["target"]) == {"task@starcoder"}
    law = ["E", "log_A", "log_B", "alpha", "beta", "gamma", "c"]
    assert table["variable"].tolist() == ["K", "kappa", "E0", "E1", *law]
    rows = table.set_index("variable")
    assert rows.loc["kappa", "median"] == np.median(found.kappa)
    expected = np.quantile(own_law(joint, TASK).log_A, [0.05, 0.95])
    assert rows.loc["log_A", ["q0.05", "q0.95"]].tolist() == pytest.approx(expected)
    with pytest.raises(ForecastError, match="A quantile must lie between 0 and 1, not 90"):
        found.table(quantiles=[90])


def test_a_model_without_the_transient_has_no_row_of_it(joint):
    steady = with_posterior(joint, joint.draws.assign(c=0 * joint.posterior["c"]))
    assert "c" not in steady.translate(EDU, TASK).table()["variable"].tolist()


# Forecasts from an observed loss


def test_a_forecast_of_kind_curve_is_the_curve(joint):
    found = joint.translate(EDU, SMOLLM)
    np.testing.assert_array_equal(found.forecast([2.3, 3.0], kind="mean"), found.curve([2.3, 3.0]))


def test_a_run_has_the_scatter_of_both_losses(joint):
    """By hand: the source's scatter reaches the target through the slope of the relation in log losses."""
    sharp = joint.draws.isel(chain=0, draw=0, drop=True).expand_dims(chain=2, draw=2000)
    found = with_posterior(joint, sharp).translate(EDU, TASK)
    x, y = 2.2, float(found.curve(2.2)[0, 0])
    slope = float(np.diff(np.log(found.curve([2.2, 2.2 * 1.0001])[0]))[0] / np.log(1.0001))
    draws = np.log(found.forecast(x)[:, 0] / y)
    assert draws.std() == pytest.approx(0.002 * np.hypot(1, slope), rel=0.06)
    assert abs(draws.mean()) < 4 * draws.std() / np.sqrt(draws.size)
    np.testing.assert_array_equal(found.forecast(x), found.forecast(x))  # the seed is the fit's


def test_a_forecast_follows_the_observed_run_not_its_size(joint):
    """A source run worse than its law forecasts a target that is worse, which its size alone would not."""
    found, at = joint.translate(EDU, SMOLLM), {"params": 3.3e9, "tokens": 5.04e10}
    expected = np.median(joint.forecast(train_set=EDU, eval_set=EDU, kind="mean", **at).draws)
    by_size = np.median(joint.forecast(train_set=SMOLLM, eval_set=SMOLLM, kind="mean", **at).draws)
    as_expected, worse = (float(np.median(found.forecast(loss))) for loss in (expected, 1.05 * expected))
    assert as_expected == pytest.approx(by_size, rel=0.005)
    assert worse > 1.03 * by_size


# What is refused


def test_separate_laws_are_refused(handmade):
    with pytest.raises(ForecastError) as caught:
        handmade.translate(STARCODER, SMOLLM)
    assert str(caught.value) == (
        "Model 'law' does not make starcoder@starcoder and smollm-corpus@smollm-corpus depend on one progress R, so "
        "neither translates to the other: fit the joint model (model='joint', --model joint)."
    )


def test_a_joint_model_of_ones_own_that_splits_r_by_cell_is_refused(joint):
    i = xr.DataArray(np.arange(6), dims="cell")
    for name in ("log_A", "beta", "c"):
        bent = with_posterior(joint, joint.draws.assign({name: joint.posterior[name] * (1 + 1e-3 * i)}))
        with pytest.raises(ForecastError, match="depend on one progress R"):
            bent.translate(EDU, SMOLLM)


def test_unknown_cells_are_refused(joint):
    with pytest.raises(DataError, match=r"has no cell 'smolm-corpus'.*did you mean 'smollm-corpus@smollm-corpus'"):
        joint.translate(EDU, "smolm-corpus")
    with pytest.raises(DataError, match="has no cell 'moon@starcoder'"):
        joint.translate(("moon", STARCODER), EDU)


def test_translations_that_do_not_meet_are_refused(joint):
    there = joint.translate(EDU, SMOLLM)
    with pytest.raises(ForecastError, match="cannot be followed by one from starcoder@starcoder"):
        there.then(joint.translate(STARCODER, SMOLLM))
    fewer = with_posterior(joint, joint.draws.isel(draw=slice(50)))
    with pytest.raises(ForecastError, match="different draws of E of smollm-corpus@smollm-corpus"):
        there.then(fewer.translate(SMOLLM, STARCODER))


@pytest.mark.parametrize("loss", [0, -1.0, np.nan, [2.0, np.inf], [[2.0]]])
def test_losses_that_are_none_are_refused(joint, loss):
    found = joint.translate(EDU, SMOLLM)
    for ask in (found.curve, found.forecast):
        with pytest.raises(ForecastError, match="must be a number or a list of numbers, positive and finite"):
            ask(loss)


def test_an_unknown_kind_is_refused(joint):
    with pytest.raises(ForecastError, match="kind is 'law'; it must be 'predictive'"):
        joint.translate(EDU, SMOLLM).forecast(2.0, kind="law")


# The model itself


def test_the_joint_model_shares_one_progress():
    """Draws that the model makes, not this test: from its prior, which is wider than any posterior."""
    sweep = simulated_sweep().select(train_sets=[EDU, SMOLLM, STARCODER])
    prior = CompiledModel(load_spec("joint"), sweep).prior(100, 1)
    laws = [Law(**{n: prior[n].to_numpy()[0, :, i] for n in vars(Law(0, 0, 0, 0, 0))}) for i in range(3)]
    for target in laws:
        relation = laws[0].relation_to(target)
        assert_equal_laws(laws[0].translate(relation), target, rtol=1e-6)


@pytest.mark.slow
def test_a_sampled_joint_fit_translates_exactly(tmp_path):
    """From a sampler, through a file; the shape of R is known, so that few draws are enough."""
    record = tiny.SPEC.to_dict()
    priors = {name: record["priors"][name] for name in ("E_fraction", "excess", "share")}
    priors |= {"alpha_over_gamma": tiny.ALPHA, "beta_over_gamma": tiny.BETA}
    priors["gamma"] = record["priors"]["excess"] | {"kwargs": {"mu": 0.0, "sigma": 0.3}}
    spec = load_spec(record | {"law": "generalised", "structure": "joint", "priors": priors})
    fitted = fit(tiny.tiny_sweep(), model=spec, draws=100, tune=200, chains=2, random_seed=1)
    found = load_fit(fitted.save(tmp_path / "fit.nc")).translate("web", "code")
    assert_equal_laws(found.law, own_law(fitted, "code"))
    np.testing.assert_allclose(found.law.optimal(1e20), found.source_law.optimal(1e20))
    assert_equal_relations(found.inverse(), fitted.translate("code", "web"))
    pairs = found.pairs
    np.testing.assert_allclose(np.median(found.curve(pairs["x"].to_numpy()), axis=0), pairs["y"], rtol=0.02)


def test_translating_imports_no_sampler(joint_file):
    script = f"""
import sys
from bayes_l2l.fits import load_fit
load_fit({str(joint_file)!r}).translate({EDU!r}, {STARCODER!r}).plot()
assert not {{"pymc", "pytensor", "nutpie"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
