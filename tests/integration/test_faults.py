"""Whatever goes wrong on the wire: rows equal the truth, errors are counted, none reads as no data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from collector.simulator.clock import SimulatorClock
from collector.simulator.faults import Fault, FaultKind, Shape
from collector.simulator.world import World
from tests.support import (
    LOOKBACK,
    NOW,
    SETTLE,
    as_row,
    differences,
    fetch,
    run_once,
    settings,
    simulator,
    stored_syslogs,
    true_syslogs,
)

SEED = 23

REPEATED = [
    Fault(kind=FaultKind.THROTTLE_429, probability=0.15, retry_after_seconds=0.05),
    Fault(kind=FaultKind.THROTTLE_400, probability=0.15, retry_after_seconds=0.05),
    Fault(kind=FaultKind.ERROR_500, probability=0.15),
    Fault(kind=FaultKind.ERROR_503, probability=0.15),
    Fault(kind=FaultKind.HTML_200, probability=0.15),
    Fault(kind=FaultKind.HTML_502, probability=0.15),
    Fault(kind=FaultKind.INVALID_JSON, probability=0.15),
    Fault(kind=FaultKind.EMPTY_BODY, probability=0.15),
    Fault(kind=FaultKind.CODE_IN_200, probability=0.15, retry_after_seconds=0.05),
    Fault(kind=FaultKind.RESET_BEFORE, probability=0.15),
    Fault(kind=FaultKind.RESET_DURING, probability=0.15),
    Fault(kind=FaultKind.TRUNCATED, probability=0.15),
    Fault(kind=FaultKind.CUT_SHORT, probability=0.15),
    # So far apart that no page meets three of them, in whatever order the calls arrive.
    Fault(kind=FaultKind.REPEATED_TOKEN, arrivals=(10, 30, 50, 70)),
    Fault(kind=FaultKind.LATENCY, probability=0.2, seconds_max=0.1),
    Fault(kind=FaultKind.BROTLI, probability=0.15),
    Fault(kind=FaultKind.NO_CONTENT, probability=0.15),
    # Read as if nothing were odd.
    Fault(kind=FaultKind.BIG_HEAD),
    Fault(kind=FaultKind.PLAIN_AS_GZIP),
    Fault(kind=FaultKind.NOT_UTF8, probability=0.15),
    # Repeated once, and the account is not stopped.
    Fault(kind=FaultKind.UNAUTHORIZED, arrivals=(5, 40, 75)),
]
HARMLESS = (FaultKind.LATENCY, FaultKind.BIG_HEAD, FaultKind.PLAIN_AS_GZIP, FaultKind.NOT_UTF8)


@pytest.mark.parametrize("fault", REPEATED, ids=[fault.kind.value for fault in REPEATED])
@pytest.mark.slow("kinds of faults", fast=("throttle_429",))
async def test_rows_equal_the_truth_whatever_happens(tmp_path: Path, fault: Fault) -> None:
    """A fault that passes costs calls, never rows, and each failed call is in the meter."""
    world = World(SEED, 4, 1, lines_per_second=1.0)
    async with simulator(world, faults=[fault]) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        report = await run_once(configuration)

        assert not report.failures
        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))
        metered = await fetch(configuration, "SELECT sum(calls), sumIf(calls, code != '') FROM api_calls")
        stats = api.stats["ListSyslogs"]
        assert metered[0][0] == stats.calls
        if fault.kind not in HARMLESS:
            assert metered[0][1] > 0


@pytest.mark.slow("kinds of faults")
async def test_an_answer_that_is_too_large_is_asked_for_in_parts(tmp_path: Path) -> None:
    """It is bought once, not again as it was; shorter windows bring what it held."""
    world = World(SEED, 4, 1, lines_per_second=1.0)
    async with simulator(world, faults=[Fault(kind=FaultKind.OVERSIZED, times_max=1)]) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        assert not (await run_once(configuration)).failures

        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))
        rows = await fetch(configuration, "SELECT sum(calls) FROM api_calls WHERE code = 'too_large'")
        assert rows == [[1]]


@pytest.mark.slow("kinds of faults")
async def test_a_cursor_that_dies_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The window is asked again from its start and merged as multisets."""
    world = World(SEED, 3, 1, lines_per_second=2.0)
    faults = [Fault(kind=FaultKind.EXPIRED_TOKEN, probability=0.04, times_max=3)]
    async with simulator(world, faults=faults) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        report = await run_once(configuration)

        assert not report.failures
        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))
        assert await fetch(configuration, "SELECT sum(calls) > 0 FROM api_calls WHERE http_status = 400") == [[1]]


