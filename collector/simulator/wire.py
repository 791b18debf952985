"""Records in the service's spelling: the catalogue's types say what their fields are, and how each is spelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ParamSpec

import msgspec

P = ParamSpec("P")


def wire_record(record_type: Callable[P, msgspec.Struct], *_: P.args, **values: P.kwargs) -> dict[str, Any]:
    """A record of a type of the catalogue as it is sent: its fields in the order given, those left out absent.

    KeyError for a field that the type does not have.
    """
    names = _wire_names(record_type)
    return {names[attribute]: value for attribute, value in values.items()}


@cache
def _wire_names(record_type: Any) -> Mapping[str, str]:
    return {one.name: one.encode_name for one in msgspec.structs.fields(record_type)}


def fields_of_type(record_type: type[msgspec.Struct], kind: Any) -> tuple[str, ...]:
    """The spelled names of a type's fields whose values are of `kind`, such as `str | None`."""
    return tuple(one.encode_name for one in msgspec.structs.fields(record_type) if one.type == kind)
