"""What the commands that call the service share.

The imports inside the functions load the whole collector: `--help` and wrong usage come without it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from collector.cli.options import key_of
from collector.errors import ConfigError, UsageError
from collector.units import parse_duration

if TYPE_CHECKING:
    from collector.api.gateways import ApiKey
    from collector.owner.access import Access
    from collector.owner.calls import CallResult
    from collector.settings import Settings

Ask = Callable[[str, Mapping[str, Any]], Coroutine[Any, Any, "CallResult"]]
"""Makes one call: operation, parameters."""


def calling(settings: Settings) -> AbstractAsyncContextManager[Access]:
    """Return access for calls. The key is read only if this process takes the journal."""
    from collector.owner.access import access

    return access(settings, key=lambda: key_for(settings))


def backfilling(settings: Settings) -> AbstractAsyncContextManager[Access]:
    """Return access for calls whose rows are stored. The key is read only if this process becomes the owner."""
    from collector.owner.access import collecting

    return collecting(settings, key=lambda: key_for(settings))


def working(settings: Settings) -> AbstractAsyncContextManager[Access]:
    """Return access for work that stores rows and calls nothing; a key, if there is one, only gives the API's time."""
    from collector.owner.access import collecting

    def key_if_any() -> ApiKey | None:
        try:
            return key_for(settings)
        except ConfigError:
            return None

    return collecting(settings, key=key_if_any)


def key_for(settings: Settings) -> ApiKey:
    """The API key, empty where access keys sign. Raises ConfigError where it is needed and missing."""
    from collector.owner.gateway import needs_api_key

    return key_of() if needs_api_key(settings) else ""


def asking(settings: Settings) -> Ask:
    """Calls through the owner, or by being the owner for one call.

    Between two calls nobody is kept from being the owner, however long a command waits.
    """

    async def ask(operation: str, parameters: Mapping[str, Any]) -> CallResult:
        async with calling(settings) as owner:
            return await owner.call(operation, parameters)

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
