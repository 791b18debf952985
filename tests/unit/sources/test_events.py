"""Events: texts and records of several spellings become rows, equal ones as often as they come."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from collector.api.decode import decode_answer
from collector.catalogue.answers import Answer
from collector.catalogue.operation import Operation
from collector.catalogue.parameters import coerce_parameters
from collector.catalogue.products.pai_dlc import EVENTS_MAX
from collector.model import StreamKey, Window
from collector.sources.events import JobEventSource, ServiceEventSource
from collector.sources.page import PageRows
from collector.sources.tables import EVENTS

START, END = 1_760_000_400, 1_760_001_300
WINDOW = Window(START, END)
SERVICES, JOBS = ServiceEventSource(), JobEventSource()
SERVICE = StreamKey("DescribeServiceEvent", "r", "cn-x/chat")
JOB = StreamKey("GetJobEvents", "r", "dlc1")
AT = "2025-10-09 09:00:00"
EVENT = {
    "EventId": "evt-1",
    "EventType": "QuotaScaled",
    "ObjectId": "quota1",
    "ObjectType": "Quota",
    "TriggeredBy": "User",
    "TriggerTime": "2025-10-09T09:00:00Z",
    "TriggerUserId": "2",
    "TriggerTenantId": "1",
    "Content": "{}",
    "Function": "",
    "IsTruncated": False,
}


def answer(operation: Operation, body: dict[str, Any]) -> Answer:
    decoded = decode_answer(operation, json.dumps(body).encode())
    assert isinstance(decoded, Answer)
    return decoded


def of_service(*records: object, cursor: str | None = None, **fields: object) -> PageRows:
    told = answer(SERVICES.operation, {"Events": records, **fields})
    return SERVICES.page(SERVICE, WINDOW, cursor, told)


def of_job(*records: object) -> PageRows:
    return JOBS.page(JOB, WINDOW, None, answer(JOBS.operation, {"JobId": "dlc1", "Events": records}))


def rows_of(page: PageRows) -> list[dict[str, Any]]:
    return [dict(zip(EVENTS.columns, row, strict=True)) for row in page.rows.get(EVENTS, [])]


def test_what_is_asked_fits_the_catalogue() -> None:
    """Ranges are a second wider than the window; a service is named by cluster and name."""
    asked = SERVICES.parameters(SERVICE, WINDOW, None)
    assert asked == coerce_parameters(SERVICES.operation, asked)
    assert asked == {
        "ClusterId": "cn-x",
        "ServiceName": "chat",
        "StartTime": "2025-10-09 08:59:59",
        "EndTime": "2025-10-09 09:15:01",
        "PageNum": "1",
        "PageSize": "100",
    }

    asked = JOBS.parameters(JOB, WINDOW, None)
    assert asked == coerce_parameters(JOBS.operation, asked)
    assert asked == {
        "JobId": "dlc1",
        "StartTime": "2025-10-09T08:59:59Z",
        "EndTime": "2025-10-09T09:15:01Z",
        "MaxEventsNum": 10_000,
    }


def test_an_event_of_a_service_becomes_a_row() -> None:
    """Type, reason and message have their columns; what happened to is the service."""
    page = of_service({"Time": AT, "Type": "Warning", "Reason": "Back", "Message": '{"a":1}'})

    source = ("eas", "cn-x/chat", "chat")
    assert page.rows == {EVENTS: [(START, "r", *source, "", "Warning", "Back", "", '{"a":1}', "{}")]}
    assert (page.dead, page.strays, page.times) == ([], {}, [START])


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (f"{AT} Created pod: x-worker-0", "Created pod: x-worker-0"),
        (f"  {AT}\ttwo\nlines ", "two\nlines "),
        ("2025-10-09T09:00:00Z done", "done"),
        ("2025-10-09 17:00:00+08:00 done", "done"),
        (f"{AT}: done", ": done"),
        (AT, ""),
    ],
)
def test_an_event_of_a_job_is_a_time_and_a_text(text: str, content: str) -> None:
    """The time in front is taken off; without a zone it is UTC."""
    (row,) = rows_of(of_job(text))

    told = {"source": "dlc", "scope_id": "dlc1", "entity_id": "dlc1", "content": content, "extra": "{}"}
    assert {name: row[name] for name in told} == told
    assert row["time"] == START


def test_parts_of_a_second_are_kept_in_extra() -> None:
    """A column holds whole seconds; the rest of the time can still be read."""
    (row,) = rows_of(of_job(f"{AT}.250 done"))
    assert (row["time"], row["content"], json.loads(row["extra"])) == (START, "done", {"Time": f"{AT}.250"})

    (row,) = rows_of(of_service(EVENT | {"TriggerTime": START * 1000 + 5}))
    assert (row["time"], json.loads(row["extra"])["TriggerTime"]) == (START, START * 1000 + 5)


@pytest.mark.parametrize("page", [of_service(EVENT), of_job(EVENT)], ids=["eas", "dlc"])
def test_an_event_structure_is_understood_everywhere(page: PageRows) -> None:
    """Records in the shape of the service's Event fill the columns named after it; the rest is extra."""
    (row,) = rows_of(page)

    told = {
        "time": START, "entity_id": "quota1", "event_id": "evt-1", "event_type": "QuotaScaled", "reason": "",
        "triggered_by": "User", "content": "{}",
    }  # fmt: skip
    assert {name: row[name] for name in told} == told
    rest = ("ObjectType", "TriggerUserId", "TriggerTenantId", "Function", "IsTruncated")
    assert json.loads(row["extra"]) == {name: EVENT[name] for name in rest}


