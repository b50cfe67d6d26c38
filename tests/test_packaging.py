"""What is built is what is in the checkout: versions, requirements, the wheel, and the model files in it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import bayes_l2l

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODELS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "models").glob("*.toml")}

PROBE = """
import json, bayes_l2l
from bayes_l2l.structures.models import load_spec, model_names
print(json.dumps({
    "package": bayes_l2l.__file__,
    "specs": {name: repr(load_spec(name)) for name in model_names()},
}))
"""


def run(*arguments: str | Path, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command elsewhere; nothing of this process's PYTHONPATH reaches it, only `path`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [str(argument) for argument in arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def succeed(*arguments: str | Path, folder: Path, path: Path | None = None) -> str:
    done = run(*arguments, folder=folder, path=path)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Install:
    """One way in which a person has the package."""

    python: Path
    command: tuple[str, ...]
    package: Path
    site: Path | None = None
    path: Path | None = None


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, the wheel built from that sdist, and in editable/ the editable wheel."""
    dist = tmp_path_factory.mktemp("dist")
    succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, ROOT, folder=dist)
    (dist / "editable").mkdir()
    backend = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    succeed(sys.executable, "-c", backend, dist / "editable", folder=ROOT)
    return dist


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (found,) = built.glob("*.whl")
    return found


def fresh_install(folder: Path, wheel: Path, *, package: Path | None = None) -> Install:
    """A new environment with one wheel, which borrows the dependencies of the environment of this run."""
    venv.create(folder, with_pip=False)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", scripts / "python"]
    succeed(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=folder)
    site = Path(
        succeed(
            scripts / "python", "-c", "import sysconfig as s; print(s.get_path('purelib'))", folder=folder
        ).strip()
    )
    # Only now: pip would otherwise have found this checkout's own install among the dependencies.
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    return Install(scripts / "python", (str(scripts / "bayes-l2l"),), package or site / "bayes_l2l", site=site)


@pytest.fixture(scope="module", params=["checkout", "editable", "wheel"])
def install(request, built, wheel, tmp_path_factory) -> Install:
    if request.param == "checkout":
        python = Path(sys.executable)
        return Install(python, (str(python), "-m", "bayes_l2l"), ROOT / "bayes_l2l", path=ROOT)
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "wheel":
        return fresh_install(folder, wheel)
    (editable,) = (built / "editable").glob("*.whl")
    return fresh_install(folder, editable, package=ROOT / "bayes_l2l")


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)$", citation, flags=re.MULTILINE) == [bayes_l2l.__version__]
    assert re.findall(r"^## (\d\S+)", changelog, flags=re.MULTILINE)[0] == bayes_l2l.__version__


def test_each_stack_is_named_for_both_pythons():
    stacks: dict[str, set[str]] = {"<": set(), ">=": set()}
    for requirement in PROJECT["dependencies"]:
        name, marker = re.match(r"([\w-]+)[^;]*;?\s*(.*)", requirement).groups()
        if marker:
            stacks[re.fullmatch(r"python_version (<|>=) '3\.12'", marker)[1]].add(name)
    assert {"pymc", "nutpie", "arviz-base", "arviz-stats", "arviz-plots"} <= stacks["<"]
    assert stacks["<"] == stacks[">="]


def test_every_import_is_a_requirement():
    declared = {re.match(r"[\w-]+", requirement)[0].replace("-", "_") for requirement in PROJECT["dependencies"]}
    # PyMC says which PyTensor it needs, Numba which llvmlite, and pydantic which core.
    declared |= {"bayes_l2l", "pytensor", "llvmlite", "pydantic_core"}
    declared |= {
        re.match(r"[\w-]+", requirement)[0]
        for name in ("dask", "sweep")
        for requirement in PROJECT["optional-dependencies"][name]
    }
    imported = set()
    for path in (ROOT / "bayes_l2l").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    assert imported - declared - sys.stdlib_module_names == set()


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"bayes_l2l", f"bayes_l2l-{bayes_l2l.__version__}.dist-info"}
    in_models = {name for name in names if name.startswith("bayes_l2l/models/")}
    assert in_models == {f"bayes_l2l/models/{name}.toml" for name in MODELS}
    folders = [ROOT / "bayes_l2l" / name for name in ("report/templates", "data/measurements")]
    inside = [*(ROOT / "bayes_l2l").rglob("*.toml"), *(path for folder in folders for path in folder.iterdir())]
    data = {path.relative_to(ROOT).as_posix() for path in inside}
    assert {"bayes_l2l/py.typed", *data} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
def test_the_package_and_its_models_are_found(install, tmp_path):
    """Alike from the checkout, an editable install and a wheel, in a folder elsewhere."""
    version = succeed(*install.command, "--version", folder=tmp_path, path=install.path)
    assert bayes_l2l.__version__ in version
    found = json.loads(succeed(install.python, "-c", PROBE, folder=tmp_path, path=install.path))
    assert Path(found["package"]) == install.package / "__init__.py"
    assert found["specs"].keys() == {name for name in MODELS if not name.startswith("error_")}
    here = json.loads(succeed(sys.executable, "-c", PROBE, folder=tmp_path, path=ROOT))
    assert found["specs"] == here["specs"]


@pytest.mark.slow
def test_the_command_reads_the_models(install, tmp_path):
    done = run(
        *install.command,
        "fit",
        "simulated",
        "--model",
        "nonesuch",
        "-o",
        "fit.nc",
        folder=tmp_path,
        path=install.path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "nonesuch" in done.stderr
    for name in [name for name in MODELS if not name.startswith("error_")]:
        assert name in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_nothing_lands_beside_the_package(install):
    if install.site is None:
        assert install.package == ROOT / "bayes_l2l"
        return
    assert not (install.site / "models").exists()
    assert not (install.site / "models.py").exists()
    copies = sorted(path.name for path in install.site.rglob("*.toml") if "bayes_l2l" in path.parts)
    inside = install.package.is_relative_to(install.site)
    expected = list(ROOT.glob("models/*.toml")) + list((ROOT / "bayes_l2l").rglob("*.toml")) if inside else []
    assert copies == sorted(path.name for path in expected)
