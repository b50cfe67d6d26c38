"""`fit` and `check`: tables and models that are refused, what is fitted, and whether it is to be trusted."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from command_line import HEADER, ROWS, SIMULATED, refused, table
from synthetic import synthetic_fit

import bayes_l2l
from bayes_l2l import files, fits
from bayes_l2l.cli import main
from bayes_l2l.notes import Note

ROOT = Path(__file__).resolve().parents[2]


BAD_NUMBERS = {
    "abc": "'abc' is not a number",
    "0": "0 must be above 0",
    "-2": "-2 must be above 0",
    "nan": "blank or NaN",
    "inf": "inf is not finite",
}


@pytest.mark.parametrize("column", ["params", "tokens", "loss"])
@pytest.mark.parametrize("cell", BAD_NUMBERS)
def test_a_bad_number_is_refused_with_its_place(column, cell, runs, capsys, folder):
    cells = ROWS[2].split(",")
    cells[HEADER.split(",").index(column)] = cell
    name = runs(*ROWS[:2], ",".join(cells), *ROWS[3:])
    said = refused(f"fit {name} -o fit.nc", capsys, folder)
    assert "runs.csv is refused: 1 fault found." in said
    assert f"row 4, column '{column}': {BAD_NUMBERS[cell]}" in said


@pytest.mark.parametrize(
    ("lines", "header", "said"),
    [
        (ROWS, HEADER.replace("tokens", "token"), "column 'tokens'"),
        (ROWS, HEADER.replace("tokens", "token"), "'token'"),
        (ROWS, HEADER.replace("loss", "x"), "column 'loss'"),
        ([*ROWS, ROWS[0]], HEADER, "row 10"),
        ([f"{row}0" for row in (r.rpartition(",")[0] + ",4" for r in ROWS)], HEADER, "percent"),
        ([f"{row.rpartition(',')[0]},{30 - i}.5" for i, row in enumerate(ROWS)], HEADER, "perplexity"),
        (ROWS[:1], HEADER, "there is only 1 run; a law needs at least 2"),
        ([], HEADER, "no rows"),
    ],
)
def test_a_bad_table_is_refused(lines, header, said, runs, capsys, folder):
    message = refused(f"fit {runs(*lines, header=header)} -o fit.nc", capsys, folder)
    assert said in message


def test_all_faults_come_at_once(runs, capsys, folder):
    name = runs("x1,a,a,x,2e9,-3", "x2,a,a,1e8,nan,3", *ROWS)
    said = refused(f"fit {name} -o fit.nc", capsys, folder)
    assert "3 faults found" in said
    for place in ("row 2, column 'params'", "row 2, column 'loss'", "row 3, column 'tokens'"):
        assert place in said


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (ROWS[:4], "too_few_runs"),
        ([f"r{i},a,a,1e8,{10 ** (9 + i / 5):.4g},{3.6 - 0.1 * i}" for i in range(8)], "one_model_size"),
    ],
)
def test_a_doubtful_table_is_fitted_with_a_note(lines, code, runs, sampled, capsys):
    assert main(["fit", runs(*lines), "-o", "fit.nc"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count(f"[{code}]") == 1
    assert Path("fit.nc").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("fit nonesuch.csv -o fit.nc", "'nonesuch.csv'"),
        ("fit loss-to-los -o fit.nc", "did you mean 'loss-to-loss'?"),
        ("fit runs.csv -o fit.nc --model nonesuch", "known are chinchilla"),
        ("fit runs.csv -o fit.nc --model my.toml", "my.toml"),
        ("fit runs.csv -o fit.nc --columns map.toml", "map.toml cannot be read"),
        ("fit runs.csv -o fit.nc --eval-set books", "no evaluation 'books'"),
        ("fit runs.csv -o absent/fit.nc", "there is no folder absent"),
        ("fit runs.csv -o runs.csv/fit.nc", "there is no folder runs.csv"),
        ("fit runs.csv -o .", "is a folder"),
        ("fit runs.csv -o runs.csv", "runs.csv is what is read"),
        ("forecast absent.nc --flops 1e21", "absent.nc: there is no such file"),
        ("forecast runs.csv --flops 1e21", "is damaged or not a NetCDF file"),
        ("check runs.csv", "is damaged or not a NetCDF file"),
        ("score runs.csv absent.csv", "there is no file absent.csv"),
        ("score runs.csv runs.csv", "neither a column 'median' nor 'q0.5'"),
        ("score runs.txt runs.csv", "neither .csv nor .parquet"),
        ("data fetch simulated", "nothing to fetch"),
        ("data fetch nonesuch", "there is no data set 'nonesuch'"),
        ("demo -o absent/demo", "absent/demo cannot be made"),
        ("demo -o runs.csv", "runs.csv cannot be made"),
    ],
)
def test_a_bad_argument_is_refused(arguments, said, runs, capsys, folder):
    runs(*ROWS)
    assert said in refused(arguments, capsys, folder)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[priors.alpha]", "[priors.alhpa]", "unknown key 'alhpa'"),
        ('dist = "Normal"', 'dist = "Norml"', "did you mean 'Normal'?"),
        ('law = "generalised"', 'law = "genarelised"', "did you mean 'generalised'?"),
        (
            "[likelihood]",
            "[likelihood]\nextrapolation_discrepancy = -1",
            "likelihood.extrapolation_discrepancy must be a number from 0 to 10",
        ),
        ("[likelihood]", "[likelihood", "is not TOML"),
    ],
)
def test_a_bad_model_file_is_refused_by_name(old, new, said, runs, capsys, folder):
    text = (ROOT / "models" / "law.toml").read_text(encoding="utf-8")
    assert old in text
    text = re.sub(r"^fade = .*\n", "", text, flags=re.MULTILINE)
    Path("my.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    message = refused(f"fit {runs(*ROWS)} --model my.toml -o fit.nc", capsys, folder)
    assert "my.toml" in message
    assert said in message


def test_a_folder_that_cannot_be_written_to_is_refused_before_sampling(runs, sampled, monkeypatch, capsys, folder):
    def denied(part: Path, size: int) -> None:
        raise PermissionError(13, "Permission denied", str(part))

    monkeypatch.setattr(files, "_fill", denied)
    assert "fit.nc cannot be written: Permission denied" in refused(f"fit {runs(*ROWS)} -o fit.nc", capsys, folder)
    assert sampled == []


def test_fit_passes_on_what_it_was_told(runs, sampled, capsys):
    options = "--draws 7 --tune 8 --chains 2 --seed 5 --sampler pymc --keep-interrupted --model kaplan --eval-set a"
    assert main(["fit", runs(*ROWS), "-o", "fit.nc", *options.split()]) == 0
    (asked,) = sampled
    assert asked.pop("sweep").eval_sets == ["a"]
    assert asked.pop("model").name == "kaplan"
    assert asked.pop("error_model").name == "error_richards"
    assert asked == {
        "draws": 7,
        "tune": 8,
        "chains": 2,
        "random_seed": 5,
        "method": None,
        "sampler": "pymc",
        "keep_interrupted": True,
        "outliers": "set-aside",
        "progress": False,
    }
    assert bayes_l2l.load_fit("fit.nc").trusted
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "runs.csv: 8 rows, 8 runs" in shown.err
    assert "R-hat at most 1.0" in shown.err
    assert shown.err.endswith("Written: fit.nc\n")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], ["a", "b"]),
        (["own"], ["a"]),
        (["train"], ["a"]),
        (["all"], ["a", "b"]),
        (["b"], ["b"]),
        (["b", "a"], ["a", "b"]),
    ],
)
def test_fit_keeps_the_evaluations_that_are_named(given, kept, runs, sampled):
    other = [row.replace(",a,a,", ",a,b,") for row in ROWS]
    flags = [word for name in given for word in ("--eval-set", name)]
    assert main(["fit", runs(*ROWS, *other), "-o", "fit.nc", *flags]) == 0
    assert sampled[0]["sweep"].eval_sets == kept


def test_fit_reads_a_wide_table(runs, sampled):
    Path("map.toml").write_text(
        '[columns]\nrun_id = "run_id"\n[losses]\nweb = "loss"\nbooks = "books"\n[own]\na = "web"\n'
    )
    name = runs(*(f"{row},4.5" for row in ROWS), header=f"{HEADER},books")
    assert main(["fit", name, "--columns", "map.toml", "--eval-set", "train", "-o", "fit.nc"]) == 0
    assert sampled[0]["sweep"].eval_sets == ["a"]


@pytest.mark.parametrize(
    ("terminal", "flags", "shown"), [(True, [], True), (True, ["--no-progress"], False), (False, [], False)]
)
def test_progress_is_for_a_terminal(terminal, flags, shown, runs, sampled, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert main(["fit", runs(*ROWS), "-o", "fit.nc", *flags]) == 0
    assert callable(sampled[0]["progress"]) is shown


def test_a_simulated_sweep_is_said_to_be_simulated(sampled, capsys):
    assert main(["fit", "simulated", "-o", "fit.nc"]) == 0
    assert "simulated (simulated, not measured): 528 rows" in capsys.readouterr().err


def test_a_fit_that_is_not_to_be_trusted_is_kept_and_says_so(runs, monkeypatch, capsys):
    bad = synthetic_fit(draws=20, notes=[Note("rhat", "serious", "the chains disagree")])
    monkeypatch.setattr(fits, "fit", lambda sweep, **_: bad)
    for command in (f"fit {runs(*ROWS)} -o fit.nc", "check fit.nc"):
        assert main(command.split()) == 1
        assert "serious: the chains disagree [rhat]\nThis fit is not to be trusted" in capsys.readouterr().err
    assert main(["forecast", "fit.nc", "--flops", "1e21"]) == 1
    shown = capsys.readouterr()
    assert len(table(shown.out)) == 6
    assert "serious: the chains disagree" in shown.err


def test_interrupted(runs, monkeypatch, capsys, folder):
    def stop(sweep, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fits, "fit", stop)
    assert main(["fit", runs(*ROWS), "-o", "fit.nc"]) == 130
    assert capsys.readouterr().err.endswith("bayes-l2l: interrupted\n")
    assert [path.name for path in folder.iterdir()] == ["runs.csv"]


@pytest.mark.slow
def test_from_table_to_forecast(capfd):
    """The whole path with a real sampler, too few draws to be trusted, and a model file of one's own."""
    Path("my.toml").write_text((ROOT / "models" / "chinchilla.toml").read_text(encoding="utf-8"), encoding="utf-8")
    laws = bayes_l2l.simulated_sweep().select(train_sets=["starcoder"]).table
    laws.iloc[::6].to_csv("runs.csv", index=False)
    options = "--model my.toml --draws 60 --tune 150 --chains 2 --seed 3"
    assert main(["fit", "runs.csv", "-o", "fit.nc", *options.split()]) in (0, 1)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "of 120 draws diverged" in shown.err
    assert main(["check", "fit.nc"]) in (0, 1)
    assert set(table(capfd.readouterr().out)["variable"]) >= {"E", "alpha", "beta", "residual_scale"}
    assert main(["forecast", "fit.nc", "--params", "3.3e9", "--tokens", "5.04e10"]) in (0, 1)
    assert table(capfd.readouterr().out)["median"].between(0.8, 1.2).all()


def test_check(fit_file, capsys):
    assert main(["check", str(fit_file)]) == 0
    shown = capsys.readouterr()
    found = table(shown.out).set_index("variable")
    assert list(found) == ["rhat", "ess_bulk", "ess_tail"]
    assert {"E", "log_A", "log_B", "alpha", "beta", "gamma"} <= set(found.index)
    assert (found["rhat"] < 1.02).all()
    assert SIMULATED in shown.err
    assert "0 of 1000 draws diverged" in shown.err


def test_a_damaged_fit_is_refused(fit_file, capsys, folder):
    whole = fit_file.read_bytes()
    Path("half.nc").write_bytes(whole[: len(whole) // 2])
    assert "half.nc: is damaged" in refused("check half.nc", capsys, folder)
