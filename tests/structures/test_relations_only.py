"""Relations without N and D: what is read, what is recovered, what a seen loss tells, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayes_l2l.cli import main
from bayes_l2l.data.proposal import propose
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.data.tables import RawTable
from bayes_l2l.errors import DataError, FitFileError, ForecastError, SpecError, TableError
from bayes_l2l.fits import Fit, fit, load_fit
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw
from bayes_l2l.structures.models import load_spec
from bayes_l2l.structures.relation_arrays import FEWEST, RelationArrays

FEW = {"draws": 200, "tune": 250, "chains": 2, "cores": 2, "random_seed": 1}
#: Losses of every evaluation from that on "web", at the end of a run.
TRUTH = {
    "web": ShiftedPowerLaw(K=1.0, kappa=1.0, E0=1.6, E1=1.6),
    "code": ShiftedPowerLaw(K=0.8, kappa=1.2, E0=1.6, E1=0.9),
    "books": ShiftedPowerLaw(K=1.1, kappa=0.85, E0=1.6, E1=1.9),
}
SETS = {"a": 0.0, "b": 0.03}
DEVIATION, SCATTER, TURN = 0.004, 0.001, 0.2


def table(*, seed: int = 0, runs: int = 12, checkpoints: int = 3) -> pd.DataFrame:
    """Runs of two training sets: each has a deviation, checkpoints on a slope of their own, and scatter."""
    rng = np.random.default_rng(seed)
    rows = []
    for train, level in SETS.items():
        for number, end in enumerate(np.geomspace(2.3, 3.4, runs)):
            own = {name: DEVIATION * rng.standard_normal() for name in TRUTH}
            for step in range(1, checkpoints + 1):
                above = 0.05 * (checkpoints - step)
                for name, relation in TRUTH.items():
                    log_loss = np.log(relation(end * np.exp(above))) + own[name] + SCATTER * rng.standard_normal()
                    if name == "code":
                        log_loss += level + TURN * above
                    row = {"run_id": f"{train}{number}", "step": 100 * step, "train_set": train, "eval_set": name}
                    rows.append(row | {"loss": np.exp(log_loss)})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return Sweep.from_table(table(), name="related", simulated=True)


@pytest.fixture(scope="module")
def fitted(sweep) -> Fit:
    return fit(sweep, **FEW)


# Tables


def test_a_table_without_sizes_is_read_and_said_to_be_one(sweep):
    assert not sweep.has_sizes
    assert [note.code for note in sweep.notes] == ["no_sizes"]
    assert "12 runs, 3 evaluations, 36 checkpoints" in sweep.summary()
    pairs = sweep.pairs("web@a", "code@a")
    assert list(pairs) == ["run_id", "step", "x", "y"]
    assert len(pairs) == 36


def test_rows_of_a_sweep_without_sizes_can_be_added(sweep):
    added = sweep.table[sweep.table["run_id"] == "a1"].assign(run_id="later")
    assert sweep.with_rows(added).n_runs == sweep.n_runs + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: pd.concat([t, t.iloc[:1]]), "a second value for run 'a0' on 'web'"),
        (lambda t: t.drop(columns="step"), "a second value for run 'a0' on 'web'"),
        (lambda t: t.drop(columns="run_id"), "there is no column 'params'"),
        (lambda t: t.assign(params=1e8), "there is no column 'tokens'"),
        (lambda t: t.drop(columns="step").assign(parms=1e8), "there is no column 'params'; did you mean 'parms'?"),
        (lambda t: t.assign(step="last"), "column 'step': all 54 cells are refused: 'last' is not a number"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(change, message):
    with pytest.raises(TableError, match=re.escape(message)):
        Sweep.from_table(change(table(runs=3)))


def test_where_runs_have_sizes_a_step_is_only_carried_along():
    sized = table(runs=3, checkpoints=1).assign(params=1e8, tokens=1e10, step="last")
    assert Sweep.from_table(sized).table["step"].eq("last").all()


@pytest.mark.parametrize("model", ["joint", "law", "train_to_train"])
def test_models_that_need_sizes_name_the_one_that_does_not(sweep, model):
    with pytest.raises(DataError, match=r"related has no params and tokens, which model '.*' needs: .*'relations'"):
        fit(sweep, model=model)


def test_evaluations_of_different_runs_cannot_be_related(sweep):
    alone = sweep.table["eval_set"].where(sweep.table["run_id"].str[-1].isin(["1", "2"]), "web") == "web"
    lonely = replace(sweep, table=sweep.table[alone & (sweep.table["eval_set"] == "web")].reset_index(drop=True))
    with pytest.raises(DataError, match="no run with losses of two evaluations"):
        RelationArrays.of(lonely, checkpoints=1)


# Arrays


def test_of_many_runs_the_last_checkpoint_is_used_and_of_few_more(sweep):
    many = RelationArrays.of(sweep, checkpoints=1)
    assert many.log_loss.shape == (24, 1, 2)
    assert [note.code for note in many.notes] == ["checkpoints_thinned"]
    last = sweep.table[(sweep.table["step"] == 300) & (sweep.table["eval_set"] == many.cells[many.of_run[0]][0])]
    assert np.sort(np.exp(many.log_anchor[:, 0])) == pytest.approx(np.sort(last["loss"]))
    few = Sweep.from_table(table(runs=3), name="few")
    assert RelationArrays.of(few, checkpoints=1).log_loss.shape == (6, min(3, -(-FEWEST // 6)), 2)


def test_the_tape_is_the_model(sweep):
    """The machine's instructions give the density that PyMC compiles."""
    compiled = CompiledModel(load_spec(load_spec("relations").to_dict() | {"checkpoints": 3}), sweep)
    (module,) = compiled.modules
    density = compiled.densities.of(0, module, module.data(compiled._first, []))
    assert compiled.densities.made["compiled"] == 0
    z = 0.1 * np.random.default_rng(0).standard_normal(len(density.start))
    value, gradient = density.log_density(z)
    step = 1e-5 * np.eye(len(z))
    assert np.isfinite(value)
    found = [(density.log_density(z + s)[0] - density.log_density(z - s)[0]) / 2e-5 for s in step[:12]]
    assert gradient[:12] == pytest.approx(np.array(found), rel=1e-3, abs=1e-3)


