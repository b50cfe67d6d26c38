"""Backtests: forecasts beside what happened, resumed after any end, made by any number of processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scoringrules as sr
import tasks
from backtested import by_hand
from tiny import JOINT, SPEC, tiny_sweep

import bayes_l2l
from bayes_l2l import evaluation, files
from bayes_l2l.data.simulation import simulated_sweep
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError, ForecastError, SpecError, TableError
from bayes_l2l.evaluation import jobs, scores, workers
from bayes_l2l.evaluation.backtests import Backtest, backtest
from bayes_l2l.evaluation.baseline import bootstrap
from bayes_l2l.evaluation.splits import Split
from bayes_l2l.fits import Fit
from bayes_l2l.inference import compiled as compiling
from bayes_l2l.notes import Note
from bayes_l2l.posterior.draws import QUANTILES
from bayes_l2l.structures.models import load_spec

ROOT = Path(__file__).resolve().parents[2]
SETS = ["proof-pile-2", "starcoder"]
CHEAP = {"models": ["baseline"], "resamples": 8, "cutoffs": [2.2e18, 1.1e19]}
MEASURES = [f"{what}{level}" for level in (50, 80, 90, 95) for what in ("coverage", "width", "interval_score")]


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return simulated_sweep().select(train_sets=SETS)


@pytest.fixture(scope="module")
def whole(sweep) -> Backtest:
    """Backtest of the baseline that nothing has interrupted."""
    return backtest(sweep, **CHEAP)


def same(found: Backtest, expected: Backtest) -> None:
    """But for the time that they took."""
    drop = {"columns": "seconds"}
    pd.testing.assert_frame_equal(found.table().drop(**drop), expected.table().drop(**drop))


# the table


def test_the_table_sets_forecasts_beside_what_happened(sweep, whole):
    table = whole.table()
    lead = ["model", "split", "cutoff", "held_out", "cell_kind", "run_id", "train_set", "eval_set", "params"]
    middle = ["tokens", "flops", "extrapolation", "actual", "mean", "sd", "median", *(f"q{q:g}" for q in QUANTILES)]
    assert table.columns.tolist() == [
        *lead, *middle, "crps", "pit", "trusted", "notes", "simulated", "seconds",
    ]  # fmt: skip
    assert (table["flops"] > table["cutoff"]).all()
    losses = sweep.table.set_index(["train_set", "run_id"])["loss"]
    np.testing.assert_array_equal(
        table["actual"], losses.loc[pd.MultiIndex.from_frame(table[["train_set", "run_id"]])]
    )
    assert set(table.loc[table["split"] == "translation", "held_out"]) == set(SETS)
    assert (table.loc[table["split"] == "hindcast", "held_out"] == "").all()
    assert table["simulated"].all()
    assert len(whole) == len(table)
    assert repr(whole) == f"<Backtest of baseline: {len(table)} losses in 6 splits>"
    table["model"] = "changed"
    assert whole.models == ["baseline"]


def test_a_split_is_what_its_fit_forecasts_scored_as_scoringrules_does(sweep, whole):
    table = whole.table()
    cutoff = table["cutoff"].min()
    rows = table[(table["split"] == "hindcast") & (table["cutoff"] == cutoff)].reset_index(drop=True)
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
    found = backtest(Sweep.from_table(crossed), **CHEAP | {"cutoffs": [1.1e19]}, kinds=["hindcast"])
    kinds = found.table().groupby("cell_kind")[["train_set", "eval_set"]].agg(lambda names: sorted(set(names)))
    assert kinds.loc["train"].tolist() == [[SETS[0]], [SETS[0]]]
    assert kinds.loc["validation"].tolist() == [[SETS[1]], [SETS[0]]]
    assert kinds.loc["downstream"].tolist() == [SETS, ["hellaswag"]]


def test_scores_are_averages_of_groups(whole):
    total = whole.scores()
    assert total[["model", "split"]].to_numpy().tolist() == [["baseline", "hindcast"], ["baseline", "translation"]]
    assert {"n", "rel_error", "bias", "crps", *MEASURES} <= set(total)
    table = whole.table()
    rows = table[table["split"] == "hindcast"]
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
    found = backtest(Sweep.from_table(table[~late]), **CHEAP | {"cutoffs": [2.2e18]}, kinds=["hindcast"])
    assert set(found.table()["train_set"]) == {SETS[0]}
    (note,) = found.notes
    assert note.code == "cells_left_out"
    assert note.data["losses"] == {"hindcast beyond 2.2e+18 FLOPs": 33}


# refits


def test_a_model_is_compiled_once_and_its_fits_are_judged(monkeypatch):
    compiled: list[object] = []
    monkeypatch.setattr(jobs, "_LAST", {})
    start = compiling.CompiledModel.__init__
    monkeypatch.setattr(
        compiling.CompiledModel, "__init__", lambda self, *args: (compiled.append(self), start(self, *args))[1]
    )
    options = {"draws": 60, "tune": 200, "chains": 2, "random_seed": 3}
    found = backtest(tiny_sweep(), models=[SPEC], cutoffs=[3.2e18, 1e19], **options)
    assert len(compiled) == 1, "the cells of all splits are the same"
    table = found.table()
    assert table.groupby("split")["cutoff"].nunique().to_dict() == {"hindcast": 2, "translation": 2}
    assert (table["model"] == "tiny").all()
    # The tiny model is the truth: its forecasts are near.
    scored = found.scores(by=["split", "cutoff"])
    assert (scored.loc[scored["split"] == "hindcast", "rel_error"] < 0.8).all()
    assert (scored.loc[scored["cutoff"] == 1e19, "coverage95"] > 60).all()
    # Sixty draws are few: that is said, and the rows stay.
    assert set(table["notes"].str.cat(sep=" ").split()) >= {"ess"}
    assert found.trusted == table["trusted"].all() == all(note.code != "untrusted_splits" for note in found.notes)


def rough_later(split: Split) -> Sweep:
    """Runs of a training set without its own loss; of two evaluations one is smooth up to a budget alone."""
    runs = tiny_sweep().table.query("train_set == 'web'").drop(columns=["run_id", "eval_set"])
    rng, far = np.random.default_rng(2), runs["flops"] > 4e18
    noise = {"early": np.where(far, 0.05, 0.0005), "even": np.full(len(runs), 0.005)}
    noisy = {name: runs["loss"] * np.exp(sd * rng.standard_normal(len(runs))) for name, sd in noise.items()}
    table = pd.concat([runs.assign(eval_set=name, loss=loss) for name, loss in noisy.items()], ignore_index=True)
    return Sweep.from_table(split.parts(table)[0].reset_index(drop=True), name="rough")


def test_splits_with_other_anchors_share_no_compiled_model(monkeypatch):
    monkeypatch.setattr(jobs, "_LAST", {})
    monkeypatch.setattr(compiling, "CompiledModel", lambda spec, sweep: sweep)
    small, large = (rough_later(Split("hindcast", cutoff)) for cutoff in (4e18, 2e19))
    assert small.cells["eval_set"].tolist() == large.cells["eval_set"].tolist() == ["early", "even"]
    assert [jobs._compiled(JOINT, sweep) for sweep in (small, large, small)] == [small, large, small]
    # Other runs with the same anchors, and a model of which no cell is an anchor, are not compiled again.
    again = rough_later(Split("hindcast", 3.9e18))
    assert jobs._compiled(JOINT, again) is small
    assert [jobs._compiled(SPEC, sweep) for sweep in (small, large)] == [small, small]


def test_a_fit_that_is_not_trusted_stays_and_says_so(whole):
    frame = whole.table()
    frame.loc[frame["split"] == "hindcast", ["trusted", "notes"]] = [False, "rhat"]
    judged = Backtest(frame)
    assert not judged.trusted
    assert judged.scores(by=["split", "trusted"])["n"].sum() == len(frame)


# resuming


def kept(folder: Path) -> dict[str, int]:
    """Finished splits and when each was written; one that was being written at the kill starts with a dot."""
    return {f.name: f.stat().st_mtime_ns for f in folder.glob("*.parquet") if not f.name.startswith(".")}


def test_finished_splits_are_not_made_again(sweep, whole, tmp_path, monkeypatch):
    path, said = tmp_path / "out.csv", []
    same(backtest(sweep, **CHEAP, path=path), whole)
    before = kept(tmp_path / "out.csv.splits")
    assert len(before) == 6
    monkeypatch.setattr("bayes_l2l.evaluation.backtests.run", lambda job: pytest.fail("made again"))
    same(backtest(sweep, **CHEAP, path=path, progress=said.append), whole)
    assert said == ["6 of 6 splits were finished before"]
    assert kept(tmp_path / "out.csv.splits") == before


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
def test_what_a_split_depends_on_is_in_its_key(change, sweep, tmp_path):
    options = CHEAP | {"sweep": sweep, "kinds": ["hindcast"], "cutoffs": [2.2e18], "path": tmp_path / "out.csv"}
    for given in (options, options, change(options)):
        backtest(**given)
    assert len(kept(tmp_path / "out.csv.splits")) == 2


def one_more(sweep: Sweep) -> pd.DataFrame:
    return sweep.table.iloc[[0]].assign(run_id="new", loss=3.3)


def test_a_model_file_is_in_the_key_of_its_splits(sweep):
    _, ahead = Split("hindcast", 2.2e18).parts(sweep.table)
    other = load_spec(SPEC.to_dict() | {"priors": SPEC.to_dict()["priors"] | {"alpha": 0.5}})
    keys = {jobs.Job(spec, Split("hindcast", 2.2e18), sweep, ahead).key for spec in (None, SPEC, other)}
    assert len(keys) == 3
    assert jobs.Job(SPEC, Split("hindcast", 2.2e18), sweep, ahead, cores=4).key in keys, "cores change no draw"


def copied(folder: Path, **changed: str) -> Path:
    """The package's sources, of which some have one line more."""
    package = Path(jobs.__file__).parents[1]
    for file in package.rglob("*.py"):
        to = folder / file.relative_to(package)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(file.read_bytes() + changed.get(file.stem, "").encode())
    return folder


