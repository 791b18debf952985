"""What the commands that send requests share: the session with the service, the key, and the call of an operation.

The imports inside the functions load the whole collector: `--help` and wrong usage come without it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from collector.cli.methods import find_method
from collector.cli.options import key_of
from collector.errors import CollectorError, ConfigError, TransientError, UsageError
from collector.rpc import Access, Method, Request, Session, reach
from collector.units import parse_duration

if TYPE_CHECKING:
    from collector.api.gateways import ApiKey
    from collector.owner.caller import Caller
    from collector.owner.calls import CallResult
    from collector.settings import Settings

E = TypeVar("E")
Q = TypeVar("Q", bound=Request)

Ask = Callable[[str, Mapping[str, Any]], Coroutine[Any, Any, "CallResult"]]
"""Makes one call: operation, parameters."""


def session(settings: Settings, access: Access) -> AbstractAsyncContextManager[Session]:
    """Return a session with the service. The key is read only if this process takes the journal."""
    return reach(settings, access, find_method, key=lambda: key_for(settings))


async def ask(settings: Settings, method: Method[Any, Q, E], request: Q) -> E:
    """Send one request and return its answer. The service, or the journal, is reached for this alone."""
    async with session(settings, method.access) as reached:
        return await reached.ask(method, request)


def key_for(settings: Settings) -> ApiKey:
    """Return the API key, empty if access keys sign. Raises ConfigError if it is needed and missing."""
    from collector.owner.gateway import needs_api_key

    return key_of() if needs_api_key(settings) else ""


def key_if_any(settings: Settings) -> ApiKey | None:
    """Return the API key for work that calls nothing: with a key, the API gives the time."""
    try:
        return key_for(settings)
    except ConfigError:
        return None


class CallRequest(Request, frozen=True, tag="call"):
    """One call of the catalogue. `parameters` is a JSON object."""

    operation: str
    parameters: bytes


class CallAnswer(msgspec.Struct, frozen=True):
    """See `owner.calls.CallResult`. `answer` is JSON, which has larger numbers than MessagePack."""

    operation: str
    answer: bytes
    http_status: int
    request_id: str
    cost: str


async def handle(owner: Caller, request: CallRequest) -> AsyncGenerator[CallAnswer, None]:
    """Make the call; see `owner.calls.call`."""
    from collector.owner.calls import call

    result = await call(owner, request.operation, json.loads(request.parameters))
    answer = json.dumps(result.answer).encode()
    yield CallAnswer(result.operation, answer, result.http_status, result.request_id, result.cost)


def _lost(request: CallRequest, events: int) -> CollectorError | None:
    from collector.owner.calls import row_of

    row = row_of(request.operation)
    if row.repeatable:
        return None
    return TransientError(
        "the owner ended before it had told the answer; the call may have been made",
        operation=row.name,
        scope_id=row.scope_id(json.loads(request.parameters)),
    )


CALL = Method(CallRequest, CallAnswer, handle, Access.CALLER, _lost)


async def call_in(session: Session, operation: str, parameters: Mapping[str, Any]) -> CallResult:
    """Make one call in a session.

    Raises TransientError if an owner ends during a call that must not be repeated, and as `owner.calls.call` does.
    """
    from collector.owner.calls import CallResult

    made = await session.ask(CALL, CallRequest(operation, json.dumps(dict(parameters)).encode()))
    return CallResult(made.operation, json.loads(made.answer), made.http_status, made.request_id, made.cost)


def asking(settings: Settings) -> Ask:
    """Return what makes calls through the owner, or by being the owner for one call.

    Between two calls no process is kept from being the owner, however long a command waits.
    """

    async def ask(operation: str, parameters: Mapping[str, Any]) -> CallResult:
        async with session(settings, Access.CALLER) as reached:
            return await call_in(reached, operation, parameters)

    return ask


def duration_of(option: str, text: str) -> float:
    """Seconds of a duration on the command line. Raises UsageError."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if seconds <= 0:
        raise UsageError(f"{option}: expected more than nothing, got {text!r}")
    return seconds


def text_of(answer: Any, field: str) -> str:
    """A field of an answer as text, empty where it is missing or null."""
    value = answer.get(field) if isinstance(answer, dict) else None
    return "" if value is None else str(value)
