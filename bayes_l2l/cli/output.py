"""What commands answer: tables and texts on standard output or in files, messages on standard error.

With ``--json`` all of it, messages and notes included, is one document on standard output; with ``--quiet`` there are
no messages but what says that a result is not to be trusted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bayes_l2l.cli.words import plain
from bayes_l2l.notes import Note

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.data.sweep import Sweep
    from bayes_l2l.decisions.choices import Choice
    from bayes_l2l.decisions.plans import Plan
    from bayes_l2l.fits import Fit
    from bayes_l2l.prediction.optimum import Optimum
    from bayes_l2l.prediction.translations import Translation


@dataclass
class Answer:
    """How the command that runs is to answer, and what it has answered so far.

    Parameters
    ----------
    as_json : bool
        Whether everything goes into one document.
    quiet : bool
        Whether messages are left out.
    document : dict
        What was answered.
    """

    as_json: bool = False
    quiet: bool = False
    document: dict[str, Any] = field(default_factory=dict)

    def append(self, name: str, *values: Any) -> None:
        """Add to a list of the document."""
        self.document.setdefault(name, []).extend(values)


def current() -> Answer:
    """The answer of the command that runs."""
    context = click.get_current_context(silent=True)
    return context.ensure_object(Answer) if context else Answer()


def ways_to_answer() -> list[click.Option]:
    """Options that every command has."""

    def set_way(context: click.Context, option: click.Parameter, given: bool) -> None:
        """Remember it, for what shows and says."""
        if given:
            setattr(context.ensure_object(Answer), "as_json" if option.name == "json" else "quiet", True)

    kind: dict[str, Any] = {"is_flag": True, "expose_value": False, "is_eager": True, "callback": set_way}
    return [
        click.Option(["--json"], help="one JSON document on standard output, notes and messages included", **kind),
        click.Option(["--quiet"], help="no messages but what says that a result is not to be trusted", **kind),
    ]


def answer(**parts: Any) -> None:
    """Put fields into the document of ``--json``."""
    current().document.update(parts)


def show(text: str) -> None:
    """Write an answer."""
    if current().as_json:
        answer(text=text)
        return
    sys.stdout.write(text)
    sys.stdout.flush()


def show_document(found: Answer, *, command: str, status: int) -> None:
    """Write the document of ``--json``."""
    import json

    document = {"command": command, "status": status} | found.document
    sys.stdout.write(json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def say(text: str, *, always: bool = False) -> None:
    """Write a message; whatever was asked for, if it must be known."""
    now = current()
    if now.as_json:
        now.append("messages", text)
    elif always or not now.quiet:
        complain(text)


def complain(text: str) -> None:
    """Write on standard error, whatever was asked for; lines fit a terminal."""
    sys.stderr.write((_folded(text) if sys.stderr.isatty() else text) + "\n")
    sys.stderr.flush()


def _folded(text: str) -> str:
    """Text whose lines are no wider than the terminal; what goes on is indented."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line.lstrip(), width, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False,
            break_long_words=False, drop_whitespace=True,
        ) or [""]  # fmt: skip
    return "\n".join(lines)


def say_progress(text: str) -> None:
    """Write what is being done."""
    if not current().quiet:
        complain(text)


def say_all(notes: Iterable[Note], *, in_full: bool = False) -> None:
    """Write a message for each note, once; on a terminal in plain words, unless all of it is wanted."""
    for note in dict.fromkeys(notes):
        if current().as_json:
            current().append("notes", note.to_dict())
        else:
            words = str(note) if in_full or not sys.stderr.isatty() else plain(note)
            say(words, always=note.severity == "serious")


def say_notes(notes: Iterable[Note], fit: Fit, fit_file: str) -> None:
    """Write the notes of a result, and of its fit those that are serious or name runs; `check` has them all."""
    given = list(notes)
    left = [note for note in fit.notes if note.severity != "serious" and note.code != "outlying_runs"]
    known = set(map(str, left))
    if current().as_json:
        say_all(given)
        return
    say_all(note for note in given if str(note) not in known)
    if left:
        say(f"The fit itself has {len(left)} more note{'s' * (len(left) > 1)}: bayes-l2l check {fit_file}")


def say_written(*paths: Path) -> None:
    """Say which files are complete."""
    current().append("files", *map(str, paths))
    if not current().as_json:
        say("Written: " + ", ".join(map(str, paths)))


def say_sweep(sweep: Sweep) -> None:
    """Say what was read."""
    now = current()
    if now.as_json:
        answer(sweep={"name": sweep.name, "rows": len(sweep), "runs": sweep.n_runs, "train_sets": sweep.train_sets,
                      "eval_sets": sweep.eval_sets, "simulated": sweep.simulated})  # fmt: skip
        say_all(sweep.notes)
    else:
        summary = sweep.summary().splitlines()
        say("\n".join(summary[: len(summary) - len(sweep.notes)]))
        say_all(sweep.notes)


def say_simulated(sweep: Sweep) -> None:
    """Say of simulated runs that they are."""
    answer(simulated=sweep.simulated)
    if sweep.simulated:
        say(f"Simulated runs, not measured: {sweep.provenance or sweep.name}.")


def show_table(table: pd.DataFrame) -> None:
    """Show a table: aligned and rounded on a terminal, as CSV elsewhere."""
    if current().as_json:
        answer(table=table.to_dict(orient="records"))
    elif sys.stdout.isatty():
        from bayes_l2l.cli.terminal import print_table

        if left_out := print_table(table):
            quantiles = [name for name in left_out if name.startswith("q0")]
            others = [name for name in left_out if name not in quantiles]
            named = [*others, f"{len(quantiles)} quantiles"] if len(quantiles) > 2 else left_out
            say(f"A file (-o) or a pipe also gets: {', '.join(named)}.")
    else:
        from bayes_l2l.files import as_csv

        show(as_csv(table))


def deliver(table: pd.DataFrame, output: Path | None) -> None:
    """Write a table to its file, or show it."""
    if output is None:
        show_table(table)
    else:
        from bayes_l2l.files import write_table

        write_table(table, output)
        say_written(output)


def draw(result: Choice | Optimum | Plan | Translation, plot: Path | None) -> None:
    """Write the picture of a result, if it was asked for."""
    if plot:
        from bayes_l2l.files import write_picture

        write_picture(result.plot(), plot)
        say_written(plot)


def check_table(output: Path | None, *inputs: str | None) -> None:
    """Refuse a file for a table that could not be written in the end."""
    from bayes_l2l.files import TABLE_SUFFIXES

    _check(output, inputs, TABLE_SUFFIXES)


def check_picture(plot: Path | None, *inputs: str | None) -> None:
    """Refuse a file for a picture that could not be written in the end."""
    from bayes_l2l.files import PICTURE_SUFFIXES

    _check(plot, inputs, PICTURE_SUFFIXES)


def _check(path: Path | None, inputs: Iterable[str | None], suffixes: tuple[str, ...]) -> None:
    from bayes_l2l.files import check_output

    if path:
        check_output(path, inputs=tuple(filter(None, inputs)), suffixes=suffixes)


def _plain(value: Any) -> Any:
    """A value as JSON has it: no NaN, no scalars of NumPy."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
