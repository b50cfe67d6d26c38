"""ARCHITECTURE.md says what is there, and imports keep the directions it promises.

Rooms and root modules stand in one order, from the lowest to the highest. An import, wherever in a file and whether
it runs or serves types alone, goes down that order, or through one of the doors that are listed here.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bayes_l2l"
ONE_PAGE = 75  # lines
SAMPLERS = {"pymc", "pytensor", "nutpie"}

#: From the lowest to the highest: what stands later may import what stands earlier.
ORDER = (
    "errors", "registry", "files", "display", "laws", "notes", "data", "spec", "posterior", "point_fits",
    "structures", "density", "inference", "prediction", "decisions", "evaluation", "plotting", "report", "fits",
    "microsweep", "cli", "__main__",
)  # fmt: skip
#: Upwards, each from inside a function: methods that draw, and nothing else.
DOORS = {
    ("prediction.forecasts", "plotting.laws"): "Forecast.plot",
    ("prediction.translations", "plotting.relations"): "Translation.plot",
    ("prediction.optimum", "plotting.optimum"): "Optimum.plot",
    ("decisions.choices", "plotting.decisions"): "Choice.plot",
    ("decisions.plans", "plotting.decisions"): "Plan.plot",
}
#: Circles among the files of one room that are meant.
CIRCLES = {frozenset({"decisions.choices", "decisions.plans"})}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below it; a room's own file by the room's."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Absolute name of everything imported anywhere in a tree, deferred and type-only imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the package's imports are absolute"
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def own_imports(source: str, known: set[str]) -> set[str]:
    """Modules of the package that a source imports, as specific as they are known."""
    found = set()
    for name, _ in imports(ast.parse(source)):
        if name.partition(".")[0] != "bayes_l2l":
            continue
        parts = name.split(".")[1:]
        candidates = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        found |= (
            {next(candidate for candidate in candidates if candidate in known)}
            if any(candidate in known for candidate in candidates)
            else set()
        )
    return found


def graph() -> dict[str, set[str]]:
    every = modules()
    return {name: own_imports(path.read_text(encoding="utf-8"), set(every)) for name, path in every.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


def upwards(edges: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Imports that go up the order."""
    return {
        (one, other)
        for one, others in edges.items()
        for other in others
        if ORDER.index(room(other)) > ORDER.index(room(one))
    }


def circles(edges: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of modules that reach each other (strongly connected components of more than one)."""

    def reached(start: str) -> set[str]:
        seen, ahead = set(), set(edges[start])
        while ahead:
            seen |= ahead
            ahead = set().union(*(edges[name] for name in ahead)) - seen
        return seen

    reach = {name: reached(name) for name in edges}
    together = (frozenset({name, *(o for o in reach[name] if name in reach[o])}) for name in edges)
    return {found for found in together if len(found) > 1}


# Directions


def test_every_room_has_its_place_in_the_order():
    assert {room(name) for name in modules()} == set(ORDER) - {"__main__"} | {"__main__"}


def test_imports_go_down_but_through_the_doors():
    assert upwards(graph()) == set(DOORS)


def test_there_is_no_circle_between_rooms():
    edges = {one: {other for other in others if (one, other) not in DOORS} for one, others in graph().items()}
    assert {found for found in circles(edges) if len({room(name) for name in found}) > 1} == set()
    assert circles(edges) == CIRCLES


@pytest.mark.parametrize("door", DOORS, ids=lambda door: DOORS[door])
def test_a_door_is_opened_only_when_one_goes_through(door):
    """The import stands in the method that it is named after."""
    one, other = door
    kind, method = DOORS[door].split(".")
    tree = ast.parse(modules()[one].read_text(encoding="utf-8"))
    (owner,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind]
    (body,) = [node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == method]
    assert f"bayes_l2l.{other}" in {name for name, _ in imports(body)}
    elsewhere = [name for name, _ in imports(tree) if name.startswith(f"bayes_l2l.{other}")]
    assert len(elsewhere) == 1


@pytest.mark.parametrize(
    "added",
    [
        "from bayes_l2l.report.sections import report\n",
        "if TYPE_CHECKING:\n    from bayes_l2l.fits import Fit\n",
        "def f():\n    from bayes_l2l import plotting\n",
        "import bayes_l2l.cli\n",
    ],
)
def test_an_import_upwards_is_seen_wherever_it_stands(added):
    edges, source = graph(), modules()["laws.scaling"].read_text(encoding="utf-8")
    edges["laws.scaling"] = own_imports(source + added, set(edges))
    assert {one for one, _ in upwards(edges) - set(DOORS)} == {"laws.scaling"}


def test_a_circle_is_seen():
    edges = graph()
    edges["laws.scaling"] = edges["laws.scaling"] | {"data.sweep"}
    edges["data.sweep"] = edges["data.sweep"] | {"laws.scaling"}
    assert any({"laws.scaling", "data.sweep"} <= found for found in circles(edges))


def test_nothing_but_the_command_imports_the_trainer():
    users = {name for name, others in graph().items() if "microsweep" in {room(other) for other in others}}
    assert {name for name in users if room(name) != "microsweep"} == {"cli.commands.sweep"}


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


@pytest.mark.parametrize("name", modules())
def test_samplers_are_imported_only_when_needed(name):
    tree = at_import_time(ast.parse(modules()[name].read_text(encoding="utf-8")))
    assert {found.partition(".")[0] for found, _ in imports(tree)} & SAMPLERS == set()


def test_no_module_asks_which_structure_a_model_has():
    asks = re.compile(
        r"structure ==|structure !=|isinstance\(.*(PairArrays|PairwiseSpec|JointSpec|SeparateSpec)|in coords"
    )
    for name, path in modules().items():
        if room(name) != "structures":
            assert not asks.search(path.read_text(encoding="utf-8")), name


# The page


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


def test_one_page():
    assert len(architecture().splitlines()) <= ONE_PAGE


def test_every_room_and_folder_at_the_top_is_described():
    tops = {f"{path.parts[0]}/" for path in tracked_files() if len(path.parts) > 1}
    rooms = {
        f"{room(name)}/" for name, path in modules().items() if path.parent != PACKAGE or path.name == "__init__.py"
    }
    rooms -= {f"{room(name)}/" for name in modules() if (PACKAGE / f"{name}.py").exists()}
    assert tops | rooms <= in_backticks()


def test_rooms_are_described_in_their_order():
    described = [span for span in re.findall(r"`([a-z_]+)/`", architecture()) if span in ORDER]
    assert list(dict.fromkeys(described)) == [name for name in ORDER if (PACKAGE / name).is_dir()]


def test_nothing_described_is_missing():
    named = {span for span in in_backticks() if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(\.py|/)", span)}
    assert named
    gone = {span for span in named if not ((ROOT / span).exists() or (PACKAGE / span).exists())}
    assert gone == set()


@pytest.mark.parametrize("name", [name for name in ORDER if (PACKAGE / name).is_dir()])
def test_every_room_says_which_question_it_answers(name):
    docstring = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8")))
    assert docstring
    assert "?" in docstring.splitlines()[0]
