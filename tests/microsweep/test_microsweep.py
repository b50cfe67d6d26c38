"""The measured sweep: its grid, its corpora and its table; where PyTorch is installed, its training too."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from bayes_l2l import cli, microsweep
from bayes_l2l.data.datasets import large_runs, load_sweep
from bayes_l2l.errors import DataError
from bayes_l2l.files import alone
from bayes_l2l.microsweep import (
    CONTEXT,
    VOCABULARY,
    Run,
    TokenizedCorpus,
    corpora,
    count_params,
    grid,
    large_path,
    measurement,
    read_corpus,
    tokenize,
    training,
    transformer,
)
from bayes_l2l.microsweep.runs import batch_for, tokens_needed

SMALL = {"budgets": [3e7, 6e7], "sizes": 2, "tokens_per_param": 1.0, "large_factors": [2.0]}
ONE, BOTH = [("a",)], [("a",), ("b",)]


def write_corpus(folder, words: str, size: int, *, seed: int = 0) -> None:
    """Write documents of random words."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(20):
        chosen = rng.choice(words.split(), size // 20 // 6)
        (folder / f"{i}.txt").write_text(" ".join(chosen) + f" {seed} {i}\n", encoding="utf-8")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "HELD_OUT", 32)
    write_corpus(tmp_path / "colours", "crimson yellow orange violet silver", 60_000)
    write_corpus(tmp_path / "animals", "rabbit monkey donkey turtle spider", 60_000, seed=1)
    return [tmp_path / "colours", tmp_path / "animals"]


# the grid


def test_the_grid_keeps_to_its_budgets():
    runs = grid(BOTH, budgets=[1e11, 1e10], sizes=5, tokens_per_param=12)
    small = [run for run in runs if not run.is_large]
    assert [run.train_set for run in runs[:4]] == ["a", "b", "a", "b"]
    assert [run.budget for run in small] == sorted(run.budget for run in small)
    for run in runs:
        assert run.flops == 6 * run.params * run.tokens
        assert run.flops == pytest.approx(run.budget, rel=0.02)
    for budget in (1e10, 1e11):
        ratios = [run.tokens / run.params for run in small if run.budget == budget]
        assert min(ratios) < 12 < max(ratios)


def test_large_runs_come_after_the_first_seed_and_only_if_wanted():
    runs = grid(BOTH, budgets=[1e10], sizes=3, tokens_per_param=12, large_factors=[20, 5], seeds=2)
    assert [run.is_large for run in runs] == [False] * 6 + [True] * 4 + [False] * 6
    assert [run.budget for run in runs[6:10]] == [5e10, 5e10, 2e11, 2e11]
    assert [run.seed for run in runs] == [0] * 10 + [1] * 6
    assert runs[9].tokens / runs[9].params == pytest.approx(12, rel=0.2)
    assert not any(run.is_large for run in grid(ONE, budgets=[1e10], sizes=3, large_factors=()))


def test_names_of_runs_are_their_own():
    runs = grid([*BOTH, ("a", "b")], budgets=[1e10, 1.03e10, 1e11], sizes=6, seeds=2)
    assert len({run.run_id for run in runs}) == len(runs)


def test_longer_runs_have_larger_batches():
    batches = [batch_for(tokens) for tokens in np.geomspace(1e3, 1e8, 40)]
    assert batches == sorted(batches)
    assert batches[0] == 2


def test_a_mixture_needs_half_of_each_corpus():
    alone, mixed = Run(("a",), 8, 4, 100, 1.0), Run(("a", "b"), 8, 4, 300, 1.0)
    assert mixed.train_set == "a+b"
    assert tokens_needed([alone, mixed]) == {"a": 600 * CONTEXT + 1, "b": 600 * CONTEXT + 1}
    assert tokens_needed([alone]) == {"a": 400 * CONTEXT + 1}


# corpora


def test_a_split_knows_no_file_names(tmp_path, folders):
    one = read_corpus(folders[0])
    other = tmp_path / "again" / "colours"
    (other / "deep").mkdir(parents=True)
    for i, path in enumerate(sorted(folders[0].iterdir(), reverse=True)):
        (other / "deep" / f"{i}.md").write_bytes(path.read_bytes())
    two = read_corpus(other)
    assert one == two
    assert one.name == "colours"


