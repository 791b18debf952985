"""No clock fools a watermark: dates of probe, cache, API and machine that are wrong, odd or missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.cli.commands.check import check_all
from collector.clock import SystemClock
from collector.errors import ClockError
from collector.owner.answers import Status
from collector.owner.gaps import gaps
from collector.owner.instance import Owner
from collector.owner.status import status
from collector.pipeline.collect_windows import STALE_ANSWERS_MAX
from collector.pipeline.run import RunReport
from collector.settings import Settings
from collector.settings.model import RetrySettings
from collector.simulator.clock import SimulatorClock
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from tests.support import (
    LOOKBACK,
    NOW,
    SETTLE,
    calls,
    differences,
    fetch,
    settings,
    simulator,
    stored_syslogs,
    true_syslogs,
)

HOUR = 3600
SLOW = pytest.mark.slow("wrong dates")


class MachineClock(SystemClock):
    """The clock of a machine on which it is always the same time."""

    def __init__(self, at: float = NOW) -> None:
        self.at = at

    def wall(self) -> float:
        return self.at


def skewed(seconds: float, answers: str = "all", **options: object) -> Fault:
    return Fault(kind=FaultKind.DATE_SKEWED, skew_seconds=seconds, answers=answers, **options)


def configured(folder: Path, api: Simulator, **sections: dict[str, object]) -> Settings:
    return settings(folder, api.base_url, targets={"nodes": tuple(api.world.node_ids)}, **sections)


async def collect(configuration: Settings, machine: float = NOW) -> RunReport:
    async with await Owner.open(configuration, key=SIMULATOR_KEY, clock=MachineClock(machine)) as owner:
        return await owner.once().run()


async def assert_stored(configuration: Settings, world: World, now: int = NOW, since: int = NOW) -> None:
    """Every line is stored once, and the watermarks are right in the store."""
    truth = true_syslogs(world, world.node_ids, since - LOOKBACK, now - SETTLE)
    assert truth
    stored = await stored_syslogs(configuration)
    assert not differences(truth, stored)
    marks = await fetch(configuration, "SELECT toUnixTimestamp(watermark) FROM watermarks")
    assert {mark for (mark,) in marks} == {now - SETTLE}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(skewed(-2 * HOUR, "probe"), id="probe 2 h old"),
        pytest.param(skewed(HOUR, "probe"), id="probe 1 h ahead"),
        pytest.param(
            Fault(kind=FaultKind.DATE_CACHED, answers="probe"),
            marks=SLOW,
            id="probe out of a cache that says so",
        ),
        pytest.param(
            Fault(kind=FaultKind.DATE_CACHED, arrivals=(1, 2, 3)),
            marks=SLOW,
            id="first answers out of a cache",
        ),
        pytest.param(Fault(kind=FaultKind.DATE_MISSING), id="no date"),
        pytest.param(Fault(kind=FaultKind.DATE_GARBLED), marks=SLOW, id="dates that are none"),
        pytest.param(skewed(HOUR, "calls", arrivals=tuple(range(2, 1000, 2))), id="every other backend ahead"),
        pytest.param(
            skewed(-HOUR, "calls", arrivals=tuple(range(2, 1000, 2))),
            marks=SLOW,
            id="every other backend behind",
        ),
        pytest.param(skewed(HOUR, arrivals=(1, 2)), marks=SLOW, id="first answers ahead"),
    ],
)
@pytest.mark.slow(
    "wrong dates",
    fast=(
        "no date",
        "every other backend ahead",
    ),
)
async def test_a_wrong_date_beside_right_clocks_loses_nothing(tmp_path: Path, fault: Fault) -> None:
    """Whatever is wrong on the wire: as long as the machine agrees with right answers, a run collects all there is."""
    world = World(11, 2, 0)
    async with simulator(world, faults=[fault]) as api:
        configuration = configured(tmp_path, api)
        report = await collect(configuration)
        assert not report.failures
        assert not report.clock
        await assert_stored(configuration, world)


@pytest.mark.parametrize("machine", [NOW - 86_400, pytest.param(NOW + 86_400, marks=SLOW)])
@pytest.mark.slow("wrong dates")
async def test_a_machine_a_day_off_collects_by_the_services_time(tmp_path: Path, machine: int) -> None:
    """The lookback too is counted from the service's time, and the difference is shown everywhere."""
    world = World(11, 2, 0)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api)
        assert not (await collect(configuration, machine)).failures
        await assert_stored(configuration, world)
        async with await Owner.open(configuration, key=SIMULATOR_KEY, clock=MachineClock(machine)) as owner:
            (clock,) = [result for result in await check_all(owner) if result.what == "clock"]
            assert clock.ok
            assert "86400 s" in clock.detail
            told = (await status(owner)).clock
            assert told.source == "service"
            assert abs(told.offset_seconds) == pytest.approx(86_400, abs=60)
            assert "86400 s" in (told.doubt or "")