@pytest.mark.slow("kinds of faults")
async def test_rows_out_of_order_are_all_stored(tmp_path: Path) -> None:
    """Nothing relies on the order of an answer."""
    world = World(SEED, 3, 1, lines_per_second=2.0)
    async with simulator(world, faults=[Fault(kind=FaultKind.DISORDER)]) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        await run_once(configuration)

        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))


@pytest.mark.slow("kinds of faults")
@pytest.mark.parametrize("bounds", ["closed", "half_open"])
async def test_the_services_bounds_do_not_matter(tmp_path: Path, bounds: str) -> None:
    """Whether a range holds its end or not: windows meet without a hole and without an overlap."""
    world = World(SEED, 3, 1, lines_per_second=5.0)
    clock = SimulatorClock.frozen(NOW)
    async with simulator(world, clock, bounds=bounds) as api:
        configuration = settings(
            tmp_path,
            api.base_url,
            targets={"nodes": tuple(world.node_ids)},
            sources={"syslogs": {"initial_lookback": "2m", "settle": "60s", "recheck": []}},
        )
        for _ in range(3):
            await run_once(configuration)
            clock.advance(7)

        truth = true_syslogs(world, world.node_ids, NOW - 120, NOW + 14 - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))


@pytest.mark.slow("kinds of faults")
async def test_odd_records_are_stored_all_the_same(tmp_path: Path) -> None:
    """Types may drift: numbers for strings, unknown fields, missing ones, other units of time."""
    world = World(SEED, 3, 1, lines_per_second=1.0)
    async with simulator(world, faults=[Fault(kind=FaultKind.TYPE_DRIFT, share=0.5)]) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        report = await run_once(configuration)

        assert not report.failures
        served = [(node, r) for node in world.node_ids for r in api.served_syslogs(node, NOW - LOOKBACK, NOW - SETTLE)]
        true = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        stored = await stored_syslogs(configuration)
        assert sum(stored.values()) == len(served)
        assert Counter(row[0] for row in stored.elements()) == Counter(row[0] for row in true.elements())
        assert await fetch(configuration, "SELECT count() FROM dead_letters") == [[0]]
        unknown = sum(1 for _, record in served if isinstance(record, dict) and set(record) - set(KNOWN))
        ((kept,),) = await fetch(configuration, "SELECT countIf(extra != '{}') FROM syslogs")
        assert kept >= unknown > 0


@pytest.mark.slow("kinds of faults")
async def test_records_that_cannot_be_placed_become_dead_letters(tmp_path: Path) -> None:
    """A record without a usable time is kept with its reason, once, and holds up nothing."""
    world = World(SEED, 2, 1, lines_per_second=1.0)
    drift = Fault(kind=FaultKind.TYPE_DRIFT, share=0.1, shapes=(Shape.TIME_ABSENT, Shape.TIME_GARBAGE))
    clock = SimulatorClock.frozen(NOW)
    async with simulator(world, clock, faults=[drift]) as api:
        configuration = settings(
            tmp_path,
            api.base_url,
            targets={"nodes": tuple(world.node_ids)},
            sources={"syslogs": {"initial_lookback": "30m", "settle": "60s", "recheck": ["5m"]}},
        )
        await run_once(configuration)
        end = NOW - SETTLE
        served = [r for node in world.node_ids for r in api.served_syslogs(node, NOW - LOOKBACK, end)]
        dead = Counter(json.dumps(r, sort_keys=True) for r in served if not str(r.get("Time", "")).isdigit())
        placed = Counter(as_row(r, "") for r in served if str(r.get("Time", "")).isdigit())

        assert dead
        assert not differences(placed, await stored_syslogs(configuration))
        letters = await fetch(configuration, "SELECT operation, reason, record FROM dead_letters")
        assert {operation for operation, _, _ in letters} == {"ListSyslogs"}
        assert all(reason.startswith("Time") for _, reason, _ in letters)
        kept = Counter(json.dumps(json.loads(record), sort_keys=True) for _, _, record in letters)
        # What lies in the margin of a window has no time by which it could be left to its neighbour.
        assert dead <= kept
        assert len(set(kept) - set(dead)) <= 4 * len(world.node_ids)

        clock.advance(400)
        await run_once(configuration)
        letters = await fetch(configuration, "SELECT record FROM dead_letters")
        later = Counter(json.dumps(json.loads(record), sort_keys=True) for (record,) in letters)
        assert len(later) > len(kept)
        assert {record: later[record] for record in kept} == dict(kept)


KNOWN = (
    "ClusterId", "Domain", "Facility", "Hostname", "Ip", "Msg", "NodeId", "Severity", "Sn", "Source", "Syslogtag",
    "TagHostname", "TagPackId", "TagPath", "TagReceiveTime", "TagUserDefinedId", "Time", "Topic",
)  # fmt: skip
