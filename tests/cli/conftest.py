"""A folder, a table of runs and a ready fit for the tests of the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from command_line import HEADER

from bayes_l2l import fits
from bayes_l2l.cli import demo


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
