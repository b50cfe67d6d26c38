"""ARCHITECTURE.md says what is there, and the imports keep the directions it promises.

Convention: each module stands in backticks by its file name (`sweep.py`), each folder by its path from the
root with a slash behind it (`models/`, `bayes_l2l/mappings/`), outside fenced blocks.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bayes_l2l"
MODULES = sorted(path for path in PACKAGE.glob("*.py"))
ONE_PAGE = 75  # lines

SAMPLERS = {"pymc", "pytensor", "nutpie"}
BELOW_THE_MODEL = ("sweep", "laws", "notes", "errors", "scores")
MODEL_SIDE = {"build", "sampling"}


def architecture() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def in_backticks() -> set[str]:
    prose = re.sub(r"^```.*?^```", "", architecture(), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([^`\n]+)`", prose))


def tracked_files() -> list[Path]:
    """Files that git keeps; in an unpacked sdist, all of them."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        names = [name for name in listed.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = []
    if not names:
        names = [
            str(path.relative_to(ROOT))
            for top in ("bayes_l2l", "models", "notebooks", "tests")
            for path in (ROOT / top).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and ".ipynb_checkpoints" not in path.parts
        ]
    return [Path(name) for name in names]


def folders() -> set[str]:
    return {f"{parent}/" for path in tracked_files() for parent in path.parents if parent != Path()}


def imports(tree: ast.AST) -> set[str]:
    """Names of the modules imported anywhere in a tree, the package's own as `bayes_l2l.NAME`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["bayes_l2l" if node.level else "", node.module or ""]))
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def at_import_time(tree: ast.Module) -> ast.Module:
    """The tree without what does not run on import: bodies of functions and of `if TYPE_CHECKING`."""

    class Cut(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_FunctionDef

        def visit_If(self, node: ast.If) -> ast.AST:
            if "TYPE_CHECKING" in ast.unparse(node.test):
                node.body = [ast.Pass()]
            return self.generic_visit(node)

    return Cut().visit(tree)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def own_imports(name: str) -> set[str]:
    """Modules of the package that module `name` imports, wherever in the file."""
    known = {path.stem for path in MODULES}
    parts = (found.split(".") for found in imports(parse(PACKAGE / f"{name}.py")))
    return {part[1] for part in parts if part[0] == "bayes_l2l" and len(part) > 1 and part[1] in known}


def test_one_page():
    assert len(architecture().splitlines()) <= ONE_PAGE


@pytest.mark.parametrize("name", [path.name for path in MODULES if path.name != "__init__.py"])
def test_every_module_is_described(name):
    assert {name, f"bayes_l2l/{name}"} & in_backticks(), f"ARCHITECTURE.md does not mention `{name}`"


def test_every_folder_is_described():
    assert folders() - in_backticks() == set()


def test_nothing_described_is_missing():
    named = {span for span in in_backticks() if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(\.py|/)", span)}
    assert named
    gone = {span for span in named if not ((ROOT / span).exists() or (PACKAGE / span).exists())}
    assert gone == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_samplers_are_imported_only_when_needed(path):
    tops = {name.partition(".")[0] for name in imports(at_import_time(parse(path)))}
    assert tops & SAMPLERS == set()


@pytest.mark.parametrize("name", BELOW_THE_MODEL)
def test_data_and_mathematics_do_not_know_the_sampler(name):
    reached, ahead = set(), {name}
    while ahead:
        reached |= ahead
        ahead = set().union(*(own_imports(module) for module in ahead)) - reached
    assert reached & MODEL_SIDE == set()


def test_the_import_reader_sees_each_form():
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "import numpy as np\n"
        "from . import build\n"
        "from .laws import Law\n"
        "if TYPE_CHECKING:\n    import pymc\n"
        "try:\n    import nutpie\nexcept ImportError:\n    pass\n"
        "def f():\n    import pytensor.tensor as pt\n"
    )
    assert {"numpy", "bayes_l2l.build", "bayes_l2l.laws", "pymc", "nutpie", "pytensor.tensor"} <= imports(tree)
    left = imports(at_import_time(tree))
    assert {"numpy", "nutpie"} <= left
    assert not {"pymc", "pytensor.tensor"} & left
