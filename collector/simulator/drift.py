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

    shape             series (every point of it)              service event
    time_int          Time an integer, seconds                Time an integer, seconds
    time_ms           Time a string of milliseconds           Time a string of milliseconds
    time_ms_int       Time an integer, milliseconds           Time an integer, milliseconds
    time_iso          Time "2025-10-09T08:55:00Z"             Time "2025-10-09T08:55:01Z"
    numbers           Value a JSON number                     -
    strings           Time and Value strings                  -
    unknown_fields    Rack, Labels in the series, Unit "%"    Rack, Labels
                      in its points
    missing_fields    an empty GPUType absent                 Reason absent
    null_fields       an empty GPUType null                   Reason null
    time_absent       Time absent                             Time absent
    time_garbage      Time "garbage"                          Time "garbage"
    not_an_object     the series is the id of its entity      the event is the text of its Message

    shape             job event (a text)                      object of an inventory
    time_iso          begins with "2025-10-09T08:55:01Z "     -
    strings           -                                       each integer a string
    unknown_fields    -                                       Rack, Labels
    missing_fields    -                                       every third field absent
    null_fields       -                                       every third field null
    time_absent       begins with what happened               -
    time_garbage      begins with "garbage "                  -
    not_an_object     -                                       the object is its id

A diagnosis in a list of diagnoses is an object of an inventory. A GPU type that is not empty stays,
because without it a machine's two series would be one; so do the id of an object and its cluster.

The shapes `time_absent`, `time_garbage` and `not_an_object` make records that cannot be placed. A
record takes no shape that shows "-" for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from collector.simulator.faults import Shape
from collector.simulator.hashing import fraction, key_of
from collector.simulator.paging import civil_seconds, iso
from collector.simulator.usage import INTEGER_FIELDS, RATE_FIELDS
from collector.simulator.world import Record

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


_OF_EVENTS = frozenset(Shape) - {Shape.NUMBERS, Shape.STRINGS}
_OF_EVENT_TEXTS = frozenset({Shape.TIME_ISO, Shape.TIME_ABSENT, Shape.TIME_GARBAGE})
_OF_OBJECTS = frozenset(
    {Shape.STRINGS, Shape.UNKNOWN_FIELDS, Shape.MISSING_FIELDS, Shape.NULL_FIELDS, Shape.NOT_AN_OBJECT}
)


_SECONDS_MAX = 2**32
"""A larger time is one in milliseconds."""
_CLUSTERS = ("ClusterId", "Region")
"""An object without one of these may be another object."""
_CIVIL_LENGTH = len("2025-10-09 08:00:00")


def syslog_shape(record: Record, shapes: Sequence[Shape], share: float, seed: int) -> Shape | None:
    """The shape that a syslog record takes, None where it stays as documented."""
    shapes = [shape for shape in shapes if shape in _OF_SYSLOGS]
    return _choose(shapes, share, key_of("drift", seed, record.wire["NodeId"], record.time, record.sequence))


def user_shape(user: dict[str, Any], shapes: Sequence[Shape], share: float, seed: int) -> Shape | None:
    """The shape that a user metric takes; one user and job type keeps it from minute to minute."""
    shapes = [shape for shape in shapes if shape in _OF_USERS]
    return _choose(shapes, share, key_of("drift", seed, user["ResourceGroupId"], user["UserId"], user["JobType"]))


def series_shape(scope: str, series: dict[str, Any], shapes: Sequence[Shape], share: float, seed: int) -> Shape | None:
    """The shape that a series of a group, job or notebook takes; it keeps it from answer to answer."""
    gpu_type = series.get("GPUType")
    possible = frozenset(Shape) if gpu_type == "" else frozenset(Shape) - {Shape.MISSING_FIELDS, Shape.NULL_FIELDS}
    shapes = [shape for shape in shapes if shape in possible]
    return _choose(shapes, share, key_of("drift", seed, scope, _entity(series), gpu_type or ""))


def event_shape(
    scope: str, time: int, sequence: int, shapes: Sequence[Shape], share: float, seed: int, *, is_text: bool
) -> Shape | None:
    """The shape that an event of a service, or (`is_text`) of a job, takes."""
    possible = _OF_EVENT_TEXTS if is_text else _OF_EVENTS
    return _choose(
        [shape for shape in shapes if shape in possible], share, key_of("drift", seed, scope, time, sequence)
    )


