"""The tables of arXiv 2411.12925 beside the bootstrap of point fits and beside this package, as a command.

::

    python benchmarks/paper.py [table1 table2 sources tables789 pairs evaluations
                               hindcast_evaluations ablations]
                               [--draws --tune --chains --cores --seed --models] [--again] [--quick]

Without names all sections run. Each is stored at once in benchmarks/results/paper.json, where those of other names
stay as they are, and all are written to paper.md. A section that is stored with the same settings is not run again,
so that a run that was cut off goes on; ``--again`` runs it all the same. ``--quick`` only shows that a section works:
two sets or sources, few draws, and its results go to a folder of their own.

The large runs are 3.3e9 parameters and 1e21 FLOPs, 20.7 times the largest run of the sweep. No large run that is
predicted is ever fitted. CRPS is twice the mean pinball loss over 99 quantiles, in percent of the actual loss; c50
and c90 are how many of 100 runs the 50% and 90% intervals hold; w90 is the width of the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only this folder is on the path

import bayes_l2l as l2l
from bayes_l2l.files import write_whole
from benchmarks import paper_large, paper_tables
from benchmarks.paper_data import Runs
from benchmarks.paper_fits import ABLATIONS, Table, Work

SECTIONS: Final[Mapping[str, Callable[[Runs, Work], list[Table]]]] = {
    "table1": paper_tables.table1,
    "table2": paper_tables.table2,
    "sources": paper_tables.sources,
    "tables789": paper_tables.tables789,
    "pairs": paper_large.pairs,
    "evaluations": paper_large.evaluations,
    "hindcast_evaluations": paper_large.hindcast_evaluations,
    "ablations": paper_large.ablations,
}
_SETTINGS: Final = ("draws", "tune", "chains", "seed", "quick")


def run(name: str, runs: Runs, work: Work) -> dict[str, Any]:
    """Run one section.

    Parameters
    ----------
    name : str
        Of `SECTIONS`.
    runs : Runs
        The paper's runs.
    work : Work
        Settings, and what is compiled.

    Returns
    -------
    dict
        ``tables``, ``fits`` (how each sampled), ``settings``, ``seconds``, ``date``, ``command``, ``machine`` and
        ``versions``.
    """
    work.checks.clear()
    started = perf_counter()
    tables = SECTIONS[name](runs, work)
    return {
        "tables": tables,
        "fits": list(work.checks),
        "settings": settings(name, work),
        "seconds": round(perf_counter() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/paper.py", name, *_options(work)]),
        "machine": f"{os.cpu_count()} cores of {platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), "bayes_l2l": l2l.__version__}
        | {package: version(package) for package in ("pymc", "nutpie", "numpy")},
    }


def settings(name: str, work: Work) -> dict[str, Any]:
    """What a section's figures depend on."""
    chosen = {key: getattr(work, key) for key in _SETTINGS}
    return chosen | ({"models": list(work.models)} if name == "ablations" else {})


def _options(work: Work) -> list[str]:
    return [f"--{key} {getattr(work, key)}" for key in _SETTINGS[:-1]] + ["--quick"] * work.quick


def as_markdown(results: Mapping[str, Any]) -> str:
    """Results of all sections as a Markdown page."""
    lines = [
        "# The paper's tables, with intervals",
        "",
        "Made by `benchmarks/paper.py`, whose docstring says what the scores are. The paper's columns are published "
        "figures (arXiv 2411.12925); the rest was measured.",
    ]
    for name in SECTIONS:
        if name in results:
            for table in results[name]["tables"]:
                lines += ["", f"## {table['title']}", "", *_grid(table)]
            lines += ["", _footnote(results[name])]
    return "\n".join(lines) + "\n"


def _grid(table: Table) -> list[str]:
    digits = table.get("digits", 2)
    head = [table["text"], ""] if table["text"] else []
    head += ["| " + " | ".join(table["columns"]) + " |", "|" + "---|" * len(table["columns"])]
    return head + ["| " + " | ".join(show(value, digits=digits) for value in row) + " |" for row in table["rows"]]


def show(value: Any, *, digits: int) -> str:
    """One cell of a table: a text, a number, nothing, or a median with its interval."""
    if value is None or isinstance(value, str | int):
        return "" if value is None else str(value)
    if isinstance(value, Sequence):
        middle, low, high = (show(v, digits=digits) for v in value)
        return f"{middle} [{low}, {high}]"
    if abs(value) >= 1e5:
        return f"{value:.3g}"
    return f"{value:.{min(digits, 1) if abs(value) >= 10 else digits}f}"


def _footnote(section: Mapping[str, Any]) -> str:
    chosen, versions, fits = section["settings"], section["versions"], section["fits"]
    text = f"`{section['command']}`, {section['date'][:10]}: {section['seconds']:.0f} s on {section['machine']}"
    text += f"; Python {versions['python']}, PyMC {versions['pymc']}, nutpie {versions['nutpie']}."
    if fits:
        text += (
            f" {len(fits)} fits of {chosen['chains']} x ({chosen['tune']} + {chosen['draws']}) draws, at most "
            f"{max(f['seconds'] for f in fits):.0f} s each; worst R-hat {max(f['rhat'] for f in fits):.3f}, "
            f"least bulk ESS {min(f['ess'] for f in fits):.0f}, {sum(f['divergences'] for f in fits)} divergences."
        )
    return text + (" **Quick: these figures mean nothing.**" if chosen["quick"] else "")


def pairwise_models() -> list[str]:
    """The joint model, the train-to-train model and its ablations."""
    return ["joint", "train_to_train", *(name for name in ABLATIONS if name.startswith("train_to_train"))]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="The tables of arXiv 2411.12925, with intervals.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"which to run: {', '.join(SECTIONS)}; all")
    parser.add_argument("--draws", type=int, help="draws a chain that are kept (1000)")
    parser.add_argument("--tune", type=int, help="draws a chain for adaptation (1000)")
    parser.add_argument("--chains", type=int, help="chains (4)")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", nargs="+", help="of the ablations; the joint and all train-to-train models")
    parser.add_argument("--again", action="store_true", help="run what is stored already")
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--output", type=Path, help="folder of paper.json and paper.md")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.sections if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]!r}; the sections are {', '.join(SECTIONS)}")
    work = Work(cores=options.cores, seed=options.seed, models=options.models or pairwise_models())
    if options.quick:
        work = replace(work, quick=True, draws=50, tune=150, chains=2)
    work = replace(work, **{k: v for k in ("draws", "tune", "chains") if (v := getattr(options, k)) is not None})
    scratch = Path(tempfile.gettempdir()) / "bayes_l2l_paper_quick"
    folder = options.output or (scratch if options.quick else Path(__file__).parent / "results")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "paper.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    runs = Runs.load()
    warnings.filterwarnings("ignore", "DataFrame is highly fragmented")  # by 99 columns, assigned one by one
    for name in options.sections or SECTIONS:
        if not options.again and results.get(name, {}).get("settings") == settings(name, work):
            sys.stderr.write(f"{name}: stored already\n")
            continue
        sys.stderr.write(f"{name}\n")
        results[name] = run(name, runs, work)
        text, page = json.dumps(results, indent=1, allow_nan=False) + "\n", as_markdown(results)
        write_whole(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
        write_whole(path.with_suffix(".md"), lambda part, page=page: part.write_text(page, encoding="utf-8"))
    sys.stdout.write(as_markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
