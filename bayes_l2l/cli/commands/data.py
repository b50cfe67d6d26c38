"""`data`: the known data sets."""

from __future__ import annotations

import sys

import click

from bayes_l2l.cli.options import examples
from bayes_l2l.cli.output import answer, current, show


@click.group("data", epilog=examples("data list", "data fetch loss-to-loss"))
def data() -> None:
    """List or fetch the known data sets.

    BAYES_L2L_DATA names a folder with a local copy.
    """


@data.command("list", epilog=examples("data list"))
def list_known() -> int:
    """List them."""
    from bayes_l2l.data.datasets import known

    if current().as_json:
        answer(data_sets=[vars(dataset) for dataset in known()])
        return 0
    for dataset in known():
        show(f"{dataset.name}\n  {dataset.title}\n  licence: {dataset.licence}\n  source: {dataset.source}\n")
    return 0


@data.command("fetch", epilog=examples("data fetch loss-to-loss"))
@click.argument("name", metavar="NAME", help="of `bayes-l2l data list`")
def fetch(name: str) -> int:
    """Download one by its pinned hash, and say where it lies."""
    from bayes_l2l.data import datasets

    folder = datasets.fetch(name, progressbar=sys.stderr.isatty() and not current().quiet)
    if current().as_json:
        answer(folder=str(folder))
    else:
        show(f"{folder}\n")
    return 0
