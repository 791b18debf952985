"""Values as HTML: nothing of others is markup, and nothing unknown is a number."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from justhtml import JustHTML

from collector.console.drawing import TEXT_MAX, cell, chart_svg, money, sentences, sparkline, state_class
from collector.console.table import Chart, Column, Kind, Series

ANYTHING = st.one_of(
    st.none(),
    st.text(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text()),
    st.booleans(),
)
UNMARKED = [kind for kind in Kind if kind is not Kind.SPARKLINE and kind is not Kind.MONEY]


@given(value=ANYTHING, kind=st.sampled_from(UNMARKED), link=st.sampled_from(["", "/nodes/{value}"]))
def test_no_value_becomes_markup(value: Any, kind: Kind, link: str) -> None:
    """Whatever stands in a row, the cell has no elements but the console's own, and links stay here."""
    document = JustHTML(
        f"<p>{cell({'value': value}, Column('value', 'x', kind, link))}</p>", fragment=True, sanitize=False
    )
    assert {element.name for element in document.query("p *")} <= {"span", "a", "time"}
    for anchor in document.query("a"):
        assert str(anchor.attrs["href"]).startswith("/nodes/")
        assert "/" not in str(anchor.attrs["href"]).removeprefix("/nodes/")


def test_what_is_not_known_is_no_number() -> None:
    """None is n/a in every kind, a zero is a zero."""
    for kind in Kind:
        assert "n/a" in cell({"value": None}, Column("value", "x", kind))
    assert cell({"value": 0}, Column("value", "x", Kind.NUMBER)) == "0"
    assert cell({}, Column("value", "x", Kind.NUMBER)) == cell({"value": None}, Column("value", "x", Kind.NUMBER))
    assert "n/a" in sparkline([None, None])


def test_control_characters_are_seen_and_have_no_effect() -> None:
    """A line can neither move the cursor, nor change direction, nor hide behind a NUL."""
    shown = cell({"value": "\x1b[31mred\x00\u202eevil\u2066\x7f"}, Column("value", "x", Kind.CODE))
    assert shown == "␛[31mred␀\ufffdevil\ufffd␡"


def test_a_very_long_value_is_cut_and_says_so() -> None:
    """What is left out is counted."""
    shown = cell({"value": "x" * (1 << 20)}, Column("value", "x"))
    assert len(shown) < TEXT_MAX + 200
    assert f"{(1 << 20) - TEXT_MAX:,} characters more" in shown


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Kind.NUMBER, 1234567, "1,234,567"), (Kind.NUMBER, 0.123456, "0.12"), (Kind.NUMBER, 0.00123, "0.00123"),
        (Kind.PERCENT, 64.04, "64 %"), (Kind.DURATION, 3720, "1h 2m"), (Kind.DURATION, -5, "-5s"),
        (Kind.BYTES, 1536, "1.5 KiB"), (Kind.MONEY, "0.0003", "0.0003 CNY"), (Kind.MONEY, 1234.5, "1,234.50 CNY"),
        (Kind.LIST, ["a", "b"], "a, b"), (Kind.YES_NO, 0, "no"), (Kind.TEXT, "a<b", "a&lt;b"),
        (Kind.TIME, "2026-11-30 03:00:01", '<time datetime="2026-11-30T03:00:01Z">2026-11-30 03:00:01</time>'),
        (Kind.TIME, "2026-11-30T03:00:01.5Z", '<time datetime="2026-11-30T03:00:01.500Z">2026-11-30 03:00:01.5'),
        (Kind.TIME, "1970-01-01 00:00:00", "n/a"),
    ],
)  # fmt: skip
def test_each_kind_reads_as_people_expect(kind: Kind, value: Any, expected: str) -> None:
    """Units stand behind the number, thousands are parted."""
    assert expected in cell({"value": value}, Column("value", "x", kind))


def test_a_state_has_the_colour_of_what_it_means() -> None:
    """A word that is not known has none."""
    assert [state_class(word) for word in ("fatal", "Degraded", "collected", "ended", "anything")] == [
        "bad", "warning", "good", "calm", "",
    ]  # fmt: skip


def test_money_is_never_rounded_to_nothing() -> None:
    """Small amounts keep their digits."""
    assert (money("0"), money("0.00012"), money("12.345")) == ("0.00 CNY", "0.0001 CNY", "12.35 CNY")


def test_a_chart_says_in_words_what_it_shows() -> None:
    """A gap breaks the line, and a line without values is not known."""
    chart = Chart(
        "gpu", "GPU", [0, 60, 120, 180], [Series("used", [12, None, 97, 64]), Series("held", [None] * 4)], unit="%"
    )
    assert sentences(chart) == ["used: 12 % to 97 %, last 64 %", "held: not known"]
    assert chart_svg(chart).count("<polyline") == 2
    columns = Chart("lines", "Lines", [0, 60], [Series("info", [3, 4])], is_stacked_bars=True)
    assert sentences(columns) == ["info: 7"]
    assert chart_svg(columns).count("<rect") == 2
    assert chart_svg(Chart("none", "None", [], [])) == ""
