"""Importing the package and asking for help must stay cheap: nothing heavy is loaded for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bayes_l2l

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "arviz",
    "arviz_base",
    "arviz_plots",
    "arviz_stats",
    "h5netcdf",
    "matplotlib",
    "numba",
    "nutpie",
    "pooch",
    "pymc",
    "pytensor",
    "scipy",
    "tokenizers",
    "torch",
    "xarray",
}
HELP = """
import contextlib, io, sys
sys.argv = ["bayes-l2l", *{arguments}]
from bayes_l2l.cli import main
with contextlib.redirect_stdout(io.StringIO()) as shown:
    try:
        status = main()
    except SystemExit as stop:
        status = stop.code
assert status in (0, None), status
assert "{expected}" in shown.getvalue(), shown.getvalue()
"""


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    report = "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code + report], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_the_probe_sees_what_is_loaded():
    assert "xarray" in loaded_after("import xarray")


def test_import_loads_nothing_heavy():
    loaded = loaded_after("import bayes_l2l")
    assert "bayes_l2l" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "forecast"),
        (["--version"], bayes_l2l.__version__),
        (["fit", "--help"], "--model"),
        (["forecast", "--help"], "--train-set"),
    ],
)
def test_help_loads_nothing_heavy(arguments, expected):
    loaded = loaded_after(HELP.format(arguments=arguments, expected=expected))
    assert "bayes_l2l" in loaded
    assert not loaded & (HEAVY | {"numpy", "pandas", "rich"})
