"""Files that are written whole or not at all, and streams that end early."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bayes_l2l.errors import DataError
from bayes_l2l.files import as_csv, check_output, write_whole

ROOT = Path(__file__).resolve().parents[2]


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
