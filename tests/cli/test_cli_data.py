"""`data` and `demo`."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import bayes_l2l
from bayes_l2l import fits
from bayes_l2l.cli import demo, main
from bayes_l2l.data.datasets import large_runs


def test_data_list(capsys):
    assert main(["data", "list"]) == 0
    shown = capsys.readouterr().out
    for dataset in bayes_l2l.known():
        assert f"{dataset.name}\n  {dataset.title}\n" in shown


def test_data_fetch_says_where(real_data, monkeypatch, capsys):
    monkeypatch.setenv("BAYES_L2L_DATA", str(real_data))
    assert main(["data", "fetch", "loss-to-loss"]) == 0
    assert capsys.readouterr().out == f"{real_data}\n"


def test_demo(sampled, capsys):
    assert main(["demo", "--simulated", "-o", "out"]) == 0
    shown = capsys.readouterr()
    assert "Simulated data, not measured" in shown.out
    assert "20.6 times the largest compute fitted" in shown.out
    large = large_runs("simulated").table
    for train_set, loss in zip(large["train_set"], large["loss"], strict=True):
        assert re.search(rf"{train_set} +{loss:.3f} +\d\.\d+ \[\d\.\d+, \d\.\d+\]", shown.out)
    assert "bootstrap of the paper's Eq. 4" in shown.out
    assert "simulated, not measured" in shown.err
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(demo.FILES)
    assert len(pd.read_csv("out/forecast.csv")) == 6
    assert bayes_l2l.load_fit("out/fit.nc").sweep.simulated
    assert Path("out/forecast.png").read_bytes().startswith(b"\x89PNG")
    assert "Simulated runs, not measured" in Path("out/report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_demo_samples(monkeypatch, capsys):
    """As it is, but for the number of draws."""

    def few(sweep, **options):
        return fits.fit(sweep, **options, draws=50, tune=100, chains=2)

    monkeypatch.setattr(demo, "fit", few)
    assert main(["demo"]) in (0, 1)
    shown = capsys.readouterr().out
    assert shown.startswith("Real data, of very small models")
    assert "Loss (nats/byte)" in shown
    for train_set, loss in (
        large_runs("microsweep", eval_sets="own").table[["train_set", "loss"]].itertuples(index=False)
    ):
        assert re.search(rf"{train_set} +{loss:.3f} +\d\.\d+ \[\d\.\d+, \d\.\d+\]", shown)
    assert "Scores over these runs" in shown
    assert sorted(path.name for path in Path("demo").iterdir()) == sorted(demo.FILES)
