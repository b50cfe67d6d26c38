"""Splits: nothing above a cut-off is fitted of what is predicted, and nothing that can be predicted is left out."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayes_l2l.data.datasets import load_sweep
from bayes_l2l.data.simulation import simulated_sweep
from bayes_l2l.errors import DataError
from bayes_l2l.evaluation.splits import FURTHEST, NEW_SET_RUNS, Split, all_splits, default_cutoffs
from bayes_l2l.laws.scaling import LAW_PARAMETERS
from bayes_l2l.microsweep.runs import BUDGETS

CELL = ["train_set", "eval_set"]


def made(runs: list[tuple[str, float, float]], evaluations: int = 1) -> pd.DataFrame:
    """Long table of runs (training set, log10 C, log10 D/N), each with some evaluations."""
    sets, flops, ratio = (list(values) for values in zip(*runs, strict=True))
    params = np.sqrt(10 ** (np.array(flops) - np.array(ratio)) / 6)
    run = pd.DataFrame({"train_set": sets, "run_id": [f"r{i}" for i in range(len(runs))], "params": params})
    run["flops"] = 10.0 ** np.array(flops)
    run["tokens"] = run["flops"] / 6 / params
    parts = [run.assign(eval_set=f"e{i}", loss=3.0, metric="loss") for i in range(evaluations)]
    return pd.concat(parts, ignore_index=True)


def grid(sets: str = "ab", budgets: int = 8, sizes: int = 8) -> pd.DataFrame:
    return made([(s, 17 + b / 3, r / 3) for s in sets for b in range(budgets) for r in range(sizes)])


RUN = st.tuples(st.sampled_from("abc"), st.floats(17, 20), st.floats(0, 3))
TABLES = st.builds(made, st.lists(RUN, min_size=1, max_size=60), st.integers(1, 3))


@given(TABLES, st.floats(16.5, 20.5).map(lambda x: 10**x))
def test_a_hindcast_fits_nothing_above_its_cutoff_and_predicts_all_it_can(table, cutoff):
    fitted, ahead = Split("hindcast", cutoff).parts(table)
    assert (fitted["flops"] <= cutoff).all()
    assert (ahead["flops"] > cutoff).all()
    assert (fitted.groupby(CELL).size() >= LAW_PARAMETERS).all()
    below = table[table["flops"] <= cutoff].groupby(CELL).size()
    enough = set(below[below >= LAW_PARAMETERS].index)
    for part, whole in ((fitted, table["flops"] <= cutoff), (ahead, table["flops"] > cutoff)):
        expected = whole & np.array([cell in enough for cell in table[CELL].itertuples(index=False, name=None)])
        assert part.index.tolist() == table.index[expected].tolist()


@given(TABLES, st.floats(16.5, 20.5).map(lambda x: 10**x), st.sampled_from("abc"))
def test_a_translation_fits_of_the_new_set_only_few_runs_below_the_cutoff(table, cutoff, new):
    fitted, ahead = Split("translation", cutoff, new).parts(table)
    of_new = fitted[fitted["train_set"] == new]
    assert (of_new["flops"] <= cutoff).all()
    assert of_new["run_id"].nunique() <= NEW_SET_RUNS
    assert (ahead["train_set"] == new).all()
    assert (ahead["flops"] > cutoff).all()
    assert not set(fitted.index) & set(ahead.index)
    assert set(ahead[CELL].itertuples(index=False)) <= set(of_new[CELL].itertuples(index=False))
    # All runs of the other sets are fitted, also those above the cut-off.
    others = table[table["train_set"] != new]
    enough = others.groupby(CELL)["loss"].transform("size") >= LAW_PARAMETERS
    assert set(others.index[enough]) == set(fitted.index) - set(of_new.index)
    # Nothing is lost: what lies above is predicted if its cell is fitted.
    above = table[(table["train_set"] == new) & (table["flops"] > cutoff)]
    if len(of_new):
        assert len(ahead) == len(above) == Split("translation", cutoff, new).n_ahead(table)


def test_a_new_set_is_known_by_its_runs_nearest_to_20_tokens_a_parameter():
    table = grid()
    cutoff = 10 ** (17 + 3.5 / 3)  # four budgets
    fitted, _ = Split("translation", cutoff, "a").parts(table)
    of_new = fitted[fitted["train_set"] == "a"]
    off = np.abs(np.log(table["tokens"] / table["params"] / 20))
    below = (table["train_set"] == "a") & (table["flops"] <= cutoff)
    assert len(of_new) == NEW_SET_RUNS
    assert off[of_new.index].max() <= np.sort(off[below])[NEW_SET_RUNS - 1] + 1e-9


def test_splits_of_a_grid_are_complete():
    table = grid("ab")
    every = all_splits(table)
    cutoffs = default_cutoffs(table)
    assert {split for split in every if split.kind == "hindcast"} == {Split("hindcast", c) for c in cutoffs}
    pairs = {(c, s) for c in cutoffs for s in "ab"}
    assert {(f.cutoff, f.held_out) for f in every if f.kind == "translation"} == pairs
    assert len(every) == 3 * len(cutoffs)
    assert {split.kind for split in all_splits(grid("a"))} == {"hindcast"}, "one set alone cannot be translated"
    assert str(every[0]).startswith("hindcast beyond ")
    assert "translation to a beyond" in " ".join(map(str, every))


@pytest.mark.parametrize("scatter", [0.0, 0.01])
def test_default_cutoffs_are_the_budgets_of_a_grid(scatter):
    table = grid()
    table["flops"] *= 1 + scatter * np.sin(np.arange(len(table)))
    cutoffs = default_cutoffs(table)
    budgets = 17 + np.arange(8) / 3
    within = [b for b in budgets if budgets[-1] - b <= np.log10(FURTHEST) and b < budgets[-1]]
    np.testing.assert_allclose(np.log10(cutoffs), within, atol=0.01)
    for cutoff in cutoffs:  # no budget is cut in two
        near = np.abs(np.log10(table["flops"] / cutoff)) < 0.1
        assert (table["flops"][near] <= cutoff).all()


def test_default_cutoffs_without_budgets_lie_apart():
    rng = np.random.default_rng(1)
    table = made([("a", x, 1.3 + 0.2 * rng.normal()) for x in rng.uniform(17, 20, 200)])
    cutoffs = np.array(default_cutoffs(table))
    assert len(cutoffs) >= 3
    assert (cutoffs[1:] / cutoffs[:-1] > 1.8).all()
    assert cutoffs[-1] < table["flops"].max() <= FURTHEST * cutoffs[0]


def test_default_cutoffs_of_a_narrow_sweep():
    budgets = (1e10, 1.8e10, 3.2e10, 5.6e10, 1e11)
    table = made([(s, float(np.log10(c)), r / 3) for s in "ab" for c in budgets for r in range(6)])
    assert default_cutoffs(table) == pytest.approx(budgets[2:4])
    assert len(all_splits(table)) == 6
    embedded = load_sweep("microsweep").table
    assert np.array(default_cutoffs(embedded)) / 1e10 == pytest.approx([3.2, 5.6], rel=0.01)


def test_default_cutoffs_of_a_sweep_of_the_default_budgets():
    """As `bayes-l2l sweep` makes them unless others are asked for."""
    table = made([(s, float(np.log10(c)), r / 3) for s in "ab" for c in BUDGETS for r in range(6)])
    assert default_cutoffs(table) == pytest.approx([BUDGETS[-2]])


def test_where_no_cutoff_suggests_itself_a_user_may_name_one():
    table = made([("a", 17 + i / 80, i % 3) for i in range(20)])
    with pytest.raises(DataError, match=r"do they span a factor of 2 in compute, .* name one \(--cutoff\)\.$"):
        all_splits(table)
    assert all_splits(table, cutoffs=[1.4e17])


def test_default_cutoffs_of_the_simulated_sweep():
    distances = simulated_sweep().table["flops"].max() / np.array(default_cutoffs(simulated_sweep().table))
    np.testing.assert_allclose(distances, [23.0, 10.5, 4.8, 2.2], rtol=0.01)


def test_default_cutoffs_of_sweeps_that_are_no_grid(real_data, monkeypatch):
    monkeypatch.setenv("BAYES_L2L_DATA", str(real_data))
    table = load_sweep("gadre").select(metric="loss").table
    every = all_splits(table)
    assert {split.held_out for split in every} == {"", *table["train_set"].unique()}
    for split in every:
        fitted, ahead = split.parts(table)
        assert len(ahead) == split.n_ahead(table)
        assert set(ahead[CELL].itertuples(index=False)) <= set(fitted[CELL].itertuples(index=False))


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (grid(), {"cutoffs": [1e16]}, "The cut-off 1e+16 FLOPs leaves nothing to fit or nothing to predict: "),
        (grid(), {"cutoffs": [1e18, 1e22]}, "The cut-off 1e+22 FLOPs leaves nothing"),
        (grid(), {"kinds": ["hincast"]}, "no splits of kind 'hincast'; known are hindcast, translation; did you"),
        (grid(budgets=2, sizes=3), {}, "No split can be made: up to any compute, no cell has 6 runs to fit"),
        (grid("a"), {"kinds": ["translation"]}, "only one training set is there to translate"),
        (grid(sizes=3), {"cutoffs": [2e17]}, "up to a cut-off, no cell has 6 runs"),
    ],
)
def test_splits_that_cannot_be_are_refused(table, options, said):
    with pytest.raises(DataError, match=re.escape(said)):
        all_splits(table, **options)
