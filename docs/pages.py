"""The pages of `docs/`: a section a command, made of what the command itself says, and a section a model file.

Run as a program, this file writes them, and the README's table of results: ``python docs/pages.py``. Tests hold both
to it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import click  # noqa: E402

from bayes_l2l.cli.app import program  # noqa: E402
from bayes_l2l.cli.options import PROG  # noqa: E402
from bayes_l2l.cli.output import ways_to_answer  # noqa: E402
from bayes_l2l.report.sections import described_priors  # noqa: E402
from bayes_l2l.structures.models import load_spec, model_names  # noqa: E402
from bayes_l2l.structures.protocol import structure_of  # noqa: E402

#: What a command's help has no room for.
MORE = {
    "demo": "Writes `forecast.csv`, `fit.nc`, `forecast.png` and `report.html` into the folder, and prints "
    "the forecasts beside the losses of the large runs. Two minutes on two cores.",
    "columns": "Nothing is changed but the file that is written. Every key is in [columns.md](columns.md).",
    "fit": "Inputs are checked before sampling; all faults of the table are reported at once, by row and "
    "column. The fit is one NetCDF file with posterior, runs, model and notes; it is written whole or "
    "not at all. Exits with 1 if a note is serious.",
    "forecast": "The table holds `train_set, eval_set, params, tokens, flops, kind, mean, sd, median`, a column "
    "such as `q0.05` for each quantile, and `extrapolation`: compute over the largest fitted compute of that "
    "training set. Nats per token. Notes go to standard error.",
    "optimum": "One row a training set and budget: the medians `params`, `tokens`, `tokens_per_param`, "
    "`params_exponent` and `tokens_exponent` (of N* and D* in C), a column such as `params_q0.05` for each of them "
    "and each quantile, and `extrapolation`. Where a model assumes that all training sets have the same sizes, "
    "they are said once, of `all`. Without `--flops` the budgets are those of the runs.",
    "translate": "The table holds K, kappa, E0 and E1, then the source's scaling law translated to the target; one "
    "row per variable, with intervals.",
    "backtest": "The only empirical check of how wide intervals should be. Each split takes as long as a fit. The "
    "table is what `forecast --backtest` and `report --backtest` read. The former name `rollout` is still accepted, "
    "as are those of the options.",
    "compare": "One row a model: `n`, `rel_error`, `bias`, `crps`, `coverage50`, `coverage90`, `width90`, "
    "`interval_score90` (percent of the loss), `difference` of the CRPS to the best with its 90% interval, and "
    "`p_better`, by resampling groups of runs of one training set and budget, which are off together. `elpd_loo` "
    "and `elpd_se` (nats), `elpd_difference` to the first row with `difference_se`, and `bad_k`, losses whose Pareto "
    "k is too large, are of leave-one-out. Each split takes as long as a fit; with `-o` finished splits are kept, "
    "and the same command goes on.",
    "score": "Relative error, bias, CRPS, and coverage, width and interval score at 50, 80, 90 and 95%.",
    "check": "R-hat should be at most 1.01, effective sample sizes at least 400, and no draw should diverge.",
    "report": "Sections: forecasts in short, runs, model, forecasts, loss to loss, irreducible loss, model "
    "size, calibration (with `--backtest`), diagnostics. Tables can be sorted by a click on a heading and "
    "downloaded from within the file; pictures have alternative texts. For phone, screen, dark screen and paper. "
    "Exits with 1 if the fit should not be trusted, and says so at the top of the report.",
    "sweep": "The recipe, and what was measured with it on six corpora, are in "
    "[microsweep_next.md](microsweep_next.md). The table is what `fit` reads; `forecast --at RUNS-large.csv` and "
    "`score` compare with the large runs, which are not fitted. An hour of one core with six corpora, each of which "
    "must hold 8 MB.",
    "data": "Public sweeps, each known by its hash.",
    "data list": "Name, title, licence and source of each.",
    "models": "A section for each is in [models.md](models.md).",
    "models list": "Models of losses first (`--model`), then those of error rates (`--error-model`).",
    "models show": "Comments of the file say where its numbers come from.",
    "models copy": "Refuses to overwrite a file.",
    "data fetch": "Prints the folder; a file that is there already, with the right hash, is not downloaded again.",
}

#: Fields of the document of `--json`.
FIELDS = {
    "`command`, `status`": "Name of the command, and its exit status.",
    "`table`": "The rows of the table, by column; blank numbers are null. With `-o` it is in the file instead.",
    "`notes`": "Objections, each with `code`, `severity`, `message` and the numbers behind it, `data`.",
    "`messages`": "Other sentences, such as a choice.",
    "`files`": "Files that were written.",
    "`error`": "Why nothing came of it, with status 1.",
    "`sweep`": "What was read: `name`, `rows`, `runs`, `train_sets`, `eval_sets`, `simulated`.",
    "`simulated`": "Whether a fit is to simulated runs.",
    "`fit`": "Of `fit`, `check`, `report`, `demo`: `model`, `losses`, `seconds`, the worst `rhat` and `ess_bulk`, "
    "`divergences` in `draws`, `trusted`.",
    "`text`": "Of `demo` and `models show`: what they print.",
    "`mapping`, `unsure`, `unused`, `missing`, `needless`": "Of `columns`: the mapping, what may be wrong in it, "
    "columns left out, what was not found, and whether the table needs none.",
    "`data_sets`, `folder`": "Of `data list` and `data fetch`.",
}

INTRODUCTION = f"""# Commands

