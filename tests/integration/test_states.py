"""Things that exist and change: a row for each state that was seen, and none for a look that shows nothing new."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from collector.catalogue.answers import Answer
from collector.catalogue.products.eflo_controller import (
    ClusterRecord,
    DescribeDiagnosticResultAnswer,
    DiagnosticRecord,
    ListClustersAnswer,
    ListDiagnosticResultsAnswer,
)
from collector.errors import TransientError
from collector.owner.instance import Owner
from collector.pipeline.streams import ACCOUNT_SCOPE, StateStreams
from collector.settings import Settings
from collector.sources.diagnostics import DiagnosticsSource
from collector.sources.inventory import InventorySource
from tests.support import NOW
from tests.support.scripted_client import run

TICK = 600
CLUSTERS = StateStreams("inventory", InventorySource("cluster"), [ACCOUNT_SCOPE], interval=TICK)
DIAGNOSES = StateStreams("diagnostics", DiagnosticsSource(), [ACCOUNT_SCOPE], interval=TICK)


def clusters(*names: str, cursor: str | None = None, state: str = "running") -> ListClustersAnswer:
    records = [ClusterRecord(cluster_id=name, cluster_name=name.upper(), operating_state=state) for name in names]
    return ListClustersAnswer(request_id="r", clusters=records, next_token=cursor)


async def look(owner: Owner, answer: Answer, now: int) -> None:
    await run(owner, lambda _: (answer, now), CLUSTERS, date=now)


async def seen(owner: Owner) -> list[list[Any]]:
    """(time after NOW, object, present, state) of every stored row."""
    return await owner.store.fetch(
        "SELECT toUnixTimestamp(observed_at) - {now:UInt32}, object_id, is_present, state FROM inventory_states"
        " ORDER BY observed_at, object_id",
        {"now": NOW},
    )


async def test_a_state_is_stored_when_it_changes(owner: Owner) -> None:
    """The first look stores all there is, a look at the same list nothing, a changed object its new state."""
    await look(owner, clusters("a", "b"), NOW)
    await look(owner, clusters("a", "b"), NOW + TICK)
    changed = [*(clusters("a").clusters or ()), *(clusters("b", state="stopped").clusters or ())]
    await look(owner, ListClustersAnswer(clusters=changed), NOW + 2 * TICK)
    assert await seen(owner) == [[0, "a", 1, "running"], [0, "b", 1, "running"], [2 * TICK, "b", 1, "stopped"]]


async def test_a_list_is_asked_once_a_tick(owner: Owner) -> None:
    """Two runs within one interval cost the calls of one."""
    await look(owner, clusters("a"), NOW)
    client = await run(owner, lambda _: (clusters("a"), NOW + 1), CLUSTERS, date=NOW + 1)
    assert client.asked == []


async def test_what_a_complete_list_holds_no_more_is_gone_and_may_come_back(owner: Owner) -> None:
    """A node that was released is not shown as running for ever."""
    await look(owner, clusters("a", "b"), NOW)
    await look(owner, clusters("b"), NOW + TICK)
    await look(owner, clusters("b"), NOW + 2 * TICK)
    await look(owner, clusters("a", "b"), NOW + 3 * TICK)
    assert await seen(owner) == [
        [0, "a", 1, "running"],
        [0, "b", 1, "running"],
        [TICK, "a", 0, "running"],
        [3 * TICK, "a", 1, "running"],
    ]


async def test_an_interrupted_list_goes_on_where_it_stood(owner: Owner) -> None:
    """A page that was paid for is not bought again, and what stood on it is not taken for gone."""
    await look(owner, clusters("a", "b"), NOW)

    def breaks(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        if "NextToken" in asked:
            raise TransientError("the line broke", operation="ListClusters", scope_id=ACCOUNT_SCOPE)
        return clusters("a", cursor="page-2"), NOW + TICK

    with pytest.raises(AssertionError):
        await run(owner, breaks, CLUSTERS, date=NOW + TICK)
    client = await run(owner, lambda _: (clusters("c"), NOW + TICK + 5), CLUSTERS, date=NOW + TICK + 5)
    assert [asked.get("NextToken") for asked in client.asked] == ["page-2"]
    assert await seen(owner) == [
        [0, "a", 1, "running"],
        [0, "b", 1, "running"],
        [TICK + 5, "b", 0, "running"],
        [TICK + 5, "c", 1, "running"],
    ]


async def test_with_the_journal_lost_nothing_is_stored_again_and_what_is_gone_is_found(configuration: Settings) -> None:
    """The store tells a new journal what was seen last."""
    async with await Owner.open(configuration) as owner:
        await look(owner, clusters("a", "b"), NOW)
    for file in configuration.journal.path.parent.glob("journal.db*"):
        file.unlink()
    async with await Owner.open(configuration) as owner:
        await look(owner, clusters("a"), NOW + TICK)
        assert await seen(owner) == [[0, "a", 1, "running"], [0, "b", 1, "running"], [TICK, "b", 0, "running"]]


class Desk:
    """Diagnoses as the service lists and describes them; counts the calls of each kind."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.now = NOW

    def __call__(self, asked: Mapping[str, Any]) -> tuple[Answer, int]:
        if "DiagnosticId" in asked:
            task = asked["DiagnosticId"]
            ended = None if self.states[task] == "Running" else "2025-10-09T08:00:00Z"
            return DescribeDiagnosticResultAnswer(
                diagnostic_id=task, cluster_id="c-1", diagnostic_type="NetDiag", diagnostic_state=self.states[task],
                created_time="2025-10-09T07:00:00", end_time=ended, node_ids=["n-1", "n-2"],
                diagnostic_results=[{"ok": True}],
            ), self.now  # fmt: skip
        records = [DiagnosticRecord(diag_id=task, status=state) for task, state in self.states.items()]
        return ListDiagnosticResultsAnswer(diagnostic_results=records), self.now


