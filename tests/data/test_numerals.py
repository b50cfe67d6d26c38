"""Numbers as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayes_l2l.data.numerals import read_number, write_size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.2e9", 1.2e9),
        ("7b", 7e9),
        ("140B", 140e9),
        ("110M", 110e6),
        ("110m params", 110e6),
        ("1.1M", 1_100_000.0),
        (" 3k ", 3e3),
        ("1.5 trillion tokens", 1.5e12),
        ("2T", 2e12),
        ("19,500,000", 19.5e6),
        ("19 500 000", 19.5e6),
        ("19'500'000", 19.5e6),
        ("1,234.5M", 1234.5e6),
        ("1e21 FLOPs", 1e21),
        ("41.2%", 0.412),
        ("-0.5", -0.5),
    ],
)
def test_numbers_are_read_as_people_write_them(text, value):
    assert read_number(text) == value


def test_what_is_no_finite_number_is_left_to_the_reader():
    assert math.isinf(read_number("inf"))
    assert math.isnan(read_number("nan"))


@pytest.mark.parametrize(
    "text", ["", "x", "3x", "b", "1,23", "1,2345", "12,34,567", "1.2.3B", "7 bn of them", "0x10"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="is not a number"):
        read_number(text)


@given(st.floats(min_value=1, max_value=9.9e14))
def test_a_size_that_is_written_is_read_again(value):
    assert read_number(write_size(value)) == pytest.approx(value, rel=5.01e-3)
    assert len(write_size(value)) <= 5


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.6e6, "2.6M"), (1.31e9, "1.31B"), (999_999, "1M"), (5e10, "50B"), (12, "12"), (3e16, "3e+16")],
)
def test_sizes_are_written_as_people_do(value, text):
    assert write_size(value) == text