@pytest.mark.parametrize("later", [0, pytest.param(600, marks=SLOW), 2 * HOUR])
@pytest.mark.slow("wrong dates")
async def test_what_was_sealed_while_all_dates_were_ahead_is_collected_again(tmp_path: Path, later: int) -> None:
    """In the next run, be its time behind or before the watermark; each line is stored once."""
    world = World(11, 2, 0)
    clock = SimulatorClock.frozen(NOW)
    async with simulator(world, clock, faults=[skewed(HOUR)]) as api:
        configuration = configured(tmp_path, api)
        await collect(configuration)
        api.faults = ()
        clock.advance(later)
        report = await collect(configuration, NOW + later)
        assert not report.failures
        await assert_stored(configuration, world, NOW + later)
        async with await Owner.open(configuration) as owner:
            assert (await gaps(owner)).gaps == []


@pytest.mark.slow("wrong dates")
async def test_every_kind_of_stream_is_set_back(tmp_path: Path) -> None:
    """Log lines, series and events are collected again; snapshots that were dated in the future are a gap."""
    world = World(11, 2, 1)
    clock = SimulatorClock.frozen(NOW)
    sources = {
        "syslogs": {"initial_lookback": "30m", "settle": "60s"},
        "node_metrics": {"enabled": True},
        "events": {"enabled": True},
    }
    targets = {"nodes": tuple(world.node_ids), "resource_groups": tuple(world.group_ids)}
    async with simulator(world, clock) as api:
        right = settings(tmp_path / "right", api.base_url, targets=targets, sources=sources)
        wrong = settings(tmp_path / "wrong", api.base_url, targets=targets, sources=sources)
        api.faults = (skewed(HOUR),)
        await collect(wrong)
        api.faults = ()
        assert not (await collect(wrong)).failures
        assert not (await collect(right)).failures
        for table in ("syslogs", "metric_points", "events"):
            rows = f"SELECT * FROM {table} ORDER BY ALL"
            assert await fetch(wrong, rows) == await fetch(right, rows), table
        marks = "SELECT operation, scope_id, watermark FROM watermarks ORDER BY ALL"
        assert await fetch(wrong, marks) == await fetch(right, marks)
        gap = await fetch(
            wrong, "SELECT reason, toUnixTimestamp(start), state FROM gaps WHERE start > {now:UInt32}", {"now": NOW}
        )
        assert gap == [["dated by a clock that was ahead", (NOW + HOUR) // 60 * 60, "open"]]


@pytest.mark.slow("wrong dates")
async def test_a_watermark_ahead_is_set_back_with_the_journal_lost(tmp_path: Path) -> None:
    """The store alone knows it: the stream takes it over, and takes it back."""
    world = World(11, 2, 0)
    async with simulator(world, faults=[skewed(HOUR)]) as api:
        configuration = configured(tmp_path, api)
        await collect(configuration)
        configuration.journal.path.unlink()
        api.faults = ()
        assert not (await collect(configuration)).failures
        await assert_stored(configuration, world)
        # What was set back once is not taken back by another journal.
        configuration.journal.path.unlink()
        assert not (await collect(configuration)).failures
        await assert_stored(configuration, world)


@pytest.mark.slow("wrong dates")
async def test_a_stream_ahead_of_a_time_in_doubt_is_not_caught_up(
    tmp_path: Path,
) -> None:
    """Where nothing can settle the time, nothing is set back, and the run fails with the reason."""
    world = World(11, 2, 0)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api)
        await collect(configuration)
        # The probe and the machine are two hours behind, and the API does not answer.
        api.faults = (skewed(-2 * HOUR, "probe"), Fault(kind=FaultKind.RESET_BEFORE))
        once = configuration.api.model_copy(update={"retry": RetrySettings(attempts_max=1)})
        configuration = configuration.model_copy(update={"api": once})
        report = await collect(configuration, NOW - 2 * HOUR)
        assert len(report.failures) == 2
        assert all(isinstance(error, ClockError) for error in report.failures.values())
        await assert_stored(configuration, world)


@pytest.mark.slow("wrong dates")
async def test_one_answer_without_a_date_sets_no_stream_back(tmp_path: Path) -> None:
    """On a machine that is a day behind: the last run's account contradicts it, and the next answer has a date."""
    world = World(11, 2, 0)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api)
        await collect(configuration)
        api.faults = (Fault(kind=FaultKind.DATE_MISSING, arrivals=(1, 2)),)
        report = await collect(configuration, NOW - 86_400)
        assert not report.failures
        await assert_stored(configuration, world)
        async with await Owner.open(configuration) as owner:
            assert {state.generation for state in (await owner.journal.streams()).values()} == {0}


