"""Fitting, its diagnostics and the file of a fit: one small model, compiled once, and fits made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import xarray as xr
from synthetic import synthetic_fit

from bayes_l2l.data.simulation import PUBLISHED_LAWS
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError, FitFileError, SpecError
from bayes_l2l.fits import fit, load_fit
from bayes_l2l.inference import diagnostics as diagnostics_of_chains
from bayes_l2l.inference import nuts as sampling
from bayes_l2l.inference import posterior_file
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.inference.diagnostics import diagnose, not_identified, settings_to_pass
from bayes_l2l.inference.netcdf import to_bytes
from bayes_l2l.notes import Note
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.structures.arrays import LossArrays

ROOT = Path(__file__).resolve().parents[2]
FEW = {"draws": 400, "tune": 300, "chains": 2, "cores": 2}


@pytest.fixture(scope="module")
def compiled():
    """The one model that is compiled in this module; every fit goes through it."""
    return CompiledModel(tiny.SPEC, tiny.tiny_sweep())


@pytest.fixture(scope="module")
def fitted(compiled):
    return fit(tiny.tiny_sweep(), compiled=compiled, random_seed=1, **FEW)


def same(one, other):
    """Whether two fits hold the same draws."""
    return one.posterior.equals(other.posterior)


# Sampling


def test_a_fit_finds_the_law_that_the_sweep_was_simulated_from(fitted):
    for name in tiny.SETS:
        law, posterior = tiny.truth(name), fitted.posterior.sel(cell=f"{name}|{name}")
        for variable in ("E", "log_A", "log_B"):
            draws = posterior[variable]
            assert abs(float(draws.mean()) - getattr(law, variable)) < 5 * float(draws.std())
        assert float(posterior["E"].std()) < 0.05
    assert fitted.posterior["residual_scale"].mean() == pytest.approx(tiny.SCATTER, rel=0.5)


def test_a_posterior_is_labelled_and_holds_nothing_of_the_sampler(fitted):
    posterior = fitted.posterior
    assert posterior.sizes == {"chain": 2, "draw": 400, "cell": 2}
    assert posterior["cell"].values.tolist() == ["code|code", "web|web"]
    assert posterior["eval_set"].values.tolist() == ["code", "web"]
    assert posterior["train_set"].values.tolist() == ["code", "web"]
    assert not [name for name in posterior if str(name).endswith(("__", "_drawn", "_offset", "_slope"))]
    assert {"E", "log_A", "log_B", "alpha", "beta", "gamma", "c", "residual_scale", "size_effect_scale"} <= set(
        posterior
    )
    assert all(np.isfinite(posterior[name]).all() for name in posterior)
    assert fitted.cells == [("code", "code"), ("web", "web")]


def test_fixed_quantities_are_reported_and_have_no_diagnostics(fitted):
    np.testing.assert_allclose(fitted.posterior["alpha"], tiny.ALPHA)
    np.testing.assert_allclose(fitted.posterior["size_effect_scale"], tiny.DEVIATION)
    assert "E" in fitted.diagnostics
    assert not {"alpha", "beta", "gamma", "c", "size_effect_scale"} & set(fitted.diagnostics)


def test_a_seed_gives_the_same_draws(compiled, fitted):
    again = fit(tiny.tiny_sweep(), compiled=compiled, random_seed=1, **FEW)
    other = fit(tiny.tiny_sweep(), compiled=compiled, random_seed=2, **FEW)
    assert same(again, fitted)
    assert not same(other, fitted)
    assert again.settings == fitted.settings
    assert fitted.settings.seed == 1


def test_a_compiled_model_is_refitted_to_new_runs(compiled, fitted):
    moved = tiny.tiny_sweep(seed=5, E=1.8)
    fewer = moved.up_to(2e19)  # another number of points, too
    new = fit(fewer, compiled=compiled, random_seed=1, **FEW)
    shift = (new.posterior["E"].mean(("chain", "draw")) - fitted.posterior["E"].mean(("chain", "draw"))).values
    np.testing.assert_allclose(shift, 0.3, atol=0.05)
    pd.testing.assert_frame_equal(new.sweep.table, fewer.table[new.sweep.table.columns], check_dtype=False)
    # nothing of it is left behind
    assert same(fit(tiny.tiny_sweep(), compiled=compiled, random_seed=1, **FEW), fitted)


def test_larger_runs_of_a_set_whose_runs_are_all_small_are_forecast_without_bias(compiled):
    """The law at the reference size, amid the other set's runs, lies below every loss of this one."""
    sweep = tiny.tiny_sweep()
    table = sweep.table
    code = table["train_set"] == "code"
    few = Sweep.from_table(table[~code | (table["flops"] < 2e18)].reset_index(drop=True), name="tiny")
    made = fit(few, compiled=compiled, random_seed=1, **FEW)
    lowest = few.table[few.table["train_set"] == "code"]["loss"].min()
    assert (made.posterior["E"].sel(cell="code|code") < lowest).all()
    data = LossArrays.of(few)
    assert data.smallest[data.cells.index(("code", "code"))] < lowest
    law = tiny.truth("code")
    size = np.exp(data.reference)
    assert law.loss(*size) < 0.95 * lowest  # what was forecast is not what was seen
    large = table[code & (table["flops"] > 5e18)]
    draws = made.forecast(large[["train_set", "params", "tokens"]]).draws
    rank = (draws < large["loss"].to_numpy()).mean(axis=0)
    assert 0.02 < rank.mean() < 0.98
    assert ((rank > 0.005) & (rank < 0.995)).all()


