"""What simulations have found, each as the shortest history that showed it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from collector.errors import StoreUnavailable
from collector.owner.instance import Owner
from tests.simulation.history import History, Incident, Kind, LongStretch, draw
from tests.simulation.shrink import played
from tests.support import NOW, configuration


def history(*incidents: tuple[Kind, float, float]) -> History:
    """One node, one group, a few minutes, and these incidents: kind, second, how long."""
    return replace(
        draw(5), minutes=4, nodes=1, groups=1, interval=40, flush_seconds=5.0, lines_per_second=0.15, rechecks=(90,),
        long_lines=(), segment_bytes=0,
        incidents=tuple(
            Incident(number, kind, at, seconds, 1, 0) for number, (kind, at, seconds) in enumerate(incidents, start=1)
        ),
    )  # fmt: skip


@pytest.mark.parametrize("at", [60.0, 90.0])
def test_parts_of_the_meter_outlive_a_long_outage(at: float) -> None:
    """One whose answer was lost for longer than its token is trusted is sent again: nothing could be compared."""
    assert not played(history((Kind.TOKENS_FORGOTTEN, at, 20.0))).broken


@pytest.mark.parametrize("seed", [3, 18, 36])
def test_a_watermark_waits_for_refused_rows(seed: int) -> None:
    """A row that the store refuses is not stored before its dead letter is: only then may the watermark pass it."""
    crashes = [(Kind.CRASH_AFTER_INSERT, 100.0, 1.0), (Kind.CRASH_AFTER_INSERT, 150.0, 1.0)]
    refused = history((Kind.POISON, 0.0, 0.0), *crashes)
    assert not played(replace(refused, seed=seed, flush_seconds=15.0)).broken


@pytest.mark.parametrize("seed", [7, 15])
def test_rechecks_are_owed_though_the_journal_is_lost(seed: int) -> None:
    """A recheck waits until it spans some looks: one that was still due is made by the new journal."""
    lost = history((Kind.LATE_ROWS, 200.0 + seed * 10 % 90, 0.0), (Kind.JOURNAL_LOST, 430.0, 5.0))
    late = replace(lost.incidents[0], count=40)
    lost = replace(lost, seed=seed, begins=NOW, minutes=9, interval=90, settle=25, rechecks=(120,))
    assert not played(replace(lost, incidents=(late, lost.incidents[1]))).broken


@pytest.mark.parametrize("at", [101.0, 118.0, 150.0])
def test_a_service_ends_in_good_order_while_its_journal_is_locked(at: float) -> None:
    """What waits for the journal gives up, and that is no fault of the service: it comes back with all that it had."""
    assert not played(history((Kind.JOURNAL_LOCKED, 100.0, 60.0), (Kind.RESTART, at, 5.0))).broken


def test_a_clock_that_is_behind_is_found_out_though_nothing_is_due() -> None:
    """Begun while the service was away, on a machine a day behind: every stream seems to be ahead of now."""
    one = replace(draw(3451).only((3, 6, 7)), minutes=8, nodes=1, groups=1, rechecks=())
    assert [each.kind for each in one.incidents] == [Kind.CLOCK_STEP, Kind.API_AWAY, Kind.SHARDS]
    assert not played(one).broken


def test_a_page_that_repeats_at_the_edge_of_its_window_is_stored_once() -> None:
    """Of its records only those of one second belong to the window, which begins in a busy one."""
    edge = replace(
        draw(1138), minutes=1, nodes=1, groups=1, rechecks=(), segment_bytes=3_000,
        long_lines=(LongStretch(0, -46, 20, 8, 900, is_equal=False),),
        incidents=(Incident(6, Kind.PAGES_REPEAT, 46.15626255283139, 208.68219663466726, 1, 1),),
    )  # fmt: skip
    assert not played(edge).broken


async def test_a_start_without_its_store_says_so(tmp_path: Path) -> None:
    """Whatever keeps an owner from opening is what its caller is told."""
    wanted = configuration(tmp_path, "http://127.0.0.1:1", store={"url": "http://127.0.0.1:1/pai"})
    with pytest.raises(StoreUnavailable):
        await Owner.open(wanted, threaded=False)


def test_a_refused_row_is_one_dead_letter_though_the_journal_is_lost() -> None:
    """It is in no table, but the new journal has to compare its range all the same."""
    one = replace(
        history(), seed=21, begins=1_759_999_961, minutes=3, page_size=6, users_page_size=50, settle=60, rechecks=(),
        flush_seconds=15.0, lines_per_second=0.06, tokens_max=1,
        incidents=(
            Incident(1, Kind.OLD_JOURNAL, 38.88258262090251, 112.26948516306793, 4, 0),
            Incident(3, Kind.POISON, 142.67400447604436, 59.86586648781237, 4, 0),
        ),
    )  # fmt: skip
    assert not played(one).broken


def test_a_total_that_wavers_hides_no_user() -> None:
    """One user more than a page holds, and totals that are one too few."""
    one = replace(
        history(), seed=902, begins=1_761_955_127, page_size=40, users_page_size=4, interval=60, settle=40,
        rechecks=(60, 180), lines_per_second=0.02, tokens_max=1000,
        incidents=(
            Incident(1, Kind.CRASH_AFTER_COMMIT, 43.316215306577035, 123.69102578000255, 9, 0),
            Incident(2, Kind.API_ERRORS, 170.92038139012044, 114.42810815530734, 4, 1),
            Incident(3, Kind.JOURNAL_LOCKED, 193.0973266031197, 23.587405320825333, 2, 0),
        ),
    )  # fmt: skip
    assert not played(one).broken


def test_what_another_process_sealed_while_dates_were_ahead_is_collected_again() -> None:
    """The stream is taken over with a watermark that its writer's own clock had not reached."""
    one = replace(
        history(), seed=153, begins=1_761_926_221, minutes=10, nodes=2, page_size=12, users_page_size=50, interval=90,
        settle=25, rechecks=(), flush_seconds=15.0, tokens_max=1000,
        incidents=(
            Incident(1, Kind.SHARDS, 189.6080596034446, 0.0, 3, 0),
            Incident(5, Kind.SHARDS, 585.3547472845798, 0.0, 2, 0),
            Incident(6, Kind.DATES_AHEAD, 409.74365756669727, 376.4482919155264, 2, 0),
        ),
    )  # fmt: skip
    assert not played(one).broken


