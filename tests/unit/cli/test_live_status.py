"""The live view: its lines at every size, its rates, and what keys do to it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from collector.cli import keys
from collector.cli.live_status import Head, Rate, Sample, Screen, drawn, rates, recent, table
from collector.owner.answers import (
    BudgetStatus,
    JournalStatus,
    MemoryStatus,
    OperationStatus,
    SourceStatus,
    Status,
    StopStatus,
    StreamStatus,
)


def told(streams: int = 30, calls: int = 0, rows: int | None = 0, **more: Any) -> Status:
    """A status with one source; every third stream fails, and the further on, the fresher they are."""
    source = SourceStatus(
        source="syslogs", operation="ListSyslogs", is_fresh=True, due=3, ticks_missed=0, settle_seconds=60,
        states={"collected": streams - 1, "failing": 1, "ended": 2}, freshness_seconds=75.0,
        freshness_promise_seconds=370.0, new_seconds=0.0,
    )  # fmt: skip
    found = [
        StreamStatus(
            operation="ListSyslogs", region="cn-hangzhou", scope_id=f"node-{number:03}",
            state="collected" if number % 3 else "failing", freshness_seconds=1000 - number if number else None,
            watermark="2025-10-09T07:59:00Z", pages_open=number % 2,
            error=None if number % 3 else "refused \x1b[2J 节点",
        )
        for number in range(streams)
    ]  # fmt: skip
    status = Status(
        headline="All is well.", is_well=True, region="cn-hangzhou", shard="0/1", collecting=True,
        now="2025-10-09T08:00:00Z", budget=BudgetStatus("1.5", "30.25", "100"),
        journal=JournalStatus("journal.db", 2 << 30, False, None, 1 << 20, 1234, 0, 0, 0),
        memory=MemoryStatus(1 << 30, "the machine", 0, 0, 0, 0, 0, 0, 0), store={"path": "store"},
        states={"collected": streams, "ended": 2}, sources=[source],
        operations=[OperationStatus("ListSyslogs", calls, rows)],
        streams=[*found, StreamStatus("X", "cn-hangzhou", "old", "ended", error="long ago")],
    )  # fmt: skip
    return replace(status, **more)


def shown(screen: Screen, status: Status | None = None, width: int = 200, height: int = 50) -> list[str]:
    lines, _ = drawn([Sample(status or told(), 0.0)], screen, width, height)
    return [line.plain for line in lines]


def scopes(screen: Screen) -> list[str]:
    return [stream.scope_id for stream in screen.streams(told())]


def pressed(*names: str, screen: Screen | None = None) -> Screen:
    screen = screen or drawn([Sample(told(), 0.0)], Screen(), 200, 24)[1]
    for name in names:
        screen = screen.pressed(name)
    return screen


@pytest.mark.parametrize("width", [20, 80, 120, 200])
@pytest.mark.parametrize("height", [3, 24, 60])
@pytest.mark.parametrize("screen", [Screen(), Screen(shows_help=True), Screen(is_typing=True, words="节" * 90)])
def test_fits_every_terminal(width: int, height: int, screen: Screen) -> None:
    """No line is longer and no screen higher than the terminal, and no text of others moves the cursor."""
    lines = shown(screen, width=width, height=height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("width", [80, 200])
def test_says_what_an_operator_looks_for(width: int) -> None:
    """Verdict, clock, money and journal whole at 80 columns; failing streams first, ended ones not at all."""
    lines = shown(Screen(), width=width)
    text = "\n".join(lines)
    for part in ("All is well.", "2025-10-09 08:00:00 UTC", "spent 1.50 CNY of 100.00, forecast 30.25",
                 "journal 1.0 MiB of 2.0 GiB", "1,234 rows to ship", "29 of 30", "1m 15s", "6m 10s"):  # fmt: skip
        assert part in text
    head = next(number for number, line in enumerate(lines) if "state" in line and "scope" in line)
    assert "node-003" in lines[head + 1]
    assert "refused" in lines[head + 1]
    assert "long ago" not in text
    assert "and 2 that ended" in lines[-1]


def test_rates_are_means_of_what_was_seen() -> None:
    """Between the first sample and the last; what fell or is missing is not known, and never zero."""
    first, last = Sample(told(calls=10, rows=100), 5.0), Sample(told(calls=30, rows=400), 15.0)
    assert rates([first, last]) == {"ListSyslogs": Rate(2.0, 30.0)}
    assert rates([first]) == {}
    assert rates([last, Sample(told(calls=5, rows=None), 20.0)]) == {"ListSyslogs": Rate(None, None)}
    assert shown(Screen(), width=80)[5].split()[-2:] == ["-", "-"]


def test_only_recent_samples_are_kept() -> None:
    """As many as ten seconds need, so that a rate is neither nervous nor old."""
    samples = [Sample({}, float(time)) for time in range(0, 40, 4)]
    assert [sample.time for sample in recent(samples)] == [24.0, 28.0, 32.0, 36.0]


def test_keys_sort() -> None:
    """A number sorts by its column, again the other way round; < and > go on from there; unknown values stay last."""
    assert scopes(pressed("3"))[:2] == ["node-000", "node-001"]
    assert scopes(pressed("3", "3"))[:2] == ["node-029", "node-028"]
    behind = scopes(pressed("4"))
    assert (behind[0], behind[-1]) == ("node-001", "node-000")
    assert scopes(pressed("4", "r"))[0] == "node-029"
    assert scopes(pressed("4", "r"))[-1] == "node-000"
    assert pressed("4", "<").sort == 2
    assert pressed(">").sort == 0
    assert pressed("<").sort == 7
    assert "4 behind ↓" in "\n".join(shown(pressed("4")))


def test_numbers_are_those_of_the_columns_that_are_shown() -> None:
    """On a narrow terminal the fifth column is the error."""
    narrow = drawn([Sample(told(), 0.0)], Screen(), 80, 24)[1]
    assert pressed("5", screen=narrow).sort == 7
    assert pressed("6", screen=narrow).sort is None


def test_keys_filter() -> None:
    """`/` takes words, letter by letter, which may be any part of a row; Escape shows all again."""
    screen = pressed("/", "q", keys.BACKSPACE, *"failing 01", keys.ENTER)
    assert scopes(screen) == ["node-012", "node-015", "node-018"]
    assert screen.is_over is False
    assert "streams 1 to 3 of 3 with 'failing 01'" in shown(screen)[-1]
    assert len(scopes(pressed(keys.ESCAPE, screen=screen))) == 30
    assert shown(pressed("/", "x"))[-1].startswith("show only: x_")


def test_keys_scroll_within_what_there_is() -> None:
    """Down, pages and the ends; nothing scrolls beyond them."""
    screen = drawn([Sample(told(), 0.0)], pressed(keys.END), 200, 24)[1]
    assert screen.top == 30 - screen.page
    assert drawn([Sample(told(), 0.0)], pressed(keys.UP), 200, 24)[1].top == 0
    assert pressed(keys.PAGE_DOWN).top == pressed().page
    assert "streams 2 to" in shown(pressed(keys.DOWN), height=24)[-1]


def test_keys_pause_help_and_quit() -> None:
    """p holds the screen, ? explains until any key, q ends also there, and so does a terminal that goes."""
    assert shown(pressed("p"))[-1].startswith("PAUSED")
    assert any("sort the streams" in line for line in shown(pressed("?")))
    assert pressed("?", "x").shows_help is False
    for names in (["q"], ["?", "q"], ["/", keys.CLOSED]):
        assert pressed(*names).is_over


def test_trouble_comes_first() -> None:
    """Where the status cannot be had, the first line says so; a store that fails and stops are named."""
    stop = StopStatus("account", "", "refused", None, None)
    lines, _ = drawn([Sample(told(store_error="no disk", stops=[stop]), 0.0)], Screen(), 120, 30, trouble="gone")
    text = [line.plain for line in lines]
    assert text[0] == "NOT FRESH: gone"
    assert "store fails: no disk" in text
    assert "stopped: account : refused" in [line.rstrip() for line in text]
    assert "No service runs" in "\n".join(shown(Screen(), told(sources=[])))


def test_columns_share_what_is_left() -> None:
    """Figures stay whole and right-aligned, the longest texts are cut with an ellipsis."""
    lines = [
        line.plain
        for line in table(
            [Head("n", True), Head("a", ratio=1), Head("b", ratio=1)], [["1", "x" * 40, "y"], ["22", "z", "w" * 50]], 40
        )
    ]
    assert [len(line) <= 40 for line in lines] == [True] * 3
    assert lines[1].startswith(" 1  xxx")
    assert lines[2].endswith("…")
