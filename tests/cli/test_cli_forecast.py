"""`forecast`, `optimum`, `translate` and `score`."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from backtested import by_hand
from command_line import SIMULATED, refused, table

from bayes_l2l.cli import main
from bayes_l2l.data.datasets import large_runs
from bayes_l2l.evaluation import scores

SUMMARY = ["mean", "sd", "median", "q0.05", "q0.5", "q0.95"]


CONTRACT = ["train_set", "eval_set", "params", "tokens", "flops", "kind", *SUMMARY, "extrapolation"]


def test_forecast_of_one_size_is_the_contract_table(fit_file, handmade, capsys):
    arguments = "--params 3.3e9 --tokens 5.04e10 --quantiles 0.95,0.05,0.5"
    assert main(["forecast", str(fit_file), *arguments.split()]) == 0
    shown = capsys.readouterr()
    found = table(shown.out)
    assert list(found) == CONTRACT
    assert SIMULATED in shown.err
    expected = handmade.forecast(params=3.3e9, tokens=5.04e10).table(quantiles=[0.05, 0.5, 0.95])
    pd.testing.assert_frame_equal(found, expected, rtol=1e-8, check_dtype=False)


def test_forecast_of_a_budget_and_of_some_sets(fit_file, capsys):
    arguments = "--flops 1e22 --train-set starcoder --train-set proof-pile-2 --eval-set starcoder --kind mean"
    assert main(["forecast", str(fit_file), *arguments.split()]) == 0
    shown = capsys.readouterr()
    found = table(shown.out)
    assert found[["train_set", "eval_set", "kind"]].values.tolist() == [["starcoder", "starcoder", "mean"]]
    np.testing.assert_allclose(6 * found["params"] * found["tokens"], 1e22)
    assert "[far_extrapolation]" in shown.err


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_forecast_at_points_into_a_file(name, fit_file, capsys, folder):
    Path("points.csv").write_text("train_set,params,tokens\nstarcoder,1e9,2e10\nsmollm-corpus,2e9,4e10\n")
    assert main(["forecast", str(fit_file), "--at", "points.csv", "-o", name]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"Written: {name}\n")
    found = pd.read_csv(name) if name.endswith("csv") else pd.read_parquet(name)
    assert found["train_set"].tolist() == ["starcoder", "smollm-corpus"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([name, "points.csv"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--flops 1e21 --train-set books", "The training set 'books' was not fitted"),
        ("--flops 1e21 --eval-set starcoder --train-set smollm-corpus", "No cell was fitted"),
        ("--at absent.csv", "there is no file absent.csv"),
        ("--at bad.csv", "row 2, column 'params': -1 must be above 0"),
        ("--at other.csv", "No cell was fitted for books of web"),
        ("--flops 1e21 -o out.txt", "must end in .csv or .parquet"),
        ("--flops 1e21 -o absent/out.csv", "there is no folder absent"),
        ("--at bad.csv -o bad.csv", "bad.csv is what is read"),
    ],
)
def test_a_bad_forecast_is_refused(arguments, said, fit_file, capsys, folder):
    Path("bad.csv").write_text("params,tokens\n-1,2e9\n")
    Path("other.csv").write_text("train_set,eval_set,params,tokens\nweb,books,1e9,2e9\n")
    assert said in refused(f"forecast {fit_file} {arguments}", capsys, folder)


def test_forecast_is_held_to_a_backtest(fit_file, capsys, folder):
    frame = by_hand([15.0, 20.0, 25.0, 25.0])
    frame.to_csv("backtest.csv", index=False)
    size = f"forecast {fit_file} --params 3.3e9 --tokens 5.04e10"
    assert main(shlex.split(f"{size} --backtest backtest.csv")) == 0
    shown = capsys.readouterr().err
    assert "info: hindcasts of 'law' at about 21 times the fitted compute, 90% intervals held 100% of 4" in shown
    assert "Written" not in refused(f"{size} --rollout nosuch.csv", capsys, folder)
    frame.assign(model="joint").to_csv("backtest.csv", index=False)
    assert "The model 'law' was not backtested" in refused(f"{size} --backtest backtest.csv", capsys, folder)
    assert "is what is read" in refused(f"{size} --backtest backtest.csv -o backtest.csv", capsys, folder)


def test_translate_shows_the_relation_and_the_translated_law(joint, joint_file, capsys):
    asked = f"translate {joint_file} --source smollm-corpus --target task@starcoder --quantiles 0.05,0.95"
    assert main(asked.split()) == 0
    shown = capsys.readouterr()
    expected = joint.translate("smollm-corpus", ("task", "starcoder")).table(quantiles=[0.05, 0.95])
    pd.testing.assert_frame_equal(table(shown.out), expected, rtol=1e-9)
    assert "Simulated runs, not measured: joint.\n" in shown.err
    serious = [note for note in joint.notes if note.severity == "serious"]
    assert all(f"{note}\n" in shown.err for note in serious)
    if mild := len(joint.notes) - len(serious):
        assert f"The fit itself has {mild} more note" in shown.err


def test_translate_writes_a_table_and_a_picture(joint_file, capsys):
    cells = "--source fineweb-edu-100b@fineweb-edu-100b --target task@fineweb-edu-100b"
    assert main(f"translate {joint_file} {cells} -o law.csv --plot law.png".split()) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert pd.read_csv("law.csv")["variable"].tolist()[:4] == ["K", "kappa", "E0", "E1"]
    assert Path("law.png").read_bytes().startswith(b"\x89PNG")
    assert "Written: law.png\nWritten: law.csv\n" in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--source moon --target starcoder", "joint has no cell 'moon' (evaluation@training set)"),
        ("--source starcode --target starcoder", "did you mean 'starcoder@starcoder'?"),
        ("--source starcoder --target task@smollm", "did you mean 'task@smollm-corpus'?"),
        ("--source starcoder --target starcoder --plot law.txt", "its name must end in .png or .pdf or .svg"),
        ("--source starcoder --target starcoder -o law.txt", "its name must end in .csv or .parquet"),
    ],
)
def test_translate_refuses_in_one_sentence(arguments, message, joint_file, capsys, folder):
    assert message in refused(f"translate {joint_file} {arguments}", capsys, folder)


def test_translate_refuses_a_model_of_separate_laws(fit_file, capsys, folder):
    said = refused(f"translate {fit_file} --source starcoder --target smollm-corpus", capsys, folder)
    assert "fit the joint model (model='joint', --model joint)" in said


@pytest.fixture
def scored(fit_file, capsys):
    """Forecasts of the large simulated runs and their losses, in files."""
    assert main(["forecast", str(fit_file), "--at", "simulated", "-o", "forecast.csv"]) == 0
    large_runs("simulated").table.to_csv("actual.csv", index=False)
    capsys.readouterr()
    return scores.score_table(pd.read_csv("forecast.csv"), large_runs("simulated").table)


def test_score(scored, capsys):
    assert main(["score", "forecast.csv", "actual.csv"]) == 0
    found = table(capsys.readouterr().out)
    pd.testing.assert_frame_equal(found, scores.summary(scored), rtol=1e-8, check_dtype=False)
    assert {"rel_error", "bias", "crps"} <= set(found)
    assert {f"{what}{level}" for what in ("coverage", "width") for level in (50, 80, 90, 95)} <= set(found)


def test_score_within_sets_into_a_file(scored, capsys):
    assert main(["score", "forecast.csv", "actual.csv", "--by", "train_set", "-o", "scores.csv"]) == 0
    assert capsys.readouterr().out == ""
    assert pd.read_csv("scores.csv")["train_set"].tolist() == sorted(scored["train_set"])


def test_score_of_each_run_of_a_known_data_set(scored, capsys):
    assert main(["score", "forecast.csv", "simulated", "--each"]) == 0
    shown = capsys.readouterr()
    assert SIMULATED in shown.err
    found = table(shown.out)
    np.testing.assert_allclose(found["bias"], scored["bias"], rtol=1e-6)


def test_score_of_a_wide_table(scored, capsys):
    wide = large_runs("simulated").wide().rename(columns={"train_set": "data"})
    wide.drop(columns="flops").to_csv("wide.csv", index=False)
    losses = "\n".join(f'"{name}" = "{name}"' for name in scored["train_set"])
    Path("map.toml").write_text(f'[columns]\ntrain_set = "data"\n[losses]\n{losses}\n')
    assert main(["score", "forecast.csv", "wide.csv", "--columns", "map.toml"]) == 0
    assert table(capsys.readouterr().out)["n"].tolist() == [6]


def test_a_table_with_a_column_twice_is_refused(scored, capsys):
    made = pd.read_csv("forecast.csv")
    pd.concat([made, made[["median"]]], axis=1).to_csv("twice.csv", index=False)
    assert main(["score", "twice.csv", "actual.csv"]) == 1
    assert "more than one column is called 'median'" in capsys.readouterr().err


def test_a_forecast_without_its_run_is_refused(scored, capsys, folder):
    pd.read_csv("actual.csv").iloc[1:].to_csv("actual.csv", index=False)
    assert "1 of 6 rows of the forecast table have no actual loss" in refused(
        "score forecast.csv actual.csv", capsys, folder
    )


def test_optimum(joint_file, tmp_path, capsys):
    picture, table = tmp_path / "isoflop.png", tmp_path / "sizes.csv"
    arguments = ["optimum", str(joint_file), "--flops", "1e20,1e21", "--flops", "1e22", "--plot", str(picture)]
    assert main([*arguments, "-o", str(table)]) == 0
    found = pd.read_csv(table)
    assert found["flops"].tolist() == [1e20, 1e21, 1e22]
    assert {"params", "params_q0.05", "tokens", "tokens_per_param", "params_exponent"} <= set(found)
    assert picture.stat().st_size > 10_000
    said = capsys.readouterr().err
    assert "N* grows as C^0." in said
    assert "[shared_optimum]" in said