def test_odd_values_are_rows_all_the_same() -> None:
    """A missing field is empty, an object is JSON text, and two spellings of one field are both kept."""
    page = of_service(
        {"Time": AT},
        {"Time": START, "Type": 5, "Message": {"a": 1}, "Count": 3, "Reason": None},
        {"Time": AT, "Type": "Normal", "EventType": "Other"},
        {"Time": AT, "Type": "Normal", "EventType": ""},
    )

    rows = rows_of(page)
    assert [row["event_type"] for row in rows] == ["", "5", "Other", "Normal"]
    assert [row["content"] for row in rows] == ["", '{"a":1}', "", ""]
    assert [json.loads(row["extra"]) for row in rows] == [{}, {"Count": 3}, {"Type": "Normal"}, {}]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("text", "the record is not an object"),
        (None, "the record is not an object"),
        ({"Type": "Normal"}, "Time is missing"),
        ({"Time": "soon", "Type": "a", "Reason": "b", "Message": "c"}, "Time: not a time: 'soon'"),
        ({"TriggerTime": "soon", "Time": AT}, "TriggerTime: not a time: 'soon'"),
    ],
)
def test_an_event_of_a_service_that_has_no_place_is_a_dead_letter(record: object, reason: str) -> None:
    """It is kept as it came with the reason, and its neighbours become rows."""
    page = of_service(record, {"Time": AT})

    ((told, dead),) = page.dead
    assert (told, msgspec.to_builtins(dead)) == (reason, record)
    assert (len(rows_of(page)), page.record_count) == (1, 2)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("Created pod: x", "the text has no time"),
        ("", "the text has no time"),
        ("2025-13-09 09:00:00 month 13", "the text has no time"),
        ("2025-10-09 09:00:001 odd", "the text has no time"),
        (7, "the record is neither text nor object"),
        (None, "the record is neither text nor object"),
    ],
)
def test_an_event_of_a_job_that_has_no_place_is_a_dead_letter(record: object, reason: str) -> None:
    """A text without a readable time cannot be placed, and is kept as it came."""
    page = of_job(record, f"{AT} done")

    assert page.dead == [(reason, record)]
    assert len(rows_of(page)) == 1


def test_equal_events_are_kept_as_often_as_they_come() -> None:
    """Two pods may be created in one second with the same words."""
    assert len(rows_of(of_job(f"{AT} same", f"{AT} same"))) == 2
    assert len(rows_of(of_service({"Time": AT, "Reason": "same"}, {"Time": AT, "Reason": "same"}))) == 2


def test_events_outside_the_window_belong_to_neighbours_or_are_strays() -> None:
    """In the margin they are the neighbour's, beyond all that was asked they are strays."""
    times = [START - 2, START - 1, START, END - 1, END, END + 1, END + 2]
    page = of_service(*({"Time": time} for time in times))

    assert page.times == [START, END - 1]
    assert [row[0] for row in page.strays[EVENTS]] == [START - 2, END + 2]


def test_an_answer_with_as_many_events_as_it_can_hold_is_full() -> None:
    """Of a job's events there is one page, so a full one has lost the rest."""
    page = of_job(*[f"{AT} done"] * EVENTS_MAX)
    assert page.is_full
    assert JOBS.next_cursor(None, answer(JOBS.operation, {"Events": []})) is None

    assert not of_job(*[f"{AT} done"] * (EVENTS_MAX - 1)).is_full


def follow(pages: list[tuple[int, object]]) -> tuple[list[str], list[bool]]:
    """Page numbers asked for and what each page says of change, for pages of (records, TotalCount)."""
    cursor: str | None = None
    numbers, changed = [], []
    for count, total in pages:
        numbers.append(SERVICES.parameters(SERVICE, WINDOW, cursor)["PageNum"])
        told = answer(SERVICES.operation, {"Events": [{"Time": AT}] * count, "TotalCount": total})
        seen = SERVICES.page(SERVICE, WINDOW, cursor, told)
        changed.append(seen.has_changed or seen.is_short)
        cursor = SERVICES.next_cursor(cursor, told)
        if cursor is None:
            break
    return numbers, changed


@pytest.mark.parametrize(
    ("pages", "asked", "has_changed"),
    [
        ([(0, 0)], 1, False),
        ([(0, None)], 1, False),
        ([(100, 150), (50, 150)], 2, False),
        ([(70, 150), (80, "150"), (1, 150)], 2, False),
        ([(100, None), (100, None), (7, None), (1, None)], 3, False),
        ([(100, 150), (50, 149)], 2, True),
        ([(100, 250), (100, 251), (50, 250)], 3, True),
        ([(100, 150), (50, None)], 2, True),
        ([(100, 150), (0, 150)], 2, True),
    ],
)
def test_numbered_pages_are_followed_to_their_total(
    pages: list[tuple[int, object]], asked: int, has_changed: bool
) -> None:
    """Short pages do not end a list that has more; only the last page says that the list changed meanwhile."""
    numbers, changed = follow(pages)

    assert numbers == [str(number) for number in range(1, asked + 1)]
    assert changed == [False] * (asked - 1) + [has_changed]


def test_both_sources_name_what_they_fill() -> None:
    """The column `source` is the product's, and leads back to the operation."""
    for source, name in ((SERVICES, "eas"), (JOBS, "dlc")):
        assert EVENTS.sources[source.operation.name] == name
        assert source.tables == (EVENTS,)
