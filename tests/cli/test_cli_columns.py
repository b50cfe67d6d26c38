"""`columns`: from an export to a fit by the proposal alone; and `models`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import exports
import pytest
import tiny
from command_line import refused

import bayes_l2l
from bayes_l2l import fits
from bayes_l2l.cli import main
from bayes_l2l.structures.models import error_model_names, model_names

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def export(folder) -> str:
    exports.tracker().to_csv(folder / "export.csv", index=False)
    return "export.csv"


def test_from_an_export_to_a_forecast_by_the_proposal_alone(export, monkeypatch, capsys):
    """Messy sizes, accuracies in percent, runs that crashed; with a small model and few draws."""
    whole = fits.fit

    def few(sweep, **told):
        told |= {"model": tiny.JOINT, "error_model": None, "draws": 50, "tune": 100, "chains": 2}
        return whole(sweep, **told)

    assert main(shlex.split(f"columns {export} -o map.toml")) == 0
    said = capsys.readouterr().err
    assert "Not sure of tokens: no column has them" in said
    assert "info: 2 of 40 rows are left out" in said
    assert said.endswith("Look it over, then: bayes-l2l fit export.csv --columns map.toml -o fit.nc\n")
    monkeypatch.setattr(fits, "fit", few)
    assert main(shlex.split(f"fit {export} --columns map.toml -o fit.nc")) in (0, 1)
    fit = bayes_l2l.load_fit("fit.nc")
    assert sorted(fit.cells) == [
        ("c4", "fineweb"), ("c4", "starcoder"), ("fineweb", "fineweb"), ("starcoder", "starcoder"),
    ]  # fmt: skip
    capsys.readouterr()
    assert main(shlex.split("forecast fit.nc --params 7b --tokens 140B --train-set fineweb --json")) in (0, 1)
    (own, _) = sorted(json.loads(capsys.readouterr().out)["table"], key=lambda row: row["eval_set"] == "c4")
    assert (own["params"], own["tokens"]) == (7e9, 1.4e11)
    assert own["median"] < fit.sweep.table.query("eval_set == 'fineweb'")["loss"].min()


def test_without_a_file_the_mapping_is_shown(export, capsys):
    assert main(["columns", export]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("# Proposed by `bayes-l2l columns export.csv` from names and values")
    assert 'params = "config.model.n_params"  # ' in shown.out
    Path("map.toml").write_text(shown.out, encoding="utf-8")
    assert bayes_l2l.load_sweep(export, columns="map.toml").n_runs == 38


def test_what_cannot_be_read_yet_ends_with_1_and_says_why(folder, capsys):
    Path("export.csv").write_text("data,val_loss\na,3\nb,2\n")
    assert main(shlex.split("columns export.csv -o map.toml")) == 1
    said = capsys.readouterr().err
    assert "Not sure of params: no column was found for the number of parameters" in said
    assert "The table cannot be read yet: fill in what was not found." in said
    assert "Look it over" not in said
    Path("export.csv").write_text("data,N,D,val_loss\na,1e8,2e9,3\na,1e8,2e9,oops\na,2e8,4e9,2.9\na,4e8,8e9,2.8\n")
    assert main(shlex.split("columns export.csv -o map.toml")) == 1
    assert "With this mapping export.csv is refused" in capsys.readouterr().err


def test_a_table_that_needs_no_mapping(runs, capsys):
    from command_line import ROWS

    assert main(["columns", runs(*ROWS), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["needless"] is True
    assert found["sweep"]["runs"] == len(ROWS)
    assert "no mapping file is needed" in " ".join(found["messages"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("columns absent.csv", "there is no file absent.csv"),
        ("columns export.csv -o map.txt", "its name must end in .toml"),
        ("models show jont", "There is no model 'jont'; known are chinchilla"),
        ("models copy joint my.nc", "its name must end in .toml"),
        ("models copy joint absent/my.toml", "there is no folder absent"),
        ("models copy joint mine.toml", "mine.toml is there already, and may have changes of yours"),
    ],
)
def test_refused(arguments, said, export, capsys, folder):
    Path("mine.toml").write_text("# mine\n")
    assert said in refused(arguments, capsys, folder)


def test_models_are_listed_shown_and_copied(folder, capsys):
    assert main(["models", "list"]) == 0
    listed = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert listed == [*model_names(), *error_model_names()]
    for name in listed:
        text = (ROOT / "models" / f"{name}.toml").read_text(encoding="utf-8")
        assert main(["models", "show", name]) == 0
        assert capsys.readouterr().out == text
    assert main(["models", "copy", "joint", "my.toml"]) == 0
    assert Path("my.toml").read_text(encoding="utf-8") == (ROOT / "models" / "joint.toml").read_text(encoding="utf-8")
    assert "bayes-l2l fit runs.csv --model my.toml" in capsys.readouterr().err
