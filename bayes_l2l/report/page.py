"""Page: pictures, tables and words as one HTML file that needs no network.

Pictures are inline SVG whose colours are those of the page, light or dark; every table can be sorted, and carries
its CSV file within it. What a page says is for others (`report.py`).
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from bayes_l2l.data.numerals import write_size
from bayes_l2l.files import as_csv
from bayes_l2l.plotting.style import COLOURS, is_cut

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup
    from matplotlib.figure import Figure

    from bayes_l2l.notes import Note

#: Colours that the pictures are drawn with, and the page's own that take their place (`templates/report.css`).
_INKS: Final = {
    "#000000": "ink",
    "#ffffff": "paper",
    "#595959": "muted",  # drawing.GREY
    "#ebebeb": "grid",  # of drawing.tidy
    "#b0b0b0": "grid",
} | {colour.lower(): f"c{i}" for i, colour in enumerate(COLOURS) if colour != "#000000"}
_OUT: Final = (
    " Some intervals run out of their picture: data and medians decide how far it goes, and tables have the numbers."
)
_GREEK: Final = {"alpha": "α", "beta": "β", "gamma": "γ", "kappa": "κ", "eta": "η"}

#: What a table shows: column, or several that are one to the reader, to heading and format.
Columns: TypeAlias = "dict[str | tuple[str, ...], tuple[str, Callable[..., str]]]"


@dataclass(frozen=True)
class Picture:
    """A figure with what it shows.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn already.
    alt : str
        What it shows, with its figures, for those who do not see it.
    heading : str
        Above it, a few words.
    """

    figure: Figure
    alt: str
    heading: str = ""
    kind: str = "picture"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, as many in a row as there is room for, with one key for all.

    Parameters
    ----------
    pictures : sequence of Picture
        In order.
    caption : str
        How to read them: marks, intervals and units.
    keys : mapping of str to str
        Names and their colours, of `bayes_l2l.plotting.style.COLOURS`.
    """

    pictures: Sequence[Picture]
    caption: str
    keys: Mapping[str, str]
    kind: str = "gallery"

    @property
    def said(self) -> str:
        """The caption, and whether intervals run out of a picture."""
        cut = any(is_cut(picture.figure) for picture in self.pictures)
        return f"{self.caption}{_OUT if cut else ''}"


@dataclass(frozen=True)
class Card:
    """One figure that is read first: its name and colour, the value, and what is said below it."""

    name: str
    colour: str
    value: str
    below: str


@dataclass(frozen=True)
class Cards:
    """Figures that are read first."""

    cards: Sequence[Card]
    kind: str = "cards"


@dataclass(frozen=True)
class Notes:
    """Statistical objections."""

    notes: Sequence[Note]
    kind: str = "notes"


@dataclass(frozen=True)
class Table:
    """A table to be sorted, and downloaded as CSV.

    Parameters
    ----------
    name : str
        Of its CSV file, without the ending.
    caption : str
        What it holds, with units.
    frame : pandas.DataFrame
        All of it goes into the CSV file.
    columns : mapping of str, or tuple of str, to (str, callable)
        What is shown: heading and format of each column, or of several that are one to the reader, such as an
        interval; then it is sorted by the first of them.
    folded : bool, default False
        Whether it is unfolded only when it is asked for.
    brief : sequence of str, optional
        Headings that a narrow page shows unless all are asked for; by default all.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    columns: Columns
    folded: bool = False
    brief: Sequence[str] = ()
    kind: str = "table"

    @property
    def href(self) -> str:
        """The CSV file as an address that holds it."""
        coded = base64.b64encode(as_csv(self.frame).encode()).decode()
        return f"data:text/csv;charset=utf-8;base64,{coded}"

    @property
    def headings(self) -> list[tuple[str, str]]:
        """Heading of every column, and the class of what a narrow page can do without."""
        return [(heading, self._class(heading)) for heading, _ in self.columns.values()]

    @property
    def rows(self) -> list[list[tuple[str, str, str]]]:
        """Rows of what is shown: each value to sort by (empty unless a number), its text, and its class."""
        shown = []
        for names, (heading, form) in self.columns.items():
            of = [self.frame[name] for name in ([names] if isinstance(names, str) else names)]
            rows = list(zip(*of, strict=True))
            shown.append([(_sortable(row[0]), form(*row), self._class(heading)) for row in rows])
        return [list(row) for row in zip(*shown, strict=True)]

    def _class(self, heading: str) -> str:
        return "more" if self.brief and heading not in self.brief else ""


Part = str | Picture | Gallery | Cards | Notes | Table


@dataclass(frozen=True)
class Section:
    """A part of the page under its own heading.

    Parameters
    ----------
    name : str
        For links to it.
    title : str
        Its heading.
    parts : sequence
        Paragraphs (str, or Markup where they are HTML), pictures, galleries and tables, in order.
    """

    name: str
    title: str
    parts: Sequence[Part]


def render(template: str, **content: Any) -> str:
    """Fill a template of the package with content; names out of tables are escaped.

    Parameters
    ----------
    template : str
        Its file name.
    **content
        What it asks for.

    Returns
    -------
    str
        HTML.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bayes_l2l.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counter = iter(range(10**6))
    environment.filters["inline"] = lambda picture: _inline(picture, f"p{next(counter)}-")
    environment.filters["colour"] = lambda colour: f"var(--{_INKS[colour.lower()]})"
    return environment.get_template(template).render(**content)