def test_a_compiled_model_refuses_other_cells(compiled):
    with pytest.raises(
        DataError, match=r"compiled for 2 cells and tiny has other ones; compile it for this sweep\.$"
    ):
        fit(tiny.tiny_sweep().select(train_sets=["web"]), compiled=compiled, **FEW)


def test_a_fit_says_what_it_was_made_with(fitted):
    assert fitted.spec == tiny.SPEC
    assert fitted.settings == SamplerSettings(draws=400, tune=300, chains=2, cores=2, seed=1)
    said = {"name": "tiny", "provenance": "", "simulated": True, "loss_unit": "nats/token"}
    assert fitted.record["sweep"] == said
    assert set(fitted.record["versions"]) == {"python", "pymc", "nutpie", "arviz-stats", "numpy", "xarray"}
    assert fitted.record["seconds"] > 0
    assert repr(fitted).startswith("<Fit of model 'tiny' to <Sweep tiny (simulated, not measured): 40 rows")
    flops = tiny.tiny_sweep().table["flops"].max()
    assert fitted.max_flops == {"code": pytest.approx(flops), "web": pytest.approx(flops)}


def test_fitting_changes_nothing_that_it_is_given(compiled):
    sweep = tiny.tiny_sweep()
    before = sweep.table.copy()
    fit(sweep, compiled=compiled, draws=10, tune=10, chains=2)
    pd.testing.assert_frame_equal(sweep.table, before)


def test_the_table_of_runs_may_be_a_frame_with_error_rates_beside_its_losses(compiled, fitted):
    table = tiny.tiny_sweep().table.drop(columns="metric").assign(metric="loss")
    rates = table.iloc[:4].assign(metric="error", eval_set="quiz", loss=[0.6, 0.5, 0.4, 0.3])
    both = fit(
        pd.concat([table, rates], ignore_index=True), compiled=compiled, random_seed=1, error_model=None, **FEW
    )
    assert same(both, fitted)
    assert both.errors is None
    assert both.sweep.eval_sets == ["code", "web"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws must be at least 1, not 0."),
        ({"tune": -5}, "tune must be at least 1, not -5."),
        ({"chains": 0}, "chains must be at least 1, not 0."),
        ({"target_accept": 1.0}, "target_accept must lie between 0 and 1, not 1.0."),
        ({"sampler": "stan"}, "sampler is 'stan'; known are nutpie and pymc."),
    ],
)
def test_settings_that_make_no_sense_are_refused(compiled, settings, message):
    with pytest.raises(DataError) as caught:
        fit(tiny.tiny_sweep(), compiled=compiled, **settings)
    assert str(caught.value) == message


def test_an_unknown_model_is_refused_before_anything_is_compiled():
    started = time.perf_counter()
    with pytest.raises(SpecError, match="There is no model 'lore'"):
        fit(tiny.tiny_sweep(), model="lore")
    assert time.perf_counter() - started < 5


