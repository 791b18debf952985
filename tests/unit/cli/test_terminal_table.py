"""Tables at every width: nothing is cut off, nothing is wider than the terminal, words stay whole while they can."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from collector.cli.terminal_table import Grid, table_lines

LONG = "it is refused " * 5
STREAMS = Grid(
    ["operation", "scope", "state", "watermark", "behind", "next try", "error"],
    [
        ["ListSyslogs", "e01-cn-sim0001", "failing", "2025-10-09T08:00:00Z", "5m 3s", "2025-10-09T08:05:00Z", LONG],
        ["GetUserViewMetrics", "rgsim0001", "collected", "2025-10-09T08:00:00Z", "34s", "-", "-"],
    ],
    [False, False, False, False, True, False, False],
    frozenset({5, 6}),
)  # fmt: skip


def plain(grid: Grid, width: int) -> list[str]:
    return [line.plain for line in table_lines(grid, width)]


def test_wide_terminal_has_one_line_a_row() -> None:
    """Columns stand under their heads, figures to the right."""
    lines = plain(STREAMS, 250)
    assert len(lines) == 4
    assert lines[0].index("scope") == lines[2].index("e01")
    assert lines[2].index("5m 3s") + len("5m 3s") == lines[3].index("34s") + len("34s")


def test_narrow_terminal_has_troubles_under_their_row() -> None:
    """What only some rows have goes below them, whole and indented; the rest stays on one line."""
    lines = plain(STREAMS, 80)
    assert lines[2].split() == ["ListSyslogs", "e01-cn-sim0001", "failing", "2025-10-09T08:00:00Z", "5m", "3s"]
    assert lines[3].startswith("    next try 2025-10-09T08:05:00Z; it is refused")
    assert lines[-1].startswith("GetUserViewMetrics")
    assert "error" not in lines[0]


def test_text_is_wrapped_at_words() -> None:
    """A column of sentences takes the room that ids and figures leave."""
    grid = Grid(
        ["name", "purpose", "n"], [["silent_nodes", "nodes without a line for long", "12,345"]], [False, False, True]
    )
    lines = plain(grid, 36)
    assert max(map(len, lines)) <= 36
    assert lines[2].startswith("silent_nodes  nodes")
    assert lines[2].endswith("12,345")
    words = " ".join(line[14:30] for line in lines[2:]).split()
    assert [word for word in words if word.isalpha()] == ["nodes", "without", "a", "line", "for", "long"]


def test_too_many_columns_become_records() -> None:
    """Each row is then a list of names and values."""
    grid = Grid([f"column_{n}" for n in range(12)], [[f"value_{n}" for n in range(12)]] * 2, [False] * 12)
    lines = plain(grid, 60)
    assert lines[0].startswith("─ 1 of 2 ─")
    assert lines[1] == "column_0   value_0"
    assert len(lines) == 2 * 13


TEXT = st.text(alphabet="ab1 节", max_size=60)


@given(
    st.lists(st.lists(TEXT, min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.integers(min_value=40, max_value=200),
    st.sampled_from([frozenset[int](), frozenset({2}), frozenset({1, 2})]),
)
def test_every_width_keeps_every_letter(
    rows: list[list[str]], right: Sequence[bool], width: int, below: frozenset[int]
) -> None:
    """No line is too wide, and every letter of every cell is there."""
    lines = plain(Grid(["x", "y", "z"], rows, right, below), width)
    assert max(map(cell_len, lines)) <= width
    for letter in "ab1节":
        wanted = sum(cell.count(letter) for row in rows for cell in row)
        assert sum(line.count(letter) for line in lines if not line.startswith("─ ")) == wanted
