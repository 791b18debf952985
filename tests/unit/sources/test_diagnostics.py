"""Diagnoses and log shippers: what the answers say becomes one state, equal for equal things."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector.api.decode import decode_answer
from collector.catalogue.answers import Answer
from collector.catalogue.operation import Operation
from collector.catalogue.parameters import coerce_parameters
from collector.model import StreamKey
from collector.sources.diagnostics import DiagnosticsSource, ended
from collector.sources.resource_logs import ResourceLogSource
from collector.sources.source import Observed, Seen
from collector.sources.tables import DIAGNOSTIC_STATES, RESOURCE_LOG_STATES, Table

SOURCE = DiagnosticsSource()
KEY = StreamKey("ListDiagnosticResults", "r", "")
LISTED = {
    "DiagId": "d1",
    "ClusterId": "c1",
    "ClusterName": "demo",
    "ResourceId": "n1",
    "ServerName": "",
    "DiagContent": "static check",
    "DiagResult": "Success",
    "Status": "succeed",
    "CreationTime": "2025-10-09T02:17Z",
    "FinishedTime": "2025-10-09T02:20:30Z",
}
TOLD = {
    "RequestId": "req",
    "DiagnosticId": "d1",
    "ClusterId": "c1",
    "DiagnosticType": "CheckByAiJobLogs",
    "DiagnosticState": "Fault",
    "CreatedTime": "2025-10-09T10:17:56",
    "EndTime": "2025-10-09T10:20:30",
    "NodeIds": ["n1", "n2"],
    "DiagnosticResults": [{"Node": "n1", "Item": "Xid"}, "text"],
}
CREATED_AT, ENDED_AT = 1_759_976_220, 1_759_976_430
"""What the list says, to the minute and to the second."""


def answer(operation: Operation, body: dict[str, Any]) -> Answer:
    decoded = decode_answer(operation, json.dumps(body).encode())
    assert isinstance(decoded, Answer)
    return decoded


def seen(*records: object) -> Seen:
    return SOURCE.page(KEY, None, answer(SOURCE.operation, {"DiagnosticResults": records}))


def listed(record: dict[str, Any] = LISTED) -> Observed:
    (observed,) = seen(record).objects
    return observed


def detailed(changes: dict[str, Any] | None = None, *, of: Observed | None = None) -> Observed | None:
    return SOURCE.detailed(of, answer(SOURCE.detail_operation, TOLD | (changes or {})))


def columns(observed: Observed | None, table: Table = DIAGNOSTIC_STATES) -> dict[str, Any]:
    """The observed state by column, which also shows that it has one value for each."""
    assert observed is not None
    return dict(zip(table.columns, observed.row(1, "r"), strict=True))


def test_what_is_asked_fits_the_catalogue() -> None:
    """The list is asked by cursor with pages as long as they can be, a task by its id."""
    for cursor in (None, "next"):
        asked = SOURCE.parameters(KEY, cursor)
        assert coerce_parameters(SOURCE.operation, asked) == asked
        assert asked.get("NextToken") == cursor
    asked = SOURCE.detail_parameters("d1")
    assert coerce_parameters(SOURCE.detail_operation, asked) == asked == {"DiagnosticId": "d1"}

    page = {"DiagnosticResults": [], "NextToken": "next"}
    assert SOURCE.next_cursor(None, answer(SOURCE.operation, page)) == "next"
    assert SOURCE.next_cursor("next", answer(SOURCE.operation, page | {"NextToken": ""})) is None


def test_a_listed_task_has_all_that_the_list_says() -> None:
    """Names of the list become columns, and what has no column is extra."""
    row = columns(listed())

    assert (row["object_id"], row["cluster_id"], row["state"]) == ("d1", "c1", "succeed")
    assert (row["created_at"], row["ended_at"], row["results"]) == (CREATED_AT, ENDED_AT, "[]")
    extra = {"ClusterName": "demo", "ResourceId": "n1", "ServerName": "", "DiagContent": "static check"}
    assert json.loads(row["extra"]) == {**extra, "DiagResult": "Success"}


@pytest.mark.parametrize(
    "change", [{"Status": "running"}, {"DiagResult": "Failed"}, {"FinishedTime": "2025-10-09T03:00:00Z"}, {"New": 1}]
)
def test_a_change_in_the_list_is_a_change_of_the_fingerprint(change: dict[str, Any]) -> None:
    """The list decides which tasks are asked for, so nothing that it says may be left out; nulls say nothing."""
    assert listed().fingerprint == listed({**LISTED, "Region": None}).fingerprint
    assert listed(LISTED | change).fingerprint != listed().fingerprint


def test_records_without_an_id_are_dead_letters() -> None:
    """What names no task is kept as it came, and the other tasks are seen."""
    nameless = {"ClusterId": "c1", "New": 1}
    page = seen("text", nameless, {"DiagId": 7})

    assert page.dead == [("the record is not an object", "text"), ("DiagId is missing", nameless)]
    assert [observed.object_id for observed in page.objects] == ["7"]
    assert page.record_count == 3


def test_a_task_is_told_by_its_own_answer_and_the_list() -> None:
    """Findings and nodes come from the one, names and result from the other, in one state."""
    row = columns(detailed(of=listed()))

    told = {"object_id": "d1", "cluster_id": "c1", "node_ids": ["n1", "n2"], "diagnostic_type": "CheckByAiJobLogs"}
    assert {name: row[name] for name in told} == told
    assert row["state"] == "Fault"
    assert json.loads(row["results"]) == TOLD["DiagnosticResults"]
    extra = json.loads(row["extra"])
    assert (extra["ClusterName"], extra["DiagResult"], extra["Status"]) == ("demo", "Success", "succeed")
    assert "RequestId" not in extra


def test_a_moment_without_a_zone_is_the_lists_where_they_differ() -> None:
    """10:17 in the task's answer is 02:17 in the list; where both agree, the one with seconds counts."""
    row = columns(detailed(of=listed()))
    assert (row["created_at"], row["ended_at"]) == (CREATED_AT, ENDED_AT)

    row = columns(detailed({"CreatedTime": "2025-10-09T02:17:56"}, of=listed()))
    assert row["created_at"] == CREATED_AT + 56

    row = columns(detailed())
    assert row["created_at"] == CREATED_AT + 56 + 8 * 3600


