"""The README and the guides are executed: every command and every Python block, in order.

The README has a folder of its own. So have the guides together, because the later ones go on with the fit of the
first; names in Python are every page's own.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXECUTED = {"bash", "console", "python"}
SHOWN = {"", "json", "text", "toml"}
MOST_LINES = 150  # of the README: what a visitor reads in three minutes
README = "README.md"
#: In the order in which the site has them.
GUIDES = re.findall(r"^guides/\w+$", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
PAGES = [README, *(f"docs/{guide}.md" for guide in GUIDES)]
FENCE = re.compile(r"^```(?P<language>[^\n]*)\n(?P<body>.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)

# What sets a machine up is not repeated here: `make` says what it would do, the rest is left out.
# The packaging tests install for real.
PREAMBLE = """
set -euo pipefail
make() {{ command make --directory {root} --dry-run "$@" >/dev/null; }}
git() {{ [ "$1" = clone ] && mkdir -p "$(basename "${{!#}}" .git)"; }}
pip() {{ :; }}
source() {{ :; }}
"""
PUBLIC_DATA = ("loss-to-loss", "gadre")


@dataclass(frozen=True)
class Block:
    """One fenced block and the line it begins on."""

    language: str
    body: str
    line: int

    @property
    def script(self) -> str:
        """What a reader would type."""
        if self.language != "console":
            return self.body
        typed, more = [], False
        for line in self.body.splitlines():
            if line.startswith("$ ") or more:
                typed.append(line if more else line[2:])
                more = line.endswith("\\")
        return "\n".join(typed) + "\n"

    @property
    def outputs(self) -> set[str]:
        """Files that the block's commands write."""
        named = re.findall(r"(?:\s-o|\s--output|\s>)\s+(\S+)", self.script)
        return set(named) | set(re.findall(r"\.save\(\s*[\"']([^\"']+)", self.script))


def blocks(text: str) -> list[Block]:
    return [
        Block(found["language"].strip(), found["body"], text.count("\n", 0, found.start()) + 1)
        for found in FENCE.finditer(text)
    ]


def page(name: str) -> list[Block]:
    return blocks((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture
def command_path(tmp_path: Path) -> str:
    """A PATH with this interpreter's `bayes-l2l`, also where the package is only on PYTHONPATH."""
    scripts = Path(sys.executable).parent
    if not (scripts / "bayes-l2l").exists():
        shim = tmp_path / "bin" / "bayes-l2l"
        shim.parent.mkdir()
        shim.write_text(
            f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m bayes_l2l "$@"\n'
        )
        shim.chmod(0o755)
        scripts = shim.parent
    return os.pathsep.join([str(scripts), os.environ["PATH"]])


def run_shell(script: str, *, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", PREAMBLE.format(root=shlex.quote(str(ROOT))) + script],
        cwd=folder,
        env={**os.environ, "PATH": path, "MPLBACKEND": "Agg"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )


def test_every_guide_is_in_the_site():
    assert sorted(PAGES[1:]) == sorted(f"docs/guides/{path.name}" for path in (ROOT / "docs" / "guides").iterdir())


def test_the_readme_is_short():
    assert len((ROOT / README).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", PAGES)
def test_every_block_says_its_language(name):
    unknown = {block.language for block in page(name)} - EXECUTED - SHOWN
    assert unknown == set(), "a block in an unknown language would go unchecked"


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_are_shown_and_exist(target, tmp_path, command_path):
    shells = "\n".join(block.script for block in page(README) if block.language in {"bash", "console"})
    assert re.search(rf"^make {target}\b", shells, flags=re.MULTILINE)
    done = run_shell(f"make {target}", folder=tmp_path, path=command_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("names", [PAGES[:1], PAGES[1:]], ids=["readme", "guides"])
def test_everything_runs(names, tmp_path, command_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    offline = () if os.environ.get("BAYES_L2L_DATA") else PUBLIC_DATA
    left_out: list[str] = []
    missing: set[str] = set(offline)

    for name in names:
        namespace: dict[str, object] = {"__name__": "page"}
        for block in page(name):
            where = f"{name}, line {block.line}:\n{block.script}"
            if block.language not in EXECUTED:
                continue
            if any(word in block.script for word in missing):
                left_out.append(where)
                missing |= block.outputs
            elif block.language == "python":
                code = compile("\n" * block.line + block.body, name, "exec")
                exec(code, namespace)
            else:
                done = run_shell(block.script, folder=folder, path=command_path)
                assert done.returncode == 0, f"{where}{done.stdout}{done.stderr}"

    if left_out:
        pytest.skip("the rest ran; without BAYES_L2L_DATA these were left out: " + "\n".join(left_out))


def test_the_reader_sees_what_is_typed():
    text = "a\n```console\n$ make demo\nout $ x\n$ bayes-l2l fit a \\\n  -o fit.nc\n```\n"
    text += "```bash\nmake test\n```\n"
    console, bash = blocks(text)
    assert console.script == "make demo\nbayes-l2l fit a \\\n  -o fit.nc\n"
    assert console.outputs == {"fit.nc"}
    assert (console.line, bash.line) == (2, 8)
    assert bash.script == "make test\n"


@pytest.mark.parametrize("script", ["make nonesuch\n", "bayes-l2l nonesuch\n", "no-such-command\n"])
def test_a_wrong_command_is_caught(script, tmp_path, command_path):
    assert run_shell(script, folder=tmp_path, path=command_path).returncode != 0