def test_the_code_that_makes_a_result_is_in_its_key(sweep, tmp_path, monkeypatch):
    _, ahead = Split("hindcast", 2.2e18).parts(sweep.table)

    def key(package: Path) -> str:
        monkeypatch.setattr(jobs, "_PACKAGE", package)
        return jobs.Job(None, Split("hindcast", 2.2e18), sweep, ahead).key

    mine = key(jobs._PACKAGE)
    assert key(copied(tmp_path / "same")) == mine
    assert key(copied(tmp_path / "picture", calibration="# more\n")) == mine, "pictures change no result"
    assert key(copied(tmp_path / "law", scaling="# more\n")) != mine
    assert key(copied(tmp_path / "room", point_fit="# more\n")) != mine
    monkeypatch.setattr(files, "version", lambda name: "0.1" if name == "nutpie" else version(name))
    files.code_digest.cache_clear()
    assert key(tmp_path / "same") != mine
    files.code_digest.cache_clear()


def test_the_code_is_read_once_a_process(sweep, monkeypatch):
    files.code_digest(jobs._PACKAGE)
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("read again"))
    files.code_digest(jobs._PACKAGE)


def test_a_damaged_split_is_made_again(sweep, whole, tmp_path):
    path = tmp_path / "out.parquet"
    backtest(sweep, **CHEAP, path=path)
    first, second, *_ = sorted((tmp_path / "out.parquet.splits").iterdir())
    first.write_bytes(first.read_bytes()[:300])
    second.unlink()
    said: list[str] = []
    same(backtest(sweep, **CHEAP, path=path, progress=said.append), whole)
    assert said[0] == "4 of 6 splits were finished before"
    assert len(said) == 3
    same(Backtest.read(path), whole)


