"""Inventory: nine listings become objects that name targets, without secrets, equal while nothing changed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from collector.api.decode import decode_answer
from collector.catalogue.answers import Answer
from collector.catalogue.operation import Numbers
from collector.catalogue.parameters import coerce_parameters
from collector.model import StreamKey
from collector.sources.attributes import FLEETING_FIELDS, attributes
from collector.sources.inventory import KINDS, LISTINGS, InventorySource
from collector.sources.source import Observed, Seen
from collector.sources.tables import INVENTORY_STATES
from tests.support.catalogue import records_key

RECORDS: dict[str, dict[str, Any]] = {
    "cluster": {"ClusterId": "c1", "ClusterName": "demo", "OperatingState": "running", "NodeCount": 2},
    "node": {"NodeId": "n1", "Hostname": "gpu-1", "OperatingState": "Using", "MachineType": "efg1", "Tags": []},
    "resource_group": {"ResourceGroupID": "rg1", "Name": "train", "Status": "Ready", "WorkspaceID": "w1"},
    "job": {"JobId": "dlc1", "DisplayName": "job", "Status": "Running", "WorkspaceId": "w1"},
    "instance": {"InstanceId": "dsw1", "InstanceName": "book", "Status": "Stopped", "WorkspaceId": "w1"},
    "eas_resource": {"ResourceId": "e1", "ClusterId": "cn-x", "ResourceName": "serve", "Status": "ResourceReady"},
    "cloud_namespace": {"Namespace": "acs_pai_dlc", "Description": "PAI training jobs"},
    "cloud_metric": {"Namespace": "acs_pai_dlc", "MetricName": "GPU_UTIL", "Unit": "%", "Periods": "60,300"},
    "service": {"ServiceName": "chat", "Region": "cn-x", "Status": "Running", "ServiceId": "s1"},
}
COLUMNS = {
    "cluster": ("c1", "scope", "demo", "running"),
    "node": ("n1", "scope", "gpu-1", "Using"),
    "resource_group": ("rg1", "w1", "train", "Ready"),
    "job": ("dlc1", "w1", "job", "Running"),
    "instance": ("dsw1", "w1", "book", "Stopped"),
    "eas_resource": ("cn-x/e1", "cn-x", "serve", "ResourceReady"),
    "cloud_namespace": ("acs_pai_dlc", "scope", "PAI training jobs", ""),
    "cloud_metric": ("acs_pai_dlc/GPU_UTIL", "scope", "GPU_UTIL", ""),
    "service": ("cn-x/chat", "cn-x", "chat", "Running"),
}


def key(source: InventorySource) -> StreamKey:
    return StreamKey(source.operation.name, "r", "scope")


def answer(source: InventorySource, *records: object, **fields: object) -> Answer:
    body: dict[str, object] = {str(records_key(source.operation)): records, **fields}
    decoded = decode_answer(source.operation, json.dumps(body).encode())
    assert isinstance(decoded, Answer)
    return decoded


def seen(kind: str, *records: object, cursor: str | None = None, **fields: object) -> Seen:
    source = InventorySource(kind)
    return source.page(key(source), cursor, answer(source, *records, **fields))


def one(kind: str, **changes: object) -> Observed:
    (observed,) = seen(kind, {**RECORDS[kind], **changes}).objects
    return observed


def attributes_of(observed: Observed) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(str(observed.values[-1]))
    return decoded


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked_fits_the_catalogue(kind: str) -> None:
    """First and later pages are calls that the operation takes; nodes are asked for cluster by cluster."""
    source = InventorySource(kind)
    later = "next"
    if isinstance(source.operation.paging, Numbers):
        later = source.next_cursor(None, answer(source, *[RECORDS[kind]] * 100, TotalCount=150, Total=150)) or ""

    first, second = (source.parameters(key(source), cursor) for cursor in (None, later))

    assert first != second
    for asked in (first, second):
        assert coerce_parameters(source.operation, asked) == asked
        assert ("ClusterId" in asked) == (kind == "node")


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_is_named_as_a_target_names_it(kind: str) -> None:
    """Id, parent, name and state have columns, and all that the record says stands in the attributes."""
    observed = one(kind)
    row = dict(zip(INVENTORY_STATES.columns, observed.row(1, "r"), strict=True))

    assert row["kind"] == kind
    assert (row["object_id"], row["parent_id"], row["name"], row["state"]) == COLUMNS[kind]
    assert row["attributes"] == json.dumps(dict(sorted(RECORDS[kind].items())), separators=(",", ":"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_thing_has_the_same_fingerprint(kind: str) -> None:
    """Order of fields, nulls and fields that change by themselves make no new state; an unknown field does."""
    first = one(kind)
    shuffled = dict(reversed(RECORDS[kind].items()))

    (again,) = seen(kind, {**shuffled, "Region2": None, **dict.fromkeys(FLEETING_FIELDS, 7)}).objects
    assert again.fingerprint == first.fingerprint
    (nested,) = seen(kind, RECORDS[kind] | {"New": {"UpdateTime": "1", "Kept": 1}}).objects
    assert attributes_of(nested)["New"] == {"Kept": 1}
    assert nested.fingerprint != first.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_are_left_out(kind: str) -> None:
    """Fields that the catalogue calls secret, at any depth, and all that are named like one."""
    secrets = dict.fromkeys(InventorySource(kind).operation.secret_fields, "s3cr3t")
    named = {"AccessToken": 1, "clientSecret": 1, "DB_PASSWORD": 1, "access-key-id": 1, "ImageAuth": 1, "Env": [1]}
    inner = {**secrets, **dict.fromkeys(named, "s3cr3t")}
    text = json.dumps({"a": 1, "token": "s3cr3t"})
    (observed,) = seen(
        kind,
        RECORDS[kind]
        | inner
        | {
            "Deep": [{"deeper": inner, "kept": 1}],
            "Labels": [{"LabelKey": "password", "LabelValue": "s3cr3t"}, {"LabelKey": "team", "LabelValue": "a"}],
            "ExtraData": text,
            "CodeRepo": "https://user:s3cr3t@host/x?a=1&access_token=s3cr3t&b=2",
        },
    ).objects

    assert "s3cr3t" not in str(observed.values)
    kept = attributes_of(observed)
    assert kept["Deep"] == [{"deeper": {}, "kept": 1}]
    assert kept["Labels"] == [{"LabelKey": "password"}, {"LabelKey": "team", "LabelValue": "a"}]
    assert json.loads(kept["ExtraData"]) == {"a": 1}
    assert kept["CodeRepo"] == "https://***@host/x?a=1&access_token=***&b=2"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_that_the_catalogue_knows_is_taken_for_a_secret(kind: str) -> None:
    """A field of the record type is kept unless the operation calls it secret or it is known to be fleeting."""
    operation = LISTINGS[kind].operation
    field = next(f for f in msgspec.structs.fields(operation.answer) if f.name == operation.records_field)
    record_type = field.type.__args__[0].__args__[0]
    record = {field.encode_name: "x" for field in msgspec.structs.fields(record_type)}

    kept = json.loads(attributes(record, operation.secret_fields))

    assert set(record) - set(kept) <= operation.secret_fields | FLEETING_FIELDS


def test_a_text_that_merely_looks_like_json_is_kept() -> None:
    """Only JSON is opened, and JSON without anything to hide stays as it is written."""
    texts = {"a": "{not json", "b": '{"x": 1,  "y": [2]}', "c": "[1]", "d": "what? a=b", "e": "[" * 5_000}

    assert json.loads(attributes(texts, frozenset())) == texts


@pytest.mark.parametrize("kind", KINDS)
def test_records_without_an_id_are_dead_letters_without_secrets(kind: str) -> None:
    """A dead letter is stored too, so what it must not hold is taken out of it as well."""
    source = InventorySource(kind)
    nameless = {"Name": "x", "Token": "s3cr3t", "UpdateTime": "1"}
    page = seen(kind, "text", nameless, RECORDS[kind])

    ids = " and ".join(LISTINGS[kind].id_fields)
    assert page.dead == [
        ("the record is not an object", "text"),
        (f"{ids} missing", {"Name": "x", "UpdateTime": "1"}),
    ]
    assert [observed.object_id for observed in page.objects] == [COLUMNS[kind][0]]
    assert page.record_count == 3
    assert source.tables == (INVENTORY_STATES,)


def test_an_object_that_comes_twice_is_the_first() -> None:
    """A list that shifts while it is paged shows some objects twice."""
    page = seen("node", RECORDS["node"], RECORDS["node"] | {"Hostname": "other"})

    assert [observed.values[2] for observed in page.objects] == ["gpu-1"]


@pytest.mark.parametrize(
    ("status", "times", "ended_at"),
    [
        ("Succeeded", {"GmtFinishTime": "2025-10-09T09:00:00Z"}, 1_760_000_400),
        ("Failed", {"GmtFinishTime": "", "GmtFailedTime": "2025-10-09T09:00:00Z"}, 1_760_000_400),
        ("Stopped", {"GmtFinishTime": "soon"}, None),
        ("Running", {"GmtFinishTime": "2025-10-09T09:00:00Z"}, None),
        ("SucceededReserving", {"GmtFinishTime": "2025-10-09T09:00:00Z"}, None),
    ],
)
def test_a_job_has_ended_in_a_final_status(status: str, times: dict[str, str], ended_at: int | None) -> None:
    """A job that was restarted has an older end, and is running all the same."""
    assert one("job", Status=status, **times).ended_at == ended_at


def test_only_lists_that_hold_everything_tell_what_is_gone() -> None:
    """Jobs leave their list with age; of the others, what is missing is gone."""
    assert {kind for kind in KINDS if not InventorySource(kind).lists_all} == {"job"}


@pytest.mark.parametrize(
    ("cursor", "count", "total", "following", "has_changed"),
    [
        (None, 100, 150, 2, False),
        ('{"page_number":2,"record_count":100,"total":150}', 50, 150, None, False),
        ('{"page_number":2,"record_count":100,"total":150}', 50, 149, None, True),
        ('{"page_number":2,"record_count":100,"total":250}', 100, 251, 3, False),
        ('{"page_number":3,"record_count":200,"total":250,"total_changed":true}', 50, 250, None, True),
        ('{"page_number":2,"record_count":100,"total":150}', 0, 150, None, True),
    ],
)
def test_a_list_that_changed_while_it_was_paged_says_so_at_its_end(
    cursor: str | None, count: int, total: int, following: int | None, has_changed: bool
) -> None:
    """Then nothing may be taken for gone, because it may have slipped between two pages."""
    source = InventorySource("service")
    records = [RECORDS["service"] | {"ServiceName": f"s{number}"} for number in range(count)]
    told = answer(source, *records, TotalCount=total)

    there = source.next_cursor(cursor, told)

    assert (None if there is None else source.parameters(key(source), there)["PageNumber"]) == following
    seen = source.page(key(source), cursor, told)
    assert (seen.has_changed or seen.is_short) is has_changed


def test_a_list_with_cursors_ends_without_one() -> None:
    """An empty cursor is the end, as is none."""
    source = InventorySource("node")

    assert source.next_cursor(None, answer(source, NextToken="next")) == "next"
    assert source.next_cursor("next", answer(source, NextToken="")) is None
    assert source.next_cursor("next", answer(source)) is None