@pytest.mark.slow
def test_both_samplers_draw_from_the_same_posterior(compiled):
    many = {"draws": 1500, "tune": 500, "chains": 2, "cores": 2, "random_seed": 3}
    one = fit(tiny.tiny_sweep(), compiled=compiled, **many).summary()
    other = fit(tiny.tiny_sweep(), compiled=compiled, sampler="pymc", **many).summary()
    varying = one["ess_bulk"].notna()
    one, other = one[varying], other[varying]
    error = np.hypot(one["sd"] / np.sqrt(one["ess_bulk"]), other["sd"] / np.sqrt(other["ess_bulk"]))
    assert (abs(one["mean"] - other["mean"]) / error).max() < 4.5
    np.testing.assert_allclose(one["sd"], other["sd"], rtol=0.2)


@pytest.mark.slow
def test_pm_sample_is_refitted_too(compiled):
    few = {"draws": 200, "tune": 300, "chains": 2, "cores": 2, "random_seed": 3, "sampler": "pymc"}
    first = fit(tiny.tiny_sweep(), compiled=compiled, **few)
    moved = fit(tiny.tiny_sweep(E=1.8), compiled=compiled, **few)
    assert float((moved.posterior["E"] - first.posterior["E"]).mean()) == pytest.approx(0.3, abs=0.02)
    assert same(fit(tiny.tiny_sweep(), compiled=compiled, **few), first)
    assert "diverging" in first.tree["sample_stats"]
    assert "energy" in first.tree["sample_stats"]


# Ctrl-C


@pytest.fixture
def interrupted(monkeypatch):
    """A nutpie whose wait is interrupted, as by Ctrl-C, once so many chains have so many draws."""
    import nutpie

    sample = nutpie.sample

    class Sampler:
        def __init__(self, real, after, chains):
            self.real, self.after, self.chains = real, after, chains

        def wait(self):
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and self.drawn() < self.after:
                time.sleep(0.02)
            raise KeyboardInterrupt

        def drawn(self):
            """How far the slowest has come of the chains that are waited for, the fastest."""
            with warnings.catch_warnings():
                # ArviZ wonders about chains that have not begun
                warnings.filterwarnings("ignore", "More chains|Found chain", UserWarning)
                drawn = sampling.group(self.real.inspect(), "posterior")
            if "point" not in drawn:
                return 0
            # chains that lag behind are padded
            of_chains = drawn["point"].notnull().all("unconstrained_parameter").sum("draw").to_numpy()
            return np.sort(of_chains)[-self.chains] if len(of_chains) >= self.chains else 0

        def abort(self):
            return self.real.abort()

        def cancel(self):
            return self.real.cancel()

    def patch(*, after, chains=1):
        @wraps(sample)
        def patched(*args, **kwargs):
            return Sampler(sample(*args, **kwargs), after, chains)

        monkeypatch.setattr(nutpie, "sample", patched)

    return patch


def test_ctrl_c_keeps_what_all_chains_have_drawn(compiled, interrupted):
    interrupted(after=5000, chains=2)
    # four chains on two cores: two have drawn, each as far as it came, and two have not begun
    kept = fit(
        tiny.tiny_sweep(), compiled=compiled, keep_interrupted=True, draws=100_000, tune=200, chains=4, cores=2
    )
    posterior = kept.posterior
    assert 50 < posterior.sizes["draw"] < 100_000
    assert all(np.isfinite(posterior[name]).all() for name in posterior)
    assert posterior.sizes["chain"] >= 2
    stats = kept.tree["sample_stats"]
    assert stats.sizes["draw"] == posterior.sizes["draw"]
    assert stats.sizes["chain"] == posterior.sizes["chain"]
    (note,) = [note for note in kept.notes if note.code == "interrupted"]
    assert note.severity == "warning"
    assert f"{posterior.sizes['draw']} of 100000 draws a chain were kept" in note.message
    for name in tiny.SETS:
        assert float(posterior["E"].sel(cell=f"{name}|{name}").mean()) == pytest.approx(tiny.truth(name).E, abs=0.05)
    at = kept.forecast(params=1e9, tokens=2e10)
    assert np.isfinite(at.draws).all()