def test_a_split_of_another_table_or_changed_by_hand_is_made_again(sweep, whole, tmp_path):
    path = tmp_path / "out.parquet"
    backtest(sweep, **CHEAP, path=path)
    first, second, third, *_ = sorted((tmp_path / "out.parquet.splits").iterdir())
    first.write_bytes(second.read_bytes())
    edited = pd.read_parquet(third)
    edited.loc[0, "median"] = 1.0
    edited.to_parquet(third, index=False)
    said: list[str] = []
    same(backtest(sweep, **CHEAP, path=path, progress=said.append), whole)
    assert said[0] == "4 of 6 splits were finished before"
    assert len(said) == 3


def living(group: int) -> list[str]:
    """Processes of a group that have not ended."""
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    states = [line.split() for line in listed.splitlines()]
    return [state for pgid, state in states if int(pgid) == group and not state.startswith("Z")]


@pytest.mark.parametrize("n_jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_at_any_moment_it_goes_on(n_jobs, sweep, tmp_path):
    sweep.table.to_csv(tmp_path / "runs.csv", index=False)
    path, folder = tmp_path / "out.csv", tmp_path / "out.csv.splits"
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
    # Not from the file: pandas 2 reads it to all digits but the last.
    runs = Sweep.from_table(sweep.table)
    options = {"models": ["baseline"], "resamples": 150}
    found = backtest(runs, **options, path=path, progress=said.append)
    assert said[0] == f"{len(before)} of 12 splits were finished before"
    assert len(said) == 1 + 12 - len(before)
    assert before.items() <= kept(folder).items(), "no finished split is lost or made again"
    same(found, backtest(runs, **options))


# processes and clusters


def test_processes_make_the_same_backtest(sweep, whole):
    same(backtest(sweep, **CHEAP, jobs=2), whole)


def test_a_process_that_is_lost_is_said_in_words():
    with pytest.raises(DataError, match=r"A process of this machine was lost .* start again to go on"):
        list(workers.completed(tasks.end_at_once, [1, 2], jobs=2))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_refusal_is_a_result_and_a_fault_is_raised(n_jobs):
    found = dict(workers.completed(tasks.refuse, [1, 2], jobs=n_jobs))
    assert {place: str(error) for place, error in found.items()} == {0: "task 1 is refused.", 1: "task 2 is refused."}
    with pytest.raises(ZeroDivisionError):
        list(workers.completed(tasks.fail, [1, 2], jobs=n_jobs))


def test_a_cluster_that_loses_a_worker_makes_the_same_backtest(sweep, whole):
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

        found = backtest(sweep, **CHEAP, dask=cluster.scheduler_address, progress=progress)
    assert len(pids) == 2
    assert len(said) == 6
    same(found, whole)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense"])
def test_a_cluster_that_is_not_there_is_refused(address, sweep):
    pytest.importorskip("distributed")
    with pytest.raises(DataError, match=re.escape(f"No Dask scheduler answers at {address!r} (")):
        backtest(sweep, **CHEAP, dask=address)


def test_a_cluster_without_the_package_is_refused(sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DataError, match=re.escape("pip install 'bayes-l2l[dask]'")):
        backtest(sweep, **CHEAP, dask="tcp://127.0.0.1:9")


# refusals


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"models": ["joynt"]}, SpecError, "There is no model 'joynt'"),
        ({"models": []}, SpecError, "There is no model to backtest; name one"),
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
        backtest(sweep, **CHEAP | options)
    assert list(tmp_path.iterdir()) == []


