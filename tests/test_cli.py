"""The command line: what is typed, what comes back on which stream and with which status, and what is left behind."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rolled import by_hand
from synthetic import synthetic_fit

import bayes_l2l
from bayes_l2l import cli, demo, fits, jobs, rollouts, scores
from bayes_l2l.arguments import parser
from bayes_l2l.datasets import large_runs
from bayes_l2l.errors import DataError
from bayes_l2l.notes import Note
from bayes_l2l.output import as_csv, check_output, write_whole

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    "demo", "fit", "forecast", "translate", "choose", "plan", "rollout", "score", "check", "report",
    "sweep", "data", "data list", "data fetch",
]  # fmt: skip
SUMMARY = ["mean", "sd", "median", "q0.05", "q0.5", "q0.95"]
CONTRACT = ["train_set", "eval_set", "params", "tokens", "flops", "kind", *SUMMARY, "extrapolation"]
SIMULATED = "Simulated runs, not measured: simulated from the published laws of arXiv 2411.12925, Table 3"

HEADER = "run_id,train_set,eval_set,params,tokens,loss"
ROWS = [f"r{i},a,a,{10 ** (8 + i / 4):.4g},{10 ** (9.3 + i / 5):.4g},{3.6 - 0.1 * i}" for i in range(8)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Every test types its commands in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runs(folder):
    """Write a table of runs and return its name."""

    def write(*lines: str, header: str = HEADER, name: str = "runs.csv") -> str:
        (folder / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return name

    return write


@pytest.fixture
def sampled(monkeypatch, handmade):
    """Give `fit` a ready answer, and remember what it was asked for."""
    asked: list[dict[str, object]] = []

    def answer(sweep, **options):
        asked.append({"sweep": sweep} | options)
        return replace(handmade, notes=(*sweep.notes, *handmade.notes))

    monkeypatch.setattr(fits, "fit", answer)
    monkeypatch.setattr(demo, "fit", answer)
    return asked


def table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def refused(arguments: str, capsys, folder: Path) -> str:
    """Run a command that must be refused in words; return them. Nothing may be written, nothing shown."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert cli.main(shlex.split(arguments)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    said = [line for line in shown.err.splitlines() if not line.startswith("  ")]
    assert len(said) == 1, shown.err
    assert said[0].startswith("bayes-l2l: error: ")
    return shown.err


# help and usage


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_that_are_right(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command.split(), "--help"])
    assert stop.value.code == 0
    examples = re.findall(r"^  bayes-l2l (.+)$", capsys.readouterr().out.partition("example:")[2], re.MULTILINE)
    assert examples
    for example in examples:
        assert example.startswith(command)
        assert parser().parse_args(shlex.split(example)).command in cli._COMMANDS


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"bayes-l2l {bayes_l2l.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "required: COMMAND"),
        ("nonesuch", "invalid choice: 'nonesuch'"),
        ("fit runs.csv", "required: -o/--output"),
        ("fit -o fit.nc", "required: RUNS"),
        ("fit runs.csv -o fit.nc --draws 0", "--draws: '0' is not a whole number of at least 1"),
        ("fit runs.csv -o fit.nc --tune many", "--tune: 'many' is not"),
        ("fit runs.csv -o fit.nc --chains 1.5", "--chains: '1.5' is not"),
        ("fit runs.csv -o fit.nc --seed=-1", "--seed: '-1' is not a whole number from 0"),
        ("fit runs.csv -o fit.nc --sampler stan", "invalid choice: 'stan'"),
        ("forecast fit.nc", "say where: --at POINTS, or --params N --tokens D, or --flops C"),
        ("forecast fit.nc --params 1e9", "say where"),
        ("forecast fit.nc --flops 1e21 --tokens 1e9", "say where"),
        ("forecast fit.nc --at p.csv --flops 1e21", "say where"),
        ("forecast fit.nc --flops=-1", "'-1' is not a positive number"),
        ("forecast fit.nc --flops inf", "'inf' is not a positive number"),
        ("forecast fit.nc --params 3B --tokens 1e9", "'3B' is not a positive number"),
        ("forecast fit.nc --flops 1e21 --quantiles 5,50", "'5,50' is not a list of numbers between 0 and 1"),
        ("forecast fit.nc --flops 1e21 --quantiles 0.1;0.9", "'0.1;0.9' is not a list"),
        ("forecast fit.nc --flops 1e21 --kind mean", "invalid choice: 'mean'"),
        ("choose fit.nc --flops 1e21", "required: --eval-set"),
        ("choose fit.nc --eval-set task", "say for what size: --flops C, or --params N --tokens D"),
        ("choose fit.nc --eval-set task --flops 1e21 --weights 1,x", "'x' is not a positive number"),
        ("plan fit.nc --goal a@b --flops 1e21", "required: --budget"),
        ("plan fit.nc --budget 1e20 --flops 1e21", "say the goal: --goal EVAL@TRAIN, or --eval-set"),
        ("plan fit.nc --budget 1e20 --goal a@b --params 1e9", "say for what size"),
        ("score forecast.csv", "required: ACTUAL"),
        ("data", "required: ACTION"),
    ],
)
def test_wrong_usage(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments.split())
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err


