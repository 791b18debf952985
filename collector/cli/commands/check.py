"""`pai-collector check`: will this configuration work?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from collector.cli.calling import ask
from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.running import run_to_end
from collector.clock import STEP_SECONDS_MAX
from collector.errors import ApiError, CollectorError, CredentialsError
from collector.rpc import Access, Method, Request
from collector.units import rough_size

if TYPE_CHECKING:
    from collector.catalogue.answers import Answer
    from collector.catalogue.operation import Operation
    from collector.clock import ServerClock
    from collector.model import StreamKey
    from collector.owner.caller import Caller
    from collector.settings import Settings
    from collector.sources.source import Seen


_CLOUD: Final = "cloud_metrics"
_FORGETFUL = (
    "SELECT name FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree'"
    " AND NOT match(engine_full, if(engine LIKE 'Replicated%' OR engine LIKE 'Shared%', '[^_]', 'non_')"
    " || 'replicated_deduplication_window = [1-9]') ORDER BY name"
)
"""Tables that do not know a token again."""


MEMORY_BYTES_MIN = 512 << 20
"""With less the embedded engine cannot work."""


class CheckRequest(Request, frozen=True, tag="check"):
    """Try clock, credentials, each operation once, and the store."""


class Result(msgspec.Struct, frozen=True):
    """One thing that was tried."""

    what: str
    ok: bool
    detail: str
    is_credentials: bool = False
    """True when the key was refused (401, 403)."""


async def handle(owner: Caller, request: CheckRequest) -> AsyncGenerator[list[Result], None]:
    """Try everything. Raises OwnedElsewhere if this process has no key."""
    from collector.owner.calls import refusal_to_call

    if owner.client is None:
        raise refusal_to_call(owner)
    yield await check_all(owner)


async def check_all(owner: Caller) -> list[Result]:
    """One call of each operation that the configuration uses, for its first target. Stores no rows.

    The calls are metered and billed like any other.
    """
    from collector.pipeline.streams import StateStreams
    from collector.sources.inventory import InventorySource

    results = [await check_store(owner), check_memory(owner)]
    watch = owner.watch()
    await watch.begin()
    # Before the first call of a new journal, or the month that the store has paid for would count as free again.
    await owner.start_month()
    await watch.settle()
    probes = []
    seen: dict[str, tuple[StreamKey, Seen]] = {}
    for streams in await owner.streams():
        key = streams.keys(owner.settings.api.region)[0]
        parameters = streams.probe(key, owner.server_clock.now())
        result, answer = await _probe(owner, streams.operation, key.scope_id, parameters)
        probes.append(result)
        source = streams.source if isinstance(streams, StateStreams) else None
        # Of a list of several pages the first says little.
        if answer is not None and isinstance(source, InventorySource) and source.next_cursor(None, answer) is None:
            seen[source.kind] = key, source.page(key, None, answer)
    # Their responses tell the time better than the probe.
    await watch.confirm()
    return [*results, check_clock(owner.server_clock), *probes, *await _check_cloud(owner, seen), *await _pots(owner)]


async def _check_cloud(owner: Caller, seen: Mapping[str, tuple[StreamKey, Seen]]) -> list[Result]:
    """Check that CloudMonitor lists what the configuration asks for: by what is known, and by what was just seen."""
    from collector.owner.cloud_targets import Listed, attributes_of, mismatches, watches_cloud_metrics

    if not watches_cloud_metrics(owner.settings):
        return []
    cloud, known = owner.settings.sources.cloud_metrics, await owner.listed()
    namespaces, metrics = known.namespaces, dict(known.metrics)
    if "cloud_namespace" in seen:
        namespaces = [observed.object_id for observed in seen["cloud_namespace"][1].objects]
    if "cloud_metric" in seen:
        key, listed = seen["cloud_metric"]
        metrics[key.scope_id] = {
            observed.object_id.partition("/")[2]: attributes_of(observed.values) for observed in listed.objects
        }
    now = Listed(namespaces, metrics)
    if found := mismatches(cloud, now):
        return [Result(_CLOUD, False, line) for line in found]
    fitting = len(now.fitting(cloud))
    detail = f"{fitting} metrics fit" if fitting else "which metrics fit is known after run --once --source inventory"
    return [Result(_CLOUD, True, detail)]


async def _pots(owner: Caller) -> list[Result]:
    """What is taken of free calls that operations share, where one of them may be called."""
    from collector.owner.streams import operations_of
    from collector.pipeline.budget import pot_facts

    called = {operation.name for operation in operations_of(owner.settings)}
    pots = await pot_facts(owner.journal, owner.server_clock.now(), owner.prices())
    return [Result(pot.pot, True, pot.told) for pot in pots if called & set(pot.operations)]


def check_clock(clock: ServerClock) -> Result:
    """What time it is by the service, beside this machine's clock. It fails only if nothing decides between them."""
    from collector.pipeline.clock_watch import HINT

    difference = clock.difference_seconds
    if not clock.is_settled:
        return Result("clock", False, f"in doubt: {clock.doubt}. {HINT}")
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
    return Result("clock", True, detail)