def test_ctrl_c_before_the_first_draw_leaves_nothing_to_keep(compiled, interrupted):
    interrupted(after=0)
    with pytest.raises((DataError, KeyboardInterrupt)):
        fit(tiny.tiny_sweep(), compiled=compiled, keep_interrupted=True, draws=10, tune=100_000, chains=2)


def test_ctrl_c_stops_the_program_unless_asked_otherwise(compiled, interrupted):
    interrupted(after=10)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny.tiny_sweep(), compiled=compiled, draws=100_000, tune=100, chains=2)


# Diagnostics


def made_up(*, chains=4, draws=1000, seed=0, **changed):
    """Draws and statistics of a sampler that did well, but for what is changed."""
    rng = np.random.default_rng(seed)
    size = (chains, draws)
    values = {"E": 2 + 0.1 * rng.standard_normal((*size, 2)), "alpha": 0.4 + 0.01 * rng.standard_normal((*size, 2))}
    values |= {"gamma": np.ones((*size, 2)), "size_effect_scale": 0.01 * np.exp(rng.standard_normal(size))}
    values |= {name: value for name, value in changed.items() if name in values}
    dims = ["chain", "draw", "cell"]
    coords = {"chain": range(chains), "draw": range(draws), "cell": ["a|a", "b|b"]}
    posterior = xr.Dataset({name: (dims[: np.ndim(v)], v) for name, v in values.items()}, coords=coords)
    posterior = posterior.assign_coords(eval_set=("cell", ["a", "b"]), train_set=("cell", ["a", "b"]))
    stats = {"diverging": np.zeros(size, dtype=bool), "energy": rng.normal(50, 3, size)}
    stats |= {name: value for name, value in changed.items() if name in stats}
    return posterior, xr.Dataset({name: (dims[:2], value) for name, value in stats.items()})


def diagnosed(posterior, stats, **asked):
    draws = asked.pop("draws", posterior.sizes["draw"])
    settings = SamplerSettings(draws=draws, chains=posterior.sizes["chain"])
    return diagnose(posterior, stats, settings)


def only(notes):
    """The one note there is."""
    (note,) = notes
    return note


def shifted(*, by, chains=4, draws=1000):
    """Chains of E that lie about different values."""
    values = made_up(chains=chains, draws=draws)[0]["E"].to_numpy().copy()
    values[0, :, 1] += by
    return values


