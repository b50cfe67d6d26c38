"""Docstrings follow numpydoc and agree with the code; those of the package's exports are complete."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numpydoc.validate import validate

import bayes_l2l

ROOT = Path(__file__).resolve().parents[1]
CHECKS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["numpydoc_validation"]["checks"]
)
# Asked for of the exports alone, and there not of a short method that one sentence explains.
COMPLETE = {"PR01", "RT01", "RT03", "YD01"}
SHORT = 2  # parameters
SECTION = re.compile(r"^\s*-{3,}\s*$", re.MULTILINE)


def modules() -> list[str]:
    paths = sorted(path.relative_to(ROOT) for path in (ROOT / "bayes_l2l").rglob("*.py"))
    return [".".join(path.with_suffix("").parts) for path in paths if path.stem not in {"__init__", "__main__"}]


def public_objects(module: Any) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, object and class (None outside one) of what a module itself defines."""
    for name, found in vars(module).items():
        if name.startswith("_") or getattr(found, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(found):
            yield f"{module.__name__}.{name}", found, None
            for member, value in vars(found).items():
                # What overrides a documented method is documented there.
                inherited = any(hasattr(base, member) for base in found.__bases__)
                kinds = property | classmethod | staticmethod | type(public_objects)
                if not member.startswith("_") and not inherited and isinstance(value, kinds):
                    yield f"{module.__name__}.{name}.{member}", getattr(found, member), found
        elif inspect.isfunction(found):
            yield f"{module.__name__}.{name}", found, None


def asks_for_sections(found: Any, owner: Any, exports: list[Any]) -> bool:
    if not any(found is export or owner is export for export in exports) or inspect.isclass(found):
        return False
    if owner is None or not callable(found):
        return True
    parameters = [name for name in inspect.signature(found).parameters if name != "self"]
    return len(parameters) > SHORT or bool(SECTION.search(found.__doc__ or ""))


def faults(module_name: str) -> list[str]:
    exports = [getattr(bayes_l2l, name) for name in bayes_l2l.__all__]
    found_faults = []
    for name, found, owner in public_objects(importlib.import_module(module_name)):
        checks = CHECKS if asks_for_sections(found, owner, exports) else CHECKS - COMPLETE
        found_faults += [f"{name}: {code} {message}" for code, message in validate(name)["errors"] if code in checks]
    return found_faults


@pytest.mark.parametrize("module_name", modules())
def test_docstrings(module_name):
    assert faults(module_name) == []


def test_a_bad_docstring_is_found(monkeypatch, tmp_path):
    (tmp_path / "bad_docstrings.py").write_text(
        "def stale(x):\n"
        '    """Double.\n\n    Parameters\n    ----------\n    y : float\n        Gone.\n    """\n'
        "    return 2 * x\n\n\n"
        "def silent(x):\n    return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = "\n".join(faults("bad_docstrings"))
    assert "stale: PR02" in found
    assert "silent: GL08" in found
