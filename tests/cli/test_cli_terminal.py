"""Tables on a terminal: aligned, rounded and no wider than it; as CSV everywhere else."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import table

from bayes_l2l.cli import main
from bayes_l2l.cli.terminal import as_texts, print_table, rounded

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def terminal(monkeypatch):
    """Turn standard output into a terminal without colours; called by the test itself, once output is captured."""

    def of_width(width: int) -> None:
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("LINES", "40")  # without both, rich takes a dumb terminal to have 80 columns
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    return of_width


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


# numbers


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.5031454, 1.109317, np.nan], ["2.503", "1.109", "–"]),
        ([0.02422, 0.0098], ["0.0242", "0.0098"]),
        ([0.0, 0.088413262, 0.57926], ["0.0000", "0.0884", "0.5793"]),
        ([2.0, 0.0, 66.0], ["2", "0", "66"]),
        ([115.0838, 1234.6], ["115", "1235"]),
        ([3309980160.0, 5.0352769e10, 1e21], ["3.31e9", "5.04e10", "1e21"]),
        ([6.36e-19, 0.0], ["6.36e-19", "0"]),
        ([-0.31, 12.5], ["-0.310", "12.500"]),
        ([np.inf, 1.5], ["inf", "1.500"]),
        ([], []),
    ],
)
def test_numbers_are_rounded_to_what_matters(values, expected):
    assert rounded(np.array(values)) == expected


def test_columns_of_one_quantity_are_rounded_alike():
    frame = pd.DataFrame(
        {"median": [10.123, 11.0], "q0.05": [0.98765, 1.0], "sd": [0.5, 0.25], "in90": [True, False]}
    )
    assert as_texts(frame) == {
        "median": ["10.123", "11.000"],
        "q0.05": ["0.988", "1.000"],
        "sd": ["0.5000", "0.2500"],
        "in90": ["True", "False"],
    }


# tables


def test_a_forecast_on_a_terminal(joint_file, terminal, capsys):
    terminal(80)
    assert main(["forecast", str(joint_file), "--flops", "1e21"]) == 0
    shown = capsys.readouterr()
    assert lines(shown.out) == [
        "params 3.1B, tokens 53.7B, flops 1e21, kind predictive, extrapolation 20.7x",
        "",
        "train_set         eval_set          median  90% interval",
        "fineweb-edu-100b  fineweb-edu-100b   2.504  [2.464, 2.540]",
        "fineweb-edu-100b  task               2.548  [2.508, 2.582]",
        "smollm-corpus     smollm-corpus      2.169  [2.136, 2.211]",
        "smollm-corpus     task               2.639  [2.598, 2.678]",
        "starcoder         starcoder          1.109  [1.090, 1.131]",
        "starcoder         task               3.048  [2.999, 3.089]",
    ]
    assert "A file (-o) or a pipe also gets: mean, sd, 9 quantiles.\n" in shown.err


def test_a_wide_terminal_gets_all(joint_file, terminal, capsys):
    terminal(160)
    asked = ["--quantiles", "0.025,0.05,0.1,0.25,0.5,0.75,0.9,0.95"]
    assert main(["forecast", str(joint_file), "--flops", "1e21", *asked]) == 0
    shown = capsys.readouterr()
    assert lines(shown.out)[2].split()[-1] == "q0.95"
    assert "also gets" not in shown.err


def test_a_table_of_one_row_is_printed_downwards(joint_file, terminal, capsys):
    terminal(80)
    one = ["--flops", "1e21", "--train-set", "starcoder", "--eval-set", "task", "--quantiles", "0.05,0.95"]
    assert main(["forecast", str(joint_file), *one]) == 0
    shown = dict(line.split() for line in lines(capsys.readouterr().out))
    assert list(shown)[:3] == ["train_set", "eval_set", "params"]
    assert shown["train_set"] == "starcoder"
    assert shown["flops"] == "1e21"
    assert re.fullmatch(r"\d\.\d{3}", shown["q0.95"])


def test_a_narrow_terminal_keeps_the_names_whole_and_a_number(terminal, capsys):
    terminal(24)
    names = ["a-training-set-of-a-long-name", "another-of-a-long-name-too"]
    print_table(pd.DataFrame({"train_set": names, "mean": [1.25, 2.5], "median": [1.5, 3.5], "n": [2, 3]}))
    shown = capsys.readouterr()
    head, *body = lines(shown.out)
    assert head.split() == ["train_set", "median"]
    assert max(map(len, [head, *body])) <= 24
    assert "".join(line.split()[0] for line in body) == "".join(names)
    assert [line.split()[1] for line in body if len(line.split()) > 1] == ["1.500", "3.500"]


def test_names_are_shown_as_they_are(terminal, capsys):
    terminal(80)
    print_table(pd.DataFrame({"eval_set": ["[bold]web[/bold]", "日本語"], "loss": [1.25, 2.5]}))
    assert lines(capsys.readouterr().out) == [
        "eval_set           loss",
        "[bold]web[/bold]  1.250",
        "日本語            2.500",
    ]


def test_a_table_without_rows_is_its_heading(terminal, capsys):
    terminal(80)
    print_table(pd.DataFrame({"train_set": pd.Series(dtype=str), "params": pd.Series(dtype=float)}))
    assert lines(capsys.readouterr().out) == ["train_set  params"]


def test_rows_that_are_all_the_same_stay_a_table(terminal, capsys):
    terminal(80)
    print_table(pd.DataFrame({"train_set": ["a", "a"], "n": [3, 3]}))
    assert lines(capsys.readouterr().out) == ["train_set  n", "a          3", "a          3"]


# a real terminal, and a pipe


def in_a_terminal(arguments: list[str], width: int) -> str:
    """Output of the command, whose standard output is a terminal of this width."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, width))
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TERM": "xterm"}
    command = [sys.executable, "-m", "bayes_l2l", *arguments]
    with subprocess.Popen(command, env=environment, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        found = b""
        try:
            while part := os.read(ours, 65536):
                found += part
        except OSError:  # Linux's way of saying that the other end is closed
            pass
        assert process.wait(timeout=120) == 0
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", found.decode())


@pytest.mark.parametrize("width", [60, 100])
def test_a_table_is_as_wide_as_the_terminal_at_most(width, fit_file):
    shown = lines(in_a_terminal(["check", str(fit_file)], width))
    assert shown[0].split() == ["variable", "rhat", "ess_bulk", "ess_tail"]
    assert len({len(line) for line in shown}) == 1
    choices = lines(in_a_terminal(["forecast", str(fit_file), "--flops", "1e21"], width))
    assert max(map(len, choices)) <= width


def test_a_pipe_gets_csv(fit_file):
    done = subprocess.run(
        [sys.executable, "-m", "bayes_l2l", "forecast", str(fit_file), "--flops", "1e21"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(table(done.stdout)) == 6
    assert {"mean", "q0.025", "extrapolation"} <= set(table(done.stdout))
