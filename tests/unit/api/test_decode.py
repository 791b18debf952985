"""Bodies, good and bad, and what the client makes of them."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.api.decode import (
    Reason,
    UndecodableAnswerError,
    count_records,
    decode_answer,
    decode_error,
)
from collector.api.envelope import ErrorBody
from collector.catalogue.operation import Operation
from collector.catalogue.products.cms import DESCRIBE_METRIC_LIST, DescribeMetricListAnswer
from collector.catalogue.products.eflo_controller import LIST_SYSLOGS, ListSyslogsAnswer, SyslogRecord
from collector.catalogue.products.pai_studio import GET_USER_VIEW_METRICS, GetUserViewMetricsAnswer, UserViewMetric

LINE = {"Time": "1760000101", "NodeId": "e01-cn-demo0001", "Msg": "bond0: link up für eth1", "Severity": "warning"}
USER = {"UserId": "1200000000000001", "TotalCPU": 192, "CPUUsageRate": "41.7", "GpuJobNames": ["dlc1abc"]}


def body_of(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def decode_syslogs(value: object) -> ListSyslogsAnswer:
    answer = decode_answer(LIST_SYSLOGS, value if isinstance(value, bytes) else body_of(value))
    assert isinstance(answer, ListSyslogsAnswer)
    return answer


def decode_users(value: object) -> GetUserViewMetricsAnswer:
    answer = decode_answer(GET_USER_VIEW_METRICS, value if isinstance(value, bytes) else body_of(value))
    assert isinstance(answer, GetUserViewMetricsAnswer)
    return answer


def test_a_page_becomes_typed_records() -> None:
    """A page as documented becomes records of the operation's type, with cursor and request id."""
    answer = decode_syslogs({"RequestId": "R1", "NextToken": "t2", "Logs": [LINE, LINE]})

    assert answer.next_token == "t2"
    assert answer.request_id == "R1"
    assert answer.logs is not None
    assert all(isinstance(record, SyslogRecord) for record in answer.logs)
    assert answer.logs[0].msg == LINE["Msg"]
    assert count_records(LIST_SYSLOGS, answer) == 2


def test_an_odd_record_stays_raw_beside_typed_ones() -> None:
    """A record with an unknown field or another type stays the raw value; its neighbours are typed."""
    unknown = LINE | {"Brand": "new"}
    number = LINE | {"Time": 1760000101}
    odd: list[Any] = [unknown, number, "a line", None, 7]

    answer = decode_syslogs({"Logs": [LINE, *odd], "RequestId": "R1"})

    assert answer.logs is not None
    assert isinstance(answer.logs[0], SyslogRecord)
    assert answer.logs[1:] == odd
    assert count_records(LIST_SYSLOGS, answer) == 6


def test_numbers_in_strings_become_numbers() -> None:
    """A number that comes in a string is a number, in a record and in the envelope."""
    answer = decode_users({"UserMetrics": [USER | {"TotalCPU": "192"}], "Total": "1", "Summary": {"TotalGPU": "16"}})

    assert answer.total == 1
    assert answer.user_metrics is not None
    assert isinstance(answer.user_metrics[0], UserViewMetric)
    assert answer.user_metrics[0].total_cpu == 192
    assert answer.summary is not None
    assert answer.summary.total_gpu == 16