def test_documents_are_held_out_whole(folders):
    corpus = read_corpus(folders[0])
    documents = {path.read_bytes() for path in folders[0].iterdir()}
    assert set(corpus.held) < documents
    assert 0 < len(corpus.held) < 5
    rest = b"".join(documents - set(corpus.held))
    assert sorted(b"".join(corpus.train)) == sorted(rest)


def test_what_is_trained_on_is_shuffled_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "HELD_OUT", 32)
    path = tmp_path / "notes.txt"
    path.write_text("".join(f"line {i} of the notes\n" for i in range(20_000)), encoding="utf-8")
    parts = read_corpus(path).train
    assert all(part.endswith(b"\n") for part in parts)
    assert max(map(len, parts)) < 2100
    assert list(parts) != sorted(parts)


def test_a_document_that_is_there_twice_counts_once(folders):
    before = read_corpus(folders[0])
    (folders[0] / "copy.txt").write_bytes((folders[0] / "3.txt").read_bytes())
    assert read_corpus(folders[0]) == before


def test_one_file_is_cut_at_line_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "HELD_OUT", 32)
    path = tmp_path / "notes.txt"
    path.write_text("".join(f"line {i} of the notes\n" for i in range(20_000)), encoding="utf-8")
    corpus = read_corpus(path)
    assert corpus.name == "notes"
    assert all(document.endswith(b"\n") for document in corpus.held)
    assert sum(map(len, corpus.train + corpus.held)) == path.stat().st_size


def test_corpora_that_cannot_be_used(tmp_path, folders):
    with pytest.raises(DataError, match=r"there is no corpus .*absent; name a folder of text files, or one file"):
        read_corpus(tmp_path / "absent")
    (tmp_path / "short.txt").write_text("too short\n")
    with pytest.raises(DataError, match=r"short\.txt has 10 bytes, too few to hold 2,048 out for the evaluation"):
        read_corpus(tmp_path / "short.txt")


def test_a_corpus_too_small_for_its_largest_run_is_named(folders):
    pytest.importorskip("tokenizers")
    corpora = [read_corpus(folder) for folder in folders]
    with pytest.raises(DataError, match="no run reads a token twice") as refused:
        tokenize(corpora, {"colours": 10_000_000, "animals": 1000})
    assert "colours has " in str(refused.value)
    assert "animals" not in str(refused.value)


def test_subwords_are_the_bytes_of_the_text(folders):
    pytest.importorskip("tokenizers")
    corpora = [read_corpus(folder) for folder in folders]
    few, many = (tokenize(corpora, {"colours": needed, "animals": needed}) for needed in (2000, 9000))
    for tokenized, more in zip(few, many, strict=True):
        assert len(tokenized.train) >= 2000
        assert tokenized.train.max() < VOCABULARY
        assert tokenized.held.shape == (32, CONTEXT + 1)
        assert CONTEXT < tokenized.held_bytes.mean() < 8 * CONTEXT
        assert np.array_equal(more.train[:2000], tokenized.train[:2000])