# What is recovered


def test_no_model_was_named_and_the_one_without_sizes_was_taken(fitted):
    assert fitted.spec.name == "relations"


def test_relations_are_recovered(fitted):
    loss = np.linspace(2.3, 3.3, 6)
    for train, level in SETS.items():
        draws = fitted.translate(f"web@{train}", f"code@{train}").curve(loss)
        low, high = np.quantile(draws, [0.005, 0.995], axis=0)
        truth = TRUTH["code"](loss) * np.exp(level)
        assert ((low < truth) & (truth < high)).all()
        assert (high / low < [1.05, 1.04, 1.06, 1.09, 1.14, 1.19]).all()


def test_translations_compose(fitted):
    there = fitted.translate("code@a", "books@a")
    by_web = fitted.translate("code@a", "web@a").then(fitted.translate("web@a", "books@a"))
    assert by_web.kappa == pytest.approx(there.kappa)
    assert by_web.curve(1.5) == pytest.approx(there.curve(1.5), nan_ok=True)


def test_new_runs_lie_inside_the_intervals(fitted):
    ends = table(seed=7, runs=30)
    ends = ends[ends["step"] == ends["step"].max()]
    seen = ends[ends["eval_set"] == "web"]
    found = fitted.forecast(given=seen[["run_id", "train_set", "eval_set", "loss"]], eval_set=["code", "books"])
    both = found.table().merge(ends, on=["run_id", "train_set", "eval_set"])
    assert len(both) == 120
    inside = (both["q0.05"] < both["loss"]) & (both["loss"] < both["q0.95"])
    assert inside.mean() >= 0.85
    # A run's own deviation is what is uncertain: about that of the source and of the target together.
    width = ((both["q0.95"] - both["q0.05"]) / both["loss"]).median()
    assert 3.3 * DEVIATION < width < 3.3 * 4 * DEVIATION


def test_more_losses_seen_say_more(fitted):
    one = fitted.forecast(given={"web@a": 2.5}, eval_set="books")
    more = fitted.forecast(given={"web@a": 2.5, "code@a": float(TRUTH["code"](2.5))}, eval_set="books")
    assert more.draws.std() < one.draws.std()
    assert more.draws.mean() == pytest.approx(float(TRUTH["books"](2.5)), rel=0.01)


def test_below_the_fitted_losses_intervals_widen_and_it_is_said(fitted):
    inside, below = (fitted.forecast(given={"web@a": loss}, eval_set="code") for loss in (2.5, 1.95))
    relative = [found.draws.std() / found.draws.mean() for found in (inside, below)]
    assert relative[1] > 1.5 * relative[0]
    assert [note.code for note in below.notes][-1] == "below_fitted"
    assert "below_fitted" not in [note.code for note in inside.notes]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"given": {"web@a": -1.0}}, "The loss seen on web@a must be positive and finite, not -1.0."),
        ({"given": {}}, "No loss was given"),
        ({"given": {"web@a": 2.5}, "params": 1e9}, "leave out the other"),
        ({"given": {"web@a": 2.5}, "train_set": "b"}, "No loss that was asked for can be read off web@a=2.5"),
        ({"given": {"web@a": 0.1}}, "web@a=0.1 lies below what the fit holds to be irreducible"),
        ({"given": {"web@a": 2.5, "code@b": 1.5}}, "were measured on no run together"),
        ({"given": pd.DataFrame({"loss": [1.0]})}, "has no column 'train_set'"),
        ({"params": 1e9, "tokens": 1e10}, "knows nothing of sizes"),
    ],
)
def test_what_cannot_be_forecast_is_refused(fitted, options, message):
    with pytest.raises(ForecastError, match=re.escape(message)):
        fitted.forecast(**options)


def test_residuals_of_another_kind_are_refused():
    record = load_spec("relations").to_dict()
    record["likelihood"] = record["likelihood"] | {"weight_exponent": -1}
    with pytest.raises(SpecError, match="weight_exponent must be a number from 0 to 100"):
        load_spec(record)