def test_an_odd_summary_stays_raw() -> None:
    """A nested object with an unknown field is kept whole as the raw value."""
    answer = decode_users({"UserMetrics": [], "Total": 0, "Summary": {"TotalGPU": 16, "Brand": "new"}})

    summary: Any = answer.summary
    assert summary == {"TotalGPU": 16, "Brand": "new"}


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        (LIST_SYSLOGS, {"RequestId": "R1"}),
        (LIST_SYSLOGS, {"RequestId": "R1", "Logs": None}),
        (LIST_SYSLOGS, {"NextToken": "t2"}),
        (LIST_SYSLOGS, {"Logs": []}),
        (LIST_SYSLOGS, {"RequestId": "R1", "Code": "200", "Message": "OK"}),
        (LIST_SYSLOGS, {"RequestId": "R1", "Code": 200, "Logs": []}),
        (LIST_SYSLOGS, {"RequestId": "R1", "Code": "success"}),
        (LIST_SYSLOGS, {"RequestId": "R1", "Code": "", "Logs": None}),
        (GET_USER_VIEW_METRICS, {"UserMetrics": None, "Total": 0}),
        (GET_USER_VIEW_METRICS, {"Total": "0"}),
        (GET_USER_VIEW_METRICS, {"Total": 0, "Summary": "", "UserMetrics": []}),
    ],
)
def test_an_envelope_without_records_is_an_empty_answer(operation: Operation, value: dict[str, Any]) -> None:
    """Missing or null records are no records, as long as the envelope is an answer's."""
    answer = decode_answer(operation, body_of(value))

    assert not isinstance(answer, ErrorBody)
    assert count_records(operation, answer) == 0


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        (LIST_SYSLOGS, {}),
        (LIST_SYSLOGS, {"Total": 3}),
        (LIST_SYSLOGS, {"Logs": None}),
        (LIST_SYSLOGS, {"Message": "busy"}),
        (LIST_SYSLOGS, {"RequestId": "R1", "Message": "The service is busy"}),
        (LIST_SYSLOGS, {"Logs": {"Log": [LINE]}, "RequestId": "R1"}),
        (LIST_SYSLOGS, {"Logs": "none", "RequestId": "R1"}),
        (LIST_SYSLOGS, {"Logs": [LINE], "NextToken": {"value": "t2"}}),
        (LIST_SYSLOGS, {"Logs": [LINE], "NextToken": True}),
        (GET_USER_VIEW_METRICS, {"UserMetrics": [USER], "Total": "many"}),
    ],
)
def test_an_object_that_is_no_answer_is_not_read_as_empty(operation: Operation, value: dict[str, Any]) -> None:
    """An object without the operation's fields, or with a cursor or count that cannot be read, is an error."""
    with pytest.raises(UndecodableAnswerError) as caught:
        decode_answer(operation, body_of(value))

    assert caught.value.reason is Reason.NOT_AN_ANSWER


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.TRUNCATED),
        (b'{"Logs": [{"Time": "17', Reason.TRUNCATED),
        (b'{"Logs": [{"Time": "1"}]', Reason.TRUNCATED),
        (b'{"Logs": nul', Reason.TRUNCATED),
        (b'{"Logs": "\xe6\x97', Reason.TRUNCATED),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", Reason.HTML),
        (b"\n <html>", Reason.HTML),
        (b'{"RequestId": "\xff\xfe"}', Reason.NOT_UTF8),
        ('{"RequestId": "R1"}'.encode("utf-16"), Reason.NOT_UTF8),
        (b"upstream connect error", Reason.NOT_JSON),
        (b'{"RequestId": "R1"} trailing', Reason.NOT_JSON),
        (b"{'RequestId': 'R1'}", Reason.NOT_JSON),
        (b"[" * 100_000, Reason.NOT_JSON),
        (b"[]", Reason.NOT_AN_OBJECT),
        (b"null", Reason.NOT_AN_OBJECT),
        (b'"R1"', Reason.NOT_AN_OBJECT),
        (b"7", Reason.NOT_AN_OBJECT),
    ],
)
def test_a_body_that_is_no_answer_says_in_which_way(body: bytes, reason: Reason) -> None:
    """Each way of not being an answer has its own reason."""
    with pytest.raises(UndecodableAnswerError) as caught:
        decode_answer(LIST_SYSLOGS, body)

    assert caught.value.reason is reason
    assert caught.value.code == reason.value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Code": "Throttling.User", "Message": "slow", "RequestId": "R1"}, ErrorBody("Throttling.User", "slow", "R1")),
        ({"Code": "InternalError", "Logs": [LINE]}, ErrorBody("InternalError", "", "")),
        ({"code": "NoPermission", "message": "no", "requestId": "R2"}, ErrorBody("NoPermission", "no", "R2")),
        ({"Code": 500, "Message": "broken"}, ErrorBody("500", "broken", "")),
        ({"Code": {"Value": 1}, "Logs": []}, ErrorBody('{"Value": 1}', "", "")),
    ],
)
def test_a_code_in_a_success_is_an_error(value: dict[str, Any], expected: ErrorBody) -> None:
    """A code that is no word for success makes the reply an error of that code, whatever it carries."""
    assert decode_answer(LIST_SYSLOGS, body_of(value)) == expected


