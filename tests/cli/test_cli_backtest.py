"""`backtest`, which was `rollout`."""

from __future__ import annotations

import shlex

import pandas as pd
import pytest
from command_line import ROWS, SIMULATED, table

from bayes_l2l.cli import main
from bayes_l2l.evaluation import backtests, jobs


def test_backtest_writes_its_table_and_shows_its_scores(capsys, folder):
    command = "backtest simulated --model baseline --resamples 5 --cutoff 2.3e19 --split hindcast -o out.csv"
    assert main(shlex.split(command)) == 0
    shown = capsys.readouterr()
    found = table(shown.out)
    assert found[["model", "split", "cell_kind", "distance"]].to_numpy().tolist() == [
        ["baseline", "hindcast", "train", "2 to 5"]
    ]
    written = pd.read_csv(folder / "out.csv")
    assert found["n"].tolist() == [66] == [len(written)]
    assert found["crps"].item() == pytest.approx(written["crps"].mean(), rel=1e-6)
    assert "[1/1] baseline, hindcast beyond 2.3e+19 FLOPs: 66 losses" in shown.err
    assert SIMULATED.partition(": ")[2] in shown.err
    assert main(shlex.split(command.replace("backtest", "rollout", 1).replace("--split", "--fold"))) == 0
    assert "1 of 1 splits were finished before" in capsys.readouterr().err


def test_backtest_of_a_fit_that_is_not_trusted_ends_with_1(monkeypatch, capsys):
    untrusted = jobs.run

    def doubt(job):
        return untrusted(job).assign(trusted=False, notes="rhat")

    monkeypatch.setattr(backtests, "run", doubt)
    command = "backtest simulated --model baseline --resamples 5 --cutoff 2.3e19 --split hindcast -o out.csv"
    assert main(shlex.split(command)) == 1
    assert "serious: 1 of 1 splits are of fits that are not to be trusted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("simulated -o out.nc", "its name must end in .csv or .parquet"),
        ("runs.csv -o runs.csv", "runs.csv is what is read; write to another file"),
        ("simulated --model joynt -o out.csv", "There is no model 'joynt'"),
        ("simulated --cutoff 1e30 -o out.csv", "The cut-off 1e+30 FLOPs leaves nothing to fit or nothing to predict"),
        ("simulated --dask nonsense -o out.csv", "No Dask scheduler answers at 'nonsense'"),
        ("nosuch.csv -o out.csv", "there is no file and no data set 'nosuch.csv'"),
    ],
)
def test_a_bad_backtest_is_refused(arguments, said, runs, capsys, folder):
    if "--dask" in arguments:
        pytest.importorskip("distributed")
    runs(*ROWS)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["backtest", *shlex.split(arguments)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
