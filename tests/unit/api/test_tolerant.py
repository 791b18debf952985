"""Answers with a record that strict parsers refuse: the others are read, and as much of it as can be."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.api.decode import Reason, UndecodableAnswerError, decode_answer, parse_json
from collector.api.tolerant import DEPTH_MAX, loads, too_deep
from collector.catalogue.answers import UnreadableRecord
from collector.catalogue.operation import Operation
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.products.eflo_controller import LIST_SYSLOGS, ListSyslogsAnswer, SyslogRecord
from collector.catalogue.products.pai_dlc import GET_JOB_EVENTS
from collector.catalogue.products.pai_studio import GET_NODE_METRICS, GET_USER_VIEW_METRICS
from collector.simulator.answers import odd_answer
from collector.simulator.faults import READABLE, UNREADABLE, Oddity

LISTS = [operation for operation in CATALOGUE.values() if operation.wire_records_field]
RECORD: dict[str, Any] = {"Time": "1760000000", "Msg": 'say ["{,}"] \\ ünï', "NodeId": "n", "UserId": "u"}
POINT = {"Time": 1760000000, "Value": "1.5"}


def answer_with(operation: Operation, records: list[Any]) -> bytes:
    name = operation.wire_records_field
    return json.dumps({"RequestId": "R1", name: records, "NextToken": "t2"}, ensure_ascii=False).encode()


def records_of(operation: Operation, body: bytes) -> list[Any]:
    answer = decode_answer(operation, body)
    assert operation.records_field is not None
    records: list[Any] = getattr(answer, operation.records_field)
    assert getattr(answer, "next_token", "t2") == "t2"
    return records


def logs(*raw: str, tail: str = ',"NextToken":"t2"') -> bytes:
    return ('{"RequestId":"R1","Logs":[' + ",".join(raw) + "]" + tail + "}").encode()


@pytest.mark.parametrize("operation", LISTS, ids=lambda operation: operation.name)
@pytest.mark.parametrize("oddity", Oddity)
def test_one_odd_record_costs_no_other(operation: Operation, oddity: Oddity) -> None:
    """Of every operation: what can be read is a record, what cannot is unreadable with a reason, all in their order."""
    texts = [f"2025-10-09 08:00:0{i} started" for i in range(9)] if operation is GET_JOB_EVENTS else []
    records: list[Any] = [*texts] or [RECORD | {"Number": i} for i in range(9)]
    odd = odd_answer(answer_with(operation, records), operation, [oddity], 0.4)

    found = records_of(operation, odd)

    assert len(found) == len(records)
    unreadable = [record for record in found if isinstance(record, UnreadableRecord)]
    if oddity in READABLE:
        assert not unreadable
    elif not texts or oddity in (Oddity.QUOTES, Oddity.QUOTE):
        assert 0 < len(unreadable) < len(records)
        assert all((record.reason and "Odd" in record.text) or texts for record in unreadable)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":"\x1b[0m\n\t\x00"}', {"a": "\x1b[0m\n\t\x00"}),
        (r'{"a":"\x1b \d \\x \u12 \"x"}', {"a": '\\x1b \\d \\x \\u12 "x'}),
        (r'{"a":"\ud83d \ud83d\ude00","\ude00":1}', {"a": "\ufffd \U0001f600", "\ufffd": 1}),
        ('{"a":' + "9" * 5000 + "}", {"a": "9" * 5000}),
        ('{"a":1e999,"b":NaN,"c":-Infinity}', {"a": "1e999", "b": "NaN", "c": "-Infinity"}),
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"a":12345678901234567890123}', {"a": 12345678901234567890123}),
    ],
)
def test_text_that_strict_parsers_refuse_is_repaired(text: str, value: Any) -> None:
    """Control characters are taken as they are, a bad escape is the text it looks like, a huge number its text."""
    assert loads(text) == value


@pytest.mark.parametrize(
    "broken",
    [
        '{"Time":"2","Msg":"a 5" disk"}',
        '{"Time":"2","Msg":"say "hi" now"}',
        '{"Time":"2","Msg":"begun}',
        '{"Time":"2","Msg":}',
        '{"Time":"2","Msg":"x","Deep":' + "[" * 3000 + "]" * 3000 + "}",
        '{"Time":"2","Msg":"x","Deep":' + '{"a":' * 500 + "1" + "}" * 500 + "}",
        '{"Time":"2" "Msg":"x"}',
        '{"Time":"2","Msg":"x","Labels":[1,2}',
        '{"Time":"2","Msg":nil}',
        '{"Time":"2","Msg":"x"',
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_cannot_be_read_is_set_aside_as_it_came(broken: str, place: int) -> None:
    """Also if it hides where it ends: at the beginning, between others, or at the end of the records."""
    good = ['{"Time":"1","Msg":"one"}', '{"Time":"3","Msg":"{\\"},[\\""}']
    found = records_of(LIST_SYSLOGS, logs(*good[:place], broken, *good[place:]))

    assert [record.msg for record in found if isinstance(record, SyslogRecord)] == ["one", '{"},["']
    (unreadable,) = (record for record in found if isinstance(record, UnreadableRecord))
    assert unreadable.text == broken
    assert unreadable.reason


def test_points_are_read_by_themselves() -> None:
    """One point of a series that cannot be read costs neither its series nor the others."""
    points = '{"Time":1,"Value":"1"},{"Time":2,"Value":nil},{"Time":3,"Value":"3"}'
    series = f'{{"NodeID":"n1","GPUType":"A100","Metrics":[{points}]}}'
    good = '{"NodeID":"n2","GPUType":"","Metrics":[{"Time":1,"Value":"1"}]}'
    first, second = records_of(GET_NODE_METRICS, f'{{"NodesMetrics":[{series},{good}]}}'.encode())
    assert second.node_id == "n2"
    assert first["NodeID"] == "n1"
    assert [type(point) for point in first["Metrics"]] == [dict, UnreadableRecord, dict]


def test_a_value_beside_the_records_that_cannot_be_read_costs_only_itself() -> None:
    """A Summary that is too deep is unreadable; a cursor or a total that is makes the body no answer."""
    deep = "[" * 2000 + "]" * 2000
    users = '"UserMetrics":[{"UserId":"u1"}]'
    answer: Any = decode_answer(GET_USER_VIEW_METRICS, f'{{{users},"Summary":{deep},"Note":{deep}}}'.encode())
    assert isinstance(answer.summary, UnreadableRecord)
    assert answer.user_metrics[0].user_id == "u1"
    for broken in (f'{{{users},"Total":{deep}}}', '{"Logs":[{"Time":"1"}],"NextToken":' + deep + "}"):
        operation = GET_USER_VIEW_METRICS if "Total" in broken else LIST_SYSLOGS
        with pytest.raises(UndecodableAnswerError) as caught:
            decode_answer(operation, broken.encode())
        assert caught.value.reason is Reason.NOT_AN_ANSWER


@pytest.mark.parametrize("levels", [DEPTH_MAX + 1, 300, 490, 900])
def test_a_record_too_deep_for_what_works_on_it_is_set_aside(levels: int) -> None:
    """What parsers still take could exhaust the stack where the record is stored."""
    deep = "[" * levels + "]" * levels
    (found,) = records_of(LIST_SYSLOGS, logs('{"Time":"1","Deep":' + deep + "}"))
    assert isinstance(found, UnreadableRecord)
    assert "nested" in found.reason
    assert not too_deep(json.loads("[" * DEPTH_MAX + "]" * DEPTH_MAX))


def test_bytes_that_are_not_utf8_are_replaced_and_counted() -> None:
    """In a record they become U+FFFD; without any record nothing shows that the body is an answer."""
    body = logs('{"Time":"1","Msg":"ok"}', '{"Time":"2","Msg":"_"}').replace(b"_", b"a\xffb\xfe\xfdc \xef\xbf\xbd")
    answer = decode_answer(LIST_SYSLOGS, body)
    assert isinstance(answer, ListSyslogsAnswer)
    assert answer.logs is not None
    assert answer.logs[1].msg == "a\ufffdb\ufffd\ufffdc \ufffd"
    assert answer.replaced_bytes == 3
    with pytest.raises(UndecodableAnswerError) as caught:
        decode_answer(LIST_SYSLOGS, b'{"Logs":[],"Note":"\xff"}')
    assert caught.value.reason is Reason.NOT_UTF8


@pytest.mark.parametrize(
    ("tail", "is_read"),
    [("\n-- end", True), ("\x00\x00", True), ('{"Code":"InternalError"}', False), ("[]", False)],
)
def test_what_follows_an_answer_is_passed_over_unless_it_is_another(tail: str, is_read: bool) -> None:
    """Records before it are there; a second object may be the failure that the first does not tell."""
    body = logs('{"Time":"1","Msg":"ok"}') + tail.encode()
    if is_read:
        assert len(records_of(LIST_SYSLOGS, body)) == 1
    else:
        with pytest.raises(UndecodableAnswerError):
            decode_answer(LIST_SYSLOGS, body)


def cuts() -> Iterator[bytes]:
    nested = '{"Time":"1","Msg":"a \\"}]} b","Tags":[{"Key":"a"},{"Key":[1]}]}'
    for body in (
        logs(nested, nested, tail=""),
        logs(nested, nested),
        logs('{"Time":"2","Msg":"say "hi" now"}', nested),
    ):
        yield from (body[:length] for length in range(len(body) - 1))


def test_no_cut_of_an_answer_is_taken_for_an_answer_with_a_broken_record() -> None:
    """Records that end in lists and objects, or in words that look like an end, or that are broken themselves."""
    for body in cuts():
        with pytest.raises(UndecodableAnswerError):
            decode_answer(LIST_SYSLOGS, body)


@given(st.lists(st.sampled_from([*'{}[]",:\\', "a", "1", '"Logs"', '{"Time":"1"}', "\x1b", "\ud800"]), max_size=30))
def test_no_text_crashes_the_reader(parts: list[str]) -> None:
    """It is an answer, a failure, or an error of its own kind."""
    text = "".join(parts)
    for body in (text, '{"Logs":[' + text + "]}", '{"Logs":[{"Time":"1","Msg":"' + text + '"}],"NextToken":""}'):
        with contextlib.suppress(UndecodableAnswerError):
            decode_answer(LIST_SYSLOGS, body.encode("utf-8", "surrogatepass"))


def test_a_large_odd_page_is_read_within_a_few_times_its_size() -> None:
    """One message of 7 MB, escapes in every place, beside a broken record."""
    body = logs('{"Time":"1","Msg":"' + r"\"[{,\\" * 1_000_000 + '"}', '{"Time":"2","Msg":}')
    tracemalloc.start()
    try:
        found = records_of(LIST_SYSLOGS, body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found[1], UnreadableRecord)
    assert peak < 12 * len(body)


def test_a_page_that_is_no_json_says_so_as_before() -> None:
    """A sign-in page, a cut body and other text are failures, not broken records."""
    for body, reason in ((b"<html>", Reason.HTML), (b'{"Logs":[{"Ti', Reason.TRUNCATED), (b"busy", Reason.NOT_JSON)):
        with pytest.raises(UndecodableAnswerError) as caught:
            parse_json(body)
        assert caught.value.reason is reason
        with pytest.raises(UndecodableAnswerError):
            decode_answer(LIST_SYSLOGS, body)


def test_the_simulators_oddities_are_sorted_by_what_they_cost() -> None:
    """Each is one or the other."""
    assert {*READABLE, *UNREADABLE} == {*Oddity}
