"""The simulated world: pure, complete, and as odd as real logs are."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.catalogue.products.eflo_controller import SyslogRecord
from collector.catalogue.products.pai_studio import UserViewMetric
from collector.simulator.hashing import fraction, poisson_table
from collector.simulator.nodes import LINES, TABLE, Profile
from collector.simulator.usage import RATE_FIELDS
from collector.simulator.world import ARRIVAL_DELAY_SECONDS_MAX, LateRows, LongLines, Record, World

T = 1_760_000_000
DAY = 86_400
WORLD = World(seed=7)
"""Shared by tests that put nothing into it."""


def node_of(profile: Profile, world: World = WORLD) -> str:
    return next(node_id for node_id in world.node_ids if world.profile(node_id) is profile)


def lines(world: World, start: int, end: int) -> list[Record]:
    return [record for node_id in world.node_ids for record in world.truth(node_id, start, end)]


def test_two_worlds_of_one_seed_are_the_same() -> None:
    """Seed and size fix every record, every user and every id."""
    one, other = World(seed=3, node_count=4), World(seed=3, node_count=4)

    assert one.node_ids == other.node_ids == [f"e01-cn-sim{n:04d}" for n in (1, 2, 3, 4)]
    assert one.group_ids == other.group_ids == ["rgsim0001", "rgsim0002"]
    assert lines(one, T, T + 900) == lines(other, T, T + 900)
    assert one.snapshot("rgsim0002", T) == other.snapshot("rgsim0002", T)


def test_another_seed_is_another_world() -> None:
    """Two seeds share no pack id and hardly a message."""
    one, other = (World(seed=seed, node_count=2, lines_per_second=1.0) for seed in (1, 2))

    packs = [{record.wire["TagPackId"] for record in lines(world, T, T + 300)} for world in (one, other)]

    assert packs[0]
    assert not packs[0] & packs[1]


def test_a_second_does_not_depend_on_what_was_read_before() -> None:
    """Seconds read in any order, from a fresh world each or from one, hold the same records."""
    node_id = node_of(Profile.BUSY)
    forward = {second: WORLD.records(node_id, second) for second in range(T, T + 200)}
    shuffled = list(forward)
    random.Random(1).shuffle(shuffled)
    fresh = World(seed=7)

    assert {second: fresh.records(node_id, second) for second in shuffled} == forward
    assert [record for records in forward.values() for record in records] == fresh.truth(node_id, T, T + 200)


@given(
    start=st.integers(0, 4_000_000_000),
    seconds=st.integers(1, 400),
    node=st.integers(0, 19),
)
@settings(max_examples=60, deadline=None)
def test_a_window_holds_the_truth_once_all_is_visible(start: int, seconds: int, node: int) -> None:
    """At any time in history, a closed range read late enough equals the truth of the half-open one."""
    node_id = WORLD.node_ids[node]
    last = start + seconds - 1

    window = WORLD.window(node_id, start, last, now=last + ARRIVAL_DELAY_SECONDS_MAX)

    assert window == WORLD.truth(node_id, start, start + seconds)
    assert [(r.time, r.sequence) for r in window] == sorted({(r.time, r.sequence) for r in window})
    assert all(start <= record.time <= last for record in window)


def test_a_record_is_readable_only_after_its_arrival() -> None:
    """A window at `now` holds exactly the records whose arrival is not in its future."""
    node_id = node_of(Profile.BUSY)
    truth = WORLD.truth(node_id, T, T + 120)

    for now in (T, T + 40, T + 60, T + 119, T + 130):
        assert WORLD.window(node_id, T, T + 119, now) == [r for r in truth if r.visible_at <= now]
    delays = {record.visible_at - record.time for record in truth}
    assert min(delays) >= 0
    assert max(delays) <= ARRIVAL_DELAY_SECONDS_MAX
    assert len(delays) > 5


def test_a_pack_arrives_as_one() -> None:
    """All lines of a pack have one receive time, and it is the time from which they can be read."""
    receive_times: dict[str, set[int]] = {}
    for record in lines(WORLD, T, T + 300):
        assert record.wire["TagReceiveTime"] == str(record.visible_at)
        receive_times.setdefault(record.wire["TagPackId"], set()).add(record.visible_at)

    assert len(receive_times) > 100
    assert all(len(times) == 1 for times in receive_times.values())


def test_a_record_has_the_eighteen_fields_as_the_service_spells_them() -> None:
    """Each record has every documented field and no other, all of them text, and is of its node and second."""
    names = set(SyslogRecord.__struct_encode_fields__)
    assert len(names) == 18

    for node_id in WORLD.node_ids:
        for record in WORLD.truth(node_id, T, T + 600):
            assert set(record.wire) == names
            assert all(type(value) is str for value in record.wire.values())
            assert record.wire["NodeId"] == node_id
            assert record.wire["Time"] == str(record.time)


def test_nodes_differ_in_how_much_they_log() -> None:
    """Of ten nodes six are quiet, three normal, one is busy; together they log 0.3 to 1 line a second each."""
    assert Counter(map(WORLD.profile, WORLD.node_ids)) == {Profile.QUIET: 12, Profile.NORMAL: 6, Profile.BUSY: 2}
    rates = {node_id: len(WORLD.truth(node_id, T, T + 4 * 3600)) / (4 * 3600) for node_id in WORLD.node_ids}

    assert 0.3 < sum(rates.values()) / 20 < 1
    for node_id, rate in rates.items():
        low, high = {Profile.QUIET: (0.001, 0.3), Profile.NORMAL: (0.2, 2), Profile.BUSY: (3.5, 6)}[
            WORLD.profile(node_id)
        ]
        assert low < rate < high


def test_history_has_what_breaks_careless_collectors() -> None:
    """A day holds bursts, seconds of more than a page, equal lines, empty fields, and text of every sort."""
    node_id = node_of(Profile.NORMAL)
    truth = WORLD.truth(node_id, T, T + DAY)
    by_second = Counter(record.time for record in truth)
    messages = "".join(record.wire["Msg"] for record in truth)

    assert 100 < max(by_second.values()) <= 420
    assert any(by_second[s] > 50 and by_second[s + 1] > 50 for s in by_second)
    # Lines with a session number: two that are equal are one said twice, not chance.
    equal = Counter((r.time, *r.wire.values()) for r in truth if "Session" in r.wire["Msg"])
    assert sum(count > 1 for count in equal.values()) > 5
    assert all(c in messages for c in '"\\\t\n\u2028心🚀')
    assert any(record.wire["Msg"] == "" for record in truth)
    firsts = [WORLD.records(n, next(WORLD.active_seconds(n, T, T + DAY)))[0].wire for n in WORLD.node_ids]
    for optional in ("Domain", "Sn", "TagUserDefinedId"):
        assert 0 < sum(wire[optional] == "" for wire in firsts) < 20


def test_every_kind_of_line_can_be_told() -> None:
    """Each line has a place in the table, and drivers' lines read as the drivers write them."""
    world = World(seed=5, node_count=1, lines_per_second=20)
    messages = [record.wire["Msg"] for record in world.truth(world.node_ids[0], T, T + 900)]

    assert set(TABLE) == set(LINES)
    assert len(TABLE) == 1024
    for text in ("GPU has fallen off the bus.", "SXid (PCI:", "Out of memory: Killed process", "soft lockup",
                 "Machine Check", "Row Remapper", "NCCL WARN", "EXT4-fs error", "bond0:"):  # fmt: skip
        assert any(text in message for message in messages), text


