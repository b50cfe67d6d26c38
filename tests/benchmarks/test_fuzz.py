"""A short run of the fuzz harness, and that it sees what it is there for."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from bayes_l2l.errors import DataError
from benchmarks import fuzz


@pytest.fixture(scope="module")
def given(joint_file):
    return fuzz.seeds([joint_file.read_bytes()])


@pytest.mark.parametrize(("readers", "inputs"), [(["fit"], 12), ([r for r in fuzz.READERS if r != "fit"], 40)])
def test_broken_inputs_are_refused_in_words(given, joint_file, tmp_path, readers, inputs):
    assert set(given) == set(fuzz.READERS)
    (tmp_path / "fit.nc").write_bytes(joint_file.read_bytes())
    findings, counts = fuzz.run({r: given[r] for r in readers}, inputs=inputs, seed=1, folder=tmp_path, seconds=20)
    assert findings == []
    # A busy machine does not come to the end of them.
    assert all(count["refused"] > 0 for reader, count in counts.items() if reader != "split" and count["inputs"] > 8)
    assert {path.name for path in tmp_path.iterdir()} == {"runs.csv", "wide.csv", "map.toml", "points.csv", "fit.nc"}


def _end(content: bytes) -> None:
    os.abort()


def _hang(content: bytes) -> None:
    while True:
        pass


def _fill(content: bytes) -> None:
    bytearray(b"x") * (2**30 + 2**26)


def _fail(content: bytes) -> None:
    raise KeyError("no words")


def _refuse(content: bytes) -> None:
    raise DataError("in words")


def _as_told(file: Path) -> None:
    {b"end": _end, b"hang": _hang, b"fill": _fill, b"fail": _fail}.get(file.read_bytes(), _refuse)(b"")


def _next() -> bytes:
    return b""


def _told(seed: bytes, rng: random.Random) -> bytes:
    return _next()


def _some(seed: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"x", b"fail"))


def test_what_the_harness_is_there_for_is_found(tmp_path, monkeypatch):
    """A crash, a hang, too much memory and an exception of another kind, after each of which it goes on."""
    words = [b"fail", b"end", b"x", b"hang", b"fill", b"x", b"fail"]
    readers = {"told": fuzz.Reader(_as_told, _told, ".txt")}
    made = iter(words)
    monkeypatch.setattr(sys.modules[__name__], "_next", lambda: next(made))
    limits = 1.0, 2**30
    findings, counts = fuzz.run(
        {"told": [b"well"]}, inputs=7, seed=0, folder=tmp_path, readers=readers, limits=limits
    )
    assert [one.what.partition(":")[0] for one in findings] == ["KeyError", "signal 6", "slow", "memory"]
    told = counts["told"]
    assert {name: told[name] for name in ("inputs", "read", "refused", "wrong")} == {
        "inputs": 7, "read": 0, "refused": 2, "wrong": 5,
    }  # fmt: skip
    assert told["peak"] > 1000
    assert (tmp_path / findings[1].input).read_bytes() == b"end"


def test_a_seed_gives_the_same_inputs(given):
    for reader, wells in given.items():
        one, again = (fuzz.READERS[reader].mutate(wells[0], random.Random(3)) for _ in range(2))
        assert one == again


def test_a_long_run_goes_on_where_it_stopped(tmp_path):
    readers = {"told": fuzz.Reader(_as_told, _some, ".txt")}
    wanted = {"given": {"told": [b"well"]}, "seed": 0, "readers": readers}
    once, counts = fuzz.run(inputs=6, folder=tmp_path / "once", **wanted)
    for inputs in (2, 6, 6):
        state = fuzz.State(tmp_path / "state.json")
        again, counted = fuzz.run(inputs=inputs, folder=tmp_path / "again", state=state, **wanted)
    assert [one.what for one in again] == [one.what for one in once]
    assert [len(state.wrong["told"]), counted["told"]["wrong"]] == 2 * [counts["told"]["wrong"]]
    for name in ("inputs", "read", "refused", "wrong"):
        assert counted["told"][name] == counts["told"][name]
