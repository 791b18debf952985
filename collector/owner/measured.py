"""What a running owner shows to Prometheus at one moment."""

from __future__ import annotations

from collector import __version__
from collector.journal.ledger import billing_month
from collector.owner.condition import judged
from collector.owner.instance import Owner
from collector.pipeline.budget import budget_facts, pot_facts
from collector.pipeline.facts import COLLECTED, FAILING, NEW, STOPPED, WAITING
from collector.telemetry import stderr
from collector.telemetry.metrics import Gauge


async def measured(owner: Owner) -> list[Gauge]:
    """Every value that is read when somebody asks (`telemetry.metrics.GAUGES` and `COUNTERS`)."""
    now, monotonic = owner.server_clock.now(), owner.clock.monotonic()
    depth = await owner.journal.depth()
    counters = await owner.journal.counters()
    money = await budget_facts(owner.journal, now, owner.budget, owner.prices())
    judgement = await judged(owner)
    values = [
        Gauge("build_info", 1, {"version": __version__}),
        Gauge("journal_bytes", depth.bytes),
        Gauge("journal_bytes_max", owner.settings.journal.bytes_max),
        Gauge("journal_full", int(owner.room.is_full)),
        Gauge("journal_rows", depth.rows),
        Gauge("dead_letters", counters.get("dead_letters", 0)),
        Gauge("replaced_bytes", counters.get("replaced_bytes", 0)),
        Gauge("quarantined_rows", counters.get("quarantined_rows", 0)),
        Gauge("spend_month_cny", float(money.spent_cny)),
        Gauge("forecast_month_cny", float(money.forecast_cny)),
        Gauge("store_up", int(owner.shipping_error is None)),
        Gauge("log_lines_dropped", stderr.dropped()),
        Gauge("clock_offset_seconds", owner.server_clock.difference_seconds),
        Gauge("clock_in_doubt", int(bool(owner.server_clock.doubt))),
        Gauge("well", int(judgement.is_well)),
        Gauge("ready", int(judgement.is_ready)),
    ]
    values += [Gauge("unwell", 1, {"reason": reason.kind, "subject": reason.subject}) for reason in judgement.reasons]
    for counter, name in (("recheck_calls", "recheck_calls"), ("recheck_rows", "late_rows")):
        values += [
            Gauge(name, count, {"operation": operation})
            for key, count in counters.items()
            if (operation := key.removeprefix(f"{counter}/")) != key
        ]
    await owner.lateness.learn()
    if (delay := owner.lateness.all) is not None:
        values += [
            Gauge("arrival_delay_seconds", seconds, {"source": "syslogs", "fraction": fraction})
            for fraction, seconds in (("0.5", delay.p50), ("0.99", delay.p99), ("0.999", delay.p999), ("1", delay.most))
        ]
    if money.cap_cny is not None:
        values.append(Gauge("budget_cny", float(money.cap_cny)))
    for pot in await pot_facts(owner.journal, now, owner.prices()):
        if pot.calls:
            values += [
                Gauge("pot_calls", pot.calls, {"pot": pot.pot}),
                Gauge("pot_forecast_calls", pot.forecast_calls, {"pot": pot.pot}),
                Gauge("pot_free_calls", pot.free_calls_per_month, {"pot": pot.pot}),
            ]
    for operation, _, cost in await owner.journal.spend(billing_month(now)):
        values.append(Gauge("cost_cny", float(cost), {"operation": operation}))
    for operation, bucket in owner.buckets.items():
        values.append(Gauge("quota_used_ratio", bucket.used_ratio(monotonic), {"operation": operation}))
        values.append(Gauge("rate_per_second", bucket.rate, {"operation": operation}))
    if (service := owner.service_running) is not None:
        values += [Gauge("rows", rows, {"table": table}) for table, rows in service.shipped.rows.items()]
        values += _of_sources(owner)
        values += [
            Gauge("stopped", 1, {"what": stop.what, "operation": stop.operation}) for stop in service.facts().stops
        ]
    return values


def _of_sources(owner: Owner) -> list[Gauge]:
    """A source may ask several operations: the worst of them counts, and streams add up."""
    assert owner.service_running is not None
    values: dict[tuple[str, str, str], float] = {}

    def add(name: str, source: str, value: float, state: str = "") -> None:
        values[name, source, state] = values.get((name, source, state), 0.0) + value

    def worst(name: str, source: str, value: float) -> None:
        values[name, source, ""] = max(values.get((name, source, ""), 0.0), value)

    for facts in owner.service_running.facts().sources:
        if facts.freshness_seconds is not None:
            worst("freshness_seconds", facts.source, facts.freshness_seconds)
        worst("freshness_promise_seconds", facts.source, facts.freshness_promise_seconds)
        worst("settle_seconds", facts.source, facts.settle_seconds)
        add("ticks_missed", facts.source, facts.ticks_missed)
        add("due_streams", facts.source, facts.due)
        for state in (NEW, COLLECTED, FAILING, STOPPED, WAITING):
            add("streams", facts.source, facts.states.get(state, 0), state)
    return [
        Gauge(name, value, {"source": source} | ({"state": state} if state else {}))
        for (name, source, state), value in values.items()
    ]