def test_in_a_calm_world_one_node_in_six_logs_faults() -> None:
    """The others have hardly any, their everyday lines stay, and the faulty node is as in any other world."""
    calm, plain = World(seed=7, node_count=6, calm=True), World(seed=7, node_count=6)
    shares = []
    for node_id in calm.node_ids:
        messages = [record.wire["TagPath"] for record in calm.truth(node_id, T, T + 6 * 3600)]
        shares.append(messages.count("/var/log/kern") / len(messages))
    faulty = calm.node_ids[1]
    assert calm.truth(faulty, T, T + 3600) == plain.truth(faulty, T, T + 3600)
    assert shares[1] > 0.1
    assert all(share < 0.01 for number, share in enumerate(shares) if number != 1)


def test_without_bursts_and_with_a_rate_the_world_is_even() -> None:
    """`lines_per_second` makes all nodes alike; `density` multiplies; neither changes who they are."""
    even = World(seed=7, lines_per_second=2.0, bursts=False)
    dense, plain = World(seed=7, density=3.0, bursts=False), World(seed=7, bursts=False)

    assert all(1.8 < len(even.truth(node_id, T, T + 1800)) / 1800 < 2.2 for node_id in even.node_ids)
    assert 2.5 < len(lines(dense, T, T + 1800)) / len(lines(plain, T, T + 1800)) < 3.5
    assert even.node_ids == dense.node_ids == plain.node_ids


def test_late_rows_are_in_the_truth_and_appear_once_and_only_after_their_time() -> None:
    """Late rows add exactly their count, in their range, and no window before `visible_at` has them."""
    world = World(seed=7)
    node_id = node_of(Profile.QUIET)
    before = world.truth(node_id, T, T + 600)

    added = world.add_late(LateRows(node_id, T + 100, T + 200, count=30, visible_at=T + 5000))

    assert len(added) == 30
    assert world.window(node_id, T, T + 599, now=T + 4999) == before
    after = world.window(node_id, T, T + 599, now=T + 5000)
    assert after == world.truth(node_id, T, T + 600)
    assert sorted(after) == sorted(before + added)
    assert [(r.time, r.sequence) for r in after] == sorted((r.time, r.sequence) for r in after)
    assert all(T + 100 <= record.time < T + 200 for record in added)
    assert {record.wire["TagReceiveTime"] for record in added} == {str(T + 5000)}