def test_batches_read_nothing_twice():
    data = (np.arange(100 * CONTEXT + 1) // CONTEXT).astype(np.uint16)

    def read(run):
        return np.concatenate(list(training._batches([data], run)))[:, 0]

    run = Run(("a",), 8, 4, 25, 1.0)
    assert sorted(read(run)) == list(range(100))
    assert np.array_equal(read(Run(("a",), 8, 4, 5, 1.0)), read(run)[:20])
    assert not np.array_equal(read(Run(("a",), 8, 4, 5, 1.0, seed=1)), read(run)[:20])


def test_what_comes_first_does_not_depend_on_how_much_there_is(monkeypatch):
    monkeypatch.setattr(training, "BLOCK", 10)
    assert np.array_equal(training._order(25, 0)[:20], training._order(40, 0)[:20])
    assert sorted(training._order(25, 0)) == list(range(25))


def test_a_mixture_reads_its_parts_in_turn():
    parts = [np.full(20 * CONTEXT + 1, value, np.uint16) for value in (1, 2)]
    batches = list(training._batches(parts, Run(("a", "b"), 8, 5, 4, 1.0)))
    assert np.concatenate(batches)[:, 0].tolist() == [1, 2] * 10


def test_the_rate_rises_and_falls_to_nought():
    rates = [training._schedule(step, 200) for step in range(201)]
    assert max(rates) == 1.0
    assert rates[0] < 0.1
    assert rates[200] == pytest.approx(0, abs=1e-12)
    assert all(training._schedule(step, 1) > 0 for step in range(1))


# the command


def test_without_torch_the_command_says_what_to_install(folders, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert cli.main(["sweep", str(folders[0]), "-o", str(tmp_path / "out.csv")]) == 1
    assert "training needs PyTorch; install the extra: pip install 'bayes-l2l[sweep]'" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_where_large_runs_go():
    assert large_path("some/runs.csv").as_posix() == "some/runs-large.csv"


# the measured table


def test_the_measured_sweep():
    sweep, large = load_sweep("microsweep"), large_runs("microsweep")
    assert (sweep.name, large.name) == ("microsweep", "microsweep, large runs")
    assert not sweep.simulated
    assert len(sweep.train_sets) == 6
    assert sweep.eval_sets == sweep.train_sets
    assert sweep.n_runs >= 150
    assert len(sweep) == 6 * sweep.n_runs
    assert sweep.table["is_extrapolation"].eq(0).all()
    assert large.table["is_extrapolation"].eq(1).all()
    assert set(large.train_sets) <= set(sweep.train_sets)
    assert np.allclose(sweep.table["flops"], 6 * sweep.table["params"] * sweep.table["tokens"])
    assert np.allclose(large.table["flops"] / sweep.table["flops"].max(), 20, rtol=0.02)


def test_the_measured_sweep_falls_with_compute():
    table = load_sweep("microsweep", eval_sets="own").table
    best = table.groupby(["train_set", "budget"])["loss"].min().unstack()
    assert (np.diff(best.to_numpy(), axis=1) < 0).all()


# training


@pytest.fixture
def torch():
    pytest.importorskip("tokenizers")
    return pytest.importorskip("torch")


def test_a_sweep_of_ones_own(folders, tmp_path, torch, capsys):
    output = tmp_path / "runs.csv"
    layout = "--budgets 3e7,6e7 --sizes 2 --tokens-per-param 1 --large-factor 2 --seeds 2 --mixture colours,animals"
    command = ["sweep", *map(str, folders), "-o", str(output), "--no-progress", *layout.split()]
    assert cli.main(command) == 0
    assert "Written: " in capsys.readouterr().err
    sweep, large = load_sweep(output), pd.read_csv(large_path(output))
    assert sweep.eval_sets == ["animals", "colours"]
    assert sweep.train_sets == ["animals", "colours", "colours+animals"]
    assert sweep.n_runs == 2 * 3 * 4
    assert len(large) == 3 * 2
    assert (sweep.table["held_out_se"] > 0).all()
    assert "loss_se" not in sweep.table  # the windows are the same for all runs: no noise of one run
    own = sweep.table[sweep.table["train_set"] == sweep.table["eval_set"]]
    single = sweep.table[sweep.table["train_set"] != "colours+animals"]
    other = single[single["train_set"] != single["eval_set"]]
    assert own["loss"].max() < np.log(256)
    assert own["loss"].mean() < other["loss"].mean()
    mixed = sweep.table[sweep.table["train_set"] == "colours+animals"]
    assert mixed.groupby("eval_set")["loss"].mean().max() < other["loss"].mean()


def test_a_stopped_sweep_goes_on(folders, tmp_path, torch, monkeypatch):
    output, made = tmp_path / "runs.csv", []
    train = microsweep.train

    def stops(runs, corpora, **options):
        if made:
            raise KeyboardInterrupt
        made.extend(run.run_id for run in runs)
        return train(runs, corpora, **options)

    monkeypatch.setattr(measurement, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        microsweep.sweep(folders, output, **SMALL)
    kept = output.read_text()
    assert pd.read_csv(output)["run_id"].drop_duplicates().tolist() == made
    monkeypatch.setattr(measurement, "train", train)
    table = microsweep.sweep(folders, output, **SMALL)
    assert output.read_text().startswith(kept)
    assert table["run_id"].nunique() == 8
    assert not table.duplicated(["run_id", "eval_set"]).any()


def test_a_run_does_not_know_its_neighbours(folders, torch):
    tokenized = tokenize([read_corpus(folder) for folder in folders], {"colours": 9000, "animals": 9000})
    run = Run(("colours",), 8, 4, 12, 1.0)
    beside = [Run(("animals",), 8, 4, 12, 1.0), run, Run(("colours",), 8, 4, 12, 1.0, seed=1)]
    alone, all_three = microsweep.train([run], tokenized), microsweep.train(beside, tokenized)
    assert np.allclose(alone["loss"], all_three["loss"][2:4], rtol=2e-3)
    assert not np.allclose(alone["loss"], all_three["loss"][4:6], rtol=2e-3)


def test_a_table_of_other_corpora_is_left_alone(folders, tmp_path, torch):
    output = tmp_path / "runs.csv"
    microsweep.sweep(folders, output, **SMALL)
    before = output.read_bytes()
    (folders[0] / "more.txt").write_text("one more document " * 50)
    with pytest.raises(DataError, match="was measured on other corpora or by another recipe"):
        microsweep.sweep(folders, output, **SMALL)
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'run_id,corpora\n"a', "cannot be read as the table of a sweep"),
        (b"\xff\xfe\xff", "cannot be read as the table of a sweep"),
        (b"a,b\n1,2\n", "is not the table of a sweep: it has no 'corpora'"),
    ],
)
def test_a_file_that_is_no_sweep_is_left_alone(tmp_path, content, said):
    output = tmp_path / "runs.csv"
    output.write_bytes(content)
    with pytest.raises(DataError, match=said):
        measurement.measure([], [], output)
    assert output.read_bytes() == content