# tables that are refused, and tables that are noted

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
    assert cli.main(["fit", runs(*lines), "-o", "fit.nc"]) == 0
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
        ("[likelihood]", "[likelihood]\nfade = -1", "likelihood.fade must be a number from 0 to 10"),
        ("[likelihood]", "[likelihood", "is not valid TOML"),
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
    def denied(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", denied)
    assert "fit.nc cannot be written: Permission denied" in refused(f"fit {runs(*ROWS)} -o fit.nc", capsys, folder)
    assert sampled == []


# translate


def test_translate_shows_the_relation_and_the_translated_law(joint, joint_file, capsys):
    asked = f"translate {joint_file} --source smollm-corpus --target task@starcoder --quantiles 0.05,0.95"
    assert cli.main(asked.split()) == 0
    shown = capsys.readouterr()
    expected = joint.translate("smollm-corpus", ("task", "starcoder")).table(quantiles=[0.05, 0.95])
    pd.testing.assert_frame_equal(table(shown.out), expected, rtol=1e-9)
    assert "Simulated runs, not measured: joint.\n" in shown.err
    assert all(f"{note}\n" in shown.err for note in joint.notes)


def test_translate_writes_a_table_and_a_picture(joint_file, capsys):
    cells = "--source fineweb-edu-100b@fineweb-edu-100b --target task@fineweb-edu-100b"
    assert cli.main(f"translate {joint_file} {cells} -o law.csv --plot law.png".split()) == 0
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


# fit


def test_choose_shows_the_table_and_says_whether_it_is_decided(joint, joint_file, capsys):
    status = cli.main(shlex.split(f"choose {joint_file} --eval-set task --flops 1e21 --quantiles 0.05,0.95"))
    shown = capsys.readouterr()
    assert status == (0 if joint.trusted else 1)
    expected = joint.choose(eval_set="task", flops=1e21)
    pd.testing.assert_frame_equal(
        table(shown.out), expected.table(quantiles=[0.05, 0.95]), rtol=1e-6, check_dtype=False
    )
    assert str(expected).splitlines()[0] in shown.err


@pytest.mark.parametrize("which", ["pairs", "crossings"])
def test_choose_shows_other_tables_and_a_picture(which, joint, joint_file, capsys):
    cli.main(
        shlex.split(f"choose {joint_file} --eval-set task --params 1e9 --tokens 1e10 --{which} -o t.csv --plot p.png")
    )
    expected = getattr(joint.choose(eval_set="task", params=1e9, tokens=1e10), which)()
    pd.testing.assert_frame_equal(pd.read_csv("t.csv"), expected, rtol=1e-6, check_dtype=False)
    assert Path("p.png").stat().st_size > 10_000
    assert capsys.readouterr().out == ""


def test_plan_shows_the_batch_or_each_candidate(joint, joint_file, capsys):
    goal = f"plan {joint_file} --budget 1e20 --goal task@starcoder --flops 1e21 --runs 3"
    expected = joint.plan(goal="task@starcoder", budget=1e20, flops=1e21, runs=3)
    cli.main(shlex.split(goal))
    shown = capsys.readouterr()
    pd.testing.assert_frame_equal(table(shown.out), expected.batch, rtol=1e-6, check_dtype=False)
    assert str(expected).splitlines()[0] in shown.err
    cli.main(shlex.split(goal + " --each -o each.csv --plot p.png"))
    pd.testing.assert_frame_equal(pd.read_csv("each.csv"), expected.candidates, rtol=1e-6, check_dtype=False)
    assert Path("p.png").stat().st_size > 10_000


def test_plan_of_a_choice_from_candidates_of_a_file(joint_file, capsys):
    Path("mine.csv").write_text("train_set,params,tokens\nstarcoder,1e8,1e9\nsmollm-corpus,1e8,1e9\n")
    cli.main(
        shlex.split(f"plan {joint_file} --budget 1e20 --eval-set task --flops 1e21 --candidates mine.csv --each")
    )
    assert set(table(capsys.readouterr().out)["train_set"]) == {"starcoder", "smollm-corpus"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("choose {} --eval-set tusk --flops 1e21", "did you mean 'task'"),
        ("choose {} --eval-set task --flops 1e21 --weights 1,2", "weights must be 1 positive numbers"),
        ("choose {} --eval-set task --flops 1e21 --plot out.csv", "must end in .png"),
        ("plan {} --budget 1e20 --goal tusk@starcoder --flops 1e21", "tusk"),
        ("plan {} --budget 1e20 --goal starcoder --flops 1e21 -o out.txt", "must end in .csv"),
    ],
)
def test_bad_decisions_are_refused(arguments, said, joint_file, capsys, folder):
    assert said in refused(arguments.format(joint_file), capsys, folder)


