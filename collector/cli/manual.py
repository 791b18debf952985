"""What the catalogue says about an operation, as help on a terminal."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, Final

from collector.catalogue.operation import Form, Numbers, Operation, Parameter, Spread, Tokens, price_text, wire_name
from collector.catalogue.operations import CATALOGUE
from collector.errors import UsageError

_TYPES: Final = {str: "text", int: "whole number", bool: "true or false", list: "list", dict: "JSON object"}
_FORMS: Final = {
    Form.ANY: "",
    Form.SECONDS: "UNIX seconds",
    Form.MINUTE: "UNIX seconds, a whole minute",
    Form.MOMENT: "2025-10-09T08:00:00Z",
    Form.CIVIL: "2025-10-09 08:00:00",
    Form.TIME_STEP: "5m, 1h, 30s",
    Form.COUNT: "number from 1 up",
    Form.MILLISECONDS: "UNIX milliseconds",
}
_EXAMPLES: Final = {
    Form.SECONDS: "1687363300",
    Form.MINUTE: "1687363320",
    Form.MOMENT: "2025-10-09T08:00:00Z",
    Form.CIVIL: "2025-10-09 08:00:00",
    Form.TIME_STEP: "5m",
    Form.COUNT: "1",
    Form.MILLISECONDS: "1687363300000",
}
_NAMED_EXAMPLES: Final = {
    "DiagnosticId": "diag-i150000000000000000001",
    "DiagnosticType": "NetDiag",
    "InstanceId": "dsw-1a2b3c",
    "JobId": "dlc1a2b3c",
    "Labels": '[{"name":"product","value":"pai"}]',
    "LogStore": "access_log",
    "MetricName": "GPU_UTIL",
    "MetricType": "CpuUsageRate",
    "Namespace": "acs_pai_dlc",
    "NodeId": "e01-cn-9lb36u4s601",
    "NodeIds": "e01-cn-9lb36u4s601,e01-cn-9lb36u4s602",
    "PageSize": "100",
    "ProjectName": "my-project",
    "ResourceGroupID": "rgf0zhfqn1d4ity2",
    "ResourceId": "eas-r-1a2b3c",
    "ServiceName": "my_service",
    "ToTime": "1687363400",
}
_OPTIONAL_SHOWN: Final = 3
LISTED: Final = ("operation", "product", "what it does", "quota", "price", "paging")


def operation_of(name: str) -> Operation:
    """The row of a name that a person typed. Raises UsageError that names the nearest ones."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    by_lower = {known.lower(): known for known in CATALOGUE}
    near = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    question = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(f"no operation {name!r} in the catalogue{question}", hint="pai-collector call --list shows all")


def listing(rows: Iterable[Operation]) -> list[tuple[str, ...]]:
    """Operations for a person's table, in the order of `LISTED`."""
    return [
        (row.name, f"{row.product} {row.version}", row.summary, _quota(row), _price(row), _paging(row)) for row in rows
    ]


def listing_json(rows: Iterable[Operation]) -> list[dict[str, Any]]:
    """Operations for a program. A price is CNY a call in text, null where the service gives none."""
    return [
        {
            "operation": row.name,
            "product": row.product,
            "version": row.version,
            "summary": row.summary,
            "quota_per_second": row.quota.per_second,
            "quota_documented": row.quota.documented,
            "price_cny": None if row.price is None or row.price.cny is None else str(row.price.cny),
            "free_calls_per_month": 0 if row.price is None else row.price.free_calls_per_month,
            "paging": _paging(row),
            "parameters": [p.name for p in row.parameters],
            "required": [p.name for p in row.parameters if p.required],
        }
        for row in rows
    ]


def manual(row: Operation) -> str:
    """All there is to know before calling an operation."""
    facts = [
        ("product", f"{row.product} {row.version}; {row.method} {row.path}"),
        ("quota", _quota(row)),
        ("price", _price(row)),
        ("paging", _paging(row)),
    ]
    if not row.repeatable:
        facts.append(("repeat", "never by itself: a second time would do harm"))
    if row.secret_fields:
        facts.append(("secret", f"{', '.join(sorted(row.secret_fields))}; masked unless --reveal"))
    lines = [f"{row.name}: {row.summary}", "", *_columns(facts), ""]
    if row.parameters:
        told = [(p.name, _type(p), "required" if p.required else "", _what(p)) for p in row.parameters]
        lines += ["Parameters", *_columns(told)]
    else:
        lines += ["It takes no parameters."]
    return "\n".join([*lines, "", "Example", f"  {example(row)}"])


def example(row: Operation) -> str:
    """A command line that calls the operation."""
    words = ["pai-collector", "call", row.name]
    for name, text in example_parameters(row).items():
        words += ["--param", shlex.quote(f"{name}={text}")]
    return " ".join(words)


def example_parameters(row: Operation) -> dict[str, str]:
    """Values of the required parameters, or of the first ones of a call that is about something."""
    chosen = [p for p in row.parameters if p.required]
    if not chosen and row.scope:
        chosen = list(row.parameters[:_OPTIONAL_SHOWN])
    return {p.name: _example(row, p) for p in chosen}


def _example(row: Operation, parameter: Parameter) -> str:
    if parameter.name == "ClusterId":
        # The same word for two kinds of clusters.
        return "i110000000000000000001" if row.name.endswith(("Task", "Nodes")) else "cn-shanghai"
    if parameter.choices:
        return parameter.choices[0]
    fixed = _NAMED_EXAMPLES.get(parameter.name) or _EXAMPLES.get(parameter.form)
    by_type = {int: str(parameter.least or 1), bool: "true", list: "a,b", dict: '{"key":"value"}'}
    return fixed or by_type.get(parameter.type, "...")


def _quota(row: Operation) -> str:
    return f"{row.quota.per_second}/s" + ("" if row.quota.documented else " (assumed)")


def _price(row: Operation) -> str:
    if row.price is not None and row.price.cny == 0:
        return "free"
    text = price_text(row.price)
    free = row.price.free_calls_per_month if row.price else 0
    return f"{text}, {free:,} a month free" if free else text


def _paging(row: Operation) -> str:
    match row.paging:
        case Tokens(size=size):
            return "NextToken" + (f" and {size}" if size else "")
        case Numbers(number=number, size=size, total=total):
            return f"{number} and {size}, up to {wire_name(row.answer, total)}"
        case _:
            return "none"


def _type(parameter: Parameter) -> str:
    if parameter.type is list:
        # Commas are enough where the service itself puts commas between.
        return "list: a,b or JSON" if parameter.spread is not Spread.JSON else "list: JSON"
    return _FORMS[parameter.form] or _TYPES[parameter.type]


def _what(parameter: Parameter) -> str:
    text = parameter.help
    if parameter.choices:
        text += f" One of {', '.join(parameter.choices)}."
    if parameter.least is not None and parameter.most is not None:
        text += f" From {parameter.least} to {parameter.most}."
    elif parameter.least is not None:
        text += f" From {parameter.least} up."
    if parameter.bearer_only:
        text += " Bearer gateway only."
    return text


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
