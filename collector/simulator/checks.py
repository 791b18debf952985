"""Parameters of a call against the catalogue's row, as strictly as a careful service would.

The client checks its calls too, in code of its own: what it lets through by mistake is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from collector.catalogue.operation import Form, Operation, Parameter
from collector.simulator.refusals import invalid_parameter, missing_parameter

_EXPECTED: Final = {str: "a string", int: "a whole number", bool: "a boolean", list: "a list", dict: "an object"}
_SECONDS_MAX: Final = 2**32 - 1


def check_parameters(operation: Operation, parameters: Mapping[str, Any]) -> None:
    """Raises Refusal (400) for the first parameter that is missing or not as the row says."""
    for row in operation.parameters:
        value = parameters.get(row.name)
        if value is None or (value == "" and row.required):
            if row.required:
                raise missing_parameter(row.name)
            continue
        if why := _wrong(row, value):
            raise invalid_parameter(row.name, why)


def _wrong(row: Parameter, value: Any) -> str:
    # A bool is an int to Python, and to nobody else.
    if type(value) is not row.type:
        return f"{_EXPECTED[row.type]} is expected"
    text = str(value)
    if row.choices and text.lower() not in [choice.lower() for choice in row.choices]:
        return f"one of {', '.join(row.choices)} is expected"
    if row.form is not Form.ANY:
        expected, fits = _FORMS[row.form]
        if not fits(text):
            return f"{expected} is expected"
    return _outside(row, int(text)) if (row.least, row.most) != (None, None) else ""


def _outside(row: Parameter, number: int) -> str:
    if row.least is not None and number < row.least:
        return f"at least {row.least} is expected"
    return f"at most {row.most} is possible" if row.most is not None and number > row.most else ""


def _is_seconds(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,10}", text) is not None and int(text) <= _SECONDS_MAX


def _is_minute(text: str) -> bool:
    return _is_seconds(text) and int(text) % 60 == 0


def _is_time(pattern: str) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        parts = re.fullmatch(pattern, text, re.ASCII)
        if parts is None:
            return False
        year, month, day, hour, minute, second = map(int, parts.groups())
        try:
            datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            return False
        return True

    return fits


def _is_time_step(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}[hms]?", text) is not None and int(text.rstrip("hms")) > 0


def _is_count(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None and int(text) > 0


_is_civil = _is_time(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)")


def _is_milliseconds(text: str) -> bool:
    return re.fullmatch(r"[0-9]{12,13}", text) is not None or _is_civil(text)


_FORMS: Final[Mapping[Form, tuple[str, Callable[[str], bool]]]] = {
    Form.SECONDS: ("a moment in UNIX seconds", _is_seconds),
    Form.MINUTE: ("a whole minute in UNIX seconds", _is_minute),
    Form.MOMENT: (
        "a moment such as 2025-10-09T08:00:00Z",
        _is_time(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d{1,6})?Z"),
    ),
    Form.CIVIL: (
        "a moment such as 2025-10-09 08:00:00",
        _is_civil,
    ),
    Form.TIME_STEP: ("a span such as 5m", _is_time_step),
    Form.COUNT: ("a whole number of at least 1", _is_count),
    Form.MILLISECONDS: ("a moment in UNIX milliseconds or as 2025-10-09 08:00:00", _is_milliseconds),
}
