"""The pages of `docs/`: a section a command, made of what the command itself says, and a section a model file.

Run as a program, this file writes them: ``python docs/pages.py``. A test holds the pages to it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bayes_l2l.arguments import PROG, parser  # noqa: E402
from bayes_l2l.report import described_priors  # noqa: E402
from bayes_l2l.spec import RELATIONS, STRUCTURES, load_spec, model_names  # noqa: E402

#: What a command's help has no room for.
MORE = {
    "demo": "Writes `forecast.csv`, `fit.nc`, `forecast.png` and `report.html` into the folder, and prints "
    "the forecasts beside what the large runs then did. Two minutes on two cores.",
    "fit": "Everything that can be refused is looked at first: all faults of the table at once, with row and "
    "column. The fit is one NetCDF file with posterior, runs, model and notes; it is written whole or "
    "not at all. Exits with 1 if a note is serious.",
    "forecast": "The table holds `train_set, eval_set, params, tokens, flops, kind, mean, sd, median`, a column "
    "`q0.05` a quantile, and `extrapolation`: how many times the largest fitted compute of that "
    "training set. Nats per token. Notes go to standard error.",
    "translate": "The table holds K, kappa, E0 and E1, then the source's scaling law translated to the target; a "
    "row a variable, with intervals.",
    "rollout": "The only way to know how wide intervals should be: fits of smaller runs, held to account on "
    "larger ones. Each fold takes as long as a fit. The table is what `forecast --rollout` and "
    "`report --rollout` read.",
    "score": "Relative error, bias, CRPS, and coverage, width and interval score at 50, 80, 90 and 95%.",
    "check": "R-hat should be at most 1.01, effective sample sizes at least 400, and no draw should diverge.",
    "report": "Sections: forecasts in short, runs, model, forecasts, loss to loss, irreducible loss, model "
    "size, calibration (with `--rollout`), diagnostics. Tables sort by a click on a heading and are "
    "downloaded from within the file; pictures have a text for those who do not see them. For phone, "
    "screen, dark screen and paper. Exits with 1 if the fit is not to be trusted, and says so at the "
    "top of the report.",
    "sweep": "The recipe, and what it measured on six corpora, stand in [microsweep.md](microsweep.md). The table is "
    "what `fit` reads; `forecast --at RUNS-large.csv` and `score` compare with the large runs, which no fit sees. An "
    "hour of one core with six corpora, each of which must hold 4 MB.",
    "data": "Public sweeps, each known by its hash.",
    "data list": "Name, title, licence and source of each.",
    "data fetch": "Prints the folder; a file that is there already, with the right hash, is not downloaded again.",
}

INTRODUCTION = f"""# Commands

Made by `python docs/pages.py` from the commands themselves. Tables go to standard output where there is no `-o`,
messages to standard error. A command ends with 0 if all is well, 1 if an input is refused or a result is not to be
trusted, 2 if it is used wrongly. `{PROG} --version` says which version this is.
"""

MODELS = """# Models

Made by `python docs/pages.py` from the files in `models/`. How each was chosen, what was measured and where it fails
stands in [models/README.md](../models/README.md). Name one with `--model`, or copy its file, change a line, and name
the copy.
"""


def commands(top: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its parser, those that only hold others included."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                full = f"{name} {word}".strip()
                yield full, below
                yield from commands(below, full)


def options(of: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """How each argument is written, and what it is."""
    rows = []
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            continue
        metavar = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
        written = " ".join(filter(None, [", ".join(action.option_strings), str(metavar)]))
        needed = " Needed." if action.required and action.option_strings else ""
        rows.append((written, f"{action.help}.{needed}"))
    return rows


def commands_page() -> str:
    """A section a command."""
    parts = [INTRODUCTION]
    for name, of in commands(parser()):
        description = " ".join((of.description or "").split())
        example = "\n".join(line.strip() for line in (of.epilog or "").splitlines()[1:])
        parts.append(f"## {name}\n\n{description} {MORE.get(name, '')}\n\n```bash\n{example}\n```\n")
        if rows := options(of):
            table = "\n".join(f"| `{_cell(a)}` | {_cell(b[0].upper() + b[1:])} |" for a, b in rows)
            parts.append(f"| argument | what it is (default) |\n|---|---|\n{table}\n")
    return "\n".join(parts)


def models_page() -> str:
    """A section a model file."""
    parts = [MODELS]
    for name in model_names():
        spec = load_spec(name)
        comment = (ROOT / "models" / f"{name}.toml").read_text(encoding="utf-8").split("\nname =")[0]
        believes = " ".join(line.lstrip("# ").strip() for line in comment.splitlines() if line.startswith("#"))
        relation = f" Pairs: {RELATIONS[spec.relation]}." if spec.relation else ""
        told = f"{believes} Structure `{spec.structure}`: {STRUCTURES[spec.structure]}.{relation} Law `{spec.law}`."
        rows = "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in described_priors(spec))
        parts.append(
            f"## {name}\n\n**{spec.title}.** {told}\n\n```text\n{spec.equation}\n```\n\nSource: {spec.source}.\n\n"
            f"| part | quantity | along | prior |\n|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {"commands.md": commands_page, "models.md": models_page}

if __name__ == "__main__":
    for file, made in PAGES.items():
        (ROOT / "docs" / file).write_text(made(), encoding="utf-8")
