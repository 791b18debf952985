"""What becomes of records that no row can be made of."""

from __future__ import annotations

from typing import Any

import msgspec

from collector.api.client import Reply
from collector.api.decode import decode_answer
from collector.api.metering import Attempt
from collector.catalogue.operation import Operation
from collector.catalogue.products.eas import DESCRIBE_SERVICE_EVENT
from collector.catalogue.products.eflo_controller import LIST_DIAGNOSTIC_RESULTS, LIST_SYSLOGS
from collector.catalogue.products.pai_dlc import LIST_JOBS
from collector.catalogue.products.pai_studio import GET_NODE_METRICS
from collector.model import StreamKey, Window
from collector.pipeline.chunking import decode_lines
from collector.pipeline.collecting import dead_letters
from collector.sources.diagnostics import DiagnosticsSource
from collector.sources.events import ServiceEventSource
from collector.sources.inventory import InventorySource
from collector.sources.node_metrics import NodeMetricsSource
from collector.sources.syslogs import SyslogSource

WINDOW = Window(1_760_000_000, 1_760_000_600)


def letters(source: Any, operation: Operation, answer: dict[str, Any]) -> list[Any]:
    key = StreamKey(operation.name, "cn-hangzhou", "cluster/scope")
    body = msgspec.json.encode(answer)
    decoded: Any = decode_answer(operation, body)
    reply = Reply(decoded, 200, len(body), 0, Attempt(1, operation.name, "", 0, 200, "", 1, 1), body=body)
    is_state = isinstance(source, DiagnosticsSource | InventorySource)
    dead = (source.page(key, None, decoded) if is_state else source.page(key, WINDOW, None, decoded)).dead
    (chunk,) = dead_letters(key, operation, dead, reply)
    return [msgspec.json.decode(row[-1]) for row in decode_lines(chunk.body)]


def test_a_dead_letter_is_the_record_as_it_came() -> None:
    """A field that the record lacks is not in it, and one that is empty is, though the record fits its type."""
    typed = {"Time": "garbage", "Msg": "one", "Ip": ""}
    raw = {"Time": "garbage", "Msg": "two", "Rack": 7}
    good = {"Time": "1760000001", "Msg": "three"}
    assert letters(SyslogSource(), LIST_SYSLOGS, {"Logs": [good, typed, raw]}) == [typed, raw]
    assert letters(SyslogSource(), LIST_SYSLOGS, {"Logs": [good, typed]}) == [typed]
    event = {"Time": "garbage", "Message": "one"}
    assert letters(ServiceEventSource(), DESCRIBE_SERVICE_EVENT, {"Events": [event]}) == [event]


def test_a_dead_letter_of_an_object_without_an_id_is_the_record_as_it_came() -> None:
    """Also a field that says null is in it; of a list with secrets, fields that the record lacks are not."""
    task = {"DiagId": None, "ClusterId": "c1", "Status": ""}
    assert letters(DiagnosticsSource(), LIST_DIAGNOSTIC_RESULTS, {"DiagnosticResults": [task]}) == [task]
    job = {"DisplayName": "training"}
    assert letters(InventorySource("job"), LIST_JOBS, {"Jobs": [job], "TotalCount": 1}) == [job]


def test_a_dead_letter_of_a_point_has_its_series_as_it_came() -> None:
    """Without a GPU type that the service did not name."""
    answer = {"NodesMetrics": [{"NodeID": "n1", "Metrics": [{"Time": 1, "Value": "much"}]}]}
    source = NodeMetricsSource(["CpuUsageRate"], 300)
    assert letters(source, GET_NODE_METRICS, answer) == [{"NodeID": "n1", "Metrics": [{"Time": 1, "Value": "much"}]}]
