"""What the tests of the command line share: a table of runs, and how answers and refusals are read."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pandas as pd

from bayes_l2l.cli import main

SIMULATED = "Simulated runs, not measured: simulated from the published laws of arXiv 2411.12925, Table 3"
HEADER = "run_id,train_set,eval_set,params,tokens,loss"
ROWS = [f"r{i},a,a,{10 ** (8 + i / 4):.4g},{10 ** (9.3 + i / 5):.4g},{3.6 - 0.1 * i}" for i in range(8)]


def table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def refused(arguments: str, capsys, folder: Path) -> str:
    """Run a command that must be refused in words; return them. Nothing may be written, nothing shown."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(shlex.split(arguments)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    said = [line for line in shown.err.splitlines() if not line.startswith("  ")]
    assert len(said) == 1, shown.err
    assert said[0].startswith("bayes-l2l: error: ")
    return shown.err