def test_fit_passes_on_what_it_was_told(runs, sampled, capsys):
    options = "--draws 7 --tune 8 --chains 2 --seed 5 --sampler pymc --keep-interrupted --model kaplan --eval-set a"
    assert cli.main(["fit", runs(*ROWS), "-o", "fit.nc", *options.split()]) == 0
    (asked,) = sampled
    assert asked.pop("sweep").eval_sets == ["a"]
    assert asked.pop("model").name == "kaplan"
    assert asked.pop("error_model").name == "error_richards"
    assert asked == {
        "draws": 7,
        "tune": 8,
        "chains": 2,
        "random_seed": 5,
        "sampler": "pymc",
        "keep_interrupted": True,
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
    [([], ["a", "b"]), (["own"], ["a"]), (["all"], ["a", "b"]), (["b"], ["b"]), (["b", "a"], ["a", "b"])],
)
def test_fit_keeps_the_evaluations_that_are_named(given, kept, runs, sampled):
    other = [row.replace(",a,a,", ",a,b,") for row in ROWS]
    flags = [word for name in given for word in ("--eval-set", name)]
    assert cli.main(["fit", runs(*ROWS, *other), "-o", "fit.nc", *flags]) == 0
    assert sampled[0]["sweep"].eval_sets == kept


def test_fit_reads_a_wide_table(runs, sampled):
    Path("map.toml").write_text(
        '[columns]\nrun_id = "run_id"\n[losses]\nweb = "loss"\nbooks = "books"\n[own]\na = "web"\n'
    )
    name = runs(*(f"{row},4.5" for row in ROWS), header=f"{HEADER},books")
    assert cli.main(["fit", name, "--columns", "map.toml", "--eval-set", "own", "-o", "fit.nc"]) == 0
    assert sampled[0]["sweep"].eval_sets == ["a"]


