"""Try what a configuration needs: clock, credentials, each enabled operation once, the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from collector.api.operation import Operation, price_text
from collector.errors import ApiError, CollectorError, CredentialsError
from collector.owner.instance import Owner
from collector.pipeline.adopt import adopt_spend
from collector.store.base import DATABASE
from collector.units import rough_size

_FORGETFUL = (
    "SELECT name FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree'"
    " AND NOT match(engine_full, if(engine LIKE 'Replicated%' OR engine LIKE 'Shared%', '[^_]', 'non_')"
    " || 'replicated_deduplication_window = [1-9]') ORDER BY name"
)
"""Tables that do not know a token again."""


MEMORY_BYTES_MIN = 512 << 20
"""With less the embedded engine cannot work."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was tried."""

    what: str
    ok: bool
    detail: str
    is_credentials: bool = False
    """True when the key was refused (401, 403)."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


async def check_all(owner: Owner) -> list[CheckResult]:
    """One call of each operation that the configuration uses, for its first target. Stores no rows.

    The calls are metered and billed like any other.
    """
    results = [await check_store(owner), check_memory(owner)]
    assert owner.client is not None
    await owner.client.read_clock()
    # Before the first call of a new journal, or the month that the store has paid for would count as free again.
    await adopt_spend(owner.journal, owner.store, owner.settings.api.region, owner.server_clock.now())
    difference = owner.server_clock.difference_seconds
    results.append(
        CheckResult(
            "clock",
            True,
            "no answer to compare with" if not owner.server_clock.synced
            else f"{abs(difference):.0f} s {'behind' if difference > 0 else 'ahead of'} the server; its time is used"
            if owner.server_clock.machine_is_off
            else "agrees with the server's",
        )
    )  # fmt: skip
    for streams in await owner.streams():
        key = streams.keys(owner.settings.api.region)[0]
        parameters = streams.probe(key, owner.server_clock.now())
        results.append(await _probe(owner, streams.operation, key.scope_id, parameters))
    return results


async def _probe(owner: Owner, operation: Operation, scope_id: str, parameters: Mapping[str, Any]) -> CheckResult:
    assert owner.client is not None
    try:
        reply = await owner.client.request(operation, scope_id, parameters)
    except ApiError as error:
        detail = f"{error}. {error.hint}" if error.hint else str(error)
        return CheckResult(
            operation.name, False, detail, isinstance(error, CredentialsError) or error.http_status == 403
        )
    await owner.journal.settle(reply.attempt)
    price = owner.prices()[operation.name]
    return CheckResult(
        operation.name, True, f"answers for {scope_id}; {reply.bytes} bytes, one call at {price_text(price)}"
    )


def check_memory(owner: Owner) -> CheckResult:
    """How much memory the process may use, and what follows from it."""
    bounds = owner.bounds
    return CheckResult(
        "memory",
        bounds.limit.bytes >= MEMORY_BYTES_MIN,
        f"{rough_size(bounds.limit.bytes)} ({bounds.limit.source}): segments of at most {rough_size(bounds.segment)}, "
        f"{rough_size(bounds.engine)} for the embedded engine"
        + ("" if bounds.limit.bytes >= MEMORY_BYTES_MIN else f"; at least {rough_size(MEMORY_BYTES_MIN)} are needed"),
    )


async def check_store(owner: Owner) -> CheckResult:
    """Whether the store takes rows, and knows a segment again. Changes nothing."""
    try:
        ((version,),) = await owner.store.fetch("SELECT version()")
        forgetful = await owner.store.fetch(_FORGETFUL, {"database": DATABASE})
        # Needs every right that writing needs, and writes nothing.
        await owner.store.execute(f"INSERT INTO {DATABASE}.migrations SELECT * FROM {DATABASE}.migrations WHERE 0")
    except CollectorError as error:
        return CheckResult("store", False, f"{error}. {error.hint}" if error.hint else str(error))
    if forgetful:
        return CheckResult(
            "store",
            False,
            f"{owner.store.location}: without a deduplication window, a segment that is sent again is stored twice: "
            f"{', '.join(name for (name,) in forgetful)}; ALTER TABLE ... MODIFY SETTING as in sql/migrations",
        )
    return CheckResult("store", True, f"ClickHouse {version} at {owner.store.location}")