@pytest.mark.parametrize(
    ("body", "msg"),
    [
        (b'{"RequestId":"R1","Logs":[{"Time":"1","Msg":"\\ud800 half"}]}', "\ufffd half"),
        (b'{"RequestId":"R1","Logs":[{"Time":"1","Msg":"\\ud83d\\ude00"}]}', "\U0001f600"),
        (b'\xef\xbb\xbf{"RequestId":"R1","Logs":[{"Time":"1","Msg":"marked"}]}', "marked"),
        (b'{"Logs":[{"Time":"1","Msg":"once"}],"RequestId":NaN}', "once"),
        (b'{"Logs":[{"Time":"1","Msg":"first","Msg":"last"}]}', "last"),
        (b'{"Logs":[{"Time":"1","Msg":"tab\\tand \\u0000"}],"Deep":[[[[]]]]}', "tab\tand \x00"),
    ],
)
def test_json_that_strict_parsers_refuse_is_still_read(body: bytes, msg: str) -> None:
    """Half a surrogate pair, a byte order mark, NaN and doubled keys do not cost the answer."""
    answer = decode_syslogs(body)

    assert answer.logs is not None
    assert answer.logs[0].msg == msg
    answer.logs[0].msg.encode()


def test_not_a_number_stays_visible_in_a_record() -> None:
    """NaN where a number belongs leaves the record raw with the text, for the source to judge."""
    answer = decode_users(b'{"Total":1,"UserMetrics":[{"UserId":"u","TotalCPU":NaN}]}')

    records: Any = answer.user_metrics
    assert records == [{"UserId": "u", "TotalCPU": "NaN"}]


def test_a_cursor_that_is_a_number_is_kept() -> None:
    """A cursor in a number is the same cursor in a string; losing it would end the window early."""
    assert decode_syslogs({"Logs": [], "NextToken": 15}).next_token == "15"
    assert decode_syslogs({"Logs": [LINE | {"Time": 1}], "NextToken": "null"}).next_token == "null"


@given(cut=st.integers(min_value=0), text=st.text(max_size=20))
def test_every_cut_of_an_answer_is_seen(cut: int, text: str) -> None:
    """An answer cut off at any byte is reported as cut off, never as data."""
    whole = json.dumps({"RequestId": text, "Total": 12, "Flag": True, "Deep": [None, {"a": -1.5e300}]}).encode()
    with pytest.raises(UndecodableAnswerError) as caught:
        decode_answer(GET_USER_VIEW_METRICS, whole[: cut % len(whole)])

    assert caught.value.reason is Reason.TRUNCATED


