"""Faults as a person writes them: `429=5%`, `once:hang`, `slow=2s,operation=ListSyslogs`.

    [once:]KIND[=VALUE][,NAME=VALUE ...]

VALUE is a rate (`0.05`, `5%`) or, for kinds with a time, a duration: how late (`2s`, `1s-5s`), when to come again, or
by how much the Date is off (`-2h`). NAME is one of `NAMES`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from collector.simulator.faults import DATES, DELAYS, SUMMARIES, Fault, FaultKind
from collector.units import parse_duration, parse_size

ONCE: Final = "once:"
SHORT: Final[Mapping[str, FaultKind]] = {
    "429": FaultKind.THROTTLE_429,
    "400": FaultKind.THROTTLE_400,
    "401": FaultKind.UNAUTHORIZED,
    "403": FaultKind.FORBIDDEN,
    "404": FaultKind.NOT_FOUND,
    "500": FaultKind.ERROR_500,
    "502": FaultKind.HTML_502,
    "503": FaultKind.ERROR_503,
    "204": FaultKind.NO_CONTENT,
    "slow": FaultKind.LATENCY,
    "reset": FaultKind.RESET_BEFORE,
}
"""Shorter names of what is wanted most."""
NAMES: Final[Mapping[str, str]] = {
    "operation": "only this operation",
    "node": "only this node; scope, group and job are other words for the same",
    "rate": "of the calls, this part: 0.05 or 5%",
    "times": "at most so often",
    "calls": "only these of the calls that it concerns, from 1: 3 or 2-5",
    "share": "of the records, this part (type_drift, odd_records)",
    "bytes": "how much more than the answer: 16MiB (oversized)",
    "answers": "calls, probe or all (date_...)",
    "form": "asctime, rfc850 or minus_zero (date_odd)",
}
"""What may stand behind a kind."""
_SCOPES: Final = ("node", "scope", "group", "job")
_CHECKED: Final = ("node", "group")
_KNOWN: Final = (*NAMES, *_SCOPES[1:])
_WAITS: Final = frozenset({FaultKind.THROTTLE_429, FaultKind.THROTTLE_400, FaultKind.ERROR_503})
_SKEWS: Final = frozenset({FaultKind.DATE_SKEWED, FaultKind.DATE_CACHED})
_RATE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(%?)")
CALLS_MAX: Final = 1_000_000


def parse_fault(text: str, scope_ids: Iterable[str] | None = None) -> Fault:
    """Read one fault. `scope_ids` are the nodes and groups that exist; None leaves them unchecked.

    Raises ValueError, a sentence with what was seen and what would be right.
    """
    words, given = text.strip(), {}
    is_once = words.startswith(ONCE)
    head, *options = words.removeprefix(ONCE).split(",")
    name, equals, value = (part.strip() for part in head.partition("="))
    kind = _kind(name)
    values: dict[str, Any] = {"kind": kind, **({"times_max": 1} if is_once else {})}
    if equals:
        values |= _value(kind, value)
    for option in options:
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals or key not in _KNOWN:
            raise ValueError(f"{text!r}: got {option.strip()!r}; expected NAME=VALUE with a name of {', '.join(NAMES)}")
        if key in _CHECKED and scope_ids is not None and value not in (known := sorted(scope_ids)):
            near = difflib.get_close_matches(value, known, 1, 0) or ["none"]
            raise ValueError(f"{text!r}: {key}: got {value!r}, which is not simulated; there is {near[0]}")
        key = "node" if key in _SCOPES else key
        if key in given:
            raise ValueError(f"{text!r}: {key} is given twice")
        given[key] = value
        field, read = _OPTIONS[key]
        values[field] = _read(f"{text!r}: {key}", read, value)
    if kind in DATES and "node" in given:
        raise ValueError(f"{text!r}: the Date is no node's; name an operation instead")
    try:
        return Fault(**values)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def fault_help() -> str:
    """The grammar and every kind, for `--help`."""
    shorts = {kind: word for word, kind in SHORT.items()}
    kinds = [(", ".join(filter(None, (kind, shorts.get(kind)))), what) for kind, (what, _) in SUMMARIES.items()]
    timed = ((DELAYS, "how late, 2s or 1s-5s"), (_WAITS, "when to come again, 5s"), (_SKEWS, "by how much, -2h"))
    words = [f"{', '.join(sorted(which))}: {what}" for which, what in timed]
    return "\n".join(
        [
            "A fault is [once:]KIND[=VALUE][,NAME=VALUE ...], such as 429=5% or once:hang,operation=ListSyslogs.",
            "VALUE is the part of the calls, 0.05 or 5%. Some kinds take a time in its place:",
            *(f"  {line}" for line in words),
            "", "NAME is one of:", *(f"  {name:<20} {what}" for name, what in NAMES.items()),
            "", "KIND is one of:", *(f"  {name:<20} {what}" for name, what in kinds),
        ]
    )  # fmt: skip


def _kind(name: str) -> FaultKind:
    word = name.lower().replace("-", "_")
    if word in SHORT:
        return SHORT[word]
    known = [*SHORT, *map(str, FaultKind)]
    if word in known:
        return FaultKind(word)
    near = difflib.get_close_matches(word, known, 1)
    meant = f"did you mean {near[0]}? All are" if near else "expected one of"
    raise ValueError(f"got fault {name!r}; {meant} {', '.join(known)}")


def _value(kind: FaultKind, text: str) -> dict[str, Any]:
    if _RATE.fullmatch(text):
        return {"probability": _rate(text)}
    if kind in DELAYS:
        low, _, high = text.partition("-")
        return {"seconds_min": _duration(kind, low), "seconds_max": _duration(kind, high or low)}
    if kind in _WAITS:
        return {"retry_after_seconds": _duration(kind, text)}
    if kind in _SKEWS:
        return {"skew_seconds": (-1 if text.startswith("-") else 1) * _duration(kind, text.lstrip("+-"))}
    raise ValueError(f"{kind}: got {text!r}; expected a rate such as 0.05 or 5%")


def _duration(kind: FaultKind, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(f"{kind}: got {text!r}; expected a rate such as 0.05 or a duration such as 2s") from None


def _rate(text: str) -> float:
    match = _RATE.fullmatch(text)
    rate = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= rate <= 1:
        raise ValueError(f"got {text!r}; expected a rate from 0 to 1, such as 0.05 or 5%")
    return rate


def _calls(text: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal()):
        raise ValueError(f"got {text!r}; expected the number of a call, from 1, or a range such as 2-5")
    begin, end = int(first), int(last or first)
    if not 1 <= begin <= end <= CALLS_MAX:
        raise ValueError(f"got {text!r}; expected numbers from 1 to {CALLS_MAX:,}, the smaller one first")
    return tuple(range(begin, end + 1))


def _times(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"got {text!r}; expected a whole number from 1")
    return int(text)


def _choice(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"got {text!r}; expected one of {', '.join(choices)}")
        return text

    return read


def _read(where: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


_OPTIONS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "operation": ("operation", str),
    "node": ("scope_id", str),
    "rate": ("probability", _rate),
    "times": ("times_max", _times),
    "calls": ("arrivals", _calls),
    "share": ("share", _rate),
    "bytes": ("bytes", parse_size),
    "answers": ("answers", _choice("all", "calls", "probe")),
    "form": ("form", _choice("asctime", "rfc850", "minus_zero")),
}