def test_a_split_that_is_refused_is_noted_and_the_others_stay(sweep, monkeypatch):
    def picky(job: jobs.Job) -> pd.DataFrame:
        if job.split.held_out == SETS[0]:
            raise DataError("not this one.")
        return jobs.run(job)

    monkeypatch.setattr("bayes_l2l.evaluation.backtests.run", picky)
    found = backtest(sweep, **CHEAP | {"cutoffs": [1.1e19]})
    assert len(found.table().drop_duplicates(["split", "held_out"])) == 2
    (note,) = found.notes
    assert (note.code, note.severity) == ("split_failed", "warning")
    assert note.message == "baseline, translation to proof-pile-2 beyond 1.1e+19 FLOPs: not this one."


# files


def test_a_table_is_read_back(whole, tmp_path):
    path = tmp_path / "out.csv"
    whole.table().assign(trusted=False, notes="rhat ess").to_csv(path, index=False)
    found = Backtest.read(path)
    expected = whole.table().assign(trusted=False, notes="rhat ess")
    pd.testing.assert_frame_equal(found.table(), expected, check_dtype=False)
    (note,) = found.notes
    assert note.code == "untrusted_splits"
    assert note.severity == "serious"
    assert "6 of 6 splits are of fits that are not to be trusted, the first baseline beyond" in note.message
    pd.testing.assert_frame_equal(found.scores(), whole.scores())


def test_a_table_that_calls_its_splits_folds_is_read(whole, tmp_path):
    whole.table().rename(columns={"split": "fold"}).to_csv(tmp_path / "old.csv", index=False)
    pd.testing.assert_frame_equal(Backtest.read(tmp_path / "old.csv").scores(), whole.scores())


def test_the_earlier_names_stay():
    assert bayes_l2l.Rollout is bayes_l2l.Backtest is evaluation.Backtest is Backtest
    assert bayes_l2l.rollout is bayes_l2l.backtest is evaluation.backtest is backtest