@pytest.mark.parametrize(
    ("text", "created_at"),
    [
        ("2025-10-09T02:17:56Z", CREATED_AT + 56),
        ("2025-10-09T10:17:56+0800", CREATED_AT + 56),
        ("2025-10-09T02:17Z", CREATED_AT),
        (str((CREATED_AT + 56) * 1000), CREATED_AT + 56),
        ("", None),
        (None, None),
        ("yesterday", None),
    ],
)
def test_moments_are_read_in_every_spelling(text: str | None, created_at: int | None) -> None:
    """What cannot be read is NULL and stays readable in extra."""
    row = columns(detailed({"CreatedTime": text}))

    assert row["created_at"] == created_at
    assert json.loads(row["extra"]) == ({"CreatedTime": "yesterday"} if text == "yesterday" else {})


def test_a_task_is_told_by_one_of_the_two_alone() -> None:
    """A task that is in no list, and an answer that does not repeat its id, are states all the same."""
    row = columns(detailed())
    assert (row["object_id"], row["extra"]) == ("d1", "{}")

    row = columns(detailed({"DiagnosticId": None, "DiagnosticState": None, "NodeIds": None}, of=listed()))
    assert (row["object_id"], row["state"], row["node_ids"]) == ("d1", "succeed", [])
    assert detailed({"DiagnosticId": None}) is None


def test_equal_answers_have_equal_fingerprints() -> None:
    """The id of the request and the order of fields are no part of the state; a finding is."""
    first = detailed(of=listed())
    results = [{"Item": "Xid", "Node": "n1"}, "text"]
    again = detailed({"RequestId": "other", "DiagnosticResults": results}, of=listed())
    other = detailed({"DiagnosticResults": []}, of=listed())

    assert first is not None
    assert again is not None
    assert other is not None
    assert first.fingerprint == again.fingerprint != other.fingerprint
    # The digest stands in stores that other machines have filled.
    assert Observed("x", ("a", None, [1])).fingerprint == 8_490_887_543_281_219_414


@pytest.mark.parametrize(
    ("state", "end", "is_ended"),
    [
        ("Running", "", False),
        ("IN_PROGRESS", "", False),
        ("", "", False),
        (None, None, False),
        ("Fault", "", True),
        ("succeed", "", True),
        ("Running", "2025-10-09T10:20:30", True),
    ],
)
def test_a_task_has_ended_when_it_says_so(state: str | None, end: str | None, is_ended: bool) -> None:
    """An end, or any word that is not one for working on."""
    observed = detailed({"DiagnosticState": state, "EndTime": end})

    assert observed is not None
    assert ended(observed) is is_ended


# Log shippers

LOGS = ResourceLogSource()
GROUP = StreamKey("DescribeResourceLog", "r", "cn-x/eas-r-1")
SHIPPING = {"ProjectName": "sls", "LogStore": "access", "Status": "ResourceReady", "Message": "ready"}


def shipping(body: dict[str, Any]) -> Observed:
    page = LOGS.page(GROUP, None, answer(LOGS.operation, body))
    (observed,) = page.objects
    assert (page.record_count, page.dead) == (1, [])
    return observed


def test_a_log_shipper_is_one_object() -> None:
    """Its id is the stream's scope, and its columns are what the answer says."""
    asked = LOGS.parameters(GROUP, None)
    assert coerce_parameters(LOGS.operation, asked) == asked == {"ClusterId": "cn-x", "ResourceId": "eas-r-1"}

    row = columns(shipping(SHIPPING), RESOURCE_LOG_STATES)
    assert row["object_id"] == "cn-x/eas-r-1"
    assert list(row.values())[5:] == ["cn-x", "eas-r-1", "sls", "access", "ResourceReady", "ready", "{}"]
    assert list(columns(shipping({"RequestId": "1"}), RESOURCE_LOG_STATES).values())[7:] == ["", "", "", "", "{}"]


def test_a_log_shipper_changes_with_its_state_and_not_with_the_call() -> None:
    """Another request id is the same state, another message is a new one."""
    first, again, other = (
        shipping(SHIPPING | change) for change in ({"RequestId": "1"}, {"RequestId": "2"}, {"Message": "failing"})
    )

    assert first.fingerprint == again.fingerprint != other.fingerprint
