"""Verify: whatever was done to the store behind its back is found, and nothing else is told."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from collector.catalogue.answers import Answer
from collector.catalogue.products.eflo_controller import ListSyslogsAnswer, SyslogRecord
from collector.errors import UsageError
from collector.model import StreamKey, Window
from collector.owner.instance import Owner
from collector.pipeline.ship import WATERMARK_COLUMNS
from collector.pipeline.verify import SAMPLE_SECONDS, differences, sampled
from collector.settings import Settings
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import LateRows, World
from collector.sources.normalise import lines
from collector.sources.tables import METRIC_POINTS, SYSLOGS
from tests.support import LOOKBACK, NOW, SETTLE, calls, run_once, settings, simulator
from tests.support.range_commands import answer, asked, report, work
from tests.support.scripted_client import ScriptedClient

REGION = "cn-hangzhou"
BEGIN, END = NOW - LOOKBACK, NOW - SETTLE
MILLION = 1_000_000


def configured(folder: Path, running: Simulator, world: World, **sections: Any) -> Settings:
    return settings(folder, running.base_url, targets={"nodes": tuple(world.node_ids)}, **sections)


async def verified(configuration: Settings, what: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        words = await work(owner, "verify", what)
        return words[-1]["report"], [word["finding"] for word in words[:-1]]


def kinds(told: dict[str, Any]) -> tuple[int, int, int]:
    return told["missing"], told["extra"], told["different"]


async def change(configuration: Settings, *statements: str) -> None:
    async with await Owner.open(configuration) as owner:
        for statement in statements:
            await owner.store.execute(statement)


@pytest.mark.slow("ranges that are verified")
async def test_what_is_stored_as_the_service_tells_it_is_clean(tmp_path: Path) -> None:
    """Every record of the range is compared, each call is metered, and nothing is stored."""
    world = World(31, 3, 1, lines_per_second=0.5)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        before = calls(api, "ListSyslogs")
        told, found = await verified(configuration, asked("syslogs", BEGIN, NOW))
        truth = sum(len(world.truth(node, BEGIN, END)) for node in world.node_ids)
        assert (kinds(told), found) == ((0, 0, 0), [])
        assert told["records"] == told["stored"] == truth
        assert told["calls"] == calls(api, "ListSyslogs") - before > 0
        assert told["seconds_not_covered"] == 3 * SETTLE
        async with await Owner.open(configuration) as owner:
            metered = await owner.store.fetch("SELECT sum(calls) FROM api_calls WHERE operation = 'ListSyslogs'")
            rows = await owner.store.fetch("SELECT count() FROM syslogs")
        assert (metered, rows) == ([[calls(api, "ListSyslogs")]], [[truth]])


@pytest.mark.slow("ranges that are verified")
async def test_a_changed_value_of_a_series_is_told(tmp_path: Path) -> None:
    """Series are clean as they were collected; a value that was changed is told with what the service says."""
    world = World(32, 4, 1)
    async with simulator(world) as api:
        group = world.group_ids[0]
        targets: dict[str, Any] = {"resource_groups": (group,)}
        sources = {"node_metrics": {"enabled": True, "initial_lookback": "2h", "recheck": []},
                   "user_metrics": {"enabled": False}}  # fmt: skip
        configuration = settings(tmp_path, api.base_url, targets=targets, sources=sources)
        await run_once(configuration)
        told, found = await verified(configuration, asked("node_metrics", NOW - 7000, NOW))
        assert (kinds(told), found) == ((0, 0, 0), [])
        assert told["records"] > 10
        async with await Owner.open(configuration) as owner:
            ((time, entity),) = await owner.store.fetch(
                "SELECT toUnixTimestamp(time), entity_id FROM metric_points ORDER BY time DESC, entity_id LIMIT 9, 1"
            )
        await change(
            configuration,
            "ALTER TABLE pai.metric_points UPDATE value = value + 1 WHERE metric = 'CpuUsageRate'"
            f" AND toUnixTimestamp(time) = {time} AND entity_id = '{entity}' SETTINGS mutations_sync = 1",
        )
        told, (finding,) = await verified(configuration, asked("node_metrics", NOW - 7000, NOW))
        assert kinds(told) == (0, 0, 1)
        assert (finding["time"], finding["fields"]) == (time, ("value",))
        assert finding["stored"]["value"] == finding["answered"]["value"] + 1


async def test_late_rows_that_nobody_has_found_are_missing(tmp_path: Path) -> None:
    """What the service shows since the last look is told, with the record; a backfill of the range mends it."""
    world = World(31, 2, 1, lines_per_second=0.2)
    node = world.node_ids[0]
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        world.add_late(LateRows(node, BEGIN, BEGIN + 300, 7, NOW - 1))
        told, found = await verified(configuration, asked("syslogs", BEGIN, NOW))
        assert kinds(told) == (7, 0, 0)
        assert {finding["scope_id"] for finding in found} == {node}
        await report(configuration, "backfill", asked("syslogs", BEGIN, NOW))
        told, _ = await verified(configuration, asked("syslogs", BEGIN, NOW))
        assert kinds(told) == (0, 0, 0)


@pytest.mark.slow("ranges that are verified")
async def test_a_sample_is_chosen_by_its_seed(tmp_path: Path) -> None:
    """The same seed judges the same windows and takes the same calls; the whole range would take more."""
    world = World(33, 5, 1, lines_per_second=0.1)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        one = await report(configuration, "verify", asked("syslogs", BEGIN, NOW, sample=3, seed=5))
        other = await report(configuration, "verify", asked("syslogs", BEGIN, NOW, sample=3, seed=5))
        assert one == other
        assert one["windows"] == 3
        assert one["seconds"] <= 3 * SAMPLE_SECONDS
        unseeded = await report(configuration, "verify", asked("syslogs", BEGIN, NOW, sample=3))
        assert isinstance(unseeded["seed"], int)


@pytest.mark.slow("ranges that are verified")
async def test_what_is_not_covered_is_not_judged(tmp_path: Path) -> None:
    """A range before the first window is refused with the command that tells why, and makes no call."""
    world = World(31, 1, 1)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        before = calls(api, "ListSyslogs")
        async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
            with pytest.raises(UsageError, match="nothing of the range is covered"):
                await answer(owner, "verify.price", asked("syslogs", BEGIN - 900, BEGIN))
        assert calls(api, "ListSyslogs") == before


@pytest.mark.slow("ranges that are verified")
async def test_a_cursor_that_dies_while_verifying_makes_no_difference(tmp_path: Path) -> None:
    """What is left of the range is asked again; nothing is told as missing or extra."""
    world = World(34, 1, 1, lines_per_second=1.0)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        first = calls(api, "ListSyslogs")
        api.faults = [Fault(kind=FaultKind.EXPIRED_TOKEN, arrivals=(4,))]
        told, found = await verified(configuration, asked("syslogs", BEGIN, NOW))
        assert calls(api, "ListSyslogs") > 2 * first
        assert (kinds(told), found, told["failures"]) == ((0, 0, 0), [], [])


@pytest.mark.slow("ranges that are verified")
async def test_answers_in_no_order_are_judged_as_a_whole(tmp_path: Path) -> None:
    """Rows that come shuffled are the same multiset."""
    world = World(34, 1, 1, lines_per_second=0.5)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        api.faults = [Fault(kind=FaultKind.DISORDER)]
        told, found = await verified(configuration, asked("syslogs", BEGIN, NOW))
        assert (kinds(told), found) == ((0, 0, 0), [])


@pytest.mark.slow("ranges that are verified")
async def test_a_list_that_ends_before_what_it_counts_is_not_judged_by(tmp_path: Path) -> None:
    """An empty last page that counts more lines: it is read again, and nothing that is stored is told as extra."""
    world = World(34, 1, 1, lines_per_second=1.0)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        first = calls(api, "ListSyslogs")
        api.faults = [Fault(kind=FaultKind.DENIED, signs={"TotalCount": 1_000_000}, arrivals=(3,))]
        told, found = await verified(configuration, asked("syslogs", BEGIN, NOW))
        assert calls(api, "ListSyslogs") > 2 * first
        assert (kinds(told), found, told["failures"]) == ((0, 0, 0), [], [])


NODES, LINES_A_SECOND, PAGE_ROWS = 4, 20, 10_000
SECONDS = MILLION // NODES // LINES_A_SECOND
START = END - SECONDS


def answered(parameters: Mapping[str, Any]) -> tuple[Answer, int]:
    """`ListSyslogs` of nodes that log twenty numbered lines in each second, ten thousand a page."""
    first, last = max(START, int(parameters["FromTime"])), min(END - 1, int(parameters["ToTime"]))
    begin = int(parameters.get("NextToken", (first - START) * LINES_A_SECOND))
    end = min(begin + PAGE_ROWS, (last - START + 1) * LINES_A_SECOND)
    records = []
    for number in range(begin, end):
        time = START + number // LINES_A_SECOND
        records.append(
            SyslogRecord(
                time=str(time), tag_receive_time=str(time + 3), node_id=parameters["NodeId"], severity="info",
                msg=f"line {number}",
            )
        )  # fmt: skip
    more = end < (last - START + 1) * LINES_A_SECOND
    return ListSyslogsAnswer(logs=records, next_token=str(end) if more else None), NOW


@pytest.mark.slow("rows by the million")
async def test_one_of_each_among_a_million_is_found(tmp_path: Path) -> None:
    """One deleted, one doubled and one altered row, each told for what it is, and nothing else."""
    nodes = [f"node-{number}" for number in range(NODES)]
    configuration = settings(tmp_path, "http://127.0.0.1:1", targets={"nodes": tuple(nodes)})
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        owner.client = ScriptedClient(owner, answered, NOW)  # type: ignore[assignment]
        await owner.store.execute(
            "INSERT INTO pai.syslogs (time, receive_time, region, node_id, severity, msg)"
            f" SELECT {START} + intDiv(number, {NODES * LINES_A_SECOND}) AS t, t + 3, '{REGION}',"
            f" concat('node-', toString(number % {NODES})), 'info', concat('line ', toString(intDiv(number, {NODES})))"
            f" FROM numbers({MILLION})"
        )
        marks = [("ListSyslogs", REGION, node, START, END, NOW) for node in nodes]
        await owner.store.insert("watermark_states", WATERMARK_COLUMNS, lines(marks), token=str(uuid.uuid4()))
        (streams,) = await owner.streams()
        await streams.adopt(owner.journal, owner.store, streams.keys(REGION))
        for change in (
            "DELETE WHERE node_id = 'node-1' AND msg = 'line 123456'",
            "UPDATE severity = 'err' WHERE node_id = 'node-3' AND msg = 'line 77'",
        ):
            await owner.store.execute(f"ALTER TABLE pai.syslogs {change} SETTINGS mutations_sync = 1")
        await owner.store.execute(
            "INSERT INTO pai.syslogs SELECT * FROM pai.syslogs WHERE node_id = 'node-0' AND msg = 'line 249999'"
        )
        words = await work(owner, "verify", asked("syslogs", START, END))
    told, found = words[-1]["report"], [word["finding"] for word in words[:-1]]
    assert (told["records"], told["stored"]) == (MILLION, MILLION)
    assert kinds(told) == (1, 1, 1)
    by_kind = {finding["kind"]: finding for finding in found}
    assert (by_kind["missing"]["scope_id"], by_kind["missing"]["answered"]["msg"]) == ("node-1", "line 123456")
    assert (by_kind["extra"]["scope_id"], by_kind["extra"]["stored"]["msg"]) == ("node-0", "line 249999")
    assert (by_kind["different"]["scope_id"], by_kind["different"]["fields"]) == ("node-3", ("severity",))
    assert by_kind["different"]["stored"]["severity"] == "err"


# The judgement itself


def row(**values: Any) -> tuple[Any, ...]:
    base = {"time": 10, "receive_time": 11, "node_id": "n", "msg": "m", "extra": "{}"}
    return tuple((dict.fromkeys(SYSLOGS.columns, "") | base | values).values())


def test_equal_rows_are_counted() -> None:
    """Three answered and two stored is one missing, two answered and three stored is one extra."""
    assert [f.kind for f in differences(SYSLOGS, "n", [row()] * 3, [row()] * 2)] == ["missing"]
    assert [f.kind for f in differences(SYSLOGS, "n", [row()] * 2, [row()] * 3)] == ["extra"]
    assert differences(SYSLOGS, "n", [row()] * 2, [row()] * 2) == []


def test_a_field_of_its_own_is_told_also_where_only_extra_differs() -> None:
    """A row that differs in fields is one finding with their names; one of another second is two."""
    (found,) = differences(SYSLOGS, "n", [row(msg="a", extra='{"x":1}')], [row(msg="b")])
    assert (found.kind, found.fields) == ("different", ("msg", "extra"))
    (found,) = differences(SYSLOGS, "n", [row(receive_time=None)], [row()])
    assert found.fields == ("receive_time",)
    assert [f.kind for f in differences(SYSLOGS, "n", [row()], [row(time=12)])] == ["missing", "extra"]


def test_a_point_that_may_still_change_is_neither_missing_nor_extra() -> None:
    """The newest point of a series is left to the last look at it."""
    point = (10, "r", "node_metrics", "g", "e", "CpuUsageRate", "", 1.0, "{}", "", 0, "", "{}", "", "CpuUsageRate")
    assert differences(METRIC_POINTS, "g", [], [], [point]) == []
    assert differences(METRIC_POINTS, "g", [], [point], [point]) == []
    assert [f.kind for f in differences(METRIC_POINTS, "g", [point], [])] == ["missing"]


def test_every_part_of_the_ranges_may_be_sampled() -> None:
    """Windows lie inside what is covered, each at most once, and over many seeds each is chosen."""
    key, other = StreamKey("o", "r", "a"), StreamKey("o", "r", "b")
    ranges = [(key, Window(0, 1500)), (other, Window(100, 700))]
    seen = set()
    for seed in range(50):
        chosen = sampled(ranges, 2, Random(seed))
        assert len(set(chosen)) == 2
        seen |= set(chosen)
    parts = [(key, Window(0, 600)), (key, Window(600, 1200)), (key, Window(1200, 1500)), (other, Window(100, 700))]
    assert seen == set(parts)
    assert len(sampled(ranges, 99, Random(1))) == 4
