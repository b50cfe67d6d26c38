"""What may be typed: help, usage, values, and the names that commands and options had before."""

from __future__ import annotations

import re
import shlex

import click
import pytest

import bayes_l2l
from bayes_l2l.cli import main
from bayes_l2l.cli.app import FORMER_NAMES, program

COMMANDS = [
    "demo", "columns", "fit", "check", "forecast", "optimum", "translate", "choose", "plan", "backtest", "compare",
    "score", "report", "sweep", "data", "data list", "data fetch", "models", "models list", "models show",
    "models copy",
]  # fmt: skip


def parsed(arguments: str) -> click.Context:
    """Read a command as `main` would, without running it."""
    command, words = program, shlex.split(arguments)
    while isinstance(command, click.Group):
        command, words = command.get_command(click.Context(command), words[0]), words[1:]
    return command.make_context(command.name, words)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_that_are_right_and_fits_a_terminal(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    examples = re.findall(r"^ +bayes-l2l (.+)$", shown.partition("Examples:")[2], re.MULTILINE)
    assert examples
    for example in examples:
        assert example.startswith(command)
        assert parsed(example).command.name in example
    assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_help_lists_the_commands_in_the_order_of_the_work(capsys):
    assert main(["-h"]) == 0
    shown = capsys.readouterr().out.partition("Commands:")[2].partition("Examples:")[0]
    assert re.findall(r"^  (\w+)  .+[^.]\.$", shown, re.MULTILINE) == [name for name in COMMANDS if " " not in name]
    assert "..." not in shown


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bayes-l2l {bayes_l2l.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "Usage: bayes-l2l [OPTIONS] COMMAND"),
        ("nonesuch", "No such command 'nonesuch'"),
        ("forcast fit.nc", "Did you mean 'forecast'?"),
        ("forecast fit.nc --parms 1e9", "Did you mean '--params'?"),
        ("fit runs.csv", "Missing option '-o' / '--output'"),
        ("fit -o fit.nc", "Missing argument 'RUNS'"),
        ("fit runs.csv -o fit.nc --draws 0", "'--draws': '0' is not a whole number of at least 1"),
        ("fit runs.csv -o fit.nc --tune many", "'--tune': 'many' is not"),
        ("fit runs.csv -o fit.nc --chains 1.5", "'--chains': '1.5' is not"),
        ("fit runs.csv -o fit.nc --seed=-1", "'--seed': '-1' is not a whole number from 0"),
        ("fit runs.csv -o fit.nc --sampler stan", "'stan' is not one of 'nutpie', 'pymc'"),
        ("forecast fit.nc", "say where: --at POINTS, or --params N --tokens D, or --flops C"),
        ("forecast fit.nc --params 1e9", "say where"),
        ("forecast fit.nc --flops 1e21 --tokens 1e9", "say where"),
        ("forecast fit.nc --at p.csv --flops 1e21", "say where"),
        ("forecast fit.nc --flops=-1", "'-1' is not a positive number"),
        ("forecast fit.nc --flops inf", "'inf' is not a positive number"),
        ("forecast fit.nc --params 3x --tokens 1e9", "'3x' is not a positive number (such as 3.3e9, 7b or 110M)"),
        ("choose fit.nc --eval-set task --flops 1e21 --weights 1,2k", "'2k' is not a positive number (such as 0.5)"),
        ("models shw joint", "Did you mean 'show'?"),
        ("colums export.csv", "Did you mean 'columns'?"),
        ("forecast fit.nc --flops 1e21 --quantiles 5,50", "'5,50' is not a list of numbers between 0 and 1"),
        ("forecast fit.nc --flops 1e21 --quantiles 0.1;0.9", "'0.1;0.9' is not a list"),
        ("forecast fit.nc --flops 1e21 --kind median", "'median' is not one of 'predictive', 'mean'"),
        ("choose fit.nc --flops 1e21", "Missing option '--eval-set'"),
        ("choose fit.nc --eval-set task", "say for what size: --flops C, or --params N --tokens D"),
        ("choose fit.nc --eval-set task --flops 1e21 --weights 1,x", "'x' is not a positive number"),
        ("plan fit.nc --goal a@b --flops 1e21", "Missing option '--budget'"),
        ("plan fit.nc --budget 1e20 --flops 1e21", "say the goal: --goal EVAL@TRAIN, or --eval-set"),
        ("plan fit.nc --budget 1e20 --goal a@b --params 1e9", "say for what size"),
        ("score forecast.csv", "Missing argument 'ACTUAL'"),
        ("choose fit.nc --eval-set task --flops 1 --pairs --crossings", "--pairs and --crossings exclude each other"),
        ("score f.csv a.csv --by eval_set --each", "--by and --each exclude each other"),
        ("backtest runs.csv -o o.csv --jobs 1 --dask tcp://x", "--jobs and --dask exclude each other"),
        ("plan fit.nc --budget 1e20 --goal a@b --eval-set b --flops 1e21", "say the goal"),
        ("sweep a b -o runs.csv --large-factor -1", "'-1' is not a positive number"),
        ("sweep -o runs.csv", "Missing argument 'FOLDER...'"),
        ("data", "Usage: bayes-l2l data [OPTIONS] COMMAND"),
    ],
)
def test_wrong_usage(arguments, said, capsys):
    assert main(arguments.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err


def test_a_name_with_nul_is_refused_before_the_file_is_asked_for(capsys):
    assert main(["columns", "runs\0.csv"]) == 2
    assert r"'runs\x00.csv' has a NUL character in it" in capsys.readouterr().err


@pytest.mark.parametrize(("former", "name"), FORMER_NAMES.items())
def test_a_command_is_found_by_its_former_name_which_help_does_not_list(former, name, capsys):
    assert main([former, "--help"]) == 0
    of_former = capsys.readouterr().out
    assert main([name, "--help"]) == 0
    assert of_former.replace(f"bayes-l2l {former}", f"bayes-l2l {name}") == capsys.readouterr().out
    assert main(["--help"]) == 0
    assert former not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("rollout r.csv -o o.csv --fold hindcast", "backtest r.csv -o o.csv --split hindcast"),
        ("forecast f.nc --flops 1 --rollout o.csv", "forecast f.nc --flops 1 --backtest o.csv"),
        ("report f.nc -o r.html --rollout o.csv", "report f.nc -o r.html --backtest o.csv"),
        ("sweep a -o r.csv --star-factor 0", "sweep a -o r.csv --large-factor 0"),
    ],
)
def test_options_keep_their_former_names(former, now):
    before, after = parsed(former), parsed(now)
    assert before.command is after.command
    assert before.params == after.params


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ("forecast f.nc --params 7b --tokens 140B", "params", 7e9),
        ("forecast f.nc --params 110M --tokens 19,500,000", "tokens", 19.5e6),
        ("choose f.nc --eval-set a --params 1.2e9 --tokens 24b", "params", 1.2e9),
        ("plan f.nc --budget 1e20 --goal a@b --params 7b --tokens 1.4T", "tokens", 1.4e12),
        ("report f.nc --flops 1e21 -o r.html", "flops", 1e21),
        ("backtest r.csv --cutoff 1e18 --cutoff 2e18 -o o.csv", "cutoffs", [1e18, 2e18]),
        ("sweep a --budgets 10B,1e11 -o r.csv", "budgets", [1e10, 1e11]),
    ],
)
def test_sizes_are_read_as_people_write_them(arguments, name, value):
    assert parsed(arguments).params[name] == value


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("fore", ["plain,forecast"]),
        ("forecast fit.nc --par", ["plain,--params"]),
        ("fit sim", ["plain,simulated", "file,sim"]),
        ("fit runs.csv --model over", ["plain,overtraining", "file,over"]),
        ("models show jo", ["plain,joint", "file,jo"]),
        ("forecast fi", ["file,fi"]),
    ],
)
def test_shells_are_told_what_could_be_typed(typed, offered, monkeypatch, capsys):
    monkeypatch.setenv("_BAYES_L2L_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"bayes-l2l {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
    monkeypatch.setattr("sys.argv", ["bayes-l2l"])
    assert main() == 0
    found = capsys.readouterr().out.split()
    assert [line for line in found if line in offered] == offered


def test_a_predictive_forecast_is_the_default():
    assert parsed("forecast f.nc --flops 1").params == parsed("forecast f.nc --flops 1 --kind predictive").params