def sticky(*, memory, draws=1000):
    """Chains of E in which a draw resembles the one before it."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((4, draws, 2))
    for i in range(1, draws):
        values[:, i] = memory * values[:, i - 1] + np.sqrt(1 - memory**2) * values[:, i]
    return values


def test_a_good_posterior_has_no_notes_and_all_diagnostics():
    diagnostics, notes = diagnosed(*made_up())
    assert notes == []
    assert set(diagnostics) == {"E", "alpha", "size_effect_scale"}
    assert diagnostics["diagnostic"].values.tolist() == ["rhat", "ess_bulk", "ess_tail"]
    assert diagnostics["E"].sizes == {"diagnostic": 3, "cell": 2}
    assert (abs(diagnostics["E"].sel(diagnostic="rhat") - 1) < 0.01).all()
    assert (diagnostics["E"].sel(diagnostic="ess_bulk") > 3000).all()


def test_a_constant_is_not_diagnosed_even_where_rounding_moves_its_mean():
    """The standard deviation of a thousand times 0.4 is not exactly zero."""
    posterior, stats = made_up(alpha=np.full((4, 1000, 2), 0.4))
    diagnostics, notes = diagnosed(posterior, stats)
    assert "alpha" not in diagnostics
    assert notes == []


@pytest.mark.parametrize(("by", "severity"), [(0.045, "warning"), (0.3, "serious")])
def test_chains_that_disagree_are_noted(by, severity):
    note = only(note for note in diagnosed(*made_up(E=shifted(by=by)))[1] if note.code == "rhat")
    assert note.severity == severity
    assert note.data["variable"] == "E"
    assert note.message.startswith(f"the chains disagree: R-hat of E is {note.data['rhat']:.3f}, above 1.01")
    assert note.data["rhat"] > 1.01


@pytest.mark.parametrize(("memory", "severity"), [(0.88, "warning"), (0.985, "serious")])
def test_few_independent_draws_are_noted(memory, severity):
    note = only(note for note in diagnosed(*made_up(E=sticky(memory=memory)))[1] if note.code == "ess")
    assert note.severity == severity
    assert note.data["variable"] == "E"
    assert note.message == (
        f"few independent draws: bulk ESS of E is {note.data['ess_bulk']:.0f}, below 400; draw more"
    )


@pytest.mark.parametrize(("count", "severity"), [(1, "warning"), (4, "warning"), (5, "serious")])
def test_divergences_are_noted(count, severity):
    diverging = np.zeros((4, 1000), dtype=bool)
    diverging.flat[:count] = True
    note = only(diagnosed(*made_up(diverging=diverging))[1])
    assert (note.code, note.severity) == ("divergences", severity)
    assert note.message.startswith(f"{count} of 4000 draws diverged")
    assert note.data == {"divergences": count, "draws": 4000}


def asked_again(posterior, stats, **settings):
    """Thinning and target acceptance that chains are asked for again with."""
    found = settings_to_pass(posterior, stats, SamplerSettings(**settings))
    return found.thin, found.target_accept


def test_chains_that_pass_are_not_drawn_again():
    assert asked_again(*made_up()) == (1, 0.97)


def test_chains_that_mix_slowly_are_made_as_long_as_their_effective_sample_size_needs():
    slow, slower, slowest = (asked_again(*made_up(E=sticky(memory=memory)))[0] for memory in (0.85, 0.93, 0.99))
    assert 2 <= slow < slower < slowest == 10
    assert asked_again(*made_up(E=shifted(by=0.045)))[0] in (2, 3)  # for R-hat


def test_draws_that_diverged_are_drawn_again_in_shorter_steps():
    diverging = np.zeros((4, 1000), dtype=bool)
    diverging[2, 7] = True
    thin, target_accept = asked_again(*made_up(diverging=diverging), target_accept=0.9)
    assert (thin, target_accept) == (1, pytest.approx(0.97))


def test_few_draws_and_interrupted_chains_are_left_as_they_are():
    few = made_up(draws=500, E=sticky(memory=0.99, draws=500))
    assert asked_again(*few, draws=500) == (1, 0.97)
    assert asked_again(*made_up(E=sticky(memory=0.99)), draws=2000) == (1, 0.97)


def test_thinned_chains_keep_one_draw_of_so_many_and_every_divergence(compiled):
    settings = SamplerSettings(draws=200, tune=200, chains=2, cores=2, seed=1)
    every, all_stats = compiled.sample(tiny.tiny_sweep(), replace(settings, draws=1000))
    kept, stats = compiled.sample(tiny.tiny_sweep(), replace(settings, thin=5))
    np.testing.assert_array_equal(kept["E"], every["E"][:, 4::5])
    diverged = all_stats["diverging"].to_numpy().reshape(2, 200, 5).any(axis=2)
    np.testing.assert_array_equal(stats["diverging"], diverged)


def test_a_module_that_mixes_slowly_is_drawn_longer_and_its_thinning_is_noted(compiled, monkeypatch):
    monkeypatch.setattr(diagnostics_of_chains, "_ENOUGH_DRAWS", 20)
    monkeypatch.setattr(diagnostics_of_chains, "_SHORTER", 1.0)
    found = fit(tiny.tiny_sweep(), compiled=compiled, draws=10, tune=200, chains=2, random_seed=1)
    note = only(note for note in found.notes if note.code == "thinned")
    thin = note.data["thin"]
    assert note.message == (f"the chains move slowly, and were made {thin} times as long: one draw of {thin} is kept")
    assert 2 <= thin <= 10
    assert found.posterior.sizes["draw"] == 10
    monkeypatch.undo()
    longer, _ = compiled.sample(tiny.tiny_sweep(), replace(found.settings, draws=10 * thin))
    np.testing.assert_array_equal(found.posterior["E"], longer["E"][:, thin - 1 :: thin])


def test_slow_energy_is_noted():
    energy = np.random.default_rng(0).standard_normal((4, 1000)).cumsum(axis=1)
    note = only(diagnosed(*made_up(energy=energy))[1])
    assert (note.code, note.severity) == ("bfmi", "warning")
    assert note.data["bfmi"] < 0.3
    assert f"E-BFMI {note.data['bfmi']:.2f}, below 0.3" in note.message


def test_draws_that_are_missing_are_noted():
    note = only(diagnosed(*made_up(), draws=5000)[1])
    assert (note.code, note.severity) == ("interrupted", "warning")
    assert note.message == "sampling was interrupted: 1000 of 5000 draws a chain were kept"


def test_notes_of_diagnostics_can_be_stored():
    posterior, stats = made_up(E=shifted(by=1.0), diverging=np.ones((4, 1000), dtype=bool))
    for note in diagnosed(posterior, stats)[1]:
        assert Note.from_dict(json.loads(json.dumps(note.to_dict(), allow_nan=False))) == note


def test_irreducible_entropies_that_are_hardly_known_are_noted():
    posterior, _ = made_up()
    assert not_identified(posterior) == []
    posterior["E"][..., 1] = np.linspace(0.1, 3, 1000)
    note = only(not_identified(posterior))
    assert (note.code, note.severity) == ("E_not_identified", "warning")
    assert "hardly known in b|b:" in note.message
    assert note.data == {"cells": ["b|b"]}


# Reading a fit


@pytest.fixture(scope="module")
def handmade():
    return synthetic_fit(notes=[Note("made_up", "warning", "a note that must survive", {"count": 3})])


def test_the_summary_is_that_of_the_draws(handmade):
    table = handmade.summary()
    name = "starcoder"
    row = table.loc[("E", f"{name}|{name}")]
    draws = handmade.posterior["E"].sel(cell=f"{name}|{name}").values.ravel()
    assert row["mean"] == pytest.approx(draws.mean())
    assert row["sd"] == pytest.approx(draws.std())
    np.testing.assert_allclose(row[["q0.05", "median", "q0.95"]], np.quantile(draws, [0.05, 0.5, 0.95]))
    assert row["mean"] == pytest.approx(PUBLISHED_LAWS[name]["E"], rel=0.01)
    assert row["rhat"] == pytest.approx(1, abs=0.02)
    assert row["ess_bulk"] > 400
    assert len(handmade.summary(variables=["size_effect_scale"])) == 1
    assert len(handmade.summary(variables=["alpha", "beta"])) == 12
    with pytest.raises(DataError, match=r"^The posterior has no 'delta'; it has E, "):
        handmade.summary(variables=["delta"])


def test_a_serious_note_means_that_a_fit_is_not_to_be_trusted(handmade):
    assert handmade.trusted
    assert not replace(handmade, notes=(*handmade.notes, Note("rhat", "serious", "bad"))).trusted


# The file


@pytest.fixture
def saved(handmade, tmp_path):
    return handmade.save(tmp_path / "fit.nc")


def test_a_saved_fit_is_the_same_fit(handmade, saved):
    loaded = load_fit(str(saved))
    assert set(loaded.tree.children) == {"posterior", "sample_stats", "diagnostics", "observed_data"}
    for group in loaded.tree.children:
        xr.testing.assert_equal(loaded.tree[group].to_dataset(), handmade.tree[group].to_dataset())
    assert loaded.spec == handmade.spec
    assert loaded.settings == handmade.settings
    assert loaded.notes == handmade.notes
    assert loaded.record == handmade.record
    assert loaded.cells == handmade.cells
    assert loaded.max_flops == handmade.max_flops
    pd.testing.assert_frame_equal(loaded.summary(), handmade.summary())
    pd.testing.assert_frame_equal(loaded.sweep.table, handmade.sweep.table)
    assert loaded.sweep.simulated
    np.testing.assert_array_equal(
        loaded.forecast(params=1e9, tokens=2e10).draws, handmade.forecast(params=1e9, tokens=2e10).draws
    )


def test_a_real_fit_survives_its_file(fitted, tmp_path):
    path = tmp_path / "fit.nc"
    assert fitted.save(path) == path
    loaded = load_fit(path)
    assert same(loaded, fitted)
    assert loaded.spec == tiny.SPEC
    assert loaded.diagnostics.equals(fitted.diagnostics)
    xr.testing.assert_equal(loaded.tree["sample_stats"].to_dataset(), fitted.tree["sample_stats"].to_dataset())
    again = loaded.save(tmp_path / "again.nc")  # what was loaded can be saved
    assert same(load_fit(again), fitted)


def test_a_loaded_file_may_be_replaced(saved):
    loaded = load_fit(saved)
    loaded.save(saved)
    assert same(load_fit(saved), loaded)


def test_a_fit_is_loaded_read_and_forecast_without_pymc(saved):
    program = f"""
