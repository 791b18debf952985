"""Syslogs: a page's lines become rows of their window, and an odd line costs none of its neighbours."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
import pytest

from collector.api.decode import decode_answer
from collector.catalogue.answers import Answer
from collector.model import StreamKey, Window
from collector.sources.normalise import EXTRA_NONE
from collector.sources.page import PageRows
from collector.sources.syslogs import SyslogSource
from collector.sources.tables import SYSLOGS

START, END = 1_760_000_400, 1_760_000_700
WINDOW = Window(START, END)
SOURCE = SyslogSource()
KEY = StreamKey("ListSyslogs", "r", "n1")
TEXTS = {
    "ClusterId": "cluster_id", "NodeId": "node_id", "Hostname": "hostname", "Ip": "ip", "Sn": "sn",
    "Facility": "facility", "Severity": "severity", "Syslogtag": "syslogtag", "Source": "source", "Domain": "domain",
    "Topic": "topic", "TagHostname": "tag_hostname", "TagPackId": "tag_pack_id", "TagPath": "tag_path",
    "TagUserDefinedId": "tag_user_defined_id", "Msg": "msg",
}  # fmt: skip
"""Field on the wire -> column."""


def line(time: object = START, receive_time: object = START + 2, **fields: object) -> dict[str, Any]:
    """A record in which every text is another one."""
    texts = {name: f"the {name}" for name in TEXTS}
    return {"Time": str(time), "TagReceiveTime": str(receive_time), **texts, **fields}


def row(time: int = START, receive_time: int | None = START + 2, **columns: object) -> dict[str, Any]:
    texts = {column: f"the {name}" for name, column in TEXTS.items()}
    return {"time": time, "receive_time": receive_time, "region": "r", **texts, "extra": EXTRA_NONE, **columns}


def page_of(*records: object) -> PageRows:
    answer = decode_answer(SOURCE.operation, json.dumps({"Logs": records}).encode())
    assert isinstance(answer, Answer)
    page = SOURCE.page(KEY, WINDOW, None, answer)
    assert page.record_count == len(records)
    assert page.times == [row[0] for row in page.rows[SYSLOGS]]
    return page


def rows_of(page: PageRows) -> list[dict[str, Any]]:
    return [dict(zip(SYSLOGS.columns, row, strict=True)) for row in page.rows[SYSLOGS]]


def test_every_field_has_its_column() -> None:
    """None is lost, and none stands in the place of another."""
    assert rows_of(page_of(line(), line(END - 1, END))) == [row(), row(END - 1, END)]


def test_a_page_without_lines_has_no_rows() -> None:
    """The table is there all the same: the page says what the window holds of it."""
    page = page_of()
    assert (page.rows, page.strays, page.dead) == ({SYSLOGS: []}, {}, [])


def test_a_line_without_a_node_is_of_the_node_that_was_asked() -> None:
    """Otherwise nobody would find it: every question to `syslogs` goes by the node."""
    assert rows_of(page_of(line(NodeId=""), line())) == [row(node_id="n1"), row()]


@pytest.mark.parametrize("received", ["", None])
def test_a_line_without_a_receive_time_has_none(received: str | None) -> None:
    """Alone, among others of its kind, and among those that have one."""
    without = {**line(), "TagReceiveTime": received}
    assert rows_of(page_of(without)) == [row(receive_time=None)]
    assert rows_of(page_of(without, without)) == [row(receive_time=None)] * 2
    assert rows_of(page_of(line(), without, line())) == [row(), row(receive_time=None), row()]


def test_rows_are_sorted_by_where_their_time_lies() -> None:
    """In the window, in the margin, which is a neighbour's, or outside all that was asked."""
    page = page_of(line(START - 2), line(START - 1), line(START))
    assert (page.times, [row[0] for row in page.strays[SYSLOGS]]) == ([START], [START - 2])
    assert page_of(line(END - 1), line(END)).times == [END - 1]
    page = page_of(line(END - 1), line(END + 1), line(END + 2))
    assert (page.times, [row[0] for row in page.strays[SYSLOGS]]) == ([END - 1], [END + 2])