async def _probe(
    owner: Caller, operation: Operation, scope_id: str, parameters: Mapping[str, Any]
) -> tuple[Result, Answer | None]:
    from collector.catalogue.operation import price_text

    assert owner.client is not None
    try:
        reply = await owner.client.request(operation, scope_id, parameters)
    except ApiError as error:
        detail = f"{error}. {error.hint}" if error.hint else str(error)
        is_refused = isinstance(error, CredentialsError) or error.http_status == 403
        return Result(operation.name, False, detail, is_refused), None
    await owner.journal.settle(reply.attempt)
    price = price_text(owner.prices()[operation.name])
    detail = f"answers for {scope_id}; {reply.bytes} bytes, one call{' at' if price[0].isdecimal() else ','} {price}"
    return Result(operation.name, True, detail), reply.answer


def check_memory(owner: Caller) -> Result:
    """How much memory the process may use, and what follows from it."""
    bounds = owner.bounds
    return Result(
        "memory",
        bounds.limit.bytes >= MEMORY_BYTES_MIN,
        f"{rough_size(bounds.limit.bytes)} ({bounds.limit.source}): segments of at most {rough_size(bounds.segment)}, "
        f"{rough_size(bounds.engine)} for the embedded engine"
        + ("" if bounds.limit.bytes >= MEMORY_BYTES_MIN else f"; at least {rough_size(MEMORY_BYTES_MIN)} are needed"),
    )


async def check_store(owner: Caller) -> Result:
    """Check that the store takes rows, and recognises a segment that is sent again. Changes nothing."""
    from collector.store.base import DATABASE
    from collector.store.migrate import describe_difference
    from collector.store.missing import BEGIN, MissingStore

    store = owner.store
    try:
        await store.try_writing()
        if isinstance(store, MissingStore):
            return Result("store", True, f"{store.location} does not exist yet; {BEGIN} creates it")
        ((version,),) = await store.fetch("SELECT version()")
        forgetful = await store.fetch(_FORGETFUL, {"database": DATABASE})
        difference = await describe_difference(store)
        if owner.settings.store.reader:
            async with await store.query("SELECT 1 FROM migrations LIMIT 1"):
                pass
    except CollectorError as error:
        return Result("store", False, f"{error}. {error.hint}" if error.hint else str(error))
    if forgetful:
        return Result(
            "store",
            False,
            f"{store.location}: without a deduplication window, a segment that is sent again is stored twice: "
            f"{', '.join(name for (name,) in forgetful)}; ALTER TABLE ... MODIFY SETTING as in sql/migrations",
        )
    told = f"; {difference}" if difference else ""
    return Result("store", True, f"ClickHouse {version} at {store.location}{told}")


CHECK = Method(CheckRequest, list[Result], handle, Access.CALLER)
METHODS = (CHECK,)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def check(
        context: typer.Context,
        offline: Annotated[bool, typer.Option("--offline", help="Read the configuration only.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    ) -> int:
        """Validate the configuration; unless offline, try the key, each operation once, and the store.

        The calls are billed like any other. No row is stored.
        """
        settings = options_of(context).settings()
        if offline:
            _say(settings)
            return ExitStatus.DONE
        results = run_to_end(ask(settings, CHECK, CheckRequest()))
        if as_json:
            print_json(msgspec.to_builtins(results))
        else:
            rows = [(r.what, "ok" if r.ok else "FAILED", r.detail) for r in results]
            print_table("", ["what", "result", "detail"], rows)
        if any(r.is_credentials for r in results):
            return ExitStatus.CREDENTIALS
        return ExitStatus.DONE if all(r.ok for r in results) else ExitStatus.FAILED


def _say(settings: Settings) -> None:
    from collector.owner.gateway import check_endpoints
    from collector.owner.streams import described

    check_endpoints(settings)
    print_line("the configuration is valid")
    print_table("", ["source", "what is watched"], described(settings))
