"""Every command answers in four ways: CSV or text in a pipe, short on a terminal, in JSON, and quietly."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import exports
import pytest
from command_line import ROWS

import bayes_l2l
from bayes_l2l.cli import demo, main
from bayes_l2l.cli.app import program
from bayes_l2l.cli.output import _plain, complain
from bayes_l2l.cli.stages import Stages
from bayes_l2l.cli.words import _PLAIN, plain
from bayes_l2l.evaluation.baseline import bootstrap
from bayes_l2l.notes import Note

SIZE = "--params 3.3b --tokens 50B"
#: Each command; and what its answer in JSON holds besides what all hold.
COMMANDS = {
    "columns export.csv -o map.toml": {
        "mapping",
        "unsure",
        "unused",
        "missing",
        "needless",
        "sweep",
        "files",
        "notes",
    },
    "fit runs.csv -o out.nc": {"sweep", "fit", "files"},
    "check JOINT": {"table", "fit", "simulated"},
    f"forecast JOINT {SIZE}": {"table", "simulated"},
    "optimum JOINT --flops 1e21": {"table", "messages", "simulated"},
    "compare simulated --models baseline,kaplan --resamples 3 --draws 20 --tune 20 --chains 2 --cutoff 2.3e19": {
        "table",
        "messages",
    },
    "translate JOINT --source starcoder --target task@starcoder": {"table", "simulated"},
    f"choose JOINT --eval-set task {SIZE}": {"table", "messages", "simulated"},
    "plan JOINT --budget 1e20 --goal starcoder --flops 1e21 --runs 2": {"table", "messages", "simulated"},
    "score forecast.csv actual.csv": {"table"},
    "backtest simulated --model baseline --resamples 3 --cutoff 2.3e19 --split hindcast -o b.csv": {
        "table",
        "files",
        "sweep",
    },
    "report JOINT -o report.html": {"fit", "files", "simulated"},
    "demo --simulated -o demo": {"text", "fit", "files", "sweep"},
    "data list": {"data_sets"},
    "data fetch loss-to-loss": {"folder"},
    "models list": {"table"},
    "models show joint": {"text", "model"},
    "models copy joint my.toml": {"files", "messages"},
}
#: Needs PyTorch and minutes; its test is in tests/microsweep.
LEFT_OUT = {"sweep"}


def leaves(group: click.Group, name: str = "") -> set[str]:
    found = set()
    for word, command in group.commands.items():
        full = f"{name} {word}".strip()
        found |= leaves(command, full) if isinstance(command, click.Group) else {full}
    return found


def test_all_commands_are_asked():
    asked = {name for name in leaves(program) if any(f"{line} ".startswith(f"{name} ") for line in COMMANDS)}
    assert leaves(program) - asked == LEFT_OUT


@pytest.fixture
def ask(folder, joint, joint_file, runs, sampled, real_data, monkeypatch):
    """Run a command of the list, with the files that it reads, in a folder of its own."""
    monkeypatch.setenv("BAYES_L2L_DATA", str(real_data))
    # What takes long has tests of its own: the pages and pictures, and the baseline of the demo.
    monkeypatch.setattr(bayes_l2l.Fit, "report", lambda _fit, path, **_: Path(path).write_text("<html>"))
    monkeypatch.setattr(demo, "write_picture", lambda _picture, path: path.write_bytes(b""))
    monkeypatch.setattr(demo, "bootstrap", partial(bootstrap, n_boot=3))
    exports.tracker().to_csv("export.csv", index=False)
    runs(*ROWS)
    at = joint.forecast(params=3.3e9, tokens=5e10)
    at.table().to_csv("forecast.csv", index=False)
    at.points.assign(loss=2.5).to_csv("actual.csv", index=False)

    def run(line: str, *more: str) -> int:
        return main([*shlex.split(line.replace("JOINT", str(joint_file))), *more])

    return run


@pytest.fixture
def terminal(monkeypatch):
    """Turn both streams into a terminal of 80 columns; called by the test itself, once output is captured."""

    def of_80() -> None:
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("LINES", "40")
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)

    return of_80


def expected(line):
    """Status of a command: fits of so few draws are not to be trusted."""
    return int(line.startswith("compare"))


@pytest.mark.parametrize("line", COMMANDS)
def test_in_json(line, ask, capsys):
    status = ask(line, "--json")
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["status"] == status == expected(line)
    assert line.startswith(document["command"])
    assert {"command", "status", *COMMANDS[line]} <= set(document)
    assert set(document) - {"command", "status", "messages", "notes", "simulated", *COMMANDS[line]} == set()
    assert all(note.keys() == {"code", "severity", "message", "data"} for note in document.get("notes", ()))
    assert all(Path(file).exists() for file in document.get("files", ()))
    assert all(isinstance(row, dict) for row in document.get("table", ()))
    if not line.startswith(("demo", "backtest", "compare")):  # which say what they are at
        assert shown.err == ""


@pytest.mark.parametrize("line", COMMANDS)
def test_quietly(line, ask, capsys):
    assert ask(line) == expected(line)
    loud = capsys.readouterr()
    Path("my.toml").unlink(missing_ok=True)
    assert ask(line, "--quiet") == expected(line)
    shown = capsys.readouterr()
    if expected(line) == 0:  # what is serious is never left out
        assert shown.err == ""
    if not line.startswith("plan"):
        assert shown.out == loud.out


@pytest.mark.parametrize("line", COMMANDS)
def test_on_a_terminal(line, ask, terminal, capsys):
    terminal()
    assert ask(line) == expected(line)
    shown = capsys.readouterr()
    said = [part.rpartition("\x1b[2K")[2] for part in shown.err.splitlines()]
    assert [part for part in said if len(part) > 80 and " " in part.strip()[:78]] == []
    if "table" in COMMANDS[line]:
        assert not re.match(r"\w+,\w+", shown.out)
        assert max(map(len, shown.out.splitlines())) <= 80


def test_a_refusal_in_json(folder, capsys):
    assert main(["check", "absent.nc", "--json"]) == 1
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document == {"command": "check", "status": 1, "error": document["error"]}
    assert "absent.nc" in document["error"]
    assert shown.err == f"bayes-l2l: error: {document['error']}\n"


def test_what_must_be_known_is_said_quietly_too(joint, folder, capsys):
    bad = replace(joint, notes=(Note("rhat", "serious", "the chains disagree"), Note("ess", "warning", "few draws")))
    bad.save(Path("bad.nc"))
    for command in ("check bad.nc", f"forecast bad.nc {SIZE}"):
        assert main([*command.split(), "--quiet"]) == 1
        said = capsys.readouterr().err
        assert "the chains disagree" in said
        assert "few draws" not in said
    assert main(["forecast", "bad.nc", *SIZE.split(), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [note["code"] for note in document["notes"]][:2] == ["rhat", "ess"]


def test_notes_of_the_fit_are_left_to_check(joint, folder, capsys):
    Path("fit.nc").unlink(missing_ok=True)
    replace(joint, notes=(Note("ess", "warning", "few draws"), Note("bfmi", "warning", "slow"))).save(Path("fit.nc"))
    main(["forecast", "fit.nc", *SIZE.split()])
    said = capsys.readouterr().err
    assert "few draws" not in said
    assert "The fit itself has 2 more notes: bayes-l2l check fit.nc" in said
    main(["check", "fit.nc"])
    assert "warning: few draws [ess]\nwarning: slow [bfmi]\n" in capsys.readouterr().err


def test_notes_are_plain_on_a_terminal(joint, folder, terminal, capsys):
    data = {"variable": "E", "rhat": 1.05}
    replace(joint, notes=(Note("rhat", "serious", "the chains disagree: R-hat", data),)).save(Path("fit.nc"))
    terminal()
    assert main(["forecast", "fit.nc", *SIZE.split()]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "serious: the sampler has not quite settled (R-hat of E is 1.050; it should be at most 1.01)" in said
    main(["check", "fit.nc"])
    assert "serious: the chains disagree: R-hat [rhat]" in capsys.readouterr().err


#: Data of the notes that have plain words, as they are made.
NOTED = {
    "rhat": {"variable": "E", "rhat": 1.02},
    "ess": {"variable": "E", "ess_bulk": 123.0},
    "divergences": {"divergences": 3, "draws": 4000},
    "bfmi": {"bfmi": 0.2},
    "E_not_identified": {"cells": ["a|a", "b|a", "c|a", "d|a"]},
    "at_chance": {"tasks": {"piqa": ["a"]}},
}


@pytest.mark.parametrize("code", _PLAIN)
def test_every_note_in_plain_words(code):
    said = plain(Note(code, "warning", "E-BFMI and R-hat", NOTED[code]))
    assert said.startswith("warning: ")
    assert "E-BFMI" not in said
    assert code not in said


def test_notes_without_plain_words_are_said_as_they_are():
    assert plain(Note("other", "info", "a sentence")) == "info: a sentence"


def test_stages_have_a_line_each(terminal, capsys, monkeypatch):
    terminal()
    times = iter([0.0, 0.0, 4.0, 5.0, 5.0, 5.0, 7.5])
    monkeypatch.setattr("bayes_l2l.cli.stages.monotonic", lambda: next(times))
    with Stages(True) as stages:
        stages.tell("sampling 1 of 2")
        stages.tell("sampling 1 of 2", 0.5)
        stages.tell("a stage that is over", 0.9)
        stages.tell("sampling 2 of 2")
    written = capsys.readouterr().err
    steps = [part.strip() for part in written.replace("\n", "").split("\r\x1b[2K") if part]
    assert [" ".join(step.split()) for step in steps] == [
        "sampling 1 of 2 ...",
        "sampling 1 of 2 [##########..........] 50% 4 s left",
        "sampling 1 of 2 5.0 s",
        "sampling 2 of 2 ...",
        "sampling 2 of 2 2.5 s",
    ]
    assert written.count("\n") == 2
    assert max(map(len, steps)) < 80


def test_no_stages_are_shown_elsewhere(capsys):
    with Stages(False) as stages:
        stages.tell("reading")
        assert stages.listener is False
    assert capsys.readouterr().err == ""


def test_a_fit_tells_its_stages():
    import tiny

    told: list[tuple[str, float | None]] = []
    bayes_l2l.fit(
        tiny.tiny_sweep(), model=tiny.SPEC, draws=200, tune=200, chains=2, progress=lambda *one: told.append(one),
        cores=min(2, os.cpu_count() or 1),
    )  # fmt: skip
    names = list(dict.fromkeys(name for name, _ in told))
    assert names == ["compiling", "sampling"]
    counted = [done for _, done in told if done is not None]
    assert counted == sorted(counted)
    assert all(0 <= done <= 1 for done in counted)


def test_json_has_no_nan_and_no_scalars_of_numpy():
    import numpy as np

    found = _plain({"a": [np.float64(1.5), float("nan"), np.int64(3), np.bool_(True)], "b": (None, "x", Path("y"))})
    assert json.dumps(found, allow_nan=False) == '{"a": [1.5, null, 3, true], "b": [null, "x", "y"]}'


def test_messages_are_folded_on_a_terminal_and_keep_their_indent(terminal, capsys):
    long = "  a set of runs, " + "many parameters " * 6
    complain(long)
    assert capsys.readouterr().err == f"{long}\n"
    terminal()
    complain(f"one\n{long}")
    first, *more = capsys.readouterr().err.splitlines()
    assert first == "one"
    assert [len(line) - len(line.lstrip()) for line in more] == [2, 4]
    assert max(map(len, more)) <= 80