import sys
from bayes_l2l import load_fit
fit = load_fit({str(saved)!r})
fit.summary(), fit.notes, fit.posterior, repr(fit)
fit.forecast(train_set="starcoder", params=3.3e9, tokens=5e10).table()
fit.forecast(flops=1e21, kind="mean").table()
print(sorted({{"pymc", "pytensor", "nutpie", "numba", "arviz"}} & set(sys.modules)))
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def rewritten(path, **attributes):
    """A fit file with other attributes."""
    with xr.open_datatree(path, engine="h5netcdf") as opened:
        tree = opened.load()
    tree.attrs |= attributes
    path.write_bytes(to_bytes(tree))
    return path


@pytest.mark.parametrize("version", [0, 1, 99])
def test_an_unknown_format_version_is_refused(saved, version):
    with pytest.raises(FitFileError) as caught:
        load_fit(rewritten(saved, bayes_l2l_format=version))
    assert str(caught.value) == (
        f"{saved}: has format version {version} and this version of bayes_l2l reads 2 and 3; "
        "fit again, or use the version that wrote it."
    )


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused(saved, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(FitFileError, match=r"fit\.nc: is damaged (or not a NetCDF file )?\(.+\)\.$"):
        load_fit(saved)


def test_a_file_of_another_kind_is_refused(tmp_path):
    text = tmp_path / "notes.nc"
    text.write_text("not a fit", encoding="utf-8")
    with pytest.raises(FitFileError, match=r"notes\.nc: is damaged or not a NetCDF file"):
        load_fit(text)
    foreign = tmp_path / "climate.nc"
    xr.Dataset({"temperature": ("time", [1.0, 2.0])}).to_netcdf(foreign, engine="h5netcdf")
    with pytest.raises(FitFileError, match=r"climate\.nc: is a NetCDF file, but not a fit of bayes_l2l\.$"):
        load_fit(foreign)


def test_an_absent_file_is_refused_with_what_makes_one(tmp_path):
    path = tmp_path / "fit.nc"
    with pytest.raises(FitFileError) as caught:
        load_fit(path)
    assert str(caught.value) == f"{path}: there is no such file; `bayes-l2l fit RUNS -o {path}` makes one."
    with pytest.raises(FitFileError, match="there is no such file"):
        load_fit(tmp_path)  # a folder


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        "[]",
        "{}",
        '{"spec": {}, "settings": {}, "notes": [], "record": {}}',
        '{"spec": 3, "settings": {}, "notes": [], "record": {}}',
    ],
)
def test_damaged_metadata_is_refused(saved, broken):
    with pytest.raises(FitFileError, match=r"fit\.nc: is damaged \("):
        load_fit(rewritten(saved, bayes_l2l=broken))


