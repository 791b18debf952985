"""The parameters of a call, checked before it is spent. Pure."""

from __future__ import annotations

import difflib
import json
import re
import reprlib
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from collector.catalogue.operation import Form, Operation, Parameter, Place, Spread

SECONDS_MAX: Final = 2**32 - 1
WHOLE_MAX: Final = 999_999_999
"""No count of the services is larger: what is above is a slip, such as a time in the wrong place."""
_VALUE_SHOWN_MAX: Final = 80
_TYPE_NAMES: Final = {
    str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object",
}  # fmt: skip


def coerce_parameters(row: Operation, given: Mapping[str, Any], *, product_endpoint: bool = False) -> dict[str, Any]:
    """Check the parameters of a call against the catalogue.

    Returns them as they are, without those that are None. With `product_endpoint`, parameters that
    only the bearer gateway takes are refused. Raises ValueError with one line per mistake: the
    parameter, what was seen, what would be right.
    """
    mistakes = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        known = row.parameter(name)
        if known is None:
            mistakes.append(f"{_name(name)}: {row.name} has no such parameter; {_nearest(row, name)}")
        elif value is None:
            continue
        elif product_endpoint and known.bearer_only:
            mistakes.append(f"{name}: only the bearer gateway takes it with {row.name}")
        elif mistake := _mistake(known, value):
            mistakes.append(f"{name}: {mistake}")
        else:
            values[name] = value
    mistakes += [
        f"{p.name}: required by {row.name}, got nothing; expected {_expected(p)}"
        for p in row.parameters
        if p.required and given.get(p.name) is None
    ]
    mistakes += _crossed(row, values)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return values