def equation(text: str) -> Markup:
    """Set an equation of a model file (``E + K R^gamma_ij``) with Greek letters, powers and indices."""
    from markupsafe import Markup, escape

    found = re.sub(r"(?<![A-Za-z])(" + "|".join(_GREEK) + r")(?![A-Za-z])", lambda m: _GREEK[m[1]], str(escape(text)))
    found = re.sub(r"_(\w+)|(?<=\b[A-Z])(\d)\b", lambda m: f"<sub>{m[1] or m[2]}</sub>", found)
    found = re.sub(r"\^\(([^()]*)\)|\^(\w+(?:<sub>\w+</sub>)?)", lambda m: f"<sup>{m[1] or m[2]}</sup>", found)
    return Markup(re.sub(r"(?<![A-Za-z])([A-Zαβγκη])(?![A-Za-z])", r"<i>\1</i>", found))


def decimals(places: int) -> Callable[[Any], str]:
    """Format of numbers with so many places; a dash where there is none."""
    return lambda value: f"{value:.{places}f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "–"


def digits(value: float) -> str:
    """Write a number with three digits, and large or small ones with their power of ten: 9.68e20."""
    if not np.isfinite(value):
        return "–"
    return re.sub(r"e([+-])0*", lambda m: "e" + m[1].strip("+"), f"{value:.3g}")


def size(value: float) -> str:
    """Write a number of parameters or tokens: 3.31B."""
    return write_size(value) if np.isfinite(value) else "–"


def between(form: Callable[[Any], str]) -> Callable[[Any, Any], str]:
    """Format of two ends, each by a format: ``1.2 to 3.4``, or one of them where they are alike."""
    return lambda low, high: form(low) if form(low) == form(high) else f"{form(low)} to {form(high)}"


def with_interval(form: Callable[[Any], str]) -> Callable[[Any, Any, Any], str]:
    """Format of a median and both ends of its interval: ``2.3 (1.2 to 3.4)``."""
    return lambda middle, low, high: f"{form(middle)} ({form(low)} to {form(high)})"


def _sortable(value: Any) -> str:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return repr(float(value)) if number and np.isfinite(value) else ""


def _inline(picture: Picture, prefix: str) -> Markup:
    """Picture as SVG within the page: in the page's colours, with identifiers of its own."""
    from markupsafe import Markup, escape
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file = io.StringIO()
    picture.figure.patch.set_visible(False)
    for ax in picture.figure.axes:
        ax.patch.set_visible(False)
    # Letters as outlines look alike, and fit alike, wherever the page is read. The canvas draws once, where
    # `savefig` does so twice.
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "bayes_l2l"}):
        FigureCanvasSVG(picture.figure).print_svg(file, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    width = re.search(r'viewBox="0 0 ([\d.]+)', text)
    assert width is not None  # matplotlib writes one
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{prefix}", text[text.index("<svg") + 4 :])
    text = re.sub(r"#[0-9a-f]{6}\b", lambda m: f"var(--{_INKS[m[0]]})" if m[0] in _INKS else m[0], text)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    label = escape(picture.alt)
    return Markup(  # what matplotlib wrote, and a label that is escaped
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img" aria-label="{label}" '
        f'style="--width: {float(width[1]):.0f}pt">{body}'
    )
