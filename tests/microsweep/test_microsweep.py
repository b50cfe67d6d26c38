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
    Corpus,
    Run,
    corpora,
    count_params,
    grid,
    large_path,
    measurement,
    read_corpus,
    training,
    transformer,
)

SMALL = {"budgets": [1e8, 2e8], "sizes": 2, "tokens_per_param": 4.0, "large_factor": 2.0}


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
    runs = grid(["a", "b"], budgets=[1e11, 1e10], sizes=5, tokens_per_param=20)
    small = [run for run in runs if not run.is_large]
    assert [run.train_set for run in runs[:4]] == ["a", "b", "a", "b"]
    assert [run.budget for run in small] == sorted(run.budget for run in small)
    for run in runs:
        assert run.flops == 6 * run.params * run.tokens
        assert run.flops == pytest.approx(run.budget, rel=0.01)
    for budget in (1e10, 1e11):
        ratios = [run.tokens / run.params for run in small if run.budget == budget]
        assert min(ratios) < 20 < max(ratios)


def test_large_runs_come_last_and_only_if_wanted():
    runs = grid(["a", "b"], budgets=[1e10], sizes=3, tokens_per_param=20)
    assert [run.is_large for run in runs] == [False] * 6 + [True] * 2
    assert {run.budget for run in runs[6:]} == {2e11}
    assert runs[-1].tokens / runs[-1].params == pytest.approx(20, rel=0.2)
    assert not any(run.is_large for run in grid(["a"], budgets=[1e10], sizes=3, tokens_per_param=20, large_factor=0))


def test_names_of_runs_are_their_own():
    runs = grid(["a", "b"], budgets=[1e10, 1.01e10, 1e11], sizes=6, tokens_per_param=20)
    assert len({run.run_id for run in runs}) == len(runs)


# corpora


def test_a_split_knows_no_file_names(tmp_path, folders):
    one = read_corpus(folders[0])
    other = tmp_path / "again" / "colours"
    (other / "deep").mkdir(parents=True)
    for i, path in enumerate(sorted(folders[0].iterdir(), reverse=True)):
        (other / "deep" / f"{i}.md").write_bytes(path.read_bytes())
    two = read_corpus(other)
    assert one.name == two.name == "colours"
    assert np.array_equal(one.train, two.train)
    assert np.array_equal(one.held, two.held)


def test_documents_are_held_out_whole(folders):
    corpus = read_corpus(folders[0])
    assert corpus.held.shape == (32, CONTEXT + 1)
    train = corpus.train.tobytes()
    documents = [path.read_bytes() for path in folders[0].iterdir()]
    inside = [document in train for document in documents]
    assert 0 < inside.count(False) < 5
    outside = b"".join(sorted(document for document, kept in zip(documents, inside, strict=True) if not kept))
    assert len(train) + len(outside) == sum(map(len, documents))
    assert not any(window.tobytes() in train for window in corpus.held)


def test_a_document_that_is_there_twice_counts_once(folders):
    before = read_corpus(folders[0])
    (folders[0] / "copy.txt").write_bytes((folders[0] / "3.txt").read_bytes())
    assert np.array_equal(read_corpus(folders[0]).train, before.train)


def test_one_file_is_cut_at_line_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "HELD_OUT", 32)
    path = tmp_path / "notes.txt"
    path.write_text("".join(f"line {i} of the notes\n" for i in range(20_000)), encoding="utf-8")
    corpus = read_corpus(path)
    assert corpus.name == "notes"
    assert corpus.train.tobytes().endswith(b"\n")
    assert len(corpus.train) < path.stat().st_size


def test_corpora_that_cannot_be_used(tmp_path, folders):
    with pytest.raises(DataError, match=r"there is no corpus .*absent; name a folder of text files, or one file"):
        read_corpus(tmp_path / "absent")
    (tmp_path / "short.txt").write_text("too short\n")
    with pytest.raises(DataError, match=r"short\.txt has 10 bytes, too few to hold 4,128 out for the evaluation"):
        read_corpus(tmp_path / "short.txt")


def test_a_corpus_too_small_for_its_largest_run_is_named(folders):
    corpora = [read_corpus(folder) for folder in folders]
    runs = grid(["colours", "animals"], budgets=[1e10], sizes=2, tokens_per_param=20)
    with pytest.raises(DataError) as refused:
        microsweep.check_sizes(corpora, runs)
    assert "no run reads a byte twice" in str(refused.value)
    assert "colours has " in str(refused.value)
    assert "animals has " in str(refused.value)
    microsweep.check_sizes(corpora, grid(["colours", "animals"], **SMALL))