def test_every_name_of_the_room_is_there():
    assert {"Backtest", "backtest", "score_table", "bootstrap", "Split"} <= set(evaluation.__all__)
    for name in evaluation.__all__:
        assert getattr(evaluation, name).__name__ == name


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.drop(columns="cutoff"), "is not the table of a backtest: it has no column 'cutoff'; `bayes-l2l"),
        (lambda t: t.assign(actual="high"), "column 'actual' must hold a number in every row; row 2 has 'high'."),
        (lambda t: t[:0], "is the table of a backtest without any forecast"),
        (
            lambda t: t.assign(**{"q0.05": [2.5, "x"]}),
            "column 'q0.05' must hold a number in every row; row 3 has 'x'.",
        ),
        (lambda t: t.assign(params="lots"), "column 'params' must hold a number in every row; row 2 has 'lots'."),
        (
            lambda t: t.assign(tokens=[1e9, -1e9]),
            "column 'tokens' must hold a positive number in every row; row 3 has",
        ),
        (lambda t: t.assign(pit=7.0), "column 'pit' must hold a probability in every row; row 2 has '7"),
        (lambda t: t.assign(**{"q0.5": [2.0, 9.0]}), "the quantiles of row 3 do not rise from q0.025 to q0.975."),
        (
            lambda t: t.assign(trusted="yes"),
            "column 'trusted' must hold True or False in every row; row 2 has 'yes'.",
        ),
        (lambda t: t.assign(split="guess"), "column 'split' must be hindcast or translation; row 2 has 'guess'."),
    ],
)
def test_another_table_is_refused(spoil, said, tmp_path):
    path = tmp_path / "out.csv"
    spoil(by_hand([2.0, 3.0])).to_csv(path, index=False)
    with pytest.raises(DataError, match=re.escape(said)):
        Backtest.read(path)


def test_a_table_that_a_spreadsheet_wrote_is_read(tmp_path):
    path = tmp_path / "out.csv"
    by_hand([2.0, 3.0]).assign(trusted="TRUE", simulated="FALSE").to_csv(path, index=False)
    assert Backtest.read(path).trusted


# honest limits


def test_a_distance_is_tested_by_backtests_near_it():
    near, far = by_hand([10.0] * 10, held=0.8), by_hand([30.0] * 4, held=0.5).assign(cutoff=2e18)
    found = Backtest(pd.concat([near, far], ignore_index=True))
    one = found.tested(10)
    assert (one.coverage, one.n, one.n_splits, one.largest) == (0.8, 10, 1, 30)
    assert str(one) == "at about 10 times the fitted compute, 90% intervals held 80% of 10 losses in 1 split"
    assert found.tested(21).n == 4
    assert found.tested(17).n == 0, "nothing is near, though it is less than the largest"
    past = found.tested(31)
    assert past.n == 0
    assert np.isnan(past.coverage)
    assert str(past) == "no backtest has tested 31 times the fitted compute (the furthest: 30)"
    assert found.tested(10, level=0.5).coverage == 0.8
    assert found.tested(10, split="translation").n == 0
    with pytest.raises(ForecastError, match=r"no 70% intervals"):
        found.tested(10, level=0.7)


def test_the_model_must_be_said_where_there_are_several():
    found = Backtest(pd.concat([by_hand([10.0], held=0), by_hand([10.0], model="joint")], ignore_index=True))
    assert found.tested(10, model="joint").coverage == 1
    with pytest.raises(ForecastError, match="say which of joint, law is meant"):
        found.tested(10)
    with pytest.raises(ForecastError, match=re.escape("'jont' was not backtested; did you mean 'joint'? (there are")):
        found.tested(10, model="jont")


SIZE = {"train_set": "starcoder", "params": 3.3e9, "tokens": 5.04e10}  # 20.6 times the sweep's largest budget


def notes_of(fit: Fit, frame: pd.DataFrame, **size: float) -> list[Note]:
    return [n for n in fit.forecast(**SIZE | size, rollout=Backtest(frame)).notes if n not in fit.notes]