Made by `python docs/pages.py` from the commands themselves. Tables go to standard output where there is no `-o`,
messages to standard error. The exit status is 0 if all is well, 1 if an input is refused or a result should not be
trusted, 2 for wrong usage. `{PROG} --version` prints the version.

Sizes and FLOPs are read as people write them: `7b`, `110M`, `1.2e9`, `19,500,000`. On a terminal tables are aligned,
short and rounded, and notes are in plain words (`check` has them in full); a pipe or a file gets CSV with every
column and digit.

Every command has two more options:

| option | what it does |
|---|---|
| `--json` | One JSON document on standard output, which also holds what messages would say. |
| `--quiet` | No messages and no progress, but what says that a result is not to be trusted. |

Fields of the document, each where it applies:

FIELDS

Shells complete commands, options, data sets and models. For bash, zsh or fish, put one of these into `~/.bashrc`,
`~/.zshrc` or `~/.config/fish/completions/{PROG}.fish`:

```text
eval "$(_BAYES_L2L_COMPLETE=bash_source {PROG})"
eval "$(_BAYES_L2L_COMPLETE=zsh_source {PROG})"
_BAYES_L2L_COMPLETE=fish_source {PROG} | source
```
"""

MODELS = """# Models

Made by `python docs/pages.py` from the files in `models/`. How each was chosen, what was measured and where it fails
is in [models/README.md](../models/README.md). Name one with `--model`, or copy its file, change a line, and name
the copy. Ablations, for comparison only, are in `benchmarks/models/` and not installed: name their files.
"""

#: What each public study is, and its paper.
STUDIES = {
    "chinchilla": "[Chinchilla](https://arxiv.org/abs/2203.15556), read off its figures",
    "clark": "[dense and routed models](https://arxiv.org/abs/2202.01169), six evaluations",
    "datablations": "[data-constrained scaling](https://arxiv.org/abs/2305.16264), single epochs",
    "gemstones": "[Gemstones](https://arxiv.org/abs/2502.06857), 22 shapes of model",
    "llama3": "[Llama 3](https://arxiv.org/abs/2407.21783), read off a figure",
    "misfitting": "[(Mis)Fitting](https://arxiv.org/abs/2502.18969), best learning rates",
    "mosaic": "[Beyond Chinchilla](https://arxiv.org/abs/2401.00448), 10 to 10,000 tokens a parameter",
    "optimizers": "[eleven optimizers](https://arxiv.org/abs/2509.02046) as training sets",
    "protein": "protein language models, causal and masked",
    "steplaw": "[Step Law](https://arxiv.org/abs/2503.04715), best settings",
    "xlstm": "[xLSTM](https://arxiv.org/abs/2510.02228), several context lengths",
}
#: Forecasters of the studies, as their results and as the README name them.
FORECASTERS = {"joint": "here", "bootstrap of kaplan": "Eq. 4", "bootstrap of chinchilla": "Chinchilla"}
#: Where the README has the table.
TABLE = re.compile(r"(?<=<!-- studies: made by docs/pages.py -->\n).*?(?=<!-- end of studies -->)", re.DOTALL)


def commands(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, those that only hold others included."""
    for word, command in group.commands.items():
        full = f"{name} {word}".strip()
        yield full, command
        if isinstance(command, click.Group):
            yield from commands(command, full)