@pytest.mark.slow("wrong dates")
async def test_answers_that_are_all_old_are_not_the_present(tmp_path: Path) -> None:
    """Probe and machine agree that the answers are two hours old: what they prove is stored, and the run fails."""
    world = World(11, 2, 0)
    async with simulator(world, faults=[skewed(-2 * HOUR, "calls")]) as api:
        configuration = configured(tmp_path, api)
        report = await collect(configuration)
        assert report.failures or report.clock
        marks = await fetch(configuration, "SELECT toUnixTimestamp(watermark) FROM watermarks")
        assert all(mark <= NOW - 2 * HOUR - SETTLE for (mark,) in marks)
        api.faults = ()
        report = await collect(configuration)
        assert not report.failures
        assert not report.clock
        await assert_stored(configuration, world, since=NOW - 2 * HOUR)


async def test_windows_of_many_old_answers_are_not_read_to_their_end_for_nothing(tmp_path: Path) -> None:
    """Where other operations tell the time, the first answer shows it: a few calls, and nothing is sealed by them."""
    world = World(11, 1, 1, lines_per_second=0.5)
    async with simulator(world, faults=[skewed(-24 * HOUR, "calls", operation="ListSyslogs")]) as api:
        configuration = settings(
            tmp_path, api.base_url, targets={"nodes": world.node_ids, "resource_groups": world.group_ids}
        )
        report = await collect(configuration)
        assert [type(error) for error in report.failures.values()] == [ClockError]
        assert calls(api, "ListSyslogs") <= STALE_ANSWERS_MAX
        marks = await fetch(configuration, "SELECT watermark FROM watermarks WHERE operation = 'ListSyslogs'")
        assert marks in ([], [[None]])
        api.faults = ()
        await collect(configuration)
        stored, truth = (
            await stored_syslogs(configuration),
            true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE),
        )
        assert not differences(truth, stored)


async def test_an_old_answer_in_the_midst_of_a_window_ends_no_second(tmp_path: Path) -> None:
    """The window that the next error leaves open is sealed only as far as its answers prove by their dates."""
    world = World(11, 1, 0, lines_per_second=0.5)
    old = skewed(-1500, "calls", arrivals=(3,))
    refused = Fault(kind=FaultKind.INVALID_PARAMETER, arrivals=(4,))
    async with simulator(world, faults=[old, refused]) as api:
        configuration = configured(tmp_path, api)
        report = await collect(configuration)
        assert report.failures
        assert calls(api, "ListSyslogs") == 4
        marks = await fetch(configuration, "SELECT toUnixTimestamp(watermark) FROM watermarks")
        assert all(mark <= NOW - 1500 - SETTLE for (mark,) in marks)
        await collect(configuration)
        await assert_stored(configuration, world)


@pytest.fixture(params=["Asia/Shanghai", pytest.param("America/New_York", marks=SLOW)])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The machine's time zone; the one before is set again."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize("form", ["asctime", "minus_zero"])
@pytest.mark.slow("wrong dates")
async def test_a_date_without_a_zone_is_utc_on_every_machine(tmp_path: Path, zone: str, form: str) -> None:
    """All forms that HTTP allows, and the zone that is none."""
    world = World(11, 1, 0)
    fault = Fault(kind=FaultKind.DATE_ODD, form=form)
    async with simulator(world, faults=[fault]) as api:
        configuration = configured(tmp_path, api)
        # A machine whose clock is no help.
        report = await collect(configuration, NOW - 30 * 86_400)
        assert not report.failures
        marks = (await status_of(configuration)).streams
        assert {stream.watermark for stream in marks} == {"2025-10-09T08:52:20Z"}, zone


async def status_of(configuration: Settings) -> Status:
    async with await Owner.open(configuration) as owner:
        return await status(owner)
