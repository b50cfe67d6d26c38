"""Mapping files that are proposed: what is recognised, what is said to be unsure, and that they read their tables."""

from __future__ import annotations

import tomllib

import exports
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_l2l.data.proposal import Proposal, propose
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.data.tables import RawTable


def proposed(**columns: object) -> Proposal:
    return propose(RawTable.from_frame(pd.DataFrame(columns)))


def runs(n: int = 6, **more: object) -> dict[str, object]:
    """Columns of runs that need no unit."""
    sizes = np.geomspace(2e7, 1e9, n)
    return {"params": sizes, "tokens": 20 * sizes, "val_loss": np.linspace(4, 3, n), **more}


def test_a_trackers_export_is_read_by_the_proposal_alone(tmp_path):
    export = exports.tracker()
    export.to_csv(tmp_path / "export.csv", index=False)
    raw = RawTable.read(tmp_path / "export.csv")
    found = propose(raw)
    assert found.mapping == {
        "keep": [],
        "where": {"State": "finished"},
        "columns": {
            "run_id": "Name",
            "train_set": "config.data",
            "params": "config.model.n_params",
            "tokens": ["_step", "config.batch_tokens"],
        },
        "constants": {},
        "units": {"piqa": "percent"},
        "losses": {"validation": "eval/loss", "c4": "eval/c4/loss"},
        "accuracies": {"hellaswag": "eval/hellaswag/acc", "piqa": "eval/piqa"},
        "chance": {"hellaswag": 0.75, "piqa": 0.5},
        "own": {"*": "validation"},
    }
    said = " ".join(found.unsure)
    for part in ("`_step` counts what was logged", "'eval/piqa'", "each run's own training set"):
        assert part in said
    assert {"train/loss", "eval/c4/perplexity", "eval/hellaswag/acc_stderr", "Runtime"} <= set(found.unused)
    assert found.is_complete
    sweep = Sweep.from_table(raw, columns=found.column_map())
    assert sweep.n_runs == len(export) - 2
    assert set(sweep.eval_sets) == {"fineweb", "starcoder", "c4", "hellaswag", "piqa"}
    first = sweep.table.iloc[0]
    assert first["params"] == pytest.approx(float(export["config.model.n_params"][0].rstrip("KMB")) * 1e6)
    assert first["tokens"] == export["_step"][0] * exports.BATCH
    accuracy = float(export["eval/hellaswag/acc"][0].rstrip("%")) / 100
    rate = sweep.table[(sweep.table["eval_set"] == "hellaswag") & (sweep.table["run_id"] == "sweep-000")].iloc[0]
    assert rate["loss"] == pytest.approx({"error": 1 - accuracy, "accuracy": accuracy}[rate["metric"]])
    assert {note.code for note in sweep.notes} >= {"rows_left_out", "renamed_evaluations"}


def test_the_file_says_what_the_mapping_does_and_is_toml():
    found = proposed(
        **runs(**{'odd "name" \\ loss': np.linspace(3, 2, 6), "data": ["a b", "c", "a b", "c", "c", "c"]})
    )
    text = found.toml()
    assert tomllib.loads(text) == {name: table for name, table in found.mapping.items() if table or name == "keep"}
    assert max(map(len, text.splitlines())) < 110
    for sentence in found.unsure:
        assert sentence[:40] in text


def test_the_papers_own_export_is_mapped_as_by_hand(real_data):
    raw = RawTable.read(real_data / "loss_to_loss" / "sweep.csv")
    mapping = propose(raw).mapping
    assert mapping["columns"] == {
        "run_id": "name", "train_set": "data", "params": "params", "tokens": "tokens", "flops": "iso_flop",
    }  # fmt: skip
    assert mapping["own"] == {
        "fineweb-100b": "fineweb_100b", "fineweb-edu-100b": "fineweb_edu_100b", "proof-pile-2": "proof_pile_2",
        "slimpajama-chunk1": "slimpajama", "smollm-corpus": "smollm", "starcoder": "starcoder",
    }  # fmt: skip
    assert mapping["losses"]["hellaswag"] == "eval/downstream_ce_loss/hellaswag_test_ce_loss"
    assert mapping["losses"]["starcoder"] == "eval/starcoder_val/CrossEntropyLoss"
    assert mapping["accuracies"]["piqa/accuracy"] == "eval/downstream/piqa_test_len_norm"


@pytest.mark.parametrize(
    ("columns", "tokens", "unit"),
    [
        ({"steps": [10, 20], "batch_size": [9, 9], "seq_len": [512, 512]}, ["steps", "batch_size", "seq_len"], ""),
        ({"steps": [10, 20], "batch_size": [2**20, 2**20]}, ["steps", "batch_size"], ""),
        ({"a/step": [10, 20], "_step": [1, 2], "tokens_per_batch": ["1M"] * 2}, ["a/step", "tokens_per_batch"], ""),
        ({"tokens_per_param": [20, 40]}, ["N", "tokens_per_param"], ""),
        ({"train_tokens": [2.2, 9.1]}, "train_tokens", "billions"),
        ({"D": [2.2e9, 9.1e9], "tokens_per_second": [1e5, 1e5]}, "D", ""),
        ({"tokens (B)": [2200, 9100]}, "tokens (B)", "billions"),
        ({"tokens_seen": ["2.2B", "9.1B"]}, "tokens_seen", ""),
    ],
)  # fmt: skip
def test_tokens(columns, tokens, unit):
    found = proposed(N=[1e8, 2e8], loss=[3.5, 3.1], **columns)
    assert found.mapping["columns"]["tokens"] == tokens
    assert found.mapping["units"].get("tokens", "") == unit


