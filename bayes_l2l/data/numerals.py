"""Numbers as people write them: 7b, 140B tokens, 110M, 19,500,000, 41.2%; read, and sizes written."""

from __future__ import annotations

import math
import re
from typing import Final

#: Suffixes of sizes, in either case: nobody means a thousandth of a parameter by an m.
_SCALES: Final = {
    "": 1.0,
    "k": 1e3,
    "thousand": 1e3,
    "m": 1e6,
    "mn": 1e6,
    "million": 1e6,
    "b": 1e9,
    "bn": 1e9,
    "g": 1e9,
    "billion": 1e9,
    "t": 1e12,
    "tn": 1e12,
    "trillion": 1e12,
    "%": 1e-2,
}
_WRITTEN: Final = re.compile(
    r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]+|%)?", flags=re.ASCII | re.IGNORECASE
)
_THINGS: Final = re.compile(r"\s*(?:params?|parameters?|tok|toks|tokens?|flops?)\.?$", flags=re.IGNORECASE)
#: A comma, a space (of whatever width) or an apostrophe before each three digits.
_GROUPED: Final = re.compile(r"[+-]?\d{1,3}([,'’\s]\d{3})+(?!\d)")
_LETTERS: Final = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))


def read_number(text: str) -> float:
    """Read a number that a person or a logger wrote.

    Parameters
    ----------
    text : str
        Such as ``"1.2e9"``, ``"7b"``, ``"110M params"``, ``"19,500,000"`` or ``"41.2%"`` (0.412).

    Returns
    -------
    float
        Infinite or NaN if the text says so.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        return float(text)
    except ValueError:
        pass
    bare = _THINGS.sub("", text.strip())
    if grouped := _GROUPED.match(bare):
        bare = re.sub(r"[,'’\s]", "", grouped[0]) + bare[grouped.end() :]
    found = _WRITTEN.fullmatch(bare)
    scale = _SCALES.get((found[2] or "").lower()) if found else None
    if not found or scale is None:
        raise ValueError(f"{text!r} is not a number")
    # Exact where it can be: 1.1 * 1e6 has a last digit too many. No digits are left over at 15.
    return float(f"{float(found[1]) * scale:.15g}")


def write_size(value: float) -> str:
    """Write a number of parameters or tokens as people do.

    Parameters
    ----------
    value : float
        A size.

    Returns
    -------
    str
        Three digits, such as ``"2.6M"`` or ``"1.31B"``; beyond trillions a power of ten.
    """
    if not math.isfinite(value) or value >= 1e15:
        return f"{value:.3g}"
    value = float(f"{value:.3g}")  # 999,999 is 1M, not 1000K
    for scale, letter in _LETTERS:
        if value >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"