def test_batches_read_nothing_twice():
    data = (np.arange(100 * CONTEXT + 1) // CONTEXT).astype(np.uint8)
    batches = list(training._batches(data, Run("a", 8, 25, 1.0)))
    assert len(batches) == 25
    predicted = np.concatenate(batches)[:, 0]
    assert sorted(predicted) == list(range(100))
    longer = np.concatenate(batches[:5])
    shorter = np.concatenate(list(training._batches(data, Run("a", 8, 5, 1.0))))
    assert np.array_equal(longer, shorter)
    other = np.concatenate(list(training._batches(data, Run("a", 8, 5, 1.0, seed=1))))
    assert not np.array_equal(other, shorter)


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
    assert set(sweep.table["params"]) <= {count_params(width) for width in range(4, 512, 4)}


def test_the_measured_sweep_falls_with_compute():
    table = load_sweep("microsweep", eval_sets="own").table
    best = table.groupby(["train_set", "budget"])["loss"].min().unstack()
    assert (np.diff(best.to_numpy(), axis=1) < 0).all()


# training


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_a_sweep_of_ones_own(folders, tmp_path, torch, capsys):
    output = tmp_path / "runs.csv"
    options = "--budgets 1e8,2e8 --sizes 2 --tokens-per-param 4 --large-factor 2 --no-progress"
    command = ["sweep", *map(str, folders), "-o", str(output), *options.split()]
    assert cli.main(command) == 0
    assert "Written: " in capsys.readouterr().err
    sweep, large = load_sweep(output), pd.read_csv(large_path(output))
    assert sweep.train_sets == sweep.eval_sets == ["animals", "colours"]
    assert sweep.n_runs == 8
    assert len(large) == 4
    assert (sweep.table["held_out_se"] > 0).all()
    assert "loss_se" not in sweep.table  # the windows are the same for all runs: no noise of one run
    own = sweep.table[sweep.table["train_set"] == sweep.table["eval_set"]]
    other = sweep.table[sweep.table["train_set"] != sweep.table["eval_set"]]
    assert own["loss"].max() < np.log(256) < 6
    assert own["loss"].max() < other["loss"].min()


def test_a_stopped_sweep_goes_on(folders, tmp_path, torch, monkeypatch):
    output, made = tmp_path / "runs.csv", []
    train = microsweep.train

    def stops(run, corpora, **options):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(run.run_id)
        return train(run, corpora, **options)

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


def test_a_run_repeats_itself(folders, torch):
    corpora = [read_corpus(folder) for folder in folders]
    (run, *_) = grid(["colours"], **SMALL)
    first, second = (microsweep.train(run, corpora)["loss"] for _ in range(2))
    assert np.allclose(first, second, rtol=1e-5)
    other = microsweep.train(Run(run.train_set, run.width, run.steps, run.budget, seed=1), corpora)["loss"]
    assert not np.allclose(first, other, rtol=1e-5)


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
def test_a_file_that_is_no_sweep_is_left_alone(folders, tmp_path, content, said):
    output = tmp_path / "runs.csv"
    output.write_bytes(content)
    with pytest.raises(DataError, match=said):
        measurement.measure([], [read_corpus(folder) for folder in folders], output)
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


@pytest.mark.parametrize("width", [8, 12, 64, 136])
def test_parameters_are_counted_as_they_are(width, torch):
    model = transformer.build_transformer(width)
    assert sum(parameter.numel() for parameter in model.parameters()) == count_params(width)


def test_a_prediction_sees_nothing_ahead(torch, monkeypatch):
    """Bytes after the middle change; what is predicted up to there does not."""
    torch.manual_seed(0)
    model = transformer.build_transformer(32)
    for parameter in model.parameters():  # blocks start as the identity
        torch.nn.init.normal_(parameter, std=0.2)
    each = []
    whole = torch.nn.functional.cross_entropy

    def listen(*args, **options):
        each.append(whole(*args, **options))
        return each[-1]

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", listen)
    sequences = torch.randint(256, (1, CONTEXT + 1))
    changed = sequences.clone()
    changed[0, 65:] = (changed[0, 65:] + 1) % 256
    with torch.no_grad():
        model.losses(sequences), model.losses(changed)
    before, after = each
    assert torch.allclose(before[:64], after[:64], atol=1e-5)
    assert not torch.isclose(before[64:], after[64:]).any()


def test_the_model_learns(torch):
    text = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 4000, np.uint8)
    held = text[: 32 * (CONTEXT + 1)].reshape(32, CONTEXT + 1)
    corpus = Corpus("fox", text, held)
    table = microsweep.train(Run("fox", 16, 200, 1.0), [corpus])
    assert table["loss"].item() < 0.5
