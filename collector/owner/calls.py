"""One call of the catalogue on somebody's request: checked, throttled, metered and settled like any other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from collector.api.decode import answer_json
from collector.catalogue.operation import Operation, Price, known_cny, price_text
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.parameters import coerce_parameters
from collector.errors import ConfigError, OwnedElsewhere, UsageError
from collector.journal.ledger import billing_month
from collector.owner.lock import Holder, command_line
from collector.redaction import register_secret

if TYPE_CHECKING:
    from collector.owner.caller import Caller


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call that succeeded."""

    operation: str
    answer: Any = field(repr=False)
    """The JSON value as the service sent it. May hold secrets: the operation's `secret_fields`."""
    http_status: int
    request_id: str
    """Empty where the service gave none."""
    cost: str
    """What it cost, for people: `0.001 CNY`, `free (3 of 1,000 free calls this month)`, `unpriced`."""


SECRET_CHARACTERS_MIN: Final = 8


def row_of(name: str) -> Operation:
    """The catalogue's row. Raises UsageError."""
    row = CATALOGUE.get(name)
    if row is None:
        raise UsageError(f"no operation {name!r} in the catalogue")
    return row


def checked(row: Operation, parameters: Mapping[str, Any], *, product_endpoint: bool = False) -> dict[str, Any]:
    """The parameters, as they are sent; secret ones are blotted out of what is told from now on.

    Raises ConfigError with one line per mistake.
    """
    for known in row.parameters:
        value = parameters.get(known.name)
        # A shorter one would blot out words that are none of it.
        if known.is_secret and isinstance(value, str) and len(value) >= SECRET_CHARACTERS_MIN:
            register_secret(value)
    try:
        return coerce_parameters(row, parameters, product_endpoint=product_endpoint)
    except ValueError as error:
        raise ConfigError(str(error).splitlines(), hint=f"pai-collector call {row.name} --help") from None


async def call(owner: Caller, operation_name: str, parameters: Mapping[str, Any]) -> CallResult:
    """Make one call, repeated as the client's policy allows.

    Nothing is sent unless every parameter is right. Raises UsageError or ConfigError for what is
    wrong with the call itself, OwnedElsewhere when this owner only reads, and an ApiError for what
    the service said.
    """
    row = row_of(operation_name)
    product_endpoint = owner.gateway is not None and owner.gateway.product_endpoint
    asked = checked(row, parameters, product_endpoint=product_endpoint)
    if owner.client is None:
        raise refusal_to_call(owner)
    # A journal that is new to this month would count calls as free which the month has used up.
    await owner.start_month()
    reply = await owner.client.request(row, row.scope_id(asked), asked)
    await owner.conclude(row, asked, reply)
    return CallResult(
        operation=row.name,
        answer=answer_json(row, reply.body),
        http_status=reply.http_status,
        request_id=reply.request_id,
        cost=await cost_of(owner, row, reply.attempt.time),
    )


def refusal_to_call(owner: Caller) -> OwnedElsewhere:
    """What a process says that owns the journal without a key."""
    holder = Holder(os.getpid(), command_line())
    return OwnedElsewhere(
        f"{owner.settings.journal.path} is owned by {holder}, which only reads and has no key to call with",
        hint="wait until it ends, then try again",
    )


async def cost_of(owner: Caller, row: Operation, time: int) -> str:
    """What the last call of an operation cost, which was sent at `time` and is settled."""
    price = owner.prices()[row.name]
    spend = {name: calls for name, calls, _ in await owner.journal.spend(billing_month(time))}
    return cost_text(price, spend.get(row.name, 0))


def cost_text(price: Price | None, calls_this_month: int) -> str:
    """What the last of `calls_this_month` calls cost."""
    if known_cny(price) == 0:
        return "free"
    if price is not None and calls_this_month <= price.free_calls_per_month:
        return f"free ({calls_this_month:,} of {price.free_calls_per_month:,} free calls this month)"
    return price_text(price)