def test_late_rows_are_the_same_however_they_come_in() -> None:
    """At construction or later, one list of late rows gives one history; a second helping gives other rows."""
    rows = LateRows(WORLD.node_ids[0], T, T + 60, count=20, visible_at=T + 90)
    early, later = World(seed=7, late=[rows]), World(seed=7)
    later.add_late(rows)

    assert early.truth(rows.node_id, T, T + 60) == later.truth(rows.node_id, T, T + 60)
    assert early.late_version(rows.node_id) == 1
    assert not {str(r.wire) for r in later.add_late(rows)} & {str(r.wire) for r in early.truth(rows.node_id, T, T + 60)}


@pytest.mark.parametrize(
    ("start", "end", "count", "visible_at"),
    [(T, T, 1, T), (T + 1, T, 1, T + 2), (T, T + 9, -1, T + 9), (T, T + 60, 1, T + 58)],
    ids=["empty range", "backwards", "negative", "seen before it happened"],
)
def test_senseless_late_rows_are_refused(start: int, end: int, count: int, visible_at: int) -> None:
    """Late rows need a range, a count, and a time that is not before them."""
    with pytest.raises(ValueError, match="late rows"):
        LateRows("e01-cn-sim0001", start, end, count, visible_at)


def test_a_snapshot_is_a_pure_function_of_the_minute() -> None:
    """Within a minute nothing moves; the next minute has other figures for the same users."""
    one, same, later = (WORLD.snapshot("rgsim0001", second) for second in (T - T % 60, T - T % 60 + 59, T + 60))

    assert one == same
    assert one != later
    assert [u["UserId"] for u in one["UserMetrics"]] == [u["UserId"] for u in later["UserMetrics"]]
    assert one != WORLD.snapshot("rgsim0001", T, time_step="1h")
    assert one != WORLD.snapshot("rgsim0002", T)


def test_a_snapshot_is_spelled_as_the_service_spells_it() -> None:
    """Users and summary have the documented fields; rates are numbers in strings; Total counts the records."""
    names = set(UserViewMetric.__struct_encode_fields__)
    snapshot = WORLD.snapshot("rgsim0001", T)
    users = snapshot["UserMetrics"]

    assert snapshot["Total"] == len(users)
    assert 3 <= len(users) <= 40
    for record in [*users, snapshot["Summary"]]:
        assert set(record) == names
        assert all(type(record[name]) is str and float(record[name]) >= 0 for name in RATE_FIELDS)
    assert snapshot["Summary"]["RequestGPU"] == sum(user["RequestGPU"] for user in users)


def test_a_large_group_has_as_many_records_as_asked_and_no_two_of_one_user_and_job_type() -> None:
    """`users_per_group` fixes the records; some users have two, of different job types."""
    users = World(seed=7, group_count=1, users_per_group=1500).snapshot("rgsim0001", T)["UserMetrics"]

    assert len(users) == 1500
    assert len({(user["UserId"], user["JobType"]) for user in users}) == 1500
    assert len({user["UserId"] for user in users}) == 1350


@pytest.mark.parametrize("time_step", ["", "0m", "5d", "m", "-5m", "5 m", "1.5h"])
def test_a_time_step_that_is_none_is_refused(time_step: str) -> None:
    """Only whole numbers of h, m, s or bare seconds are time steps."""
    with pytest.raises(ValueError, match="time step"):
        WORLD.snapshot("rgsim0001", T, time_step=time_step)


def test_what_does_not_exist_is_a_key_error() -> None:
    """Unknown nodes and groups are never read as quiet ones."""
    for read in (lambda: WORLD.truth("e01-cn-nobody", T, T + 9), lambda: WORLD.snapshot("rgnobody", T)):
        with pytest.raises(KeyError):
            read()


@pytest.mark.parametrize("mean", [0.0, 0.3, 4.0, 40.0, 5000.0])
def test_a_table_of_counts_keeps_its_mean(mean: float) -> None:
    """The table that stands in for a Poisson draw has its mean, within what 64 places allow."""
    table = poisson_table(mean)

    assert len(table) == 64
    assert sum(table) / 64 == pytest.approx(mean, rel=0.06)


def test_a_fraction_is_never_one() -> None:
    """The highest bits give a number below 1, so a probability of 1 always fires."""
    assert fraction((1 << 64) - 1) < 1
    assert fraction(0) == 0


def test_long_lines_of_two_stretches_have_places_of_their_own() -> None:
    """Pages are cut by the place of a record in its second: where two had the same, one would be passed over."""
    world = World(3, 1, 1, lines_per_second=0.2)
    (node_id,) = world.node_ids
    for size in (10, 20):
        world.add_long(LongLines(node_id, T, T + 2, 5, size))
    world.add_late(LateRows(node_id, T, T + 1, 3, T + 9))
    records = world.records(node_id, T)
    places = [record.sequence for record in records]
    assert places == sorted(set(places))
    assert [len(record.wire["Msg"]) for record in records].count(20) >= 5
