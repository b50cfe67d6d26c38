"""Losses that are numbers and yet wrong: refused by row, or noted with the runs that are meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayes_l2l.data.datasets import known, load_sweep
from bayes_l2l.data.sweep import Sweep, read_points
from bayes_l2l.errors import ForecastError, TableError

SETS = ("code", "maths", "web")


def runs(train_set: str = "web", *, seed: int = 0) -> pd.DataFrame:
    """Twelve runs on a grid of sizes, with losses as a law has them."""
    rng = np.random.default_rng(seed)
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 1e9, 4), np.geomspace(1e9, 2e10, 3)))
    loss = (1.7 + 400 / n**0.34 + 400 / d**0.28) * np.exp(0.003 * rng.standard_normal(len(n)))
    table = pd.DataFrame({"run_id": [f"r{i}" for i in range(len(n))], "params": n, "tokens": d, "loss": loss})
    return table.assign(train_set=train_set, eval_set=train_set)


def crossed() -> pd.DataFrame:
    """Three training sets, each evaluated on all three; on its own it is better."""
    parts = []
    for i, train in enumerate(SETS):
        for j, evaluation in enumerate(SETS):
            level = (0.7, 1.0, 1.2)[j] * (1.0 if i == j else 1.15)
            part = runs(train, seed=3 * i + j)
            parts.append(part.assign(eval_set=evaluation, loss=level * part["loss"]))
    return pd.concat(parts, ignore_index=True)


def changed(row: int, **values: float) -> pd.DataFrame:
    table = runs().astype(dict.fromkeys(values, object))
    for name, value in values.items():
        table.at[row, name] = value
    return table


def refusal(table: pd.DataFrame) -> tuple[str, ...]:
    with pytest.raises(TableError) as error:
        Sweep.from_table(table)
    return error.value.faults


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"params": 1e300}, "column 'params': 1e+300 is more than any model has; give the plain number of params"),
        ({"params": 0.4}, "column 'params': 0.4 is too few; give the plain number of params"),
        ({"params": 7}, "column 'params': 7 is too few; give the plain number of params"),
        ({"tokens": 1e300}, "column 'tokens': 1e+300 is more than any model has; give the plain number of tokens"),
        ({"tokens": 20.0}, "column 'tokens': 20 is too few; give the plain number of tokens"),
        ({"loss": True}, "column 'loss': 'True' is not a number"),
        ({"loss": np.True_}, "column 'loss': 'True' is not a number"),
        ({"params": True}, "column 'params': 'True' is not a number"),
        (
            {"loss": 1e-9},
            "column 'loss': a loss of 1e-09 nats per token is none that a model has; leave out a run that went wrong",
        ),
    ],
)
def test_values_that_no_model_has_are_refused_by_row(values, fault):
    assert refusal(changed(5, **values)) == (f"index 5, {fault}",)


def test_compute_that_no_model_has_is_refused_by_row():
    table = runs().assign(flops=lambda t: 6 * t["params"] * t["tokens"])
    table.loc[[2, 7], "flops"] = 1e-9, 1e300
    assert refusal(table) == (
        "index 2, column 'flops': 1e-09 is too little; give the plain number of flops",
        "index 7, column 'flops': 1e+300 is more than any model has; give the plain number of flops",
    )


def test_points_that_no_model_has_are_refused_too(tmp_path, joint):
    (tmp_path / "points.csv").write_text("params,tokens\n1e9,2e10\n0.5,2e10\n1e9,1e300\n")
    with pytest.raises(TableError) as error:
        read_points(tmp_path / "points.csv")
    assert error.value.faults == (
        "row 3, column 'params': 0.5 is too few; give the plain number of params",
        "row 4, column 'tokens': 1e+300 is more than any model has; give the plain number of tokens",
    )
    with pytest.raises(ForecastError, match=r"possible params: 1e\+300 is more than any model has"):
        joint.forecast(params=1e300, tokens=1e10)


def test_nothing_is_odd_about_good_runs():
    assert Sweep.from_table(runs()).notes == ()
    assert Sweep.from_table(crossed()).notes == ()


@pytest.mark.parametrize(
    ("factor", "loss", "why"),
    [
        (None, 7.5, r"did it diverge\?"),
        (None, 16.6, r"a perplexity\? its logarithm is 2\.81"),
        (None, 0.41, r"an accuracy or an error rate\?"),
        (1 / np.log(2), None, r"bits\? that would be 2\.8\d nats"),
    ],
)
def test_a_loss_that_is_far_off_is_named_with_its_run(factor, loss, why):
    table = runs()
    row = table.index[(table["loss"] - 2.81).abs().argmin()]
    table.loc[row, "loss"] = loss or factor * table.loc[row, "loss"]
    (note,) = Sweep.from_table(table).notes
    assert (note.code, note.severity) == ("odd_losses", "warning")
    (name,) = note.data["losses"]
    assert name == f"run 'r{row}' on web@web"
    assert note.data["losses"][name]["expected"] == pytest.approx(2.81, abs=0.15)
    assert pd.Series([note.message]).str.contains(rf"{name} has .*\({why}\)").all()
    assert "take the run out of the table" in note.message


def test_a_loss_far_off_is_named_among_few_runs_too():
    table = runs()[:5]
    table.loc[2, "loss"] = 14.0
    notes = {note.code: note for note in Sweep.from_table(table).notes}
    assert list(notes["odd_losses"].data["losses"]) == ["run 'r2' on web@web"]


def test_losses_that_rise_with_compute():
    table = runs()
    table["loss"] = table["loss"].max() + table["loss"].min() - table["loss"]
    (note,) = Sweep.from_table(table).notes
    assert note.code == "rising_losses"
    assert "losses rise with compute in web@web" in note.message
    assert note.data["correlation"]["web@web"] > 0.9


def test_accuracies_among_losses():
    task = runs().assign(eval_set="quiz", loss=lambda t: 1 - t["loss"] / 5)
    notes = {note.code: note.message for note in Sweep.from_table(pd.concat([runs(), task])).notes}
    assert list(notes) == ["rising_losses", "not_nats"]
    assert "quiz@web may be accuracies: give 1 - accuracy with metric 'error'" in notes["rising_losses"]
    assert "all 12 losses on 'quiz' are below 1, where train losses are about" in notes["not_nats"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hellaswag_acc", "'hellaswag_acc' is named like an accuracy: if it is one, give 1 - accuracy with metric"),
        ("boolq err", "named like an error rate: if it is one, give it the metric 'error'"),
        ("c4/ppl", "named like a perplexity: if it is one, give log(perplexity)"),
        ("c4-bpb", "named like bits: if it is one, multiply by log(2)"),
    ],
)
def test_evaluations_whose_name_says_that_they_are_no_losses(name, said):
    (note,) = Sweep.from_table(pd.concat([runs(), runs().assign(eval_set=name)])).notes
    assert note.code == "not_nats"
    assert said in note.message
    # Parts of words are no such names.
    assert Sweep.from_table(pd.concat([runs(), runs().assign(eval_set="accra-terror")])).notes == ()


def test_an_evaluation_of_low_perplexities():
    task = runs().assign(eval_set="web2", loss=lambda t: 5 + 1.5 * t["loss"])
    (note,) = Sweep.from_table(pd.concat([runs(), task])).notes
    assert note.code == "not_nats"
    assert "'web2' has a median of" in note.message
    assert "if these are perplexities, give log(perplexity)" in note.message


def test_one_training_set_in_bits():
    table = crossed()
    table.loc[table["train_set"] == "maths", "loss"] /= np.log(2)
    (note,) = Sweep.from_table(table).notes
    assert note.code == "bits"
    assert list(note.data["ratio"]) == ["maths"]
    assert "if they are bits, multiply them by log(2)" in note.message


def test_one_run_under_two_names():
    table = runs()
    again = pd.concat([table, table[4:5].assign(run_id="resumed")], ignore_index=True)
    (note,) = Sweep.from_table(again).notes
    assert note.code == "repeated_runs"
    assert note.data["runs"] == ["run 'r4' of web and run 'resumed' of web"]
    # Another seed has another loss, and few digits are equal by chance.
    table.loc[4, "loss"] = 3.1
    seed = pd.concat([table, table[4:6].assign(run_id=["s4", "s5"], loss=[3.1, table["loss"][5] + 1e-4])])
    assert Sweep.from_table(seed).notes == ()


def test_one_run_under_two_training_sets():
    table = crossed()
    copied = table[(table["train_set"] == "web") & (table["run_id"] == "r4")].assign(train_set="maths", run_id="x")
    (note,) = Sweep.from_table(pd.concat([table, copied], ignore_index=True)).notes
    assert note.data["runs"] == ["run 'x' of maths and run 'r4' of web"]


def test_known_sweeps_have_nothing_odd(real_data: Path):
    for dataset in known():
        assert load_sweep(dataset.name).notes == ()


def test_what_is_odd_in_published_studies_is_found(real_data: Path):
    """Rows that stand twice in two published tables, and two runs that read 1e8 tokens again and again."""
    found = {}
    for name in ("chinchilla", "datablations", "gemstones", "llama3", "misfitting", "mosaic", "protein", "xlstm"):
        path = real_data / "studies" / f"{name}.csv"
        if not path.is_file():
            pytest.skip("the published studies are not here")
        found[name] = [(note.code, len(next(iter(note.data.values())))) for note in load_sweep(path).notes]
    assert {name: notes for name, notes in found.items() if notes} == {
        "datablations": [("odd_losses", 2)],
        "misfitting": [("repeated_runs", 6)],
        "protein": [("repeated_runs", 4)],
    }
