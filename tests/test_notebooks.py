"""Every notebook runs from top to bottom; those in the repository have their full outputs.

Run as a program, this file executes the notebooks as they stand and writes their outputs:
``python tests/test_notebooks.py``, or only those that are named: ``python tests/test_notebooks.py notebooks/02*``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from bayes_l2l.data.datasets import DATA_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: What the cell tagged "parameters" sets while testing: enough to go through every line, too little to trust.
FEW = {"DRAWS": 60, "TUNE": 150}


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook: Any) -> Any:
    """The one cell that is tagged so."""
    (cell,) = (cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", ()))
    return cell


def with_few_draws(notebook: Any) -> Any:
    cell = parameters(notebook)
    names = [line.partition(" = ")[0] for line in cell.source.splitlines()]
    assert set(names) <= set(FEW), f"FEW lacks {set(names) - set(FEW)}"
    cell.source = "\n".join(f"{name} = {FEW[name]}" for name in names)
    return notebook


def execute(notebook: Any, *, folder: Path, **variables: str) -> Any:
    """Run every cell in a new kernel that imports this checkout, with these environment variables besides."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)}
    return client.execute(env=environment)


def outputs(notebook: Any, kind: str) -> list[Any]:
    return [out for cell in code_cells(notebook) for out in cell.outputs if out.output_type == kind]


def reads_public_data(notebook: Any) -> bool:
    names = ('"loss-to-loss"', '"gadre"')
    return any(name in cell.source for cell in code_cells(notebook) for name in names)


def test_there_are_notebooks():
    assert {"01_quick_start.ipynb", "02_the_papers_figures.ipynb"} <= {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_whole_and_clean(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run from top to bottom"
    assert outputs(notebook, "error") == []
    said = [out.text for out in outputs(notebook, "stream") if out.name == "stderr"]
    assert said == [], "no warning is left to be read past"
    text = path.read_text(encoding="utf-8")
    for home in ("/home/", "/root/", "/Users/", "/tmp/", str(ROOT)):
        assert home not in text, "the author's machine"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_tests_change_nothing_but_the_parameters(path):
    whole, few = read(path), with_few_draws(read(path))
    changed = [a.source for a, b in zip(whole.cells, few.cells, strict=True) if a.source != b.source]
    assert changed == [parameters(whole).source]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs(path, tmp_path, request):
    notebook = with_few_draws(read(path))
    data = {DATA_VARIABLE: str(request.getfixturevalue("real_data"))} if reads_public_data(notebook) else {}
    pictures = sum("image/png" in out.data for out in outputs(notebook, "execute_result"))
    execute(notebook, folder=tmp_path, **data)  # a cell that fails raises
    assert sum("image/png" in out.data for out in outputs(notebook, "execute_result")) == pictures
    assert list(tmp_path.iterdir()) == [], "a notebook leaves no file behind where it runs"


def test_the_quick_start_says_what_is_real_about_its_runs():
    notebook = read(ROOT / "notebooks" / "01_quick_start.ipynb")
    assert "are measured" in notebook.cells[0].source
    assert "very small" in notebook.cells[0].source
    shown = outputs(notebook, "execute_result")
    assert sum("image/png" in out.data for out in shown) == 6
    printed = " ".join(out.text for out in outputs(notebook, "stream"))
    assert "microsweep: 174 rows" in printed


def test_the_papers_figures_say_what_was_fitted_and_have_their_bands():
    notebook = read(ROOT / "notebooks" / "02_the_papers_figures.ipynb")
    assert reads_public_data(notebook)
    assert "measured by the paper's authors" in notebook.cells[0].source
    assert "never fitted" in notebook.cells[0].source
    drawn = [cell for cell in code_cells(notebook) if any("image/png" in out.get("data", {}) for out in cell.outputs)]
    assert len(drawn) >= 12
    for cell in drawn:
        assert any(name in cell.source for name in (".plot.", ".plot(")), "only what the package draws"
    headings = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for figure in range(1, 9):
        assert f"(Figure {figure})" in headings


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or NOTEBOOKS):
        nbformat.write(execute(read(path), folder=path.parent), path)