@pytest.mark.parametrize(
    ("time", "is_kept"),
    [
        (str(START), False),
        (START, False),
        (f" {START} ", False),
        ("1\N{FULLWIDTH DIGIT SEVEN}60000400", True),
        (f"{START}000", True),
        (f"{START}.5", True),
        ("2025-10-09T09:00:00Z", True),
    ],
)
def test_a_time_in_another_spelling_is_the_same_time(time: object, is_kept: bool) -> None:
    """What is lost by cutting it to seconds, or is no number, stays in `extra`."""
    for among in ([], [line()]):
        (*_, odd) = rows_of(page_of(*among, line(Time=time, TagReceiveTime=time)))
        assert (odd["time"], odd["receive_time"]) == (START, START)
        assert json.loads(odd["extra"]) == ({"Time": time, "TagReceiveTime": time} if is_kept else {})


@pytest.mark.parametrize("time", ["4294967296", "9999999999", "soon", "", "-760000400", "²760000400", None, [START]])
def test_a_line_whose_time_cannot_be_stored_is_dead_and_costs_no_neighbour(time: object) -> None:
    """It keeps its record and says why."""
    page = page_of(line(), {**line(), "Time": time}, line())
    assert rows_of(page) == [row(), row()]
    ((reason, dead),) = page.dead
    record = msgspec.to_builtins(dead)
    assert reason.startswith("Time: ")
    assert isinstance(record, dict)
    assert record["Msg"] == "the Msg"


@pytest.mark.parametrize("received", ["4294967296", "soon", "²760000400", "-760000400"])
def test_a_receive_time_that_cannot_be_stored_is_kept_in_extra(received: str) -> None:
    """The line has a place without it, so it is no reason to give the line up."""
    for among in ([], [line()]):
        *_, odd = rows_of(page_of(*among, line(TagReceiveTime=received)))
        assert odd == row(
            receive_time=None, extra=json.dumps({"TagReceiveTime": received}, separators=(",", ":"), ensure_ascii=False)
        )


def test_the_last_second_that_a_column_holds_is_stored() -> None:
    """One more would be stored as the year 1970, in silence."""
    (last,) = rows_of(page_of(line(receive_time=4_294_967_295)))
    assert last["receive_time"] == 4_294_967_295


def test_times_that_only_together_look_like_plain_ones_are_read_each_as_it_is() -> None:
    """Nine digits and eleven make twenty, as ten and ten do."""
    page = page_of({**line(), "Time": str(START)[:9]}, {**line(), "Time": f"{START}0"})
    assert page.times == []
    assert [row[0] for row in page.strays[SYSLOGS]] == [int(str(START)[:9])]
    assert len(page.dead) == 1


def test_unknown_fields_and_records_that_are_none_cost_no_neighbour() -> None:
    """The service may add fields at any time."""
    page = page_of(line(), line(New=1), "a text", line())
    assert rows_of(page) == [row(), row(extra='{"New":1}'), row()]
    assert page.dead == [("the record is not an object", "a text")]


def test_a_page_says_the_same_of_each_line_as_a_page_of_that_line_alone() -> None:
    """The way that is quick because it looks at a page as a whole decides nothing by it."""
    random = Random(7)
    for _ in range(200):
        records = [
            line(
                random.choice([START - 3, START - 1, START, START + 9, END - 1, END, END + 5]),
                random.choice([START, START + 1, "", "x", f"{START}000"]),
                **random.choice(
                    [{}, {}, {}, {"NodeId": ""}, {"Time": None}, {"Time": START}, {"Msg": 5}, {"More": []}]
                ),
            )
            for _ in range(random.randrange(6))
        ]
        page, alone = page_of(*records), [page_of(record) for record in records]
        assert page.rows[SYSLOGS] == [row for each in alone for row in each.rows[SYSLOGS]]
        assert page.strays.get(SYSLOGS, []) == [row for each in alone for row in each.strays.get(SYSLOGS, [])]
        assert page.dead == [dead for each in alone for dead in each.dead]
