"""`columns`: a mapping file for a table with other columns, proposed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bayes_l2l.cli.options import FILE, examples
from bayes_l2l.cli.output import answer, say, say_sweep, say_written, show
from bayes_l2l.errors import L2LError

if TYPE_CHECKING:
    from bayes_l2l.data.proposal import Proposal
    from bayes_l2l.data.tables import RawTable


@click.command("columns", epilog=examples("columns export.csv -o map.toml", "columns export.csv"))
@click.argument("table", metavar="EXPORT", help="CSV or Parquet file, such as a tracker's export", type=click.Path())
@click.option("-o", "--output", metavar="MAP.toml", type=FILE, help="file for the mapping (standard output)")
def columns(table: str, output: Path | None) -> int:
    """Propose a mapping file: which column means what.

    Goes by names and values. Edit what comes: the first comment says what is unsure. Exits with 1 if the table cannot
    be read with it yet, and says why.
    """
    from bayes_l2l.data.proposal import propose
    from bayes_l2l.data.tables import RawTable
    from bayes_l2l.files import check_output, write_whole

    if output:
        check_output(output, inputs=(table,), suffixes=(".toml",))
    raw = RawTable.read(table)
    proposed = propose(raw)
    text = proposed.toml()
    if output:
        write_whole(output, lambda part: part.write_text(text, encoding="utf-8"))
    else:
        show(text)
    answer(
        mapping=proposed.mapping,
        unsure=proposed.unsure,
        unused=proposed.unused,
        missing=proposed.missing,
        needless=proposed.is_needless,
    )
    for sentence in proposed.unsure:
        say(f"Not sure of {sentence}")
    readable = _tell(raw, proposed)
    if output:
        say_written(output)
        if readable:
            say(f"Look it over, then: bayes-l2l fit {table} --columns {output} -o fit.nc")
    return 0 if readable else 1


def _tell(raw: RawTable, proposed: Proposal) -> bool:
    """Say what the mapping makes of the table; whether that is a sweep."""
    from bayes_l2l.data.sweep import Sweep

    if not proposed.is_complete:
        say("The table cannot be read yet: fill in what was not found.")
        return False
    if proposed.is_needless:
        say("The columns have their canonical names already: no mapping file is needed.")
    try:
        sweep = Sweep.from_table(raw, columns=proposed.column_map(), name=raw.name)
    except L2LError as refusal:
        say(f"With this mapping {refusal}")
        return False
    say_sweep(sweep)
    return True
