"""Notes and errors: what is said, stored and sent between processes."""

from __future__ import annotations

import json
import pickle

import pandas as pd
import pytest

from bayes_l2l import errors
from bayes_l2l.data.assessment import assess
from bayes_l2l.errors import L2LError, TableError, did_you_mean
from bayes_l2l.notes import Note

NOTE = Note("few", "warning", "there are few", {"n": 3})


def runs(n: int, *, train_set: str = "a", **columns: object) -> pd.DataFrame:
    """A canonical table of one cell with n runs."""
    sizes = [1e8 * (i + 1) for i in range(n)]
    table = pd.DataFrame({"params": sizes, "tokens": [20 * size for size in sizes]})
    table["flops"] = 6 * table["params"] * table["tokens"]
    table["run_id"] = [f"{train_set}{i}" for i in range(n)]
    table = table.assign(train_set=train_set, eval_set=train_set, metric="loss", loss=3.0)
    return table.assign(**columns)


def test_text():
    assert str(NOTE) == "warning: there are few [few]"


def test_dict_round_trip():
    stored = json.loads(json.dumps(NOTE.to_dict()))
    assert stored == {"code": "few", "severity": "warning", "message": "there are few", "data": {"n": 3}}
    assert Note.from_dict(stored) == NOTE
    del stored["data"]
    assert Note.from_dict(stored) == Note("few", "warning", "there are few")


def test_notes_travel_between_processes():
    assert pickle.loads(pickle.dumps(NOTE)) == NOTE


def test_notes_cannot_be_changed():
    numbers = {"n": 1}
    note = Note("few", "info", "x", numbers)
    numbers["n"] = 2
    assert note.data["n"] == 1
    with pytest.raises(TypeError):
        note.data["n"] = 2
    with pytest.raises(AttributeError):
        note.code = "many"


def test_notes_are_hashable_and_equal_by_content():
    assert len({NOTE, Note("few", "warning", "there are few", {"n": 3})}) == 1
    assert Note("few", "warning", "there are few", {"n": 4}) != NOTE


def test_unknown_severity():
    with pytest.raises(ValueError, match="severity is 'bad'; it must be one of info, warning, serious"):
        Note("x", "bad", "x")


def test_enough_runs_deserve_no_note():
    assert assess(runs(6)) == ()


def test_too_few_runs():
    (note,) = assess(pd.concat([runs(5), runs(6, train_set="b")]))
    assert str(note) == (
        "warning: fewer runs than a law has parameters (6) in a@a; "
        "their laws rest on the other cells and the priors [too_few_runs]"
    )
    assert note.data == {"cells": {"a@a": 5}}


def test_too_few_runs_in_many_cells():
    (note,) = assess(pd.concat([runs(2, train_set=name) for name in "abcde"]))
    assert "in a@a, b@b, c@c and 2 more;" in note.message
    assert len(note.data["cells"]) == 5


def test_errors_need_no_law():
    assert assess(runs(2, metric="error")) == ()


@pytest.mark.parametrize(
    ("column", "code", "message"),
    [
        (
            "params",
            "one_model_size",
            "only one model size in a; how params change its loss is left to the other sets",
        ),
        (
            "tokens",
            "one_token_count",
            "only one number of tokens in a; how tokens change its loss is left to the other sets",
        ),
    ],
)
def test_one_size(column, code, message):
    table = runs(6, **{column: 1e9})
    table["flops"] = 6 * table["params"] * table["tokens"]
    (note,) = assess(pd.concat([table, runs(6, train_set="b")]))
    assert (note.code, note.severity, note.message) == (code, "warning", message)
    assert note.data == {"train_sets": {"a": 1e9}}


def test_flops_mismatch():
    table = runs(6)
    table.loc[[1, 4], "flops"] /= 3.1
    table.loc[2, "flops"] /= 2.9
    (note,) = assess(table)
    assert str(note) == (
        "warning: flops differ from 6 N D more than threefold in 2 of 6 runs "
        "(run 'a1': 1.55e+18 against 4.8e+18); is the column the compute of the whole training? "
        "[flops_mismatch]"
    )


def test_a_training_set_without_a_loss_of_its_own_is_named_where_others_have_one():
    table = pd.concat([runs(6), runs(6, train_set="b")], ignore_index=True)
    assert assess(table.assign(eval_set="web")) == ()
    (note,) = assess(table.assign(eval_set="a"))
    assert note.code == "no_own_loss"
    assert note.data == {"train_sets": ["b"]}


def test_notes_do_not_depend_on_row_order():
    table = pd.concat([runs(3, flops=1.0), runs(4, train_set="b", params=1e8)], ignore_index=True)
    assert [note.code for note in assess(table)] == ["too_few_runs", "one_model_size", "flops_mismatch"]
    assert assess(table.iloc[::-1]) == assess(table)


def test_table_error_lists_all_faults():
    error = TableError(["row 2: bad", "row 3: bad"], table="runs.csv")
    assert error.faults == ("row 2: bad", "row 3: bad")
    assert str(error) == "runs.csv is refused: 2 faults found.\n  row 2: bad\n  row 3: bad"


def test_table_error_shows_the_first_twenty():
    lines = str(TableError(f"fault {i}" for i in range(23))).splitlines()
    assert lines[0] == "the table is refused: 23 faults found."
    assert lines[1:] == [f"  fault {i}" for i in range(20)] + ["  and 3 more"]
    assert "more" not in str(TableError(f"fault {i}" for i in range(20)))
    assert str(TableError(["x"])).startswith("the table is refused: 1 fault found.")


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(TableError(["row 2: bad"], table="runs.csv")))
    assert (error.faults, str(error)) == (
        ("row 2: bad",),
        "runs.csv is refused: 1 fault found.\n  row 2: bad",
    )


@pytest.mark.parametrize("name", ["TableError", "SpecError", "DataError", "FitFileError", "ForecastError"])
def test_one_base_catches_all(name):
    assert issubclass(getattr(errors, name), L2LError)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Params", "; did you mean 'params'?"),
        ("token", "; did you mean 'tokens'?"),
        ("hellaswag", ""),
    ],
)
def test_did_you_mean(name, hint):
    assert did_you_mean(name, ["params", "tokens"]) == hint


@pytest.mark.parametrize(("metric", "values"), [("accuracy", 0.3), ("error", 0.7)])
def test_a_chance_that_is_an_accuracy_is_noted(metric, values):
    table = runs(4, metric=metric, loss=values)
    (note,) = assess(table.assign(chance=0.25))
    assert (note.code, note.severity) == ("chance_upside_down", "warning")
    assert "chance is the error rate of guessing (0.75 with four answers)" in note.message
    assert assess(table.assign(chance=0.75)) == ()