def test_a_forecast_says_how_often_backtests_as_far_out_were_right(handmade):
    (note,) = notes_of(handmade, by_hand([15.0, 20.0, 25.0, 25.0]))
    assert (note.code, note.severity) == ("tested", "info")
    expected = (
        "hindcasts of 'law' at about 21 times the fitted compute, 90% intervals held 100% of 4 losses in 1 split"
    )
    assert note.message == expected
    (note,) = notes_of(handmade, by_hand([25.0] * 4, held=0.5))
    assert (note.code, note.severity) == ("tested", "warning")
    assert note.data["at"][0]["coverage"] == 0.5


def test_a_forecast_past_what_was_tested_says_so(handmade):
    (note,) = notes_of(handmade, by_hand([3.0, 12.0]))
    assert (note.code, note.severity) == ("not_tested", "warning")
    assert "no backtest has tested 21 times the fitted compute (the furthest: 12)" in note.message
    (note,) = notes_of(handmade, by_hand([20.0], split="translation"))
    assert note.code == "not_tested", "the runs of no other set are as large: translations do not tell"
    assert notes_of(handmade, by_hand([3.0]), params=1e8, tokens=1e9) == []  # inside the sweep


def test_a_forecast_refuses_the_backtest_of_another_model(handmade):
    with pytest.raises(ForecastError, match="The model 'law' was not backtested"):
        handmade.forecast(**SIZE, rollout=Backtest(by_hand([20.0], model="joint")))


def test_a_forecast_among_the_runs_of_other_sets_is_held_to_translations():
    found = Backtest(pd.concat([by_hand([4.0]), by_hand([4.0], split="translation", held=0)], ignore_index=True))
    points = pd.DataFrame({"flops": [1e19, 1e19], "extrapolation": [4.0, 4.0]})
    among = found.notes_on(points, model="law", largest_fitted=2e19)
    beyond = found.notes_on(points, model="law", largest_fitted=2.5e18)
    assert [(n.data["split"], n.severity) for n in among] == [("translation", "warning")]
    assert [(n.data["split"], n.severity) for n in beyond] == [("hindcast", "info")]


def test_a_split_that_cannot_be_kept_is_refused_in_words(tmp_path):
    (tmp_path / "out.csv.splits").write_text("a file where the folder goes")
    job = jobs.Job(None, None, None, None)
    table = pd.DataFrame({"a": [1]})
    with pytest.raises(DataError, match=r"the folder .*out\.csv\.splits cannot be made: File exists"):
        job.keep(table, tmp_path / "out.csv.splits")


@pytest.mark.parametrize("column", ["q0.05", "crps", "params"])
def test_a_backtest_whose_numbers_are_text_is_refused(column, tmp_path):
    by_hand([2.0, 5.0]).assign(**{column: ["many", 1.0]}).to_csv(tmp_path / "out.csv", index=False)
    with pytest.raises(DataError, match=f"column '{column}' must hold a number in every row"):
        Backtest.read(tmp_path / "out.csv")


@pytest.mark.parametrize("column", ["q0.05", "split"])
def test_a_backtest_with_a_column_twice_is_refused(column, tmp_path):
    table = by_hand([2.0, 5.0])
    pd.concat([table, table[[column]]], axis=1).to_csv(tmp_path / "out.csv", index=False)
    with pytest.raises(TableError, match=f"more than one column is called '{column}'"):
        Backtest.read(tmp_path / "out.csv")


def test_the_former_name_of_a_column_beside_its_name_is_another_column(tmp_path):
    table = by_hand([2.0, 5.0])
    table.assign(fold="first").to_csv(tmp_path / "out.csv", index=False)
    assert Backtest.read(tmp_path / "out.csv").table()["split"].tolist() == table["split"].tolist()


@pytest.mark.parametrize("entry", ["pandas_type", "numpy_type"])
def test_a_finished_split_that_pandas_cannot_make_out_is_made_again(tmp_path, monkeypatch, entry):
    """Its errors are of many kinds; the fuzz harness met these."""
    monkeypatch.setattr(jobs.Job, "key", "split")
    job, file = jobs.Job(None, None, None, None), tmp_path / "split.parquet"
    job.keep(pd.DataFrame({"median": [2.0, 3.0], "model": "law"}), tmp_path)
    assert job.finished(tmp_path) is not None
    table = pq.read_table(file)
    known = table.schema.metadata[b"pandas"]
    pq.write_table(table.replace_schema_metadata({b"pandas": known.replace(entry.encode(), b"typo")}), file)
    assert job.finished(tmp_path) is None
