"""Parameters of a call: what is right is taken as it is, what is wrong is named before it costs anything."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.catalogue.operation import Form, Operation, Parameter, Place, Spread
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.parameters import SECONDS_MAX, WHOLE_MAX, coerce_parameters, read_parameters

# What each operation needs, and nothing else.
LEAST: dict[str, dict[str, Any]] = {
    "GetUserViewMetrics": {"ResourceGroupID": "rgf0zhfqn1d4ity2", "PageNumber": "1", "PageSize": "10"},
    "ListSyslogs": {"FromTime": "1687363300", "ToTime": "1687363400", "NodeId": "e01-cn-9lb36u4s601"},
    "CreateDiagnosticTask": {},
    "DescribeDiagnosticResult": {"DiagnosticId": "diag-i1"},
    "ListDiagnosticResults": {},
    "CreateResourceLog": {
        "ClusterId": "cn-shanghai", "ResourceId": "eas-r-1", "ProjectName": "eas-r-1-sls", "LogStore": "access_log",
    },
    "DescribeResourceLog": {"ClusterId": "cn-shanghai", "ResourceId": "eas-r-1"},
    "DeleteResourceLog": {"ClusterId": "cn-shanghai", "ResourceId": "eas-r-1"},
    "GetXtraceToken": {},
    "GetNodeMetrics": {"ResourceGroupID": "rg1", "MetricType": "CpuUsageRate"},
    "GetJobMetrics": {"JobId": "dlc1", "MetricType": "GpuCoreUsage"},
    "GetJobEvents": {"JobId": "dlc1"},
    "DescribeServiceEvent": {"ClusterId": "cn-shanghai", "ServiceName": "chat"},
    "GetInstanceMetrics": {"InstanceId": "dsw-1", "MetricType": "GpuCoreUsage"},
    "ListClusters": {},
    "ListClusterNodes": {"ClusterId": "i1"},
    "ListJobs": {},
    "ListInstances": {},
    "ListResourceGroups": {},
    "ListResources": {},
    "ListServices": {},
    "DlcGetMetrics": {},
    "DswGetMetrics": {"InstanceId": "dsw-1"},
    "DescribeMetricList": {"Namespace": "acs_pai_dlc", "MetricName": "GPU_UTIL"},
    "DescribeMetricMetaList": {},
    "DescribeProjectMeta": {},
}  # fmt: skip

SECONDS_WRONG = {
    "1687363300000": "expected a moment in UNIX seconds such as 1687363300, not milliseconds, got '1687363300000'",
    "2025-10-09T08:00:00Z": "expected a moment in UNIX seconds such as 1687363300, got '2025-10-09T08:00:00Z'",
    "-1": "expected a moment in UNIX seconds",
    "1687363300.5": "expected a moment in UNIX seconds",
    " 1687363300": "expected a moment in UNIX seconds",
    "1687363300\n": "expected text without control characters",
    "\uff11\uff16\uff18\uff17\uff13\uff16\uff13\uff13\uff10\uff10": "expected a moment in UNIX seconds",
    "": "expected a moment in UNIX seconds",
    "5m": "expected a moment in UNIX seconds",
    str(SECONDS_MAX + 1): "expected a moment in UNIX seconds",
}
MINUTE_WRONG = dict.fromkeys(SECONDS_WRONG, "UNIX seconds") | {
    "1687363300\n": "expected text without control characters",
    "1687363300": "expected a whole minute in UNIX seconds such as 1687363320 (divisible by 60), got '1687363300'",
    "1687363320000": "(divisible by 60), not milliseconds, got '1687363320000'",
    "2024-10-16T02:04Z": "expected a whole minute in UNIX seconds",
}
TEXT_RIGHT = ["x", "a b/ü~*", "", "节点"]
TEXT_WRONG = {7: "expected text, got 7", "a\nb": "expected text without control characters, got 'a\\nb'"}
NEEDED_TEXT_WRONG = {"": "expected text, got ''", "  ": "expected text, got '  '", 7: "expected text, got 7"}
PATH_WRONG = NEEDED_TEXT_WRONG | {
    "a/b": "expected text that is one part of a path, without /, got 'a/b'",
    "..": "expected text that is one part of a path, without /, got '..'",
}

# Each parameter that the service's documentation tables, with what is right and what is wrong of it.
DOCUMENTED: list[tuple[str, str, list[Any], dict[Any, str]]] = [
    ("GetUserViewMetrics", "ResourceGroupID", ["rgf0zhfqn1d4ity2"], PATH_WRONG),
    ("GetUserViewMetrics", "WorkspaceId", ["123"], TEXT_WRONG),
    (
        "GetUserViewMetrics", "PageNumber", ["1", "2", "999999999"],
        {
            "0": "expected a whole number from 1 up, got '0'", "-1": "from 1 up", "1.5": "from 1 up",
            "one": "from 1 up", "": "from 1 up", 1: "expected a whole number from 1 up, as text, got 1",
        },
    ),
    (
        "GetUserViewMetrics", "PageSize", ["1", "10", "1000"],
        {
            "1001": "expected a whole number from 1 to 1000, got '1001'", "0": "from 1 to 1000",
            "ten": "from 1 to 1000", 10: "expected a whole number from 1 to 1000, as text, got 10",
        },
    ),
    ("GetUserViewMetrics", "SortBy", ["GmtModified"], TEXT_WRONG),
    (
        "GetUserViewMetrics", "Order", ["asc", "desc", "DESC", "ASC", "Desc"],
        {"down": "expected one of asc, desc, got 'down'", "": "expected one of asc, desc", True: "one of asc, desc"},
    ),
    ("GetUserViewMetrics", "UserId", ["16111111"], TEXT_WRONG),
    (
        "GetUserViewMetrics", "TimeStep", ["5m", "1h", "30s", "300"],
        {
            "5d": "expected a span such as 5m, 1h or 30s", "m": "expected a span", "0m": "expected a span",
            "1.5h": "expected a span", "5 m": "expected a span", "5M": "expected a span", "-5m": "expected a span",
            "": "expected a span", 5: "a bare number means seconds, as text, got 5",
        },
    ),
    ("ListSyslogs", "FromTime", ["1687363300", "0"], SECONDS_WRONG),
    ("ListSyslogs", "ToTime", ["1687363400", str(SECONDS_MAX)], SECONDS_WRONG),
    ("ListSyslogs", "NodeId", ["e01-cn-9lb36u4s601"], NEEDED_TEXT_WRONG),
    ("ListSyslogs", "Query", TEXT_RIGHT, TEXT_WRONG),
    (
        "ListSyslogs", "Reverse", [True, False],
        {"true": "expected true or false, got 'true'", 1: "expected true or false, got 1"},
    ),
    ("ListSyslogs", "NextToken", ["f4f9a292"], TEXT_WRONG),
    ("CreateDiagnosticTask", "ClusterId", ["i1"], TEXT_WRONG),
    (
        "CreateDiagnosticTask", "NodeIds", [["e01-a"], ["e01-a", "e01-b"]],
        {
            "e01-a": "expected a list, got 'e01-a'", (): "expected a list, got ()",
            ("list",): "expected at least one item, got []",
            ("list", "a,b"): "expected a list of texts without commas, got ['a,b']",
            ("list", ""): "expected a list of texts without commas", ("list", 7): "expected a list of texts",
        },
    ),
    ("CreateDiagnosticTask", "DiagnosticType", ["CheckByAiJobLogs", "NetDiag"], TEXT_WRONG),
    ("CreateDiagnosticTask", "StartTime", ["1687363320"], MINUTE_WRONG),
    ("CreateDiagnosticTask", "EndTime", ["1687363380"], MINUTE_WRONG),
    ("DescribeDiagnosticResult", "DiagnosticId", ["diag-i1"], NEEDED_TEXT_WRONG),
    ("ListDiagnosticResults", "DiagnosticId", ["diag-i1"], TEXT_WRONG),
    *[
        (operation, name, [right], PATH_WRONG)
        for operation in ("CreateResourceLog", "DescribeResourceLog", "DeleteResourceLog")
        for name, right in (("ClusterId", "cn-shanghai"), ("ResourceId", "eas-r-1"))
    ],
    ("CreateResourceLog", "ProjectName", ["eas-r-1-sls"], NEEDED_TEXT_WRONG),
    ("CreateResourceLog", "LogStore", ["access_log"], NEEDED_TEXT_WRONG),
]  # fmt: skip

RIGHT = [(operation, name, value) for operation, name, rights, _ in DOCUMENTED for value in rights]
WRONG = [
    # A list cannot be a key above: it stands there as a tuple that begins with its name.
    (operation, name, list(value[1:]) if isinstance(value, tuple) and value else value, said)
    for operation, name, _, wrongs in DOCUMENTED
    for value, said in wrongs.items()
]

ROWS = list(CATALOGUE.values())
PARAMETERS = [(row, parameter) for row in ROWS for parameter in row.parameters]


def mistakes(row: Operation, values: dict[str, Any], **more: Any) -> list[str]:
    """The lines of the refusal; a call that is taken has none."""
    try:
        coerce_parameters(row, values, **more)
    except ValueError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_an_operation_needs_is_enough(row: Operation) -> None:
    """Its required parameters alone make a call, and come back as they were given."""
    assert coerce_parameters(row, LEAST[row.name]) == LEAST[row.name]


@pytest.mark.parametrize(("operation", "name", "value"), RIGHT)
def test_a_right_value_is_taken_as_it_is(operation: str, name: str, value: Any) -> None:
    """Nothing is rewritten on its way: what the user wrote is what the service gets."""
    given_values = LEAST[operation] | {name: value}

    assert coerce_parameters(CATALOGUE[operation], given_values) == given_values


@pytest.mark.parametrize(("operation", "name", "value", "said"), WRONG)
def test_a_wrong_value_is_named(operation: str, name: str, value: Any, said: str) -> None:
    """One line: the parameter, what would be right, what was seen."""
    (line,) = mistakes(CATALOGUE[operation], LEAST[operation] | {name: value})

    assert line.startswith(f"{name}: ")
    assert said in line
    assert ", got " in line


@pytest.mark.parametrize("value", ["tk-5d41402abc\n", 5041402, ["tk-5d41402abc"]])
def test_a_wrong_value_that_is_secret_is_not_shown(value: Any) -> None:
    """What is wrong with it is told, and nothing of it."""
    with pytest.raises(ValueError, match="Token: expected text") as caught:
        coerce_parameters(CATALOGUE["GetJobMetrics"], LEAST["GetJobMetrics"] | {"Token": value})
    assert "41402" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "parameter"),
    [(row, parameter) for row, parameter in PARAMETERS if parameter.required],
    ids=lambda value: value.name,
)
@pytest.mark.parametrize("how", ["left_out", "none"])
def test_a_missing_parameter_is_named(row: Operation, parameter: Parameter, how: str) -> None:
    """Left out or None, it is one line that tells what belongs there."""
    values = {name: value for name, value in LEAST[row.name].items() if name != parameter.name}
    if how == "none":
        values[parameter.name] = None

    (line,) = mistakes(row, values)

    assert line.startswith(f"{parameter.name}: required by {row.name}, got nothing; expected ")


@pytest.mark.parametrize(
    ("row", "parameter"),
    [(row, parameter) for row, parameter in PARAMETERS if not parameter.required],
    ids=lambda value: value.name,
)
def test_an_optional_parameter_may_be_none(row: Operation, parameter: Parameter) -> None:
    """None is as good as left out, and does not go on the wire."""
    assert coerce_parameters(row, LEAST[row.name] | {parameter.name: None}) == LEAST[row.name]


def test_all_mistakes_come_at_once() -> None:
    """Nobody has to call four times to learn of four mistakes."""
    lines = mistakes(
        CATALOGUE["GetUserViewMetrics"],
        {"ResourceGroupId": "rg1", "PageNumber": "1", "PageSize": "9999", "Order": "up"},
    )

    assert [line.partition(":")[0] for line in lines] == ["ResourceGroupId", "PageSize", "Order", "ResourceGroupID"]


@pytest.mark.parametrize(
    ("operation", "name", "said"),
    [
        ("GetUserViewMetrics", "ResourceGroupId", "no such parameter; did you mean ResourceGroupID? it has "),
        ("ListSyslogs", "Nodeid", "did you mean NodeId?"),
        ("ListSyslogs", "Colour", "ListSyslogs has no such parameter; it has FromTime, ToTime, NodeId, "),
        ("GetXtraceToken", "RegionId", "GetXtraceToken has no such parameter; it has none"),
        ("ListSyslogs", "a\nb", "'a\\nb': ListSyslogs has no such parameter"),
    ],
)
def test_an_unknown_parameter_is_refused(operation: str, name: str, said: str) -> None:
    """The service would ignore it; here it is named, with what there is instead."""
    (line,) = mistakes(CATALOGUE[operation], LEAST[operation] | {name: "x"})

    assert said in line


def test_what_only_the_bearer_gateway_takes_is_refused_elsewhere() -> None:
    """`DiagnosticId` narrows a list on one gateway only, and is no silent no-op on the other."""
    row = CATALOGUE["ListDiagnosticResults"]

    assert mistakes(row, {"DiagnosticId": "d"}) == []
    assert mistakes(row, {"DiagnosticId": "d"}, product_endpoint=True) == [
        "DiagnosticId: only the bearer gateway takes it with ListDiagnosticResults"
    ]


@pytest.mark.parametrize(
    ("operation", "values", "said"),
    [
        ("ListSyslogs", {"FromTime": "1687363400", "ToTime": "1687363300"}, "ToTime: expected a moment not before"),
        ("ListSyslogs", {"FromTime": "1000000000", "ToTime": "999999999"}, "ToTime: expected a moment not before"),
        ("ListSyslogs", {"FromTime": "999999999", "ToTime": "1000000000"}, ""),
        ("ListSyslogs", {"FromTime": "1687363300", "ToTime": "1687363300"}, ""),
        ("CreateDiagnosticTask", {"StartTime": "1687363380", "EndTime": "1687363320"}, "EndTime: expected a moment"),
        (
            "GetNodeMetrics",
            {"StartTime": "2025-10-09T08:00:00.500Z", "EndTime": "2025-10-09T08:00:00Z"},
            "EndTime: expected a moment not before StartTime",
        ),
        ("GetNodeMetrics", {"StartTime": "2025-10-09T08:00:00.500Z", "EndTime": "2025-10-09T08:00:01Z"}, ""),
        (
            "DescribeServiceEvent",
            {"StartTime": "2025-10-09 08:00:01", "EndTime": "2025-10-09 08:00:00"},
            "EndTime: expected a moment not before StartTime '2025-10-09 08:00:01', got '2025-10-09 08:00:00'",
        ),
    ],
)
def test_a_range_that_ends_before_it_begins_is_refused(operation: str, values: dict[str, str], said: str) -> None:
    """Moments are compared as moments, also where their texts have different lengths."""
    assert said in "\n".join(found := mistakes(CATALOGUE[operation], LEAST[operation] | values))
    assert len(found) == bool(said)


@pytest.mark.parametrize(
    ("operation", "name", "right", "wrong"),
    [
        ("GetNodeMetrics", "StartTime", "2025-10-09T08:00:00Z", "2025-10-09 08:00:00"),
        ("GetNodeMetrics", "StartTime", "2025-10-09T08:00:00.292Z", "2025-13-09T08:00:00Z"),
        ("GetNodeMetrics", "StartTime", "0001-01-01T00:00:00Z", "2025-10-09T08:00:00+08:00"),
        ("GetNodeMetrics", "Verbose", True, "yes"),
        ("GetNodeMetrics", "GPUType", "V100", "H1"),
        ("DescribeServiceEvent", "StartTime", "2025-10-09 08:00:00", "2025-10-09T08:00:00Z"),
        ("DescribeServiceEvent", "StartTime", "2024-02-29 08:00:00", "2025-02-29 08:00:00"),
        ("DescribeServiceEvent", "PageSize", "100", "101"),
        ("GetJobEvents", "MaxEventsNum", 10_000, 10_001),
        ("ListClusters", "MaxResults", 100, 101),
        ("ListClusters", "MaxResults", 1, True),
        ("ListClusters", "Tags", [{"Key": "env", "Value": "x"}], [{"Key": {"a": 1}}]),
        ("ListClusterNodes", "OperatingStates", ["Using"], [["Using"]]),
        ("ListDiagnosticResults", "MaxResults", 20, 19),
        ("ListJobs", "PageNumber", 1000, 1001),
        ("ListServices", "PageNumber", WHOLE_MAX, WHOLE_MAX + 1),
        ("ListServices", "Label", {"team": "a"}, ["team"]),
        ("ListServices", "Label", {}, {"team": float("nan")}),
        ("CreateDiagnosticTask", "AiJobLogs", [{"AiInstance": "a", "Logs": []}], [object()]),
        ("ListSyslogs", "Query", "x", "half a character \ud800"),
    ],
)
def test_other_forms_and_bounds(operation: str, name: str, right: Any, wrong: Any) -> None:
    """Moments, enumerations, bounds and structures of the other operations are checked in the same way."""
    row = CATALOGUE[operation]

    assert mistakes(row, LEAST[operation] | {name: right}) == []
    (line,) = mistakes(row, LEAST[operation] | {name: wrong})
    assert line.startswith(f"{name}: expected ")


@pytest.mark.parametrize(
    ("operation", "name", "text", "value"),
    [
        ("ListSyslogs", "Reverse", "true", True),
        ("ListSyslogs", "Reverse", "FALSE", False),
        ("ListSyslogs", "Reverse", "yes", "yes"),
        ("ListSyslogs", "FromTime", "1687363300", "1687363300"),
        ("ListClusters", "MaxResults", "20", 20),
        ("ListClusters", "MaxResults", "-20", -20),
        ("ListClusters", "MaxResults", "2e1", "2e1"),
        ("ListClusters", "MaxResults", "9" * 5000, "9" * 5000),
        ("CreateDiagnosticTask", "NodeIds", "a, b,,c", ["a", "b", "c"]),
        ("CreateDiagnosticTask", "NodeIds", '["a","b"]', ["a", "b"]),
        ("CreateDiagnosticTask", "NodeIds", '["a"', '["a"'),
        ("CreateDiagnosticTask", "NodeIds", "", []),
        ("ListClusters", "Tags", '[{"Key":"env","Value":"x"}]', [{"Key": "env", "Value": "x"}]),
        ("ListClusters", "Tags", '{"Key":"env","Value":"x"}', {"Key": "env", "Value": "x"}),
        ("ListServices", "Label", '{"team":"a"}', {"team": "a"}),
        ("ListServices", "Label", "team=a", "team=a"),
        ("ListServices", "Label", "[" * 100_000, "[" * 100_000),
        ("ListServices", "Colour", "red", "red"),
    ],
)
def test_parameters_are_read_out_of_text(operation: str, name: str, text: str, value: Any) -> None:
    """Each type has its text; what cannot be read is left for the check to name."""
    assert read_parameters(CATALOGUE[operation], {name: text}) == {name: value}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
texts = st.text() | st.from_regex(r"[0-9]{1,14}[hms]?", fullmatch=True) | st.from_regex(r"[\[{\"a,}\]]*")
names = st.sampled_from(sorted({parameter.name for _, parameter in PARAMETERS})) | st.text()


def nested(depth: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("ListSyslogs", "NodeId"),
        ("CreateDiagnosticTask", "NodeIds"),
        ("CreateDiagnosticTask", "AiJobLogs"),
        ("ListServices", "Label"),
        ("ListServices", "PageNumber"),
    ],
)
def test_values_that_break_python_are_one_line(operation: str, name: str) -> None:
    """A list a hundred thousand deep and a number of thousands of digits are refused like any other."""
    row = CATALOGUE[operation]

    for value in (nested(100_000), {"a": nested(100_000)}, 10**5000, [10**5000]):
        (line,) = mistakes(row, LEAST[operation] | {name: value})
        assert line.startswith(f"{name}: expected ")
        assert len(line) < 300


@given(st.sampled_from(ROWS), st.dictionaries(names, json_values | texts, max_size=6), st.booleans())
def test_nothing_but_a_value_error_is_raised(row: Operation, values: dict[str, Any], product_endpoint: bool) -> None:
    """Whatever is handed in, the answer is the parameters or lines that each name one, none of them long."""
    for line in mistakes(row, values, product_endpoint=product_endpoint):
        assert re.match(r"([^\s:]+|'.*'|\".*\"): ", line)
        assert len(line) < 700


@given(st.sampled_from(ROWS), st.dictionaries(names, texts, max_size=6))
def test_text_is_read_without_an_error(row: Operation, values: dict[str, str]) -> None:
    """Reading keeps every parameter, and checking what was read names the parameter or accepts it."""
    found = read_parameters(row, values)

    assert found.keys() == values.keys()
    mistakes(row, found)


FORMS = {
    Form.SECONDS: r"[0-9]{1,10}",
    Form.MINUTE: r"[0-9]{1,10}",
    Form.MOMENT: r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
    Form.CIVIL: r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    Form.TIME_STEP: r"[1-9][0-9]*[hms]?",
    Form.COUNT: r"[1-9][0-9]*",
    Form.MILLISECONDS: r"[0-9]{12,13}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
}


def values_of(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Values that may fit a parameter or just miss it."""
    if parameter.type is str:
        pattern = FORMS.get(parameter.form)
        fitting = st.from_regex(f"\\A(?:{pattern})\\Z", fullmatch=True) if pattern else st.text()
        return st.sampled_from(parameter.choices) if parameter.choices else fitting | st.text()
    if parameter.type is int:
        return st.integers()
    return {bool: st.booleans(), list: st.lists(json_values), dict: st.dictionaries(st.text(), json_values)}[
        parameter.type
    ]


@given(st.data())
def test_what_is_accepted_fits_its_form(data: st.DataObject) -> None:
    """An accepted value has its type, its form and its bounds, and can be written on either wire."""
    row, parameter = data.draw(st.sampled_from(PARAMETERS))
    value = data.draw(values_of(parameter))
    if mistakes(row, LEAST[row.name] | {parameter.name: value}):
        return

    is_exact = type(value) is parameter.type
    assert is_exact
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    if parameter.choices:
        assert value.lower() in {choice.lower() for choice in parameter.choices}
    if parameter.form in FORMS:
        assert re.fullmatch(FORMS[parameter.form], value, re.ASCII)
    if parameter.form is Form.MINUTE:
        assert int(value) % 60 == 0
    if parameter.least is not None:
        assert parameter.least <= int(value)
    if parameter.most is not None:
        assert int(value) <= parameter.most
    if parameter.type is list and parameter.spread is Spread.COMMAS and not parameter.inside:
        assert ",".join(value).split(",") == value
    if parameter.place is Place.PATH:
        assert value.strip("/.")
