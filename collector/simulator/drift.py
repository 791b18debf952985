"""Records whose types have drifted: what changes, field by field, as pure functions.

Which shape a record takes depends on the seed of the simulator and on the record alone, never on
the call, so asking twice gives the same bytes and a test can compute what it must find.

    shape             syslog record                           user metric
    time_int          Time a JSON integer, seconds            -
    time_ms           Time a string of milliseconds           -
    time_ms_int       Time a JSON integer, milliseconds       -
    time_iso          Time "2025-10-09T08:55:01Z"             -
    numbers           TagReceiveTime a JSON integer           each rate a JSON number
    strings           -                                       each integer a string
    unknown_fields    Rack "r07", Labels {"zone": ..., "slot": ...} added to either
    missing_fields    Domain, TagUserDefinedId, Topic absent  DiskReadRate, CpuNodeNames absent
    null_fields       Domain, Ip null                         CPUUsageRate, CpuJobNames null
    time_absent       Time absent                             -
    time_garbage      Time "garbage"                          -
    not_an_object     the record is the text of its Msg       the record is its UserId

The last three are records that cannot be placed. A record takes no shape that shows "-" for it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from collector.simulator.hashing import fraction, key_of
from collector.simulator.usage import INTEGER_FIELDS, RATE_FIELDS
from collector.simulator.world import Record


class Shape(enum.StrEnum):
    """How a record differs from what the service documents."""

    TIME_INT = "time_int"
    TIME_MS = "time_ms"
    TIME_MS_INT = "time_ms_int"
    TIME_ISO = "time_iso"
    NUMBERS = "numbers"
    STRINGS = "strings"
    UNKNOWN_FIELDS = "unknown_fields"
    MISSING_FIELDS = "missing_fields"
    NULL_FIELDS = "null_fields"
    TIME_ABSENT = "time_absent"
    TIME_GARBAGE = "time_garbage"
    NOT_AN_OBJECT = "not_an_object"


UNPLACEABLE = (Shape.TIME_ABSENT, Shape.TIME_GARBAGE, Shape.NOT_AN_OBJECT)
"""Shapes of a record that no table can take."""
PLACEABLE = tuple(shape for shape in Shape if shape not in UNPLACEABLE)
"""Shapes that leave a record what it was: nothing of the documented fields is lost but what is missing or null."""

_OF_SYSLOGS = frozenset(Shape) - {Shape.STRINGS}
_OF_USERS = frozenset(
    {
        Shape.NUMBERS,
        Shape.STRINGS,
        Shape.UNKNOWN_FIELDS,
        Shape.MISSING_FIELDS,
        Shape.NULL_FIELDS,
        Shape.NOT_AN_OBJECT,
    }
)


def syslog_shape(record: Record, shapes: Sequence[Shape], share: float, seed: int) -> Shape | None:
    """The shape that a syslog record takes, None where it stays as documented."""
    shapes = [shape for shape in shapes if shape in _OF_SYSLOGS]
    return _choose(shapes, share, key_of("drift", seed, record.wire["NodeId"], record.time, record.sequence))


def user_shape(user: dict[str, Any], shapes: Sequence[Shape], share: float, seed: int) -> Shape | None:
    """The shape that a user metric takes; one user and job type keeps it from minute to minute."""
    shapes = [shape for shape in shapes if shape in _OF_USERS]
    return _choose(shapes, share, key_of("drift", seed, user["ResourceGroupId"], user["UserId"], user["JobType"]))


def _choose(shapes: Sequence[Shape], share: float, h: int) -> Shape | None:
    if not shapes or fraction(h) >= share:
        return None
    return shapes[(h & 0x7FF) % len(shapes)]


def drift_syslog(wire: dict[str, str], shape: Shape | None) -> Any:
    """A syslog record in another shape. `wire` itself is not changed."""
    drifted: dict[str, Any] = dict(wire)
    time = int(wire["Time"])
    match shape:
        case Shape.TIME_INT:
            drifted["Time"] = time
        case Shape.TIME_MS:
            drifted["Time"] = str(time * 1000)
        case Shape.TIME_MS_INT:
            drifted["Time"] = time * 1000
        case Shape.TIME_ISO:
            drifted["Time"] = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case Shape.NUMBERS:
            drifted["TagReceiveTime"] = int(wire["TagReceiveTime"])
        case Shape.UNKNOWN_FIELDS:
            drifted |= _unknown_fields(time)
        case Shape.MISSING_FIELDS:
            for name in ("Domain", "TagUserDefinedId", "Topic"):
                del drifted[name]
        case Shape.NULL_FIELDS:
            drifted |= {"Domain": None, "Ip": None}
        case Shape.TIME_ABSENT:
            del drifted["Time"]
        case Shape.TIME_GARBAGE:
            drifted["Time"] = "garbage"
        case Shape.NOT_AN_OBJECT:
            return wire["Msg"]
    return drifted


def drift_user(user: dict[str, Any], shape: Shape | None) -> Any:
    """A user metric in another shape. `user` itself is not changed."""
    drifted = dict(user)
    match shape:
        case Shape.NUMBERS:
            drifted |= {name: float(user[name]) for name in RATE_FIELDS}
        case Shape.STRINGS:
            drifted |= {name: str(user[name]) for name in INTEGER_FIELDS}
        case Shape.UNKNOWN_FIELDS:
            drifted |= _unknown_fields(user["TotalCPU"])
        case Shape.MISSING_FIELDS:
            for name in ("DiskReadRate", "CpuNodeNames"):
                del drifted[name]
        case Shape.NULL_FIELDS:
            drifted |= {"CPUUsageRate": None, "CpuJobNames": None}
        case Shape.NOT_AN_OBJECT:
            return user["UserId"]
    return drifted


def _unknown_fields(number: int) -> dict[str, Any]:
    return {"Rack": f"r{number % 40:02d}", "Labels": {"zone": "ab"[number & 1], "slot": number % 10}}