@pytest.mark.parametrize(
    ("terminal", "flags", "shown"), [(True, [], True), (True, ["--no-progress"], False), (False, [], False)]
)
def test_progress_is_for_a_terminal(terminal, flags, shown, runs, sampled, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert cli.main(["fit", runs(*ROWS), "-o", "fit.nc", *flags]) == 0
    assert sampled[0]["progress"] is shown


def test_a_simulated_sweep_is_said_to_be_simulated(sampled, capsys):
    assert cli.main(["fit", "simulated", "-o", "fit.nc"]) == 0
    assert "simulated (simulated, not measured): 528 rows" in capsys.readouterr().err


def test_a_fit_that_is_not_to_be_trusted_is_kept_and_says_so(runs, monkeypatch, capsys):
    bad = synthetic_fit(draws=20, notes=[Note("rhat", "serious", "the chains disagree")])
    monkeypatch.setattr(fits, "fit", lambda sweep, **_: bad)
    for command in (f"fit {runs(*ROWS)} -o fit.nc", "check fit.nc"):
        assert cli.main(command.split()) == 1
        assert "serious: the chains disagree [rhat]\nThis fit is not to be trusted" in capsys.readouterr().err
    assert cli.main(["forecast", "fit.nc", "--flops", "1e21"]) == 1
    shown = capsys.readouterr()
    assert len(table(shown.out)) == 6
    assert "serious: the chains disagree" in shown.err


def test_interrupted(runs, monkeypatch, capsys, folder):
    def stop(sweep, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fits, "fit", stop)
    assert cli.main(["fit", runs(*ROWS), "-o", "fit.nc"]) == 130
    assert capsys.readouterr().err.endswith("bayes-l2l: interrupted\n")
    assert [path.name for path in folder.iterdir()] == ["runs.csv"]


@pytest.mark.slow
def test_from_table_to_forecast(capfd):
    """The whole path with a real sampler, too few draws to be trusted, and a model file of one's own."""
    Path("my.toml").write_text((ROOT / "models" / "chinchilla.toml").read_text(encoding="utf-8"), encoding="utf-8")
    laws = bayes_l2l.simulated_sweep().select(train_sets=["starcoder"]).table
    laws.iloc[::6].to_csv("runs.csv", index=False)
    options = "--model my.toml --draws 60 --tune 150 --chains 2 --seed 3"
    assert cli.main(["fit", "runs.csv", "-o", "fit.nc", *options.split()]) in (0, 1)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "of 120 draws diverged" in shown.err
    assert cli.main(["check", "fit.nc"]) in (0, 1)
    assert set(table(capfd.readouterr().out)["variable"]) >= {"E", "alpha", "beta", "scatter"}
    assert cli.main(["forecast", "fit.nc", "--params", "3.3e9", "--tokens", "5.04e10"]) in (0, 1)
    assert table(capfd.readouterr().out)["median"].between(0.8, 1.2).all()


# forecast


def test_forecast_of_one_size_is_the_contract_table(fit_file, handmade, capsys):
    arguments = "--params 3.3e9 --tokens 5.04e10 --quantiles 0.95,0.05,0.5"
    assert cli.main(["forecast", str(fit_file), *arguments.split()]) == 0
    shown = capsys.readouterr()
    found = table(shown.out)
    assert list(found) == CONTRACT
    assert SIMULATED in shown.err
    expected = handmade.forecast(params=3.3e9, tokens=5.04e10).table(quantiles=[0.05, 0.5, 0.95])
    pd.testing.assert_frame_equal(found, expected, rtol=1e-8, check_dtype=False)


def test_forecast_of_a_budget_and_of_some_sets(fit_file, capsys):
    arguments = "--flops 1e22 --train-set starcoder --train-set proof-pile-2 --eval-set starcoder --kind curve"
    assert cli.main(["forecast", str(fit_file), *arguments.split()]) == 0
    shown = capsys.readouterr()
    found = table(shown.out)
    assert found[["train_set", "eval_set", "kind"]].values.tolist() == [["starcoder", "starcoder", "curve"]]
    np.testing.assert_allclose(6 * found["params"] * found["tokens"], 1e22)
    assert "[far_extrapolation]" in shown.err


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_forecast_at_points_into_a_file(name, fit_file, capsys, folder):
    Path("points.csv").write_text("train_set,params,tokens\nstarcoder,1e9,2e10\nsmollm-corpus,2e9,4e10\n")
    assert cli.main(["forecast", str(fit_file), "--at", "points.csv", "-o", name]) == 0
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


def test_a_damaged_fit_is_refused(fit_file, capsys, folder):
    whole = fit_file.read_bytes()
    Path("half.nc").write_bytes(whole[: len(whole) // 2])
    assert "half.nc: is damaged" in refused("check half.nc", capsys, folder)


# score


@pytest.fixture
def scored(fit_file, capsys):
    """Forecasts of the large simulated runs and their losses, in files."""
    assert cli.main(["forecast", str(fit_file), "--at", "simulated", "-o", "forecast.csv"]) == 0
    large_runs("simulated").table.to_csv("actual.csv", index=False)
    capsys.readouterr()
    return scores.score_table(pd.read_csv("forecast.csv"), large_runs("simulated").table)


def test_score(scored, capsys):
    assert cli.main(["score", "forecast.csv", "actual.csv"]) == 0
    found = table(capsys.readouterr().out)
    pd.testing.assert_frame_equal(found, scores.summary(scored), rtol=1e-8, check_dtype=False)
    assert {"rel_error", "bias", "crps"} <= set(found)
    assert {f"{what}{level}" for what in ("coverage", "width") for level in (50, 80, 90, 95)} <= set(found)


def test_score_within_sets_into_a_file(scored, capsys):
    assert cli.main(["score", "forecast.csv", "actual.csv", "--by", "train_set", "-o", "scores.csv"]) == 0
    assert capsys.readouterr().out == ""
    assert pd.read_csv("scores.csv")["train_set"].tolist() == sorted(scored["train_set"])


def test_score_of_each_run_of_a_known_data_set(scored, capsys):
    assert cli.main(["score", "forecast.csv", "simulated", "--each"]) == 0
    shown = capsys.readouterr()
    assert SIMULATED in shown.err
    found = table(shown.out)
    np.testing.assert_allclose(found["bias"], scored["bias"], rtol=1e-6)


def test_score_of_a_wide_table(scored, capsys):
    wide = large_runs("simulated").wide().rename(columns={"train_set": "data"})
    wide.drop(columns="flops").to_csv("wide.csv", index=False)
    losses = "\n".join(f'"{name}" = "{name}"' for name in scored["train_set"])
    Path("map.toml").write_text(f'[columns]\ntrain_set = "data"\n[losses]\n{losses}\n')
    assert cli.main(["score", "forecast.csv", "wide.csv", "--columns", "map.toml"]) == 0
    assert table(capsys.readouterr().out)["n"].tolist() == [6]


def test_a_forecast_without_its_run_is_refused(scored, capsys, folder):
    pd.read_csv("actual.csv").iloc[1:].to_csv("actual.csv", index=False)
    assert "1 of 6 rows of the forecast table have no actual loss" in refused(
        "score forecast.csv actual.csv", capsys, folder
    )


# check, data, demo


def test_check(fit_file, capsys):
    assert cli.main(["check", str(fit_file)]) == 0
    shown = capsys.readouterr()
    found = table(shown.out).set_index("variable")
    assert list(found) == ["rhat", "ess_bulk", "ess_tail"]
    assert {"E", "log_A", "log_B", "alpha", "beta", "gamma"} <= set(found.index)
    assert (found["rhat"] < 1.02).all()
    assert SIMULATED in shown.err
    assert "0 of 1000 draws diverged" in shown.err


def test_rollout_writes_its_table_and_shows_its_scores(capsys, folder):
    command = "rollout simulated --model baseline --resamples 5 --cutoff 2.3e19 --fold hindcast -o out.csv"
    assert cli.main(shlex.split(command)) == 0
    shown = capsys.readouterr()
    found = table(shown.out)
    assert found[["model", "fold", "cell_kind", "distance"]].to_numpy().tolist() == [
        ["baseline", "hindcast", "own", "2 to 5"]
    ]
    written = pd.read_csv(folder / "out.csv")
    assert found["n"].tolist() == [66] == [len(written)]
    assert found["crps"].item() == pytest.approx(written["crps"].mean(), rel=1e-6)
    assert "[1/1] baseline, hindcast beyond 2.3e+19 FLOPs: 66 losses" in shown.err
    assert SIMULATED.partition(": ")[2] in shown.err
    assert cli.main(shlex.split(command)) == 0
    assert "1 of 1 folds were finished before" in capsys.readouterr().err


def test_rollout_of_a_fit_that_is_not_trusted_ends_with_1(monkeypatch, capsys):
    untrusted = jobs.run

    def doubt(job):
        return untrusted(job).assign(trusted=False, notes="rhat")

    monkeypatch.setattr(rollouts, "run", doubt)
    command = "rollout simulated --model baseline --resamples 5 --cutoff 2.3e19 --fold hindcast -o out.csv"
    assert cli.main(shlex.split(command)) == 1
    assert "serious: 1 of 1 folds are of fits that are not to be trusted" in capsys.readouterr().err


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
def test_a_bad_rollout_is_refused(arguments, said, runs, capsys, folder):
    if "--dask" in arguments:
        pytest.importorskip("distributed")
    runs(*ROWS)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert cli.main(["rollout", *shlex.split(arguments)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_forecast_is_held_to_a_rollout(fit_file, capsys, folder):
    frame = by_hand([15.0, 20.0, 25.0, 25.0])
    frame.to_csv("rollout.csv", index=False)
    size = f"forecast {fit_file} --params 3.3e9 --tokens 5.04e10"
    assert cli.main(shlex.split(f"{size} --rollout rollout.csv")) == 0
    shown = capsys.readouterr().err
    assert "info: hindcasts of 'law' at about 21 times the fitted compute, 90% intervals held 100% of 4" in shown
    assert "Written" not in refused(f"{size} --rollout nosuch.csv", capsys, folder)
    frame.assign(model="joint").to_csv("rollout.csv", index=False)
    assert "The model 'law' was not rolled out" in refused(f"{size} --rollout rollout.csv", capsys, folder)
    assert "is what is read" in refused(f"{size} --rollout rollout.csv -o rollout.csv", capsys, folder)


def test_data_list(capsys):
    assert cli.main(["data", "list"]) == 0
    shown = capsys.readouterr().out
    for dataset in bayes_l2l.known():
        assert f"{dataset.name}\n  {dataset.title}\n" in shown


def test_data_fetch_says_where(real_data, monkeypatch, capsys):
    monkeypatch.setenv("BAYES_L2L_DATA", str(real_data))
    assert cli.main(["data", "fetch", "loss-to-loss"]) == 0
    assert capsys.readouterr().out == f"{real_data}\n"


def test_demo(sampled, capsys):
    assert cli.main(["demo", "--simulated", "-o", "out"]) == 0
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
    assert cli.main(["demo"]) in (0, 1)
    shown = capsys.readouterr().out
    assert shown.startswith("Real data, of very small models")
    assert "Loss (nats/byte)" in shown
    for train_set, loss in (
        large_runs("microsweep", eval_sets="own").table[["train_set", "loss"]].itertuples(index=False)
    ):
        assert re.search(rf"{train_set} +{loss:.3f} +\d\.\d+ \[\d\.\d+, \d\.\d+\]", shown)
    assert "Scores over these runs" in shown
    assert sorted(path.name for path in Path("demo").iterdir()) == sorted(demo.FILES)


# files and streams


def test_a_file_is_written_whole_or_not_at_all(folder):
    path = folder / "table.csv"
    path.write_text("old")

    def fails(part: Path) -> None:
        part.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"table\.csv cannot be written: No space left on device"):
        write_whole(path, fails)
    assert path.read_text() == "old"
    check_output(path)
    assert path.read_text() == "old"
    write_whole(path, lambda part: part.write_text("new"))
    assert [(p.name, p.read_text()) for p in folder.iterdir()] == [("table.csv", "new")]


def test_csv_keeps_ten_digits():
    frame = pd.DataFrame({"tokens": [50352769083.264435], "params": [3309980160.0], "loss": [2.1262345678901]})
    assert as_csv(frame) == "tokens,params,loss\n5.035276908e+10,3309980160,2.126234568\n"


def test_a_reader_that_goes_away_is_no_fault(folder):
    script = "import sys, time; time.sleep(1)\nfrom bayes_l2l.cli import main\nsys.exit(main(['data', 'list']))\n"
    (folder / "late.py").write_text(script)
    command = f"{shlex.quote(sys.executable)} late.py | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_the_module_is_the_command(folder):
    done = subprocess.run(
        [sys.executable, "-m", "bayes_l2l", "fit", "nonesuch.csv", "-o", "fit.nc"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("bayes-l2l: error: there is no file and no data set 'nonesuch.csv'")
    assert list(folder.iterdir()) == []
