"""Try what a configuration needs: clock, credentials, each enabled operation once, the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from collector.api.operation import Operation, price_text
from collector.clock import STEP_SECONDS_MAX, ServerClock
from collector.errors import ApiError, CollectorError, CredentialsError
from collector.owner.caller import Caller
from collector.pipeline.clock_watch import HINT
from collector.store.base import DATABASE
from collector.store.migrate import describe_difference
from collector.store.missing import BEGIN, MissingStore
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


async def check_all(owner: Caller) -> list[CheckResult]:
    """One call of each operation that the configuration uses, for its first target. Stores no rows.

    The calls are metered and billed like any other.
    """
    results = [await check_store(owner), check_memory(owner)]
    watch = owner.watch()
    await watch.begin()
    # Before the first call of a new journal, or the month that the store has paid for would count as free again.
    await owner.start_month()
    await watch.settle()
    probes = []
    for streams in await owner.streams():
        key = streams.keys(owner.settings.api.region)[0]
        parameters = streams.probe(key, owner.server_clock.now())
        probes.append(await _probe(owner, streams.operation, key.scope_id, parameters))
    # Their responses tell the time better than the probe.
    await watch.confirm()
    return [*results, check_clock(owner.server_clock), *probes]


def check_clock(clock: ServerClock) -> CheckResult:
    """What time it is by the service, beside this machine's clock. It fails only if nothing decides between them."""
    difference = clock.difference_seconds
    if not clock.is_settled:
        return CheckResult("clock", False, f"in doubt: {clock.doubt}. {HINT}")
    if not clock.synced:
        detail = "no answer to compare with"
    elif clock.machine_is_off:
        detail = f"{abs(difference):.0f} s {'behind' if difference > 0 else 'ahead of'} the server; its time is used"
    else:
        detail = "agrees with the server's"
    if clock.dateless_answers and clock.source != "service":
        detail += f"; the API's answers have no Date that can be read, so the {clock.source}'s time is used"
    elif clock.doubt and abs(difference) <= STEP_SECONDS_MAX:
        detail += f"; {clock.doubt}"
    return CheckResult("clock", True, detail)


async def _probe(owner: Caller, operation: Operation, scope_id: str, parameters: Mapping[str, Any]) -> CheckResult:
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


def check_memory(owner: Caller) -> CheckResult:
    """How much memory the process may use, and what follows from it."""
    bounds = owner.bounds
    return CheckResult(
        "memory",
        bounds.limit.bytes >= MEMORY_BYTES_MIN,
        f"{rough_size(bounds.limit.bytes)} ({bounds.limit.source}): segments of at most {rough_size(bounds.segment)}, "
        f"{rough_size(bounds.engine)} for the embedded engine"
        + ("" if bounds.limit.bytes >= MEMORY_BYTES_MIN else f"; at least {rough_size(MEMORY_BYTES_MIN)} are needed"),
    )


async def check_store(owner: Caller) -> CheckResult:
    """Check that the store takes rows, and recognises a segment that is sent again. Changes nothing."""
    store = owner.store
    try:
        await store.try_writing()
        if isinstance(store, MissingStore):
            return CheckResult("store", True, f"{store.location} does not exist yet; {BEGIN} creates it")
        ((version,),) = await store.fetch("SELECT version()")
        forgetful = await store.fetch(_FORGETFUL, {"database": DATABASE})
        difference = await describe_difference(store)
        if owner.settings.store.reader:
            async with await store.query("SELECT 1 FROM migrations LIMIT 1"):
                pass
    except CollectorError as error:
        return CheckResult("store", False, f"{error}. {error.hint}" if error.hint else str(error))
    if forgetful:
        return CheckResult(
            "store",
            False,
            f"{store.location}: without a deduplication window, a segment that is sent again is stored twice: "
            f"{', '.join(name for (name,) in forgetful)}; ALTER TABLE ... MODIFY SETTING as in sql/migrations",
        )
    told = f"; {difference}" if difference else ""
    return CheckResult("store", True, f"ClickHouse {version} at {store.location}{told}")
