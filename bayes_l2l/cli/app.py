"""The command `bayes-l2l`: its commands in order, and how it ends.

Tables go to standard output, messages and progress to standard error. It ends with 0 if all is well, 1 if an input is
refused or a result is not to be trusted, 2 if it is used wrongly, 130 after Ctrl-C, 143 after SIGTERM, and 141 if the
reader of its table goes away. What is slow to import is imported by the command that needs it, so that ``--help`` is
there at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
import click.shell_completion

from bayes_l2l import __version__
from bayes_l2l.cli.commands.backtest import backtest, compare
from bayes_l2l.cli.commands.choose import choose, plan
from bayes_l2l.cli.commands.columns import columns
from bayes_l2l.cli.commands.data import data
from bayes_l2l.cli.commands.demo import demo
from bayes_l2l.cli.commands.fit import check, fit
from bayes_l2l.cli.commands.forecast import forecast, optimum, score, translate
from bayes_l2l.cli.commands.models import models
from bayes_l2l.cli.commands.report import report
from bayes_l2l.cli.commands.sweep import sweep
from bayes_l2l.cli.keeping import Terminated, ended_by_sigterm
from bayes_l2l.cli.options import PROG, examples
from bayes_l2l.cli.output import Answer, complain, show_document, ways_to_answer
from bayes_l2l.errors import L2LError

#: Names that commands had before, and are still called by.
FORMER_NAMES: Final[Mapping[str, str]] = {"rollout": "backtest"}

#: Variable by which shells ask what could be typed next, as click names it.
_COMPLETE: Final = "_BAYES_L2L_COMPLETE"


class Program(click.Group):
    """A group that lists its commands in their order, and finds them by their former names too.

    Each of them, at whatever depth, gets the options that all commands have.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        groups: list[click.Group] = [self]
        for group in groups:
            for command in group.commands.values():
                if isinstance(command, click.Group):
                    groups.append(command)
                else:
                    command.params += ways_to_answer()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the work."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Command of this name, or that had it."""
        return super().get_command(ctx, FORMER_NAMES.get(cmd_name, cmd_name))


@click.group(
    cls=Program,
    commands=[
        demo,
        columns,
        fit,
        check,
        forecast,
        optimum,
        translate,
        choose,
        plan,
        backtest,
        compare,
        score,
        report,
        sweep,
        data,
        models,
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("demo", "fit runs.csv -o fit.nc", "forecast fit.nc --params 3.3e9 --tokens 5e10"),
)
@click.version_option(__version__, prog_name=PROG, message="%(prog)s %(version)s")
def program() -> None:
    """Bayesian scaling laws: from small training runs to the loss of a large one.

    A table of small runs goes in; the loss of a large one comes out, with an interval that is held to account. RUNS,
    POINTS and other tables are CSV or Parquet. `bayes-l2l COMMAND --help` shows more.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the command's name; those of the process by default.

    Returns
    -------
    int
        The exit status.
    """
    if argv is None and (asked := os.environ.get(_COMPLETE)):
        return click.shell_completion.shell_complete(program, {}, PROG, _COMPLETE, asked)
    words = sys.argv[1:] if argv is None else list(argv)
    answered = Answer()
    try:
        with ended_by_sigterm():
            status = _run(words, answered)
        _finish(answered, words, status)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except L2LError as error:
        complain(f"{PROG}: error: {error}")
        return _refused(answered, words, str(error))
    except Terminated:
        complain(f"{PROG}: terminated")
        return 143
    except KeyboardInterrupt:
        complain(f"{PROG}: interrupted")
        return 130
    except BrokenPipeError:  # whoever read the table has seen enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        said = f"{error.filename or 'a file'}: {error.strerror or error}"
        complain(f"{PROG}: error: {said}")
        return _refused(answered, words, said)
    return status


def _run(argv: list[str], answered: Answer) -> int:
    """Status of the command that was asked for; click's own `main` would end the process."""
    if wrong := [word for word in argv if "\0" in word]:
        raise click.UsageError(f"{wrong[0]!r} has a NUL character in it, and no name or number has one.")
    try:
        with program.make_context(PROG, list(argv), obj=answered) as context:
            status: int = program.invoke(context)
            return status
    except click.exceptions.Exit as done:  # --help and --version
        return done.exit_code


def _finish(answered: Answer, argv: list[str], status: int) -> None:
    """Write the document, if one was asked for."""
    if answered.as_json:
        show_document(answered, command=_named(argv), status=status)
    sys.stdout.flush()


def _refused(answered: Answer, argv: list[str], said: str) -> int:
    """Status of a refusal, which the document holds too."""
    answered.document = {"error": said}
    _finish(answered, argv, 1)
    return 1


def _named(argv: list[str]) -> str:
    """Name of the command in the arguments."""
    command: click.Command = program
    words: list[str] = []
    for word in argv:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), word)
        if found:
            command, words = found, [*words, found.name or word]
    return " ".join(words)