@pytest.mark.parametrize(
    ("name", "cells", "unit", "unsure"),
    [
        ("n_params", [110, 410], "millions", True),
        ("params (M)", [110, 410], "millions", False),
        ("model_size", [0.11, 7], "billions", True),
        ("num_parameters", ["110M", "7b"], "", False),
        ("non_embedding_params", [1.1e8, 7e9], "", False),
    ],
)
def test_parameters(name, cells, unit, unsure):
    found = proposed(**{name: cells, "tokens": [2e9, 8e9], "loss": [3.5, 3.1], "grad_norm_params": [1.0, 2.0]})
    assert found.mapping["columns"]["params"] == name
    assert found.mapping["units"].get("params", "") == unit
    assert any(line.startswith("params:") for line in found.unsure) is unsure


@pytest.mark.parametrize(
    ("name", "cells", "kind", "evaluation", "unit"),
    [
        ("val/c4_loss", [3.5, 3.1], "losses", "c4", ""),
        ("eval_c4_ppl", [33.0, 22.0], "losses", "c4", "perplexity"),
        ("pile_bpb", [1.1, 0.9], "losses", "pile", "bits"),
        ("arc_easy acc", [0.3, 0.4], "accuracies", "arc_easy", ""),
        ("lm_eval.boolq.acc_norm", [55.5, 61.0], "accuracies", "boolq", "percent"),
        ("sciq/error_rate", [0.4, 0.3], "errors", "sciq", ""),
    ],
)
def test_evaluations(name, cells, kind, evaluation, unit):
    found = proposed(**{"N": [1e8, 2e8], "D": [2e9, 8e9], "val_loss": [3.0, 2.9], name: cells})
    assert found.mapping[kind][evaluation] == name
    assert found.mapping["units"].get(evaluation, "") == unit


@pytest.mark.parametrize(
    "name", ["aux_loss", "z_loss", "loss_scale", "hellaswag/acc_stderr", "loss_std", "mse_loss", "epoch", "lr"]
)
def test_what_is_no_evaluation(name):
    found = proposed(**runs(**{name: np.linspace(0.5, 0.1, 6)}))
    assert name in found.unused


def test_a_loss_of_batches_serves_where_there_is_no_other():
    assert "train/loss" in proposed(**runs(**{"train/loss": np.linspace(4, 3, 6)})).unused
    columns = {name: cells for name, cells in runs().items() if name != "val_loss"}
    found = proposed(**columns, **{"train/loss": np.linspace(4, 3, 6)})
    assert list(found.mapping["losses"].values()) == ["train/loss"]
    assert "loss of training batches" in " ".join(found.unsure)


def test_losses_may_be_known_by_their_numbers():
    columns = {name: cells for name, cells in runs().items() if name != "val_loss"}
    found = proposed(**columns, wikitext=np.linspace(3.9, 3.1, 6), seed=range(6), lr=[1e-3] * 6)
    assert found.mapping["losses"] == {"wikitext": "wikitext"}
    assert "may be losses by their numbers" in " ".join(found.unsure)


def test_what_is_not_6ND_is_not_the_compute():
    found = proposed(**runs(flops=np.geomspace(1e10, 1e12, 6)))
    assert "flops" not in found.mapping["columns"]
    assert "not near 6 N D" in " ".join(found.unsure)
    right = proposed(**runs(total_flops=120 * np.geomspace(2e7, 1e9, 6) ** 2))
    assert right.mapping["columns"]["flops"] == "total_flops"


def test_checkpoints_get_names_of_their_own():
    found = proposed(**runs(Name=["a", "a", "a", "b", "b", "b"]))
    assert found.mapping["columns"]["run_id"] == ["Name", "tokens"]
    assert "repeat" in found.unsure[0]
    raw = RawTable.from_frame(pd.DataFrame(runs(Name=["a", "a", "a", "b", "b", "b"])))
    assert Sweep.from_table(raw, columns=found.column_map()).n_runs == 6


def checkpoints(**more: object) -> dict[str, object]:
    """Three runs of four checkpoints each."""
    sizes, part = np.repeat([2e7, 1e8, 5e8], 4), np.tile([0.25, 0.5, 0.75, 1.0], 3)
    loss = {"web_loss": 3 - part - 0.1 * np.log(sizes / 2e7), "code_loss": 2 - part - 0.1 * np.log(sizes / 2e7)}
    return {"name": np.repeat(["x", "y", "z"], 4), "_step": 1000 * part, **loss, "data": "web", **more}