def test_settings_that_this_version_does_not_know_are_refused(handmade, saved):
    stored = posterior_file._to_dict(handmade)
    stored["settings"]["temperature"] = 1.0
    with pytest.raises(FitFileError, match=r"fit\.nc: is damaged \(TypeError: .*temperature"):
        load_fit(rewritten(saved, bayes_l2l=json.dumps(stored)))


def test_a_version_that_is_no_number_is_refused(saved):
    with pytest.raises(FitFileError, match=r"fit\.nc: "):
        load_fit(rewritten(saved, bayes_l2l_format="one"))


def test_a_missing_folder_is_refused_and_nothing_is_left(handmade, tmp_path):
    with pytest.raises(FitFileError, match=r"nowhere/fit\.nc cannot be written: .*[Nn]o such file or directory"):
        handmade.save(tmp_path / "nowhere" / "fit.nc")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_overwritten_by_a_fit(handmade, tmp_path):
    (tmp_path / "fit.nc").mkdir()
    with pytest.raises(FitFileError, match=r"fit\.nc cannot be written: Is a directory$"):
        handmade.save(tmp_path / "fit.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nc"]


def test_saving_changes_nothing_of_the_fit(handmade, tmp_path):
    before = dict(handmade.tree.attrs)
    handmade.save(tmp_path / "fit.nc")
    assert dict(handmade.tree.attrs) == before