def arguments(command: click.Command) -> list[tuple[str, str]]:
    """How each argument and option is written, and what it is; without those that all commands have."""
    common = {name for one in ways_to_answer() for name in one.opts}
    kept = [one for one in command.params if common.isdisjoint(one.opts)]
    return [(_written(one), f"{one.help}.{' Needed.' * _needed(one)}") for one in kept]


def commands_page() -> str:
    """A section a command."""
    rows = "\n".join(f"| {name} | {what} |" for name, what in FIELDS.items())
    parts = [INTRODUCTION.replace("FIELDS", f"| field | what it holds |\n|---|---|\n{rows}")]
    for name, command in commands(program):
        description = " ".join((command.help or "").split())
        example = "\n".join(line.strip() for line in (command.epilog or "").splitlines()[2:])
        parts.append(f"## {name}\n\n{description} {MORE.get(name, '')}\n\n```bash\n{example}\n```\n")
        if rows := arguments(command):
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
        structure = structure_of(spec)
        told = " ".join([believes, f"Structure `{spec.structure}`: {structure.words}.", *structure.describe(spec)])
        rows = "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in described_priors(spec))
        parts.append(
            f"## {name}\n\n**{spec.title}.** {told}\n\n```text\n{spec.equation}\n```\n\nSource: {spec.source}.\n\n"
            f"| part | quantity | along | prior |\n|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def studies_table() -> str:
    """The README's table of results, a line a study; the lowest CRPS is bold."""
    stored = json.loads((ROOT / "benchmarks" / "results" / "studies.json").read_text(encoding="utf-8"))
    rows = {(row["study"], row["forecaster"]): row for row in stored["score"]["rows"]}
    ours, *others = FORECASTERS.values()
    heads = [name for what in ("CRPS", "90% held") for name in (f"{what}: {ours}", *others)]
    lines = [f"| study | fitted | asked | further | {' | '.join(heads)} |", "|---|" + "--:|" * (3 + len(heads))]
    for name, what in STUDIES.items():
        found = [rows.get((name, forecaster)) for forecaster in FORECASTERS]
        known = [row["crps"] for row in found if row]
        lowest = min(known) if len(known) > 1 else None
        crps = [_bold(f"{row['crps']:.2f}", row["crps"] == lowest) if row else "–" for row in found]
        held = [f"{row['held']:.0f}%" if row else "–" for row in found]
        about = rows[name, "joint"]
        cells = [what, str(about["runs"]), str(about["asked"]), f"{about['times']:g}×", *crps, *held]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def readme() -> str:
    """The README with that table."""
    return TABLE.sub(lambda _: studies_table(), (ROOT / "README.md").read_text(encoding="utf-8"))


def _written(one: click.Parameter) -> str:
    if isinstance(one, click.Argument):
        return one.human_readable_name
    choices = "|".join(one.type.choices) if isinstance(one.type, click.Choice) else ""
    return " ".join(filter(None, [", ".join(one.opts), one.metavar or choices]))


def _needed(one: click.Parameter) -> bool:
    return one.required and isinstance(one, click.Option)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {"commands.md": commands_page, "models.md": models_page}

if __name__ == "__main__":
    for file, made in PAGES.items():
        (ROOT / "docs" / file).write_text(made(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
