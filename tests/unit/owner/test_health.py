"""The verdict: what is wrong, in the first sentence, and whether anything is collected at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from collector.owner.health import KINDS, Condition, verdict
from collector.pipeline.facts import ServiceFacts, SourceFacts, Stop
from collector.telemetry.metrics import GAUGES

RULES = Path(__file__).parents[3] / "contrib/prometheus/alerts.yml"
LISTS = {"collected": 2}


def source(name: str, *, behind: float | None = 100.0, new_seconds: float = 0.0) -> SourceFacts:
    return SourceFacts(name, "ListSyslogs", {}, behind, 430.0, 60, 0, 0, new_seconds)


def stop(what: str) -> Stop:
    return Stop(what, "" if what == "account" else "ListSyslogs", "seen", 0, None)


def of(what: str) -> dict[str, Any]:
    return {"facts": ServiceFacts((), (stop(what),))}


def service(**facts: Any) -> Condition:
    return Condition(**{"states": {"collected": 3}, "is_service": True, "expects_targets": True} | facts)


@pytest.mark.parametrize(
    ("facts", "kinds", "is_ready", "headline"),
    [
        ({}, [], True, "All is well: 3 streams are collected."),
        ({"states": {"collected": 3, "ended": 4}}, [], True, "All is well: 3 streams are collected."),
        ({"states": {"collected": 3, "new": 2}}, [], True, "All is well: 3 of 5 streams are collected, 2 are new."),
        ({"states": {}}, ["nothing"], False, "Nothing is collected: no streams."),
        ({"states": {"ended": 4}}, ["nothing"], False, "Nothing is collected: all 4 streams have ended."),
        ({"states": {"new": 3}}, ["nothing"], False, "Nothing is collected yet: 3 new."),
        ({"states": {"new": 1, "failing": 2}}, ["nothing", "failing"], False, "Nothing is collected yet: 1 new, 2 f"),
        ({"states": {"waiting": 3}}, ["nothing"], False, "Nothing is collected: all 3 streams wait for another"),
        ({"states": {"failing": 2, "stopped": 1}}, ["nothing"], False, "Every stream fails."),
        ({"states": {"collected": 2, "waiting": 1}}, ["waiting"], True, "1 of 3 streams wait for another journal."),
        ({"states": {"collected": 2, "failing": 1}}, ["failing"], True, "1 of 3 streams fail."),
        ({"states": LISTS, "lists": LISTS}, ["nothing"], False, "Nothing is collected: no target has been discovered."),
        ({"states": LISTS, "lists": LISTS, "expects_targets": False}, [], True, "All is well: 2 streams are"),
        (
            {"states": {"collected": 2, "failing": 3}, "lists": LISTS},
            ["nothing", "failing"], False, "Nothing is collected yet: 3 failing; 3 of 5 streams fail.",
        ),
        (of("account") | {"states": {"stopped": 3}}, ["account", "nothing"], False, "The account is stopped; every"),
        (of("account"), ["account"], False, "The account is stopped."),
        (of("operation"), ["operation"], True, "ListSyslogs is stopped."),
        (of("circuit"), ["circuit"], True, "ListSyslogs keeps failing."),
        (of("circuit") | {"states": {"failing": 3}}, ["circuit", "nothing"], False, "ListSyslogs keeps failing; every"),
        (of("budget"), ["budget"], True, "The budget stops ListSyslogs."),
        (of("budget") | {"budget_reached": "2026-11"}, ["budget"], True, "The budget stops ListSyslogs."),
        ({"budget_reached": "2026-11"}, ["budget"], True, "The budget of 2026-11 is reached."),
        ({"store_error": "away"}, ["store"], False, "The store takes no rows."),
        ({"journal_trouble": "the disk is full"}, ["journal"], False, "The disk is full."),
        ({"ahead": 1}, ["ahead"], True, "1 streams are collected beyond"),
        ({"clock_doubt": "two clocks"}, ["clock"], True, "The clock is in doubt."),
        ({"not_begun": "it starts", "states": {}}, ["starting"], False, "Collecting has not begun."),
        ({"facts": ServiceFacts((source("syslogs"),), ())}, [], True, "All is well"),
        ({"facts": ServiceFacts((source("syslogs", behind=431.0),), ())}, ["behind"], True, "Syslogs is behind."),
        (
            {"facts": ServiceFacts((source("syslogs", behind=None, new_seconds=431.0),), ())},
            ["behind"], True, "Syslogs is behind.",
        ),
        # Without a service
        ({"is_service": False}, [], True, "3 streams, none fails; no service runs."),
        ({"is_service": False, "is_run": True, "states": {"new": 3}}, [], True, "3 streams, none fails; a run"),
        ({"is_service": False, "states": {}, "has_history": False}, ["nothing"], False, "No history here yet."),
        ({"is_service": False, "states": {}}, ["nothing"], False, "Nothing is collected: no streams."),
        ({"is_service": False, "states": {"ended": 2}}, ["nothing"], False, "Nothing is collected: all 2 streams"),
        ({"is_service": False, "states": {"failing": 1, "collected": 2}}, ["failing"], True, "1 of 3 streams fail."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_first(facts: dict[str, Any], kinds: list[str], is_ready: bool, headline: str) -> None:
    """Each kind of trouble, alone and together: what it is, whether anything is collected, and the sentence."""
    judged = verdict(service(**facts))
    assert [reason.kind for reason in judged.reasons] == kinds
    assert (judged.is_well, judged.is_ready) == (not kinds, is_ready)
    assert judged.headline.startswith(headline)
    assert all(reason.action for reason in judged.reasons)


def test_where_nothing_is_collected_all_is_never_well() -> None:
    """Whatever else is so."""
    for states in ({}, *({state: 5} for state in ("new", "failing", "stopped", "waiting", "ended"))):
        for is_service in (True, False):
            judged = verdict(Condition(states=states, is_service=is_service))
            assert not judged.is_well
            assert not judged.is_ready
            assert "well" not in judged.headline


def test_every_kind_of_trouble_has_its_alert() -> None:
    """The rules take what is wrong from the one metric, and leave nothing out."""
    told = re.findall(r'pai_collector_unwell\{reason=~?"([a-z|]+)"\}', RULES.read_text())
    assert {kind for alternatives in told for kind in alternatives.split("|")} == set(KINDS)
    assert GAUGES["unwell"][1] == ("reason", "subject")
