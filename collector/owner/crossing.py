"""Errors on their way through the owner's socket: on the other side they are what they were. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from collector import errors
from collector.errors import ApiError, CollectorError, ConfigError

_KINDS: Final[Mapping[str, type[CollectorError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, CollectorError) and kind.__name__ == name
}
_API_FACTS: Final = ("operation", "scope_id", "http_status", "code", "request_id", "retry_after_seconds")


def told(error: CollectorError) -> dict[str, Any]:
    """An error as plain data. One of a more special kind crosses as the nearest that everybody knows."""
    kind = next(k.__name__ for k in type(error).__mro__ if _KINDS.get(k.__name__) is k)
    facts: dict[str, Any] = {"type": kind, "message": str(error.args[0]) if error.args else "", "hint": error.hint}
    if isinstance(error, ConfigError):
        facts["mistakes"] = error.mistakes
    if isinstance(error, ApiError):
        facts |= {name: getattr(error, name) for name in _API_FACTS}
    return facts


def error_from(facts: Mapping[str, Any]) -> CollectorError:
    """The error that `told` made the data of. A kind that is unknown here is a CollectorError."""
    kind = _KINDS.get(str(facts.get("type")), CollectorError)
    message, hint = str(facts.get("message", "")), str(facts.get("hint", ""))
    if issubclass(kind, ConfigError):
        return kind([str(mistake) for mistake in facts.get("mistakes", [message])], hint=hint)
    if issubclass(kind, ApiError):
        return kind(message, hint=hint, **{name: facts[name] for name in _API_FACTS if name in facts})
    return kind(message, hint=hint)
