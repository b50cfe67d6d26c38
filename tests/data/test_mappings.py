"""Mapping keys beyond names: rows that are read, products, constants, units, and train losses of every set."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bayes_l2l.data.columns import ColumnMap
from bayes_l2l.data.delimited import separator_of
from bayes_l2l.data.sweep import Sweep, read_points, read_sweep
from bayes_l2l.errors import SpecError, TableError


def table(**more: object) -> pd.DataFrame:
    return pd.DataFrame({"N": ["100M", "0.2B", "400m"], "D": [2e9, 4e9, 8e9], "web": [3.5, 3.2, 3.0], **more})


def sweep(frame: pd.DataFrame, **mapping: object) -> Sweep:
    record = {"columns": {"params": "N", "tokens": "D"}, "losses": {"web": "web"}, "constants": {"train_set": "a"}}
    return Sweep.from_table(frame, columns=record | mapping, name="t")


def faults(frame: pd.DataFrame, **mapping: object) -> list[str]:
    with pytest.raises(TableError) as refused:
        sweep(frame, **mapping)
    return list(refused.value.faults)


def test_rows_are_kept_by_what_they_say_and_counted():
    frame = table(State=["finished", "crashed", " Finished "], epochs=["1", "1.0", "2"])
    kept = sweep(frame, where={"State": "finished"})
    assert kept.table["params"].tolist() == [1e8, 4e8]
    (note,) = [note for note in kept.notes if note.code == "rows_left_out"]
    assert str(note).startswith("info: 1 of 3 rows are left out: only those with State = 'finished' are read")
    assert note.data["values"] == {"State": ["crashed"]}
    assert sweep(frame, where={"epochs": 1}).n_runs == 2
    assert sweep(frame, where={"State": ["finished", "crashed"], "epochs": [1, 3]}).n_runs == 2
    assert "rows_left_out" not in {note.code for note in sweep(frame, where={"epochs": [1, 2]}).notes}


def test_a_fault_keeps_the_row_that_the_file_has():
    frame = table(State=["crashed", "ok", "ok"], web=[3.5, 3.2, -1])
    assert faults(frame, where={"State": "ok"}) == ["index 2, column 'web': -1 must be above 0"]


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ({"State": "done"}, "none of the 3 rows has State = 'done', as the column mapping asks in [where]"),
        ({"state": "ok"}, "there is no column 'state', which the column mapping asks for in [where]; did you mean"),
    ],
)
def test_filters_that_leave_nothing(where, fault):
    assert any(found.startswith(fault) for found in faults(table(State="ok"), where=where))


def test_products_multiply_columns_and_numbers():
    frame = table(step=[1000, 2000, "4,000"], batch=["0.5M", 5e5, 5e5]).drop(columns="D")
    found = sweep(frame, columns={"params": "N", "tokens": ["step", "batch", 2]})
    assert found.table["tokens"].tolist() == [1e9, 2e9, 4e9]
    broken = frame.assign(step=["x", 2000, math.nan])
    assert faults(broken, columns={"params": "N", "tokens": ["step", "batch", 2]})[:2] == [
        "index 0, column 'step * batch * 2': 'x' is not a number",
        "index 2, column 'step * batch * 2': blank or NaN",
    ]
    assert faults(frame, columns={"params": "N", "tokens": ["stpe", "batch"]})[0] == (
        "there is no column 'stpe', which the column mapping names in tokens; did you mean 'step'?"
    )


def test_names_of_several_columns_are_joined():
    found = sweep(table(name="a"), columns={"params": "N", "tokens": "D", "run_id": ["name", "N"]})
    assert found.table["run_id"].tolist() == ["a 100M", "a 0.2B", "a 400m"]


def test_constants_stand_in_every_row():
    found = sweep(table().drop(columns="D"), columns={"params": "N"}, constants={"train_set": "a", "tokens": "26B"})
    assert found.table["tokens"].tolist() == [26e9] * 3
    assert found.train_sets == ["a"]
    assert faults(table(), columns={"params": "N"}, constants={"train_set": "a", "tokens": -1})[0] == (
        "index 0, column 'tokens, the constant of the column mapping': -1 must be above 0"
    )


@pytest.mark.parametrize(
    ("name", "cells", "unit", "expected"),
    [
        ("params", [100, "0.2B", 400], "millions", [1e8, 2e8, 4e8]),
        ("tokens", [2, 4, 8], "billions", [2e9, 4e9, 8e9]),
        ("web", [20.0, 10.0, 5.0], "perplexity", np.log([20.0, 10.0, 5.0])),
        ("web", [4.0, 3.0, 2.0], "bits", math.log(2) * np.array([4.0, 3.0, 2.0])),
    ],
)
def test_units(name, cells, unit, expected):
    column = {"params": "N", "tokens": "D"}.get(name, name)
    found = sweep(table(**{column: cells}), units={name: unit}).table
    np.testing.assert_allclose(found[name if name != "web" else "loss"], expected)


def test_percent():
    frame = table(quiz=[25.0, "30%", 41.5])
    found = sweep(frame, accuracies={"quiz": "quiz"}, units={"quiz": "percent"})
    rates = found.table[found.table["eval_set"] == "quiz"]
    errors = rates["loss"].where(rates["metric"] == "error", 1 - rates["loss"])
    np.testing.assert_allclose(errors, [0.75, 0.7, 0.585])


def test_an_evaluation_may_be_every_sets_own_and_is_announced():
    found = sweep(table(data=["a", "a", "b"]), columns={"params": "N", "tokens": "D", "train_set": "data"},
                  constants={}, own={"*": "web"})  # fmt: skip
    assert (found.table["eval_set"] == found.table["train_set"]).all()
    (note,) = [note for note in found.notes if note.code == "renamed_evaluations"]
    assert note.message.endswith("'web' by its run's training set")
    named = sweep(table(), own={"a": "web"})
    assert "'web' by 'a'" in str(named.notes[0])
    same = sweep(table(), losses={"a": "web"}, own={"a": "a"})
    assert "renamed_evaluations" not in {note.code for note in same.notes}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"columns": {"train_set": ["a", "b"]}},
            "columns.train_set is a list; only params, tokens, flops and run_id",
        ),
        ({"columns": {"tokens": []}}, "columns.tokens is []; it must list columns"),
        (
            {"columns": {"tokens": "D"}, "constants": {"tokens": 1e9}},
            "'tokens' is in both [columns] and [constants]; keep one",
        ),
        ({"constants": {"token": 1e9}}, "unknown name 'token' in [constants]; did you mean 'tokens'?"),
        ({"units": {"params": "milions"}}, "units.params is 'milions'; did you mean 'millions'?"),
        ({"losses": {"a": "x"}, "units": {"a": "percent"}}, "units.a is 'percent' (known: bits, perplexity)"),
        ({"losses": {"a": "x"}, "units": {"b": "bits"}}, "units.b is of nothing that has units"),
        ({"where": {"State": {"is": 1}}}, "where.State is {'is': 1}; it must be a value, or a list of values"),
    ],
)
def test_refused(record, message):
    with pytest.raises(SpecError) as refused:
        ColumnMap.from_dict(record)
    assert message in str(refused.value)


# cells and separators


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a,b,c\n1,2,3\n", ","),
        ("a;b;c\n1,5;2,5;3\n", ";"),
        ("a\tb\n1,5\t2\n", "\t"),
        ('"a, with a comma";b;c\n1;2;3\n', ";"),
        ("loss (web, mean);b\n1;2\n", ";"),
        ("a\n1\n", ","),
    ],
)
def test_separators_are_found_out(text, separator):
    assert separator_of(text) == separator


def test_semicolons_and_decimal_commas(tmp_path):
    path = tmp_path / "de.csv"
    path.write_text("train_set;eval_set;params;tokens;loss\na;a;100.000.000;2.000.000.000;3,5\na;a;2E8;4E9;3,21\n")
    found = read_sweep(path).table
    assert found["loss"].tolist() == [3.5, 3.21]
    assert found["params"].tolist() == [1e8, 2e8]
    path.write_text("train_set;eval_set;params;tokens;loss\na;a;100,000,000;2e9;3.5\na;a;200,000,000;4e9;3.21\n")
    assert read_sweep(path).table["params"].tolist() == [1e8, 2e8]


def test_tabs(tmp_path):
    path = tmp_path / "runs.tsv"
    path.write_text("train_set\teval_set\tparams\ttokens\tloss\na\ta\t100M\t2B\t3.5\na\ta\t200M\t4B\t3.2\n")
    assert read_sweep(path).table["tokens"].tolist() == [2e9, 4e9]


def test_points_are_read_as_people_write_sizes(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text('params,tokens\n7b,"140,000,000,000"\n')
    assert read_points(path).to_dict("records") == [{"params": 7e9, "tokens": 1.4e11}]


def test_a_fault_of_a_whole_column_is_one_line():
    frame = pd.concat([table(web=["n/a?", "x", 3.0])] * 4, ignore_index=True)
    (found,) = [fault for fault in faults(frame) if "column 'web'" in fault]
    assert found == "column 'web': 8 of 12 cells are refused: 'n/a?' is not a number (index 0)"
    frame = pd.concat([table(data=[" ", "", None])] * 2, ignore_index=True)
    assert "column 'data': all 6 cells are refused: blank (index 0)" in faults(
        frame, columns={"params": "N", "tokens": "D", "train_set": "data"}, constants={}
    )


def test_few_faults_are_said_one_by_one():
    frame = table(web=["x", 3.2, -1])
    assert faults(frame) == [
        "index 0, column 'web': 'x' is not a number",
        "index 2, column 'web': -1 must be above 0",
    ]
