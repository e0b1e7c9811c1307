from __future__ import annotations

import pytest

from edgekit.schema.figure import Figure
from edgekit.schema.units import show_bytes, show_figure, show_number, show_share


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(value=1.94, unit="ms", origin="measured"), "1.94 ms"),
        (
            Figure(value=0.0213, low=0.0211, high=0.022, unit="ms", origin="measured"),
            "21.3 µs (21.1 to 22)",
        ),
        (Figure(value=1.9, unit="ms", origin="estimated"), "~1.9 ms"),
        (Figure(value=1.9, unit="ms", origin="compiled"), "~1.9 ms"),
        (Figure(value=12345.0, unit="ms", origin="measured"), "12.3 s"),
        (Figure(value=0.0000213, unit="ms", origin="measured"), "21.3 ns"),
        (Figure(value=0.0, unit="ms", origin="measured"), "0 ms"),
        (Figure(value=0.0, unit="bytes", origin="measured"), "0 B"),
        (Figure(value=0.02, unit="mJ", origin="estimated"), "~20 µJ"),
        (Figure(value=0.00285, unit="W", origin="estimated"), "~2.85 mW"),
        (Figure(value=240_572.0, unit="J", origin="estimated"), "~241 kJ"),
        (Figure(value=53936.0, unit="bytes", origin="measured"), "52.7 KiB"),
        (Figure(value=3.6, unit="s", origin="estimated"), "~3.6 s"),
        (
            Figure(value=17.79624, low=17.79602, high=17.79643, unit="min", origin="estimated"),
            "~17.796 min (\N{PLUS-MINUS SIGN}0.0003)",
        ),
        (
            Figure(value=7.64524, low=7.64519, high=7.64526, unit="m/s", origin="estimated"),
            "~7.6452 m/s (7.6452 to 7.6453)",
        ),
        (
            Figure(value=2.0, low=2.0 - 9.5e-6, high=2.0, unit="ms", origin="measured"),
            "2 ms (\N{PLUS-MINUS SIGN}1e-05)",
        ),
        (
            Figure(value=2.0, low=2.0, high=2.0, unit="ms", origin="measured"),
            "2 ms (\N{PLUS-MINUS SIGN}0)",
        ),
        (
            Figure(value=0.0, low=0.0, high=0.0, unit="s", origin="estimated"),
            "~0 s (\N{PLUS-MINUS SIGN}0)",
        ),
        (Figure.missing("no meter"), "-"),
    ],
)
def test_a_figure_as_people_read_it(figure: Figure, text: str) -> None:
    assert show_figure(figure) == text


def test_the_interval_can_be_left_out() -> None:
    figure = Figure(value=2.0, low=1.0, high=3.0, unit="ms", origin="measured")
    assert show_figure(figure, interval=False) == "2 ms"


def test_numbers_and_shares() -> None:
    assert [show_number(value) for value in (0, 1.2345, 123.4, 123456, 0.00001)] == [
        "0", "1.23", "123", "123,456", "1.00e-05",
    ]  # fmt: skip
    assert show_bytes(999) == "999 B"
    assert show_share(0.9757) == "97.6%"