def read_parameters(row: Operation, given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters out of text, as a command line has them: lists with commas or as JSON, objects as JSON.

    What cannot be read is left as it is, so that `coerce_parameters` names it.
    """
    return {
        name: text if (known := row.parameter(name)) is None else _read(known, text) for name, text in given.items()
    }


def _read(known: Parameter, text: str) -> Any:
    if known.type is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if known.type is int:
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text
    if known.type is list and not text.lstrip().startswith(("[", "{")):
        return [part.strip() for part in text.split(",") if part.strip()]
    if known.type in (list, dict):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _name(name: object) -> str:
    # A mistake is one line, whatever was taken for a name.
    return name if isinstance(name, str) and name.isidentifier() else _shown(name)


def _nearest(row: Operation, name: object) -> str:
    """What there is instead of an unknown name."""
    names = [p.name for p in row.parameters]
    lowered = {known.lower(): known for known in names}
    close = difflib.get_close_matches(str(name)[:_VALUE_SHOWN_MAX].lower(), lowered, n=1, cutoff=0.8)
    guess = f"did you mean {lowered[close[0]]}? " if close else ""
    return f"{guess}it has {', '.join(names) or 'none'}"


def _shown(value: object) -> str:
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = _VALUE_SHOWN_MAX
    try:
        text = shortened.repr(value)
    except ValueError:
        # Python refuses to spell a number of thousands of digits.
        return f"{type(value).__name__} that is too large to show"
    return text if len(text) <= _VALUE_SHOWN_MAX else f"{text[:_VALUE_SHOWN_MAX]}..."


def _mistake(known: Parameter, value: Any) -> str:
    """What is wrong with a value, empty where nothing is."""
    if not _is_of(known.type, value):
        words = _expected(known)
        as_text = ", as text" if known.type is str and words != _TYPE_NAMES[str] else ""
        return f"expected {words}{as_text}, got {_seen(known, value)}"
    wrong = _WRONG[known.type](known, value)
    return f"{wrong}, got {_seen(known, value)}" if wrong else ""


def _seen(known: Parameter, value: Any) -> str:
    return "another value, which is secret" if known.is_secret else _shown(value)


def _is_of(kind: type, value: object) -> bool:
    # In Python a bool is an int.
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _expected(known: Parameter) -> str:
    """A right value, in words."""
    if known.choices:
        return f"one of {', '.join(known.choices)}"
    if known.least is not None or known.most is not None:
        return f"a whole number {_range(known)}"
    if known.form is not Form.ANY:
        return _FORMS[known.form][1]
    return _TYPE_NAMES[known.type]


def _range(known: Parameter) -> str:
    if known.most is None:
        return f"from {known.least} up"
    return f"from {known.least} to {known.most}" if known.least is not None else f"up to {known.most}"


def _wrong_text(known: Parameter, value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        return "expected text without control characters"
    if known.required and not value.strip():
        return f"expected {_expected(known)}"
    if known.place is Place.PATH and ("/" in value or value in (".", "..")):
        # Percent-encoded or not, it may name another path to whoever stands between.
        return "expected text that is one part of a path, without /"
    if known.choices and value.lower() not in {choice.lower() for choice in known.choices}:
        return f"expected {_expected(known)}"
    if known.form is Form.ANY:
        return ""
    read, _ = _FORMS[known.form]
    if read(value) is None:
        # Milliseconds are the usual slip.
        is_long = known.form in (Form.SECONDS, Form.MINUTE) and re.fullmatch(r"[0-9]{11,}", value)
        return f"expected {_expected(known)}" + (", not milliseconds" if is_long else "")
    return _out_of_range(known, int(value)) if known.form is Form.COUNT else ""


def _wrong_number(known: Parameter, value: int) -> str:
    if wrong := _out_of_range(known, value):
        return wrong
    return "" if abs(value) <= WHOLE_MAX else f"expected a whole number up to {WHOLE_MAX}"


def _out_of_range(known: Parameter, number: int) -> str:
    low = known.least is not None and number < known.least
    high = known.most is not None and number > known.most
    return f"expected {_expected(known)}" if low or high else ""


def _wrong_list(known: Parameter, value: list[Any]) -> str:
    if not value:
        # On the wire it would be nothing at all, which asks for everything.
        return "expected at least one item"
    if wrong := _wrong_json(known, value):
        return wrong
    if known.inside or known.spread is Spread.JSON:
        return ""
    if known.spread is Spread.COMMAS:
        is_right = all(isinstance(item, str) and item.strip() and "," not in item for item in value)
        return "" if is_right else "expected a list of texts without commas"
    is_right = all(
        (isinstance(item, str) and item.strip())
        or (isinstance(item, dict) and item and all(isinstance(text, str) for text in item.values()))
        for item in value
    )
    return "" if is_right else "expected a list of texts, or of objects whose values are texts"


def _wrong_json(_known: Parameter, value: object) -> str:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return "expected what JSON can hold"
    return ""


_WRONG: Final[Mapping[type, Callable[[Parameter, Any], str]]] = {
    str: _wrong_text,
    int: _wrong_number,
    bool: lambda _known, _value: "",
    list: _wrong_list,
    dict: _wrong_json,
}


def _crossed(row: Operation, values: Mapping[str, Any]) -> list[str]:
    """Ranges of time that end before they begin."""
    for first, last in (("FromTime", "ToTime"), ("StartTime", "EndTime")):
        known = row.parameter(first)
        if known is None or known.form is Form.ANY or first not in values or last not in values:
            continue
        read, _ = _FORMS[known.form]
        start, end = read(values[first]), read(values[last])
        if start is not None and end is not None and start > end:
            return [f"{last}: expected a moment not before {first} {_shown(values[first])}, got {_shown(values[last])}"]
    return []


def _seconds(value: str) -> float | None:
    fits = re.fullmatch(r"[0-9]{1,10}", value) and int(value) <= SECONDS_MAX
    return int(value) if fits else None


def _minute(value: str) -> float | None:
    seconds = _seconds(value)
    return None if seconds is None or seconds % 60 else seconds


def _moment(value: str) -> float | None:
    return _parsed(value, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def _civil(value: str) -> float | None:
    return _parsed(value, r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def _parsed(value: str, pattern: str) -> float | None:
    if not re.fullmatch(pattern, value, re.ASCII):
        return None
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _milliseconds(value: str) -> float | None:
    if re.fullmatch(r"[0-9]{12,13}", value):
        return int(value) / 1000
    return _civil(value)


def _time_step(value: str) -> float | None:
    fits = re.fullmatch(r"([1-9][0-9]{0,8})([hms]?)", value)
    return int(fits[1]) * {"h": 3600, "m": 60}.get(fits[2], 1) if fits else None


def _count(value: str) -> float | None:
    return int(value) if re.fullmatch(r"[1-9][0-9]{0,8}", value) else None


_FORMS: Final[Mapping[Form, tuple[Callable[[str], float | None], str]]] = {
    Form.SECONDS: (_seconds, "a moment in UNIX seconds such as 1687363300"),
    Form.MINUTE: (_minute, "a whole minute in UNIX seconds such as 1687363320 (divisible by 60)"),
    Form.MOMENT: (_moment, "a moment such as 2025-10-09T08:00:00Z, UTC"),
    Form.CIVIL: (_civil, "a moment such as 2025-10-09 08:00:00, UTC"),
    Form.TIME_STEP: (_time_step, "a span such as 5m, 1h or 30s; a bare number means seconds"),
    Form.COUNT: (_count, "a whole number from 1 up"),
    Form.MILLISECONDS: (
        _milliseconds,
        "a moment in UNIX milliseconds such as 1687363300000, or as 2025-10-09 08:00:00, UTC",
    ),
}
"""Each form's reader, None for what does not fit, and its words."""