def test_two_sweeps_do_not_drop_each_others_rows(folders, tmp_path, torch):
    with (
        alone(tmp_path / "runs.csv"),
        pytest.raises(DataError, match=r"runs\.csv is being written by another process"),
    ):
        microsweep.sweep(folders, tmp_path / "runs.csv", **SMALL)
    assert not (tmp_path / "runs.csv").exists()


def test_two_corpora_of_one_name(folders, tmp_path, torch):
    (tmp_path / "b").mkdir()
    write_corpus(tmp_path / "b" / "colours", "azure amber", 60_000)
    with pytest.raises(DataError, match="two corpora are called 'colours'"):
        microsweep.sweep([folders[0], tmp_path / "b" / "colours"], tmp_path / "runs.csv", **SMALL)


def test_a_mixture_of_what_is_not_there(folders, tmp_path, torch):
    with pytest.raises(DataError, match=r"the mixture colours\+birds names no corpus 'birds'"):
        microsweep.sweep(folders, tmp_path / "runs.csv", **SMALL, mixtures=[["colours", "birds"]])


@pytest.mark.parametrize("width", [8, 12, 64, 136])
def test_parameters_are_counted_as_they_are(width, torch):
    models = transformer.build_transformers(width, [0, 1])
    assert sum(parameter.numel() for parameter in models.parameters()) == 2 * count_params(width)


def test_a_prediction_sees_nothing_ahead(torch):
    """Tokens after the middle change; what is predicted up to there does not."""
    torch.manual_seed(0)
    models = transformer.build_transformers(32, [0])
    for parameter in models.parameters():  # blocks start as the identity
        torch.nn.init.normal_(parameter, std=0.2)
    sequences = torch.randint(VOCABULARY, (1, 1, CONTEXT + 1))
    changed = sequences.clone()
    changed[..., 33:] = (changed[..., 33:] + 1) % VOCABULARY
    with torch.no_grad():
        before, after = models.losses(sequences)[0, 0], models.losses(changed)[0, 0]
    assert torch.allclose(before[:32], after[:32], atol=1e-5)
    assert not torch.isclose(before[32:], after[32:]).any()


def test_cross_entropy_is_pytorchs_own(torch):
    logits, targets = torch.randn(2, 5, 7, requires_grad=True), torch.randint(7, (2, 5, 1))
    each = transformer._cross_entropy().apply(logits, targets)
    (ours,) = torch.autograd.grad(each.square().sum(), logits)
    expected = torch.nn.functional.cross_entropy(logits.view(10, 7), targets.flatten(), reduction="none")
    (theirs,) = torch.autograd.grad(expected.square().sum(), logits)
    assert torch.allclose(each.flatten(), expected, atol=1e-6)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_model_learns(torch):
    text = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 4000, np.uint8).astype(np.uint16)
    held = text[: 32 * (CONTEXT + 1)].reshape(32, CONTEXT + 1)
    corpus = TokenizedCorpus("fox", text, held, np.full(32, CONTEXT))
    table = microsweep.train([Run(("fox",), 16, 4, 200, 1.0)], [corpus])
    assert table["loss"].item() < 0.5