async def test_a_diagnosis_is_asked_for_when_the_list_says_that_it_changed(owner: Owner) -> None:
    """One call for the list, and one for each diagnosis that is new or went on; the table shows each as last seen."""
    desk = Desk()
    desk.states = {"d-1": "Fault", "d-2": "Running"}
    first = await run(owner, desk, DIAGNOSES)
    assert first.operations == ["ListDiagnosticResults", "DescribeDiagnosticResult", "DescribeDiagnosticResult"]

    desk.now = NOW + TICK
    same = await run(owner, desk, DIAGNOSES, date=desk.now)
    assert same.operations == ["ListDiagnosticResults"]

    desk.now, desk.states["d-2"] = NOW + 2 * TICK, "Succeed"
    changed = await run(owner, desk, DIAGNOSES, date=desk.now)
    assert changed.operations == ["ListDiagnosticResults", "DescribeDiagnosticResult"]
    shown = "SELECT diagnostic_id, state, node_ids, toUnixTimestamp(observed_at) FROM diagnostics ORDER BY 1"
    assert await owner.store.fetch(shown) == [
        ["d-1", "Fault", ["n-1", "n-2"], NOW],
        ["d-2", "Succeed", ["n-1", "n-2"], NOW + 2 * TICK],
    ]
    assert await owner.store.fetch("SELECT count() FROM diagnostic_states") == [[3]]


async def test_every_call_of_a_look_is_settled(owner: Owner) -> None:
    """Lists and closer looks alike: nothing stays reserved, nothing is settled twice."""
    desk = Desk()
    desk.states = {"d-1": "Fault", "d-2": "Running"}
    await run(owner, desk, DIAGNOSES)
    (reserved,) = await owner.journal.run(lambda db: db.execute("SELECT count() FROM reserved").fetchone())
    assert reserved == 0
    calls = "SELECT operation, sum(calls) FROM api_calls GROUP BY operation ORDER BY 1"
    assert await owner.store.fetch(calls) == [["DescribeDiagnosticResult", 2], ["ListDiagnosticResults", 1]]
