"""`models`: what can be fitted, and the files to start one's own from."""

from __future__ import annotations

from pathlib import Path

import click

from bayes_l2l.cli.options import FILE, complete_models, examples
from bayes_l2l.cli.output import answer, say, say_written, show, show_table

_NAME = click.argument("name", metavar="NAME", help="of `bayes-l2l models list`", shell_complete=complete_models)


@click.group("models", epilog=examples("models list", "models show joint", "models copy joint my.toml"))
def models() -> None:
    """List the models, show one, or copy it to change it.

    A model is a TOML file with every prior; `fit --model` takes its name, or a file of your own.
    """


@models.command("list", epilog=examples("models list"))
def list_models() -> int:
    """List them, what they are of, and their titles."""
    import pandas as pd

    from bayes_l2l.structures.models import error_model_names, load_error_spec, load_spec, model_names

    losses = [(name, "losses", load_spec(name).title) for name in model_names()]
    errors = [(name, "error rates", load_error_spec(name).title) for name in error_model_names()]
    show_table(pd.DataFrame([*losses, *errors], columns=["model", "of", "title"]))
    return 0


@models.command("show", epilog=examples("models show joint"))
@_NAME
def show_model(name: str) -> int:
    """Print a model's file, with the reasons for its priors."""
    from bayes_l2l.structures.models import model_text

    text = model_text(name)
    show(text)
    answer(model=name, text=text)
    return 0


@models.command("copy", epilog=examples("models copy joint my.toml"))
@_NAME
@click.argument("file", metavar="FILE", type=FILE, help="file to write; one that exists is left alone")
def copy_model(name: str, file: Path) -> int:
    """Copy a model's file, to change it and fit with it."""
    from bayes_l2l.errors import DataError
    from bayes_l2l.files import check_output, write_whole
    from bayes_l2l.structures.models import model_text

    text = model_text(name)
    if file.exists() and not file.is_dir():
        raise DataError(f"{file} is there already, and may have changes of yours; name another file, or remove it")
    check_output(file, suffixes=(".toml",))
    write_whole(file, lambda part: part.write_text(text, encoding="utf-8"))
    say_written(file)
    say(f"Change a line, then: bayes-l2l fit runs.csv --model {file} -o fit.nc")
    return 0