def object_shape(object_id: str, shapes: Sequence[Shape], share: float, seed: int) -> Shape | None:
    """The shape that an object of an inventory takes; it keeps it from answer to answer."""
    return _choose([shape for shape in shapes if shape in _OF_OBJECTS], share, key_of("drift", seed, object_id))


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
            drifted["Time"] = iso(time)
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


def drift_series(series: dict[str, Any], shape: Shape | None) -> Any:
    """A series of points in another shape. `series` itself is not changed."""
    drifted = dict(series)
    match shape:
        case Shape.NOT_AN_OBJECT:
            return _entity(series)
        case Shape.UNKNOWN_FIELDS:
            drifted |= _unknown_fields(len(_entity(series)))
        case Shape.MISSING_FIELDS:
            del drifted["GPUType"]
        case Shape.NULL_FIELDS:
            drifted["GPUType"] = None
    drifted["Metrics"] = [_drift_point(point, shape) for point in series["Metrics"]]
    return drifted


def _drift_point(point: dict[str, Any], shape: Shape | None) -> dict[str, Any]:
    drifted = dict(point)
    match shape:
        case Shape.NUMBERS:
            drifted["Value"] = float(point["Value"])
        case Shape.STRINGS:
            drifted |= {"Time": str(point["Time"]), "Value": str(point["Value"])}
        case Shape.UNKNOWN_FIELDS:
            drifted["Unit"] = "%"
        case _:
            _drift_time(drifted, point["Time"] // 1000 if point["Time"] > _SECONDS_MAX else point["Time"], shape)
    return drifted


def drift_event(event: dict[str, str], shape: Shape | None) -> Any:
    """An event of a service in another shape. `event` itself is not changed."""
    drifted: dict[str, Any] = dict(event)
    time = civil_seconds(event["Time"])
    match shape:
        case Shape.NOT_AN_OBJECT:
            return event["Message"]
        case Shape.UNKNOWN_FIELDS:
            drifted |= _unknown_fields(time)
        case Shape.MISSING_FIELDS:
            del drifted["Reason"]
        case Shape.NULL_FIELDS:
            drifted["Reason"] = None
        case _:
            _drift_time(drifted, time, shape)
    return drifted


def drift_event_text(event: str, shape: Shape | None) -> str:
    """An event of a job in another shape."""
    time, text = event[:_CIVIL_LENGTH], event[_CIVIL_LENGTH + 1 :]
    match shape:
        case Shape.TIME_ISO:
            return f"{iso(civil_seconds(time))} {text}"
        case Shape.TIME_ABSENT:
            return text
        case Shape.TIME_GARBAGE:
            return f"garbage {text}"
    return event


def drift_object(record: dict[str, Any], id_field: str, shape: Shape | None) -> Any:
    """An object of an inventory in another shape. `record` itself is not changed."""
    drifted = dict(record)
    thirds = [name for name in sorted(record) if name not in (id_field, *_CLUSTERS)][::3]
    match shape:
        case Shape.STRINGS:
            drifted |= {name: str(value) for name, value in record.items() if type(value) is int}
        case Shape.UNKNOWN_FIELDS:
            drifted |= _unknown_fields(len(record))
        case Shape.MISSING_FIELDS:
            for name in thirds:
                del drifted[name]
        case Shape.NULL_FIELDS:
            drifted |= dict.fromkeys(thirds)
        case Shape.NOT_AN_OBJECT:
            return record[id_field]
    return drifted


def _drift_time(drifted: dict[str, Any], time: int, shape: Shape | None) -> None:
    """Put the time of a point or an event, UNIX seconds, into another form."""
    match shape:
        case Shape.TIME_INT:
            drifted["Time"] = time
        case Shape.TIME_MS:
            drifted["Time"] = str(time * 1000)
        case Shape.TIME_MS_INT:
            drifted["Time"] = time * 1000
        case Shape.TIME_ISO:
            drifted["Time"] = iso(time)
        case Shape.TIME_ABSENT:
            del drifted["Time"]
        case Shape.TIME_GARBAGE:
            drifted["Time"] = "garbage"


def _entity(series: dict[str, Any]) -> str:
    entity: str = series["NodeID"] if "NodeID" in series else series["PodId"]
    return entity


def _unknown_fields(number: int) -> dict[str, Any]:
    return {"Rack": f"r{number % 40:02d}", "Labels": {"zone": "ab"[number & 1], "slot": number % 10}}