def test_a_line_on_a_page_that_repeats_is_stored_once_though_its_window_is_read_again() -> None:
    """Its cursor dies after the page came three times; the reading that ends has the line once."""
    one = replace(draw(1685).only((6, 7)), minutes=3, nodes=1, groups=1, rechecks=())
    assert not played(one).broken


def test_a_range_that_is_collected_again_because_dates_went_back_is_covered_again() -> None:
    """After a restart all dates are ten minutes old: the streams are set back, as if those before had been ahead."""
    one = replace(draw(2164).only((1, 3, 6, 7)), minutes=4, rechecks=())
    assert Kind.DATES_STALE in [each.kind for each in one.incidents]
    outcome = played(one)
    assert any("'stream_set_back'" in line for line in outcome.log)
    assert not outcome.broken


def test_a_window_whose_last_page_denies_itself_hides_no_line() -> None:
    """Each reading ends early by a page without records that counts more of them."""
    assert not played(replace(draw(3694).only((6, 9)), minutes=9, groups=1, rechecks=())).broken


def test_a_window_of_one_second_after_a_start_goes_on_where_the_journal_ends() -> None:
    """It spans no more than a call for the time, and is no such call."""
    assert not played(replace(draw(3796).only((2, 4)), minutes=2, rechecks=())).broken


def test_few_rows_that_are_in_order_by_chance_end_no_window() -> None:
    """A window of two seconds holds three lines of a shuffled page; the others are of the seconds beside it."""
    assert not played(replace(draw(4774).only((4,)), minutes=2, rechecks=())).broken