def test_the_last_checkpoint_of_each_run_is_read_where_a_column_names_it():
    sizes = {"params": np.repeat([2e7, 1e8, 5e8], 4), "tokens_seen": np.tile([1e9, 2e9, 3e9, 4e9], 3)}
    made = checkpoints(**sizes, is_final=np.tile([0, 0, 0, 1], 3))
    found = proposed(**made)
    assert found.mapping["where"] == {"is_final": 1}
    assert found.mapping["columns"]["run_id"] == "name"
    said = " ".join(found.unsure)
    assert "'is_final' names the last" in said
    assert "name run_id = 'name' and step = 'tokens_seen'" in said
    sweep = Sweep.from_table(RawTable.from_frame(pd.DataFrame(made)), columns=found.column_map())
    assert sweep.n_runs == 3
    assert set(sweep.table["tokens"]) == {4e9}
    # A flag that several checkpoints of a run have is another thing.
    other = proposed(**checkpoints(**sizes, done=np.tile([0, 0, 1, 1], 3)))
    assert other.mapping["columns"]["run_id"] == ["name", "tokens_seen"]


@pytest.mark.parametrize("known", [{}, {"n_params": np.repeat([2e7, 1e8, 5e8], 4)}])
def test_checkpoints_without_sizes_are_mapped_to_runs_and_steps(known):
    found = proposed(**checkpoints(**known))
    assert found.mapping["columns"] == {"run_id": "name", "train_set": "data", "step": "_step"}
    assert found.is_complete
    assert "are related to each other, without laws" in " ".join(found.unsure)
    assert "no column was found" not in " ".join(found.unsure)
    sweep = Sweep.from_table(RawTable.from_frame(pd.DataFrame(checkpoints(**known))), columns=found.column_map())
    assert not sweep.has_sizes
    assert len(sweep.pairs("web@web", "code@web")) == 12


def test_public_checkpoints_are_read_by_the_proposal_alone(real_data):
    raw = RawTable.read(real_data / "checkpoints" / "clark.csv")
    found = propose(raw)
    assert found.mapping["where"] == {"is_final": "1"}
    assert Sweep.from_table(raw, columns=found.column_map()).n_runs == 206
    without = RawTable.from_frame(raw.frame.drop(columns="params"))
    assert propose(without).mapping["columns"] == {
        "run_id": "run_id",
        "train_set": "train_set",
        "step": "tokens_seen",
    }


def test_what_was_not_found_is_said_and_marked():
    found = proposed(train_set=["a", "b"], val_loss=[3.0, 2.9])
    assert found.missing == ["params", "tokens"]
    assert not found.is_complete
    assert '# params = "?"  # not found: the number of parameters' in found.toml()
    assert "params: no column was found" in " ".join(found.unsure)


def test_a_long_table_and_one_that_needs_no_mapping():
    long = {"model_params": [1e8] * 4, "train_tokens": [2e9] * 4, "task": ["a", "b"] * 2,
            "value": [3.1, 3.2, 3.0, 3.3], "data": ["a", "a", "b", "b"]}  # fmt: skip
    found = proposed(**long)
    assert found.mapping["columns"] == {
        "train_set": "data", "eval_set": "task", "params": "model_params", "tokens": "train_tokens", "loss": "value",
    }  # fmt: skip
    raw = RawTable.from_frame(pd.DataFrame(long))
    assert len(Sweep.from_table(raw, columns=found.column_map())) == 4
    canonical = ["train_set", "eval_set", "params", "tokens", "loss"]
    same = pd.DataFrame(long).set_axis(["params", "tokens", "eval_set", "loss", "train_set"], axis=1)[canonical]
    assert propose(RawTable.from_frame(same)).is_needless
    assert not found.is_needless


NAMES = [
    "Name", "run_id", "State", "n_params", "N", "tokens", "D", "_step", "steps", "batch_size", "seq_len", "flops", "",
    "data", "train_set", "c4", "web", "eval/web_loss", "loss", "val_loss", "train/loss", "web_ppl", "hellaswag/acc",
    "piqa", "error", "seed", "eval_set", "task", "value", "metric", "score", 'odd "x"', "é", "a.b",
]  # fmt: skip
CELLS = st.sampled_from(["a", "c4", "web", "finished", "", "1.5", "3.2", "41.2", "110M", "7b", "1,000", "nan", "2e9"])


@settings(max_examples=60)
@given(st.data(), st.lists(st.sampled_from(NAMES), min_size=1, max_size=9, unique=True), st.integers(0, 5))
def test_whatever_the_table_is_its_proposal_is_a_mapping_file(data, names, n_rows):
    cells = {name: data.draw(st.lists(CELLS, min_size=n_rows, max_size=n_rows)) for name in names}
    raw = RawTable(pd.DataFrame(cells, dtype=object), [f"row {i + 2}" for i in range(n_rows)], "t.csv", text=True)
    found = propose(raw)
    written = tomllib.loads(found.toml())
    assert {k: v for k, v in written.items() if v} == {k: v for k, v in found.mapping.items() if v}
    assert found.column_map().source == "the proposed mapping"
