"""Known data sets: found locally, downloaded by hash from a server of our own, or simulated."""

from __future__ import annotations

import hashlib
import shutil
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from bayes_l2l.data.datasets import DataFile, Dataset, fetch, known, large_runs, load_sweep, simulated_sweep
from bayes_l2l.data.simulation import PUBLISHED_LAWS
from bayes_l2l.errors import DataError, TableError
from bayes_l2l.laws.scaling import law_loss

CONTENT = b"train_set,eval_set,params,tokens,loss\na,a,1e8,2e9,3.5\na,a,2e8,2e9,3.4\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SETS = ["fineweb-100b", "fineweb-edu-100b", "proof-pile-2", "slimpajama-chunk1", "smollm-corpus", "starcoder"]


@pytest.fixture(autouse=True)
def no_local_copy(monkeypatch):
    monkeypatch.delenv("BAYES_L2L_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def local(monkeypatch, real_data):
    monkeypatch.setenv("BAYES_L2L_DATA", str(real_data))
    return real_data


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and counts what it was asked for."""

    asked: list[str]

    def __init__(self, asked, *args, **kwargs):
        self.asked = asked
        super().__init__(*args, **kwargs)

    def log_message(self, *args):
        self.asked.append(self.path)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, asked, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        httpd.folder, httpd.asked = folder, asked
        httpd.url = f"http://127.0.0.1:{httpd.server_port}"
        yield httpd
        httpd.shutdown()
        thread.join()


def fake(url: str) -> Dataset:
    file = DataFile("fake/runs.csv", SHA256, f"{url}/runs.csv")
    return Dataset("fake", "two runs", "MIT", url, (file,))


def get(dataset, tmp_path):
    return fetch(dataset, cache=tmp_path / "cache", progressbar=False)


def test_a_good_file_is_downloaded_once(server, tmp_path):
    (server.folder / "runs.csv").write_bytes(CONTENT)
    folder = get(fake(server.url), tmp_path)
    assert (folder / "fake" / "runs.csv").read_bytes() == CONTENT
    assert get(fake(server.url), tmp_path) == folder
    assert server.asked == ["/runs.csv"]


def test_a_download_shows_its_progress(server, tmp_path, capfd):
    assert find_spec("tqdm")
    (server.folder / "runs.csv").write_bytes(CONTENT)
    fetch(fake(server.url), cache=tmp_path / "cache")
    shown = capfd.readouterr()
    assert "100%" in shown.err
    assert shown.out == ""


def test_a_damaged_copy_in_the_cache_is_replaced(server, tmp_path):
    (server.folder / "runs.csv").write_bytes(CONTENT)
    path = get(fake(server.url), tmp_path) / "fake" / "runs.csv"
    path.write_bytes(b"damaged")
    get(fake(server.url), tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_corrupted_file_is_refused_and_not_kept(server, tmp_path):
    (server.folder / "runs.csv").write_bytes(CONTENT + b"x")
    with pytest.raises(DataError) as refused:
        get(fake(server.url), tmp_path)
    assert str(refused.value) == (
        f"{server.url}/runs.csv was downloaded, but is damaged or has changed: its sha256 is not the pinned "
        f"{SHA256[:12]}...; try again, or put the file at fake/runs.csv in a folder and set BAYES_L2L_DATA "
        "to that folder"
    )
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_an_absent_file(server, tmp_path):
    with pytest.raises(DataError) as refused:
        get(fake(server.url), tmp_path)
    assert str(refused.value) == (
        f"{server.url}/runs.csv cannot be downloaded: the server answers 404; try later, or put the file at "
        "fake/runs.csv in a folder and set BAYES_L2L_DATA to that folder"
    )


def test_offline(tmp_path):
    with socket.socket() as taken:  # bound, but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(DataError) as refused:
            get(fake(url), tmp_path)
    assert str(refused.value) == (
        f"{url}/runs.csv cannot be reached; check the network connection, or put the file at fake/runs.csv "
        "in a folder and set BAYES_L2L_DATA to that folder"
    )


def test_offline_with_a_cached_copy(server, tmp_path):
    (server.folder / "runs.csv").write_bytes(CONTENT)
    dataset = fake(server.url)
    get(dataset, tmp_path)
    server.shutdown()
    server.server_close()
    assert (get(dataset, tmp_path) / "fake" / "runs.csv").read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (server.folder / "runs.csv").write_bytes(CONTENT)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"runs\.csv cannot be written: "):
        get(fake(server.url), tmp_path)


def test_a_local_copy_needs_no_download(monkeypatch, tmp_path):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "runs.csv").write_bytes(CONTENT)
    monkeypatch.setenv("BAYES_L2L_DATA", str(tmp_path))
    assert fetch(fake("http://nowhere.invalid")) == tmp_path


def test_a_local_copy_without_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("BAYES_L2L_DATA", str(tmp_path))
    with pytest.raises(DataError) as refused:
        load_sweep("loss-to-loss")
    assert str(refused.value) == (
        f"BAYES_L2L_DATA is set to {tmp_path}, but there is no loss_to_loss/sweep.csv in it; "
        "put it there, or unset the variable to download the data set"
    )


def test_gadre_cannot_be_downloaded():
    with pytest.raises(DataError) as refused:
        load_sweep("gadre")
    message = str(refused.value)
    assert message.startswith("the data set 'gadre' (derived from https://github.com/mlfoundations/scaling")
    assert message.endswith("then put it at gadre/gadre2024.csv in a folder and set BAYES_L2L_DATA to that folder")


def test_simulated_has_nothing_to_fetch():
    with pytest.raises(DataError, match="'simulated' comes with the package; there is nothing to fetch"):
        fetch("simulated")


def test_unknown_names():
    with pytest.raises(DataError) as refused:
        load_sweep("loss2loss")
    assert str(refused.value) == (
        "there is no file and no data set 'loss2loss'; did you mean 'loss-to-loss'? "
        "(known: microsweep, simulated, loss-to-loss, gadre)"
    )
    for find in (fetch, large_runs):
        with pytest.raises(DataError, match=r"there is no data set 'gadr'; did you mean 'gadre'\? \(known"):
            find("gadr")


def test_known_data_sets_have_their_own_mapping():
    with pytest.raises(DataError, match="'simulated' has its own column mapping; leave columns out"):
        load_sweep("simulated", columns={})


def test_known():
    names = [dataset.name for dataset in known()]
    assert names == ["microsweep", "simulated", "loss-to-loss", "gadre"]
    for dataset in known():
        assert dataset.title
        assert dataset.licence
        assert dataset.source
    commit = "457ce81a019019bc3981937c20a70c52f5fad436"
    for file in known()[2].files:
        assert file.url.startswith(
            f"https://raw.githubusercontent.com/KempnerInstitute/loss-to-loss-notebooks/{commit}/data/"
        )


def test_pinned_hashes_are_those_of_the_local_copies(real_data):
    for dataset in known():
        for file in dataset.files:
            assert hashlib.sha256((real_data / file.path).read_bytes()).hexdigest() == file.sha256


def test_load_sweep_reads_files_and_frames(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_bytes(CONTENT)
    from_file = load_sweep(path)
    assert load_sweep(str(path)).table.equals(from_file.table)
    assert load_sweep(pd.read_csv(path)).table.equals(from_file.table)


def test_losses_of_the_measured_sweep_are_of_bytes():
    assert load_sweep("microsweep").loss_unit == large_runs("microsweep").loss_unit == "nats/byte"
    assert load_sweep("simulated").loss_unit == "nats/token"


def test_loss_to_loss(local):
    sweep = load_sweep("loss-to-loss")
    assert (len(sweep), sweep.n_runs, sweep.train_sets, sweep.eval_sets) == (529, 529, SETS, SETS)
    assert not sweep.simulated
    assert sweep.provenance.startswith("measured; ")
    assert sweep.notes == ()
    assert dict(zip(sweep.cells["train_set"], sweep.cells["n_runs"], strict=True)) == {
        "fineweb-100b": 90,
        "fineweb-edu-100b": 91,
        "proof-pile-2": 86,
        "slimpajama-chunk1": 89,
        "smollm-corpus": 89,
        "starcoder": 84,
    }
    raw = pd.read_csv(local / "loss_to_loss" / "sweep.csv").set_index("id").loc[sweep.table["run_id"]]
    for name, column in (
        ("loss", "val_loss"),
        ("flops", "iso_flop"),
        ("params", "params"),
        ("tokens", "tokens"),
    ):
        np.testing.assert_allclose(sweep.table[name], raw[column], rtol=1e-15)
    assert (raw["data"].to_numpy() == sweep.table["train_set"]).all()


def test_loss_to_loss_with_all_evaluations(local):
    sweep = load_sweep("loss-to-loss", eval_sets="all")
    assert len(sweep) == 529 * 30
    assert len(sweep.select(metric="loss").eval_sets) == 19
    assert {*SETS, "c4", "fineweb_1T", "hellaswag", "mmlu_stem"} <= set(sweep.eval_sets)
    raw = pd.read_csv(local / "loss_to_loss" / "sweep.csv").set_index("id")
    right = sweep.select(metric="accuracy")
    assert len(right.eval_sets) == 11
    cell = right.select(["starcoder"], ["sciq_acc"]).table.set_index("run_id")
    np.testing.assert_allclose(cell["loss"], raw.loc[cell.index, "eval/downstream/sciq_test_acc"], rtol=1e-12)
    assert (set(cell["chance"]), set(cell["n_items"])) == ({0.75}, {1000})
    # Every count of right answers is whole, but for HellaSwag, which the authors averaged otherwise.
    counts = right.table[right.table["eval_set"] != "hellaswag_acc"].eval("loss * n_items")
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)
    cell = sweep.select(["fineweb-100b"], ["starcoder"]).table.set_index("run_id")["loss"]
    np.testing.assert_allclose(cell, raw.loc[cell.index, "eval/starcoder_val/CrossEntropyLoss"], rtol=1e-15)


def test_pairs_of_loss_to_loss(local):
    sizes = pd.read_csv(local / "loss_to_loss" / "sweep.csv").groupby(["params", "tokens"])["data"].agg(set)
    expected = sum({"starcoder", "proof-pile-2"} <= sets for sets in sizes)
    pairs = load_sweep("loss-to-loss").pairs("starcoder", "proof-pile-2")
    assert len(pairs) == expected > 60
    assert np.corrcoef(pairs["x"], pairs["y"])[0, 1] > 0.99


def test_large_runs_of_loss_to_loss(local):
    large = large_runs("loss-to-loss")
    assert (len(large), large.train_sets, large.eval_sets) == (6, SETS, SETS)
    assert set(large.table["flops"]) == {1e21}
    both = load_sweep("loss-to-loss").with_rows(large)
    assert (len(both), both.notes) == (535, ())


def test_gadre(local):
    sweep, large = load_sweep("gadre"), large_runs("gadre")
    assert (sweep.n_runs, large.n_runs) == (98, 6)
    assert sweep.train_sets == large.train_sets == ["c4_original", "rpj", "rw_original"]
    losses = sweep.select(metric="loss")
    assert len(losses.eval_sets) == 8
    raw = pd.read_csv(local / "gadre" / "gadre2024.csv").query("metric == 'loss' and is_extrapolation == 0")
    np.testing.assert_allclose(losses.table["loss"], raw["value"], rtol=1e-15)
    np.testing.assert_allclose(losses.table["loss_se"], (raw["hi95_seq"] - raw["lo95_seq"]) / 3.92, rtol=1e-9)
    assert sweep.table["loss_se"].isna().sum() == len(sweep) - len(losses)
    errors = sweep.select(metric="error").table
    assert errors["loss"].between(0, 1).all()
    assert errors["chance"].between(0, 1).all()
    assert "flops_mismatch" not in [note.code for note in sweep.notes]


def test_a_local_copy_that_differs_is_noted(monkeypatch, real_data, tmp_path):
    shutil.copytree(real_data / "loss_to_loss", tmp_path / "loss_to_loss")
    path = tmp_path / "loss_to_loss" / "sweep.csv"
    lines = path.read_text().splitlines()
    path.chmod(0o644)
    path.write_text("\n".join(lines[:-1]) + "\n")
    monkeypatch.setenv("BAYES_L2L_DATA", str(tmp_path))
    sweep = load_sweep("loss-to-loss")
    assert sweep.n_runs == 528
    assert [str(note) for note in sweep.notes] == [
        f"warning: loss_to_loss/sweep.csv in {tmp_path} is not the published file (its sha256 differs) [data_differs]"
    ]
    assert sweep.up_to(1e18).notes == sweep.notes


def test_a_local_gadre_table_of_another_shape(monkeypatch, tmp_path):
    (tmp_path / "gadre").mkdir()
    (tmp_path / "gadre" / "gadre2024.csv").write_bytes(CONTENT)
    monkeypatch.setenv("BAYES_L2L_DATA", str(tmp_path))
    with pytest.raises(TableError) as refused:
        load_sweep("gadre")
    assert refused.value.faults == tuple(
        f"there is no column {name!r}" for name in ("lo95_seq", "hi95_seq", "is_extrapolation")
    )


def test_simulated_grid():
    sweep = load_sweep("simulated")
    assert (sweep.n_runs, sweep.train_sets, sweep.eval_sets) == (528, SETS, SETS)
    assert sweep.notes == ()
    budgets = np.geomspace(2e17, 4.84e19, 8)
    nearest = abs(np.log(sweep.table["flops"].to_numpy()[:, None] / budgets)).min(axis=1)
    assert nearest.max() < 1e-6
    per_set = sweep.table.groupby("train_set")
    assert set(per_set.size()) == {88}
    assert {frozenset(zip(part["params"], part["tokens"], strict=True)) for _, part in per_set} == {
        frozenset(zip(sweep.table["params"], sweep.table["tokens"], strict=True))
    }


def test_simulated_says_so():
    for sweep in (load_sweep("simulated"), large_runs("simulated"), simulated_sweep(seed=3, with_large=True)):
        assert sweep.simulated
        assert "(simulated, not measured)" in repr(sweep)
        assert "simulated from the published laws of arXiv 2411.12925, Table 3" in sweep.summary()
        assert "not measured" in sweep.provenance


def test_simulated_large_run_is_kept_out_unless_asked_for():
    small, both = simulated_sweep(), simulated_sweep(with_large=True)
    assert small.table["flops"].max() < 5e19
    large = both.above(5e19)
    assert (both.n_runs, large.n_runs) == (534, 6)
    assert large.table["flops"].iloc[0] / 4.84e19 == pytest.approx(20.6, abs=0.05)
    assert large.table.equals(large_runs("simulated").table)
    assert both.up_to(5e19).table.equals(small.table)


def test_simulated_is_reproducible():
    assert simulated_sweep(seed=1).table.equals(simulated_sweep(seed=1).table)
    assert not simulated_sweep(seed=1).table["loss"].equals(simulated_sweep(seed=2).table["loss"])


def test_simulated_deviations_are_those_promised():
    table = simulated_sweep(seed=4).table
    logs = {}
    for train_set, law in PUBLISHED_LAWS.items():
        part = table[table["train_set"] == train_set]
        logs[train_set] = np.log(
            part["loss"].to_numpy()
            / law_loss(part["params"].to_numpy(), part["tokens"].to_numpy(), gamma=law["beta"], **law)
        )
    deviations = np.array(list(logs.values()))
    shared = deviations.mean(axis=0)
    own = deviations - shared
    # 88 shared and 440 own degrees of freedom: five standard errors are 38% and 17%
    assert shared.std() == pytest.approx(np.hypot(0.003, 0.0015 / np.sqrt(6)), rel=0.38)
    assert own.std() * np.sqrt(6 / 5) == pytest.approx(0.0015, rel=0.17)


def test_published_laws_are_those_of_the_paper(real_data):
    fits = pd.read_csv(real_data / "loss_to_loss" / "opt_params_data.csv").query("kaplan and loss_name == 'val_loss'")
    assert sorted(PUBLISHED_LAWS) == sorted(fits["data"]) == SETS
    for _, fit in fits.iterrows():
        for name, value in PUBLISHED_LAWS[fit["data"]].items():
            assert value == pytest.approx(fit[name], rel=5e-4)


def test_published_laws_describe_the_measured_runs(local):
    table = load_sweep("loss-to-loss").table
    for train_set, law in PUBLISHED_LAWS.items():
        part = table[table["train_set"] == train_set]
        predicted = law_loss(part["params"], part["tokens"], gamma=law["beta"], **law)
        assert np.log(predicted / part["loss"]).std() < 0.02
