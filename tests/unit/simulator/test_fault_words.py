"""Faults as a person writes them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from collector.cli.app import main
from collector.cli.exits import ExitStatus
from collector.simulator.fault_words import SHORT, parse_fault
from collector.simulator.faults import SUMMARIES, Fault, FaultKind


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("429=0.05", "throttle_429", {"probability": 0.05}),
        ("throttle-429=5%", "throttle_429", {"probability": 0.05}),
        ("429=3s,rate=10%", "throttle_429", {"retry_after_seconds": 3.0, "probability": 0.1}),
        ("503=30s", "error_503", {"retry_after_seconds": 30.0}),
        ("slow=2s", "latency", {"seconds_min": 2.0, "seconds_max": 2.0}),
        ("slow=100ms-5s, operation=ListSyslogs, node=n1", "latency",
         {"seconds_min": 0.1, "seconds_max": 5.0, "operation": "ListSyslogs", "scope_id": "n1"}),
        ("once:hang", "hang", {"times_max": 1}),
        ("once:429=5%", "throttle_429", {"times_max": 1, "probability": 0.05}),
        ("500,times=3,group=g1", "error_500", {"times_max": 3, "scope_id": "g1"}),
        ("reset,calls=2-4", "reset_before", {"arrivals": (2, 3, 4)}),
        ("truncated,calls=7", "truncated", {"arrivals": (7,)}),
        ("date_skewed=-2h,answers=probe", "date_skewed", {"skew_seconds": -7200.0, "answers": "probe"}),
        ("date_odd,form=rfc850", "date_odd", {"form": "rfc850"}),
        ("oversized,bytes=8MiB", "oversized", {"bytes": 8 << 20}),
        ("type_drift,share=50%", "type_drift", {"share": 0.5}),
    ],
)  # fmt: skip
def test_a_fault_is_read(text: str, kind: str, values: dict[str, Any]) -> None:
    """Kind, rate or time, and what narrows it."""
    assert parse_fault(text) == Fault(kind=FaultKind(kind), **values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "got fault ''; expected one of 429, 400, "),
        ("gremlins", "got fault 'gremlins'; expected one of 429"),
        ("hangs", "got fault 'hangs'; did you mean hang?"),
        ("429=150%", "got '150%'; expected a rate from 0 to 1, such as 0.05 or 5%"),
        ("429=soon", "throttle_429: got 'soon'; expected a rate such as 0.05 or a duration such as 2s"),
        ("404=2s", "not_found: got '2s'; expected a rate such as 0.05 or 5%"),
        ("slow=5s-1s", "seconds: expected 0 <= min <= max, got 5.0 and 1.0"),
        ("500,nodes=n1", "got 'nodes=n1'; expected NAME=VALUE with a name of operation, node, rate"),
        ("500,node", "got 'node'; expected NAME=VALUE"),
        ("500,node=n1,scope=n2", "node is given twice"),
        ("500,operation=ListSyslog", "operation: expected one of "),
        ("500,times=0", "times: got '0'; expected a whole number from 1"),
        ("500,calls=5-2", "calls: got '5-2'; expected numbers from 1 to 1,000,000, the smaller one first"),
        ("500,calls=x", "calls: got 'x'; expected the number of a call, from 1, or a range such as 2-5"),
        ("date_odd,form=mine", "form: got 'mine'; expected one of asctime, rfc850, minus_zero"),
        ("date_missing,node=n1", "the Date is no node's; name an operation instead"),
        ("500,node=n3", "node: got 'n3', which is not simulated; there is n1"),
    ],
)
def test_a_fault_that_makes_no_sense_is_told_what_would(text: str, says: str) -> None:
    """With what was seen, and what would be right."""
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_fault(text, ["n1", "other"])


def test_every_kind_is_listed_by_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """With what a client sees of it; short words stand beside those that they are for."""
    assert set(SUMMARIES) == set(FaultKind)
    assert main(["simulate", "--help"]) == ExitStatus.DONE
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]

    for kind, (what, _) in SUMMARIES.items():
        short = next((f", {word}" for word, meant in SHORT.items() if meant is kind), "")
        assert any(line.startswith(f"{kind}{short} ") and line.endswith(what) for line in lines), kind


def test_all_wrong_faults_of_a_command_line_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its text, before anything listens."""
    assert main(["simulate", "--fault", "gremlins", "--fault", "500,node=nobody"]) == ExitStatus.USAGE
    said = capsys.readouterr().err

    assert "--fault: got fault 'gremlins'" in said
    assert "--fault: '500,node=nobody': node: got 'nobody', which is not simulated; there is " in said
