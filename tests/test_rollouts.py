"""Rollouts: forecasts beside what happened, resumed after any end, made by any number of processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scoringrules as sr
import tasks
from rolled import by_hand
from tiny import SPEC, tiny_sweep

from bayes_l2l import jobs, sampling, scores, workers
from bayes_l2l.baselines import bootstrap
from bayes_l2l.errors import DataError, ForecastError, SpecError
from bayes_l2l.fits import Fit
from bayes_l2l.folds import Fold
from bayes_l2l.forecast import QUANTILES
from bayes_l2l.notes import Note
from bayes_l2l.rollouts import Rollout, rollout
from bayes_l2l.simulation import simulated_sweep
from bayes_l2l.sweep import Sweep

ROOT = Path(__file__).resolve().parents[1]
SETS = ["proof-pile-2", "starcoder"]
CHEAP = {"models": ["baseline"], "resamples": 8, "cutoffs": [2.2e18, 1.1e19]}
MEASURES = [f"{what}{level}" for level in (50, 80, 90, 95) for what in ("coverage", "width", "interval_score")]


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return simulated_sweep().select(train_sets=SETS)


@pytest.fixture(scope="module")
def whole(sweep) -> Rollout:
    """Rollout of the baseline that nothing has interrupted."""
    return rollout(sweep, **CHEAP)


def same(found: Rollout, expected: Rollout) -> None:
    """But for the time that they took."""
    drop = {"columns": "seconds"}
    pd.testing.assert_frame_equal(found.table().drop(**drop), expected.table().drop(**drop))


# the table


def test_the_table_sets_forecasts_beside_what_happened(sweep, whole):
    table = whole.table()
    lead = ["model", "fold", "cutoff", "held_out", "cell_kind", "run_id", "train_set", "eval_set", "params", "tokens"]
    middle = ["flops", "extrapolation", "actual", "mean", "sd", "median", *(f"q{q:g}" for q in QUANTILES)]
    assert table.columns.tolist() == [
        *lead, *middle, "crps", "pit", "trusted", "notes", "simulated", "seconds",
    ]  # fmt: skip
    assert (table["flops"] > table["cutoff"]).all()
    losses = sweep.table.set_index(["train_set", "run_id"])["loss"]
    np.testing.assert_array_equal(
        table["actual"], losses.loc[pd.MultiIndex.from_frame(table[["train_set", "run_id"]])]
    )
    assert set(table.loc[table["fold"] == "translation", "held_out"]) == set(SETS)
    assert (table.loc[table["fold"] == "hindcast", "held_out"] == "").all()
    assert table["simulated"].all()
    assert len(whole) == len(table)
    assert repr(whole) == f"<Rollout of baseline: {len(table)} losses in 6 folds>"
    table["model"] = "changed"
    assert whole.models == ["baseline"]


def test_a_fold_is_what_its_fit_forecasts_scored_as_scoringrules_does(sweep, whole):
    table = whole.table()
    cutoff = table["cutoff"].min()
    rows = table[(table["fold"] == "hindcast") & (table["cutoff"] == cutoff)].reset_index(drop=True)
    forecast = bootstrap(sweep.up_to(cutoff), n_boot=8).draw(rows)
    np.testing.assert_allclose(rows["median"], np.median(forecast.draws, axis=0))
    np.testing.assert_allclose(rows["q0.9"], np.quantile(forecast.draws, 0.9, axis=0))
    largest = sweep.up_to(cutoff).table["flops"].max()
    np.testing.assert_allclose(rows["extrapolation"], rows["flops"] / largest)
    y = rows["actual"].to_numpy()
    crps = sr.crps_ensemble(y, forecast.draws, m_axis=0, estimator="nrg")
    np.testing.assert_allclose(rows["crps"], 100 * crps / y)
    np.testing.assert_allclose(rows["pit"], (forecast.draws < y).mean(axis=0))
    scored = scores.score_rows(rows)
    np.testing.assert_allclose(
        scored["interval_score90"], 100 * sr.interval_score(y, rows["q0.05"], rows["q0.95"], 0.1) / y
    )
    assert scored["crps"].equals(rows["crps"]), "that of the draws is kept"


def test_cells_are_told_apart_by_what_they_are_of():
    table = simulated_sweep().select(train_sets=SETS).table
    copies = [table.assign(eval_set=name, loss=table["loss"] * k) for name, k in ((SETS[0], 1.1), ("hellaswag", 1.2))]
    own = table[table["train_set"] == SETS[0]]
    crossed = pd.concat([own, copies[0][table["train_set"] == SETS[1]], copies[1]], ignore_index=True)
    found = rollout(Sweep.from_table(crossed), **CHEAP | {"cutoffs": [1.1e19]}, kinds=["hindcast"])
    kinds = found.table().groupby("cell_kind")[["train_set", "eval_set"]].agg(lambda names: sorted(set(names)))
    assert kinds.loc["own"].tolist() == [[SETS[0]], [SETS[0]]]
    assert kinds.loc["validation"].tolist() == [[SETS[1]], [SETS[0]]]
    assert kinds.loc["test"].tolist() == [SETS, ["hellaswag"]]


def test_scores_are_averages_of_groups(whole):
    total = whole.scores()
    assert total[["model", "fold"]].to_numpy().tolist() == [["baseline", "hindcast"], ["baseline", "translation"]]
    assert {"n", "rel_error", "bias", "crps", *MEASURES} <= set(total)
    table = whole.table()
    rows = table[table["fold"] == "hindcast"]
    assert total["crps"].iloc[0] == pytest.approx(rows["crps"].mean())
    inside = (rows["q0.25"] <= rows["actual"]) & (rows["actual"] <= rows["q0.75"])
    assert total["coverage50"].iloc[0] == pytest.approx(100 * inside.mean())
    assert total["bias"].iloc[0] == pytest.approx((100 * (rows["median"] / rows["actual"] - 1)).mean())
    by_distance = whole.scores(by="distance")
    assert by_distance["distance"].astype(str).tolist() == ["2 to 5", "10 to 20", "20 to 50"]
    assert by_distance["n"].sum() == len(whole)
    with pytest.raises(ForecastError, match="no column 'law'"):
        whole.scores(by=["law"])


def test_what_cannot_be_predicted_is_noted():
    table = simulated_sweep().select(train_sets=SETS).table
    late = (table["train_set"] == SETS[1]) & (table["flops"] < 5e18)
    found = rollout(Sweep.from_table(table[~late]), **CHEAP | {"cutoffs": [2.2e18]}, kinds=["hindcast"])
    assert set(found.table()["train_set"]) == {SETS[0]}
    (note,) = found.notes
    assert note.code == "cells_left_out"
    assert note.data["losses"] == {"hindcast beyond 2.2e+18 FLOPs": 33}


# refits


def test_a_model_is_compiled_once_and_its_fits_are_judged(monkeypatch):
    compiled: list[object] = []
    monkeypatch.setattr(jobs, "_LAST", {})
    start = sampling.CompiledModel.__init__
    monkeypatch.setattr(
        sampling.CompiledModel, "__init__", lambda self, *args: (compiled.append(self), start(self, *args))[1]
    )
    options = {"draws": 60, "tune": 200, "chains": 2, "random_seed": 3}
    found = rollout(tiny_sweep(), models=[SPEC], cutoffs=[3.2e18, 1e19], **options)
    assert len(compiled) == 1, "the cells of all folds are the same"
    table = found.table()
    assert table.groupby("fold")["cutoff"].nunique().to_dict() == {"hindcast": 2, "translation": 2}
    assert (table["model"] == "tiny").all()
    # The tiny model is the truth: its forecasts are near.
    scored = found.scores(by=["fold", "cutoff"])
    assert (scored.loc[scored["fold"] == "hindcast", "rel_error"] < 0.8).all()
    assert (scored.loc[scored["cutoff"] == 1e19, "coverage95"] > 60).all()
    # Sixty draws are few: that is said, and the rows stay.
    assert set(table["notes"].str.cat(sep=" ").split()) >= {"ess"}
    assert found.trusted == table["trusted"].all() == all(note.code != "untrusted_folds" for note in found.notes)


def test_a_fit_that_is_not_trusted_stays_and_says_so(whole):
    frame = whole.table()
    frame.loc[frame["fold"] == "hindcast", ["trusted", "notes"]] = [False, "rhat"]
    judged = Rollout(frame)
    assert not judged.trusted
    assert judged.scores(by=["fold", "trusted"])["n"].sum() == len(frame)


# resuming


def kept(folder: Path) -> dict[str, int]:
    """Finished folds and when each was written; one that was being written at the kill starts with a dot."""
    return {f.name: f.stat().st_mtime_ns for f in folder.glob("*.parquet") if not f.name.startswith(".")}


def test_finished_folds_are_not_made_again(sweep, whole, tmp_path, monkeypatch):
    path, said = tmp_path / "out.csv", []
    same(rollout(sweep, **CHEAP, path=path), whole)
    before = kept(tmp_path / "out.csv.folds")
    assert len(before) == 6
    monkeypatch.setattr("bayes_l2l.rollouts.run", lambda job: pytest.fail("made again"))
    same(rollout(sweep, **CHEAP, path=path, progress=said.append), whole)
    assert said == ["6 of 6 folds were finished before"]
    assert kept(tmp_path / "out.csv.folds") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda options: options | {"resamples": 9},
        lambda options: options | {"random_seed": 1},
        lambda options: options | {"cutoffs": [2.3e18]},
        lambda options: options | {"sweep": options["sweep"].with_rows(one_more(options["sweep"]))},
    ],
    ids=["settings", "seed", "cut-off", "data"],
)
def test_what_a_fold_depends_on_is_in_its_key(change, sweep, tmp_path):
    options = CHEAP | {"sweep": sweep, "kinds": ["hindcast"], "cutoffs": [2.2e18], "path": tmp_path / "out.csv"}
    for given in (options, options, change(options)):
        rollout(**given)
    assert len(kept(tmp_path / "out.csv.folds")) == 2


def one_more(sweep: Sweep) -> pd.DataFrame:
    return sweep.table.iloc[[0]].assign(run_id="new", loss=3.3)


def test_a_model_file_is_in_the_key_of_its_folds(sweep):
    _, ahead = Fold("hindcast", 2.2e18).split(sweep.table)
    other = SPEC.from_dict(SPEC.to_dict() | {"priors": SPEC.to_dict()["priors"] | {"alpha": 0.5}})
    keys = {jobs.Job(spec, Fold("hindcast", 2.2e18), sweep, ahead).key for spec in (None, SPEC, other)}
    assert len(keys) == 3
    assert jobs.Job(SPEC, Fold("hindcast", 2.2e18), sweep, ahead, cores=4).key in keys, "cores change no draw"


def test_a_damaged_fold_is_made_again(sweep, whole, tmp_path):
    path = tmp_path / "out.parquet"
    rollout(sweep, **CHEAP, path=path)
    first, second, *_ = sorted((tmp_path / "out.parquet.folds").iterdir())
    first.write_bytes(first.read_bytes()[:300])
    second.unlink()
    said: list[str] = []
    same(rollout(sweep, **CHEAP, path=path, progress=said.append), whole)
    assert said[0] == "4 of 6 folds were finished before"
    assert len(said) == 3
    same(Rollout.read(path), whole)


def living(group: int) -> list[str]:
    """Processes of a group that have not ended."""
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    states = [line.split() for line in listed.splitlines()]
    return [state for pgid, state in states if int(pgid) == group and not state.startswith("Z")]


@pytest.mark.parametrize("n_jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_at_any_moment_it_goes_on(n_jobs, sweep, tmp_path):
    sweep.table.to_csv(tmp_path / "runs.csv", index=False)
    path, folder = tmp_path / "out.csv", tmp_path / "out.csv.folds"
    command = [sys.executable, "-m", "bayes_l2l", "rollout", "runs.csv", "--model", "baseline", "--resamples", "150"]
    killed = subprocess.Popen(
        [*command, "--jobs", str(n_jobs), "-o", "out.csv"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    started = time.monotonic()
    while len(kept(folder)) < 3 and time.monotonic() < started + 120:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it was over before it was killed"
    before = kept(folder)
    assert 3 <= len(before) < 12
    assert not path.exists()
    started = time.monotonic()
    while living(killed.pid) and time.monotonic() < started + 30:
        time.sleep(0.1)
    assert living(killed.pid) == [], "workers outlive the process that they work for"
    assert kept(folder) == before

    said: list[str] = []
    runs = Sweep.from_table(pd.read_csv(tmp_path / "runs.csv"))
    options = {"models": ["baseline"], "resamples": 150}
    found = rollout(runs, **options, path=path, progress=said.append)
    assert said[0] == f"{len(before)} of 12 folds were finished before"
    assert len(said) == 1 + 12 - len(before)
    assert before.items() <= kept(folder).items(), "no finished fold is lost or made again"
    same(found, rollout(runs, **options))


# processes and clusters


def test_processes_make_the_same_rollout(sweep, whole):
    same(rollout(sweep, **CHEAP, jobs=2), whole)


def test_a_process_that_is_lost_is_said_in_words():
    with pytest.raises(DataError, match=r"A process of this machine was lost .* start again to go on"):
        list(workers.completed(tasks.end_at_once, [1, 2], jobs=2))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_refusal_is_a_result_and_a_fault_is_raised(n_jobs):
    found = dict(workers.completed(tasks.refuse, [1, 2], jobs=n_jobs))
    assert {place: str(error) for place, error in found.items()} == {0: "task 1 is refused.", 1: "task 2 is refused."}
    with pytest.raises(ZeroDivisionError):
        list(workers.completed(tasks.fail, [1, 2], jobs=n_jobs))


def test_a_cluster_that_loses_a_worker_makes_the_same_rollout(sweep, whole):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options) as cluster:
        with distributed.Client(cluster, set_as_default=False) as client:
            pids = list(client.run(os.getpid).values())
        said: list[str] = []

        def progress(line: str) -> None:
            said.append(line)
            if len(said) == 2:
                os.kill(pids[0], signal.SIGKILL)

        found = rollout(sweep, **CHEAP, dask=cluster.scheduler_address, progress=progress)
    assert len(pids) == 2
    assert len(said) == 6
    same(found, whole)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense"])
def test_a_cluster_that_is_not_there_is_refused(address, sweep):
    pytest.importorskip("distributed")
    with pytest.raises(DataError, match=re.escape(f"No Dask scheduler answers at {address!r} (")):
        rollout(sweep, **CHEAP, dask=address)


def test_a_cluster_without_the_package_is_refused(sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DataError, match=re.escape("pip install 'bayes-l2l[dask]'")):
        rollout(sweep, **CHEAP, dask="tcp://127.0.0.1:9")


# refusals


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"models": ["joynt"]}, SpecError, "There is no model 'joynt'"),
        ({"models": []}, SpecError, "There is no model to roll out; name one"),
        ({"models": ["baseline", "baseline"]}, SpecError, "Two models are called 'baseline'"),
        ({"cutoffs": [1e30]}, DataError, "The cut-off 1e+30 FLOPs leaves nothing"),
        ({"jobs": 0}, DataError, "jobs must be at least 1, not 0."),
        ({"jobs": 2, "dask": "tcp://a:1"}, DataError, "give one of the two"),
        ({"resamples": 0}, SpecError, "n_boot must be at least 1, not 0."),
        ({"draws": 0}, DataError, "draws must be at least 1, not 0."),
        ({"path": "out.nc"}, DataError, "its name must end in .csv or .parquet"),
        ({"path": "no/folder/out.csv"}, DataError, "there is no folder no/folder"),
    ],
)
def test_bad_options_are_refused_before_anything_is_fitted(options, error, said, sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(said)):
        rollout(sweep, **CHEAP | options)
    assert list(tmp_path.iterdir()) == []


def test_a_fold_that_is_refused_is_noted_and_the_others_stay(sweep, monkeypatch):
    def picky(job: jobs.Job) -> pd.DataFrame:
        if job.fold.held_out == SETS[0]:
            raise DataError("not this one.")
        return jobs.run(job)

    monkeypatch.setattr("bayes_l2l.rollouts.run", picky)
    found = rollout(sweep, **CHEAP | {"cutoffs": [1.1e19]})
    assert len(found.table().drop_duplicates(["fold", "held_out"])) == 2
    (note,) = found.notes
    assert (note.code, note.severity) == ("fold_failed", "warning")
    assert note.message == "baseline, translation to proof-pile-2 beyond 1.1e+19 FLOPs: not this one."


# files


def test_a_table_is_read_back(whole, tmp_path):
    path = tmp_path / "out.csv"
    whole.table().assign(trusted=False, notes="rhat ess").to_csv(path, index=False)
    found = Rollout.read(path)
    expected = whole.table().assign(trusted=False, notes="rhat ess")
    pd.testing.assert_frame_equal(found.table(), expected, check_dtype=False)
    (note,) = found.notes
    assert note.code == "untrusted_folds"
    assert note.severity == "serious"
    assert "6 of 6 folds are of fits that are not to be trusted, the first baseline beyond" in note.message
    pd.testing.assert_frame_equal(found.scores(), whole.scores())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.drop(columns="cutoff"), "is not the table of a rollout: it has no column 'cutoff'; `bayes-l2l"),
        (lambda t: t.assign(actual="high"), "column 'actual' must hold a number in every row"),
    ],
)
def test_another_table_is_refused(spoil, said, tmp_path):
    path = tmp_path / "out.csv"
    spoil(by_hand([2.0, 3.0])).to_csv(path, index=False)
    with pytest.raises(DataError, match=re.escape(said)):
        Rollout.read(path)


# honest limits


def test_a_distance_is_tested_by_rollouts_near_it():
    near, far = by_hand([10.0] * 10, held=0.8), by_hand([30.0] * 4, held=0.5).assign(cutoff=2e18)
    found = Rollout(pd.concat([near, far], ignore_index=True))
    one = found.tested(10)
    assert (one.coverage, one.n, one.n_folds, one.largest) == (0.8, 10, 1, 30)
    assert str(one) == "at about 10 times the fitted compute, 90% intervals held 80% of 10 losses in 1 fold"
    assert found.tested(21).n == 4
    assert found.tested(17).n == 0, "nothing is near, though it is less than the largest"
    past = found.tested(31)
    assert past.n == 0
    assert np.isnan(past.coverage)
    assert str(past) == "no rollout has tested 31 times the fitted compute (the furthest: 30)"
    assert found.tested(10, level=0.5).coverage == 0.8
    assert found.tested(10, fold="translation").n == 0
    with pytest.raises(ForecastError, match=r"no 70% intervals"):
        found.tested(10, level=0.7)


def test_the_model_must_be_said_where_there_are_several():
    found = Rollout(pd.concat([by_hand([10.0], held=0), by_hand([10.0], model="joint")], ignore_index=True))
    assert found.tested(10, model="joint").coverage == 1
    with pytest.raises(ForecastError, match="say which of joint, law is meant"):
        found.tested(10)
    with pytest.raises(ForecastError, match=re.escape("'jont' was not rolled out; did you mean 'joint'? (there are")):
        found.tested(10, model="jont")


SIZE = {"train_set": "starcoder", "params": 3.3e9, "tokens": 5.04e10}  # 20.6 times the sweep's largest budget


def notes_of(fit: Fit, frame: pd.DataFrame, **size: float) -> list[Note]:
    return [n for n in fit.forecast(**SIZE | size, rollout=Rollout(frame)).notes if n not in fit.notes]


def test_a_forecast_says_how_often_rollouts_as_far_out_were_right(handmade):
    (note,) = notes_of(handmade, by_hand([15.0, 20.0, 25.0, 25.0]))
    assert (note.code, note.severity) == ("tested", "info")
    expected = (
        "hindcasts of 'law' at about 21 times the fitted compute, 90% intervals held 100% of 4 losses in 1 fold"
    )
    assert note.message == expected
    (note,) = notes_of(handmade, by_hand([25.0] * 4, held=0.5))
    assert (note.code, note.severity) == ("tested", "warning")
    assert note.data["at"][0]["coverage"] == 0.5


def test_a_forecast_past_what_was_tested_says_so(handmade):
    (note,) = notes_of(handmade, by_hand([3.0, 12.0]))
    assert (note.code, note.severity) == ("not_tested", "warning")
    assert "no rollout has tested 21 times the fitted compute (the furthest: 12)" in note.message
    (note,) = notes_of(handmade, by_hand([20.0], fold="translation"))
    assert note.code == "not_tested", "the runs of no other set are as large: translations do not tell"
    assert notes_of(handmade, by_hand([3.0]), params=1e8, tokens=1e9) == []  # inside the sweep


def test_a_forecast_refuses_the_rollout_of_another_model(handmade):
    with pytest.raises(ForecastError, match="The model 'law' was not rolled out"):
        handmade.forecast(**SIZE, rollout=Rollout(by_hand([20.0], model="joint")))


def test_a_forecast_among_the_runs_of_other_sets_is_held_to_translations():
    found = Rollout(pd.concat([by_hand([4.0]), by_hand([4.0], fold="translation", held=0)], ignore_index=True))
    points = pd.DataFrame({"flops": [1e19, 1e19], "extrapolation": [4.0, 4.0]})
    among = found.notes_on(points, model="law", largest_fitted=2e19)
    beyond = found.notes_on(points, model="law", largest_fitted=2.5e18)
    assert [(n.data["fold"], n.severity) for n in among] == [("translation", "warning")]
    assert [(n.data["fold"], n.severity) for n in beyond] == [("hindcast", "info")]