@given(body=st.binary(max_size=60))
def test_no_bytes_crash_the_decoder(body: bytes) -> None:
    """Whatever the bytes, decoding ends in an answer, an error body or an error of its own kind."""
    decode_error(body)
    with contextlib.suppress(UndecodableAnswerError):
        decode_answer(LIST_SYSLOGS, body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["Logs", "NextToken", "RequestId", "Code", "Message", "code", "Other"]), json_values, max_size=5
    ),
    st.lists(json_values, max_size=3),
)
def test_no_object_crashes_the_decoder_or_loses_a_record(value: dict[str, Any], records: list[Any]) -> None:
    """Any JSON object is an answer, an error body or an error; a list of records keeps its length."""
    value = value | {"Logs": records}
    answer = None
    with contextlib.suppress(UndecodableAnswerError):
        answer = decode_answer(LIST_SYSLOGS, json.dumps(value).encode())
    if isinstance(answer, ListSyslogsAnswer):
        assert count_records(LIST_SYSLOGS, answer) == len(records)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (
            b'{"RequestId":"R1","HostId":"h","Code":"Throttling.User","Message":"Denied.","Recommend":"u"}',
            "application/json",
            ErrorBody("Throttling.User", "Denied.", "R1"),
        ),
        (b'{"requestId":"R1","code":"x","message":"m"}', "application/json", ErrorBody("x", "m", "R1")),
        (
            b"<?xml version='1.0'?><Error><RequestId>R1</RequestId><Code>SignatureDoesNotMatch</Code>"
            b"<Message>a &amp; b</Message></Error>",
            "text/xml;charset=utf-8",
            ErrorBody("SignatureDoesNotMatch", "a & b", "R1"),
        ),
        (b"<html>502 Bad Gateway</html>", "text/html", ErrorBody()),
        (b"", "", ErrorBody()),
        (b"[1]", "", ErrorBody()),
        (b'{"Code": "x"', "", ErrorBody()),
        (b"\xff\xfe", "", ErrorBody()),
    ],
)
def test_an_error_body_is_read_leniently(body: bytes, content_type: str, expected: ErrorBody) -> None:
    """Code, message and request id come out of JSON in either case and of XML; anything else is empty."""
    assert decode_error(body, content_type) == expected


def test_an_undecodable_answer_can_be_copied() -> None:
    """A copy keeps reason and place, since the same failure is reported to every waiting call."""
    error = UndecodableAnswerError(Reason.HTML, operation="ListSyslogs", scope_id="n1", http_status=200)

    again = copy.copy(error)

    assert (again.reason, str(again), again.hint) == (error.reason, str(error), error.hint)


@pytest.mark.parametrize(
    "body",
    [
        b'{"Code":"200","Datapoints":"[{\\"timestamp\\":1,\\"Average\\":2.5}]","NextToken":"t"}',
        b'{"Code":"200","DataPoints":"[{\\"timestamp\\":1,\\"Average\\":2.5}]","NextToken":"t"}',
        b'{"Code":"200","Datapoints":[{"timestamp":1,"Average":2.5}],"NextToken":"t"}',
        b'\xef\xbb\xbf{"Code":200,"Datapoints":"[{\\"timestamp\\":1,\\"Average\\":2.5}]","NextToken":"t"}',
    ],
)
def test_records_in_a_text_are_records(body: bytes) -> None:
    """A list of points that is JSON inside of a text is read as one that is a list, whatever letters its field has."""
    answer = decode_answer(DESCRIBE_METRIC_LIST, body)

    assert isinstance(answer, DescribeMetricListAnswer)
    assert (answer.datapoints, answer.next_token) == ([{"timestamp": 1, "Average": 2.5}], "t")


@pytest.mark.parametrize("text", ["[]", "", " "])
def test_a_text_without_records_is_an_empty_list(text: str) -> None:
    """No point in the range is no failure."""
    answer = decode_answer(DESCRIBE_METRIC_LIST, json.dumps({"Code": "200", "Datapoints": text}).encode())

    assert isinstance(answer, DescribeMetricListAnswer)
    assert answer.datapoints == []


def test_a_text_that_is_no_list_is_no_answer() -> None:
    """It is never read as a range without points."""
    with pytest.raises(UndecodableAnswerError):
        decode_answer(DESCRIBE_METRIC_LIST, b'{"Code":"200","Datapoints":"see the console"}')


def test_a_failure_beside_records_in_a_text_is_a_failure() -> None:
    """`Success` is false: whatever list is there, it is not the answer."""
    body = b'{"Code":"500","Success":false,"Message":"timed out","Datapoints":"[]"}'

    assert decode_answer(DESCRIBE_METRIC_LIST, body) == ErrorBody("500", "timed out")