def test_a_joint_model_reads_off_one_loss(joint):
    source, target = joint.cells[0], joint.cells[1]
    loss = float(joint.sweep.table["loss"].median())
    found = joint.forecast(given={source: loss})
    assert len(found) == len(joint.cells) - 1
    expected = joint.translate(source, target).curve(loss)
    place = list(zip(found.points["eval_set"], found.points["train_set"], strict=True)).index(target)
    assert np.nanmedian(found.draws[:, place]) == pytest.approx(np.nanmedian(expected), rel=0.01)
    with pytest.raises(ForecastError, match="reads a loss off one other, and 2 were given"):
        joint.forecast(given={source: loss, target: loss})


def test_of_one_checkpoint_a_run_all_scatter_is_the_runs():
    """Two scales of which the losses know but the sum would keep the chains apart."""
    found = fit(Sweep.from_table(table(checkpoints=1), name="ends"), **FEW)
    assert (found.posterior["residual_scale"] == 0).all()
    own = found.diagnostics.sel(diagnostic="ess_bulk")
    assert "residual_scale" not in own
    assert float(own["run_effect_scale"].min()) > 50
    ends = found.forecast(given={"web@a": 2.5}, eval_set="books")
    width = float(np.ptp(ends.quantile([0.05, 0.95]))) / 2.5
    assert 3.3 * DEVIATION < width < 3.3 * 5 * DEVIATION


@pytest.mark.filterwarnings("error")
def test_there_is_no_optimum_of_runs_without_sizes(fitted):
    with pytest.raises(ForecastError, match="Model 'relations' has no laws, so no compute-optimal size"):
        fitted.optimum()


def test_a_report_says_what_residuals_are_and_no_sizes(fitted, tmp_path):
    page = fitted.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Their sizes are not known" in page


def test_a_mapping_is_proposed_with_a_way_without_sizes():
    found = propose(RawTable.from_frame(table(runs=3), name="runs"))
    assert "sizes: params and tokens of the runs are not known, so that losses of one run_id ('run_id')" in " ".join(
        found.unsure
    )


# The file


def test_a_file_is_read_and_says_the_same(fitted, tmp_path):
    read = load_fit(fitted.save(tmp_path / "fit.nc"))
    given = {"web@a": 2.5}
    assert read.forecast(given=given).table().equals(fitted.forecast(given=given).table())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchor": lambda a: np.where(a == "web@a", "other@a", a)}, "draws of 'other@a', which no fitted run has"),
        ({"anchor": lambda a: np.ones(len(a))}, "the coordinate anchor of the draws is of type float64"),
        ({"params": lambda n: np.where(np.arange(len(n)) == 3, 1e8, n)}, "a value of params"),
        ({"step": lambda s: -s}, "a value of step"),
        ({"loss": lambda loss: -loss}, "a value of loss"),
    ],
)
def test_a_file_that_holds_no_posterior_is_refused(fitted, tmp_path, change, message):
    (name, of) = next(iter(change.items()))
    tree = fitted.tree.copy()
    group = "posterior" if name in fitted.draws.coords else "observed_data"
    part = tree[group].to_dataset()
    changed = part.assign({name: (part[name].dims, of(part[name].to_numpy()))})
    tree[group] = xr.DataTree(changed.set_coords(name) if group == "posterior" else changed)
    with pytest.raises(FitFileError, match=re.escape(message)):
        load_fit(replace(fitted, tree=tree).save(tmp_path / "fit.nc"))


# The command line


def test_a_table_goes_through_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(runs=8, checkpoints=2).to_csv("runs.csv", index=False)
    main(["fit", "runs.csv", "-o", "fit.nc", "--draws", "60", "--tune", "150", "--chains", "2", "--no-progress"])
    assert "Model: relations, since the runs have no params and tokens." in capsys.readouterr().err
    main(["forecast", "fit.nc", "--given", "web@a=2.4", "--given", "code@a=1.45", "-o", "out.csv"])
    out = pd.read_csv("out.csv")
    assert out[["train_set", "eval_set"]].to_numpy().tolist() == [["a", "books"]]
    assert out["given"].tolist() == ["web@a=2.4, code@a=1.45"]
    assert out["median"].iloc[0] == pytest.approx(float(TRUTH["books"](2.4)), rel=0.03)
    capsys.readouterr()
    main(["translate", "fit.nc", "--source", "web@a", "--target", "code@a", "--plot", "relation.png"])
    assert "kappa" in capsys.readouterr().out
    main(["report", "fit.nc", "-o", "report.html"])
    assert load_fit("fit.nc").sweep.table["step"].max() == 200
    assert main(["forecast", "fit.nc", "--given", "web@a"]) == 2
    assert "'web@a' is not EVAL@TRAIN=LOSS" in capsys.readouterr().err
    assert main(["forecast", "fit.nc", "--params", "1e9", "--tokens", "1e10"]) == 1
    assert main(["fit", "runs.csv", "--model", "joint", "-o", "other.nc"]) == 1
    assert "runs.csv has no params and tokens, which model 'joint' needs" in capsys.readouterr().err
