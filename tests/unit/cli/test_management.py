"""The management commands' decisions: what is asked, when a wait ends, what is shown of a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.catalogue.operation import Operation, Price
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.parameters import read_parameters
from collector.catalogue.products.eas import LIST_SERVICES
from collector.catalogue.products.pai_llm_trace import GET_XTRACE_TOKEN
from collector.cli.calling import duration_of, text_of
from collector.cli.commands.diagnostics import begin, task_parameters
from collector.cli.diagnosing import has_ended, minute_of, tasks, watch
from collector.cli.log_shipping import LogShipping, Shipping, require_reached
from collector.cli.manual import example_parameters, listing_json, manual, operation_of
from collector.cli.masking import hide, mask, masked
from collector.cli.waiting import look_until
from collector.errors import (
    CollectorError,
    ConfigError,
    CursorLoopError,
    ForbiddenError,
    NotFoundError,
    ThrottledError,
    TransientError,
    UsageError,
)
from collector.owner.calls import CallResult, checked, cost_text, row_of
from collector.redaction import forget_secrets, redact

CLUSTER, GROUP = "cn-shanghai", "eas-r-1a2b3c"
TOKEN = "canary-token-5e1f0a9c77d24b"


class LeapingClock:
    """A clock whose sleeps pass at once, and are kept."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def wall(self) -> float:
        return 1_760_000_000.0 + self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class Service:
    """Answers calls from a script: for each operation the answers in order, the last one for good."""

    def __init__(self, **script: list[Any]) -> None:
        self.script = script
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, operation: str, parameters: Mapping[str, Any]) -> CallResult:
        checked(CATALOGUE[operation], parameters)
        self.asked.append((operation, dict(parameters)))
        answers = self.script[operation]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return CallResult(operation, answer, 200, "", "unpriced")

    def calls(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.asked)


@pytest.fixture(autouse=True)
def no_secrets() -> Iterator[None]:
    """Registered secrets are forgotten."""
    yield
    forget_secrets()


# Waiting


async def looked(clock: LeapingClock, *states: Any, timeout_seconds: float = 100.0) -> Any:
    left = list(states)

    async def look() -> Any:
        state = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(state, Exception):
            raise state
        return state

    return await look_until(
        look, lambda state: state == "done", clock=clock, timeout_seconds=timeout_seconds, on_look=lambda _: None
    )


async def test_looks_come_less_and_less_often() -> None:
    """Pauses double from 2 to 30 seconds; the first look comes at once."""
    clock = LeapingClock()
    found = await looked(clock, *["busy"] * 7, "done", timeout_seconds=1000.0)
    assert (found.last, found.has_happened) == ("done", True)
    assert clock.sleeps == [2, 4, 8, 16, 30, 30, 30]


async def test_the_last_look_is_when_the_time_is_up() -> None:
    """Nothing is slept past the end, and what is seen then is told."""
    clock = LeapingClock()
    found = await looked(clock, "busy", timeout_seconds=10.0)
    assert (found.last, found.has_happened) == ("busy", False)
    assert clock.sleeps == [2, 4, 4]


async def test_a_passing_failure_is_passed_over_while_there_is_time() -> None:
    """One that stays until the end is raised; one that cannot pass ends the wait at once."""
    found = await looked(LeapingClock(), TransientError("x"), ThrottledError("y"), "done")
    assert found.has_happened
    with pytest.raises(TransientError):
        await looked(LeapingClock(), "busy", TransientError("x"))
    clock = LeapingClock()
    with pytest.raises(ForbiddenError):
        await looked(clock, ForbiddenError("x"))
    assert clock.sleeps == []


# Diagnoses


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        ({"DiagnosticState": "Running"}, False),
        ({"DiagnosticState": "Running", "EndTime": ""}, False),
        ({"DiagnosticState": "in progress"}, False),
        ({"DiagnosticState": "SomethingNew"}, True),
        ({}, False),
        ({"DiagnosticState": None, "EndTime": None}, False),
        ({"DiagnosticState": "Fault"}, True),
        ({"DiagnosticState": "succeed"}, True),
        ({"DiagnosticState": "SomethingNew", "EndTime": "2025-10-09T10:20:30"}, True),
        (["not", "an", "object"], False),
    ],
)
def test_a_diagnosis_has_ended_by_its_end_time_or_by_a_word_that_can_mean_nothing_else(
    answer: Any, ended: bool
) -> None:
    """The service names no states, so an unknown one without an end time is waited for."""
    assert has_ended(answer) is ended


async def test_a_watch_ends_with_the_diagnosis() -> None:
    """Each state is told while it is waited, and the last answer is the result."""
    running, ended = {"DiagnosticState": "Running"}, {"DiagnosticState": "Fault", "DiagnosticResults": [{"a": 1}]}
    service = Service(DescribeDiagnosticResult=[running, TransientError("x"), running, ended])
    clock, seen = LeapingClock(), list[Any]()
    found = await watch(service.ask, "diag-1", clock=clock, timeout_seconds=60, on_look=seen.append)
    assert (found.last, found.has_happened) == (ended, True)
    assert seen == [running, running, ended]
    assert clock.sleeps == [2, 4, 8]


async def test_a_list_goes_over_all_pages_up_to_its_limit() -> None:
    """No page is asked that is not needed, and a page is no larger than the service gives."""
    pages = [
        {"DiagnosticResults": [{"DiagId": str(n)} for n in range(100)], "NextToken": "a"},
        {"DiagnosticResults": None, "NextToken": "b"},
        {"DiagnosticResults": [{"DiagId": str(n)} for n in range(100, 150)], "NextToken": ""},
    ]
    service = Service(ListDiagnosticResults=list(pages))
    assert len(await tasks(service.ask, type_name="NetDiag", limit=1000)) == 150
    assert [asked for _, asked in service.asked] == [
        {"MaxResults": 100, "DiagType": "NetDiag"},
        {"MaxResults": 100, "DiagType": "NetDiag", "NextToken": "a"},
        {"MaxResults": 100, "DiagType": "NetDiag", "NextToken": "b"},
    ]
    service = Service(ListDiagnosticResults=list(pages))
    assert [r["DiagId"] for r in await tasks(service.ask, type_name="", limit=3)] == ["0", "1", "2"]
    assert service.asked == [("ListDiagnosticResults", {"MaxResults": 20})]


async def test_a_list_that_goes_in_a_circle_ends() -> None:
    """A token that comes twice is an error, not a loop."""
    service = Service(ListDiagnosticResults=[{"DiagnosticResults": [], "NextToken": "a"}])
    with pytest.raises(CursorLoopError):
        await tasks(service.ask, type_name="", limit=10)
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1760000400", "1760000400"),
        ("2025-10-09T09:00Z", "1760000400"),
        ("2025-10-09T09:00:00", "1760000400"),
        ("2025-10-09 09:00", "1760000400"),
        ("2025-10-09T17:00:00+08:00", "1760000400"),
    ],
)
def test_a_moment_is_unix_seconds_or_iso(text: str, seconds: str) -> None:
    """Without a zone it is UTC."""
    mistakes: list[str] = []
    assert minute_of("--from", text, mistakes) == seconds
    assert mistakes == []


@pytest.mark.parametrize("text", ["", "now", "20251009", "2025-10-09", "2025-13-09T09:00Z", "1760000400000", "-60", "٣",
                                  "0001-01-01T00:00+08:00", "1e9"])  # fmt: skip
def test_what_is_no_moment_is_one_line(text: str) -> None:
    """The line names the option, what was given and what would be right."""
    mistakes: list[str] = []
    assert minute_of("--to", text, mistakes) == ""
    assert mistakes == [f"--to: expected a moment such as 2025-10-09T08:00Z or 1760000400 (UNIX seconds), got {text!r}"]


@pytest.mark.parametrize("text", ["1760000401", "2025-10-09T09:00:01Z", "2025-10-09T09:00:00.5Z"])
def test_a_moment_within_a_minute_is_one_line(text: str) -> None:
    """The line names the minute before."""
    mistakes: list[str] = []
    minute_of("--from", text, mistakes)
    assert mistakes == [f"--from: expected a whole minute such as 2025-10-09T09:00Z, got {text!r}"]


def test_all_mistakes_of_a_new_task_are_told_at_once(tmp_path: Path) -> None:
    """Each is a line, whatever the others are."""
    with pytest.raises(ConfigError) as raised:
        task_parameters("", ["e01-a", " "], "NetDiag", "1760000401", None, tmp_path / "none.json")
    assert raised.value.mistakes == [
        "--cluster: expected text, got none",
        "--node: expected text, got none",
        "--from and --to: expected both or none",
        "--from: expected a whole minute such as 2025-10-09T09:00Z, got '1760000401'",
        f"--logs: cannot read {tmp_path / 'none.json'}: No such file or directory",
    ]
    with pytest.raises(ConfigError, match="--to: expected a moment not before --from"):
        task_parameters("i1", ["e01-a"], "NetDiag", "1760000460", "2025-10-09T09:00Z", None)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"AiInstance": "a"}', "expected a JSON list"),
        (b"[]", "expected a JSON list"),
        (b"[1]", "expected a JSON list"),
    ],
)
def test_logs_that_are_no_list_of_objects_are_one_line(tmp_path: Path, content: bytes, wrong: str) -> None:
    """Nothing of the file is repeated."""
    path = tmp_path / "logs.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        task_parameters("i1", ["e01-a"], "CheckByAiJobLogs", None, None, path)
    (line,) = raised.value.mistakes
    assert line.startswith(f"--logs: {path}")
    assert wrong in line
    assert len(line) < 300 + len(str(path))


def test_a_new_task_is_what_the_service_takes(tmp_path: Path) -> None:
    """Times become whole minutes in text, nodes a list, logs what the file holds."""
    path = tmp_path / "logs.json"
    logs = [{"AiInstance": "x", "NodeId": "e01-a", "Logs": [{"Datetime": "20251009", "LogContent": "NCCL error"}]}]
    path.write_text(json.dumps(logs))
    assert task_parameters("i1", ["e01-a", "e01-b"], "CheckByAiJobLogs", "2025-10-09T09:00Z", "1760004000", path) == {
        "ClusterId": "i1",
        "NodeIds": ["e01-a", "e01-b"],
        "DiagnosticType": "CheckByAiJobLogs",
        "StartTime": "1760000400",
        "EndTime": "1760004000",
        "AiJobLogs": logs,
    }


async def test_a_task_whose_answer_was_lost_is_not_begun_twice() -> None:
    """The hint says where to look; a call that was only too fast keeps its own advice."""
    service = Service(CreateDiagnosticTask=[TransientError("lost")])
    with pytest.raises(TransientError) as lost:
        await begin(service.ask, {"ClusterId": "i1"})
    assert "diagnostics list" in lost.value.hint
    assert service.calls("CreateDiagnosticTask") == 1
    with pytest.raises(ThrottledError) as fast:
        await begin(Service(CreateDiagnosticTask=[ThrottledError("x", hint="slower")]).ask, {})
    assert fast.value.hint == "slower"


# Log shipping

NOTHING = {"ProjectName": "", "LogStore": "", "Status": "ResourceReady"}
READY = {"ProjectName": "p", "LogStore": "l", "Status": "ResourceReady"}
CREATING = READY | {"Status": "ResourceCreating"}
DELETING = READY | {"Status": "ResourceDeleting"}
OTHER = READY | {"ProjectName": "q"}


def log_shipping(service: Service, clock: LeapingClock | None = None) -> LogShipping:
    return LogShipping(service.ask, clock or LeapingClock(), CLUSTER, GROUP)


async def test_enabling_waits_until_it_is_in_place() -> None:
    """Names that are there while the status still changes are not enough."""
    service = Service(CreateResourceLog=[{}], DescribeResourceLog=[NOTHING, NOTHING, CREATING, READY])
    clock = LeapingClock()
    outcome = await log_shipping(service, clock).enable("p", "l", timeout_seconds=300)
    assert (outcome.shipping, outcome.has_changed, outcome.is_reached) == (Shipping.of(READY), True, True)
    assert clock.sleeps == [2, 4]
    assert service.asked[1] == (
        "CreateResourceLog",
        {"ClusterId": CLUSTER, "ResourceId": GROUP, "ProjectName": "p", "LogStore": "l"},
    )


async def test_enabling_what_is_in_place_asks_for_no_change() -> None:
    """One look is enough; one that is being created is waited for."""
    service = Service(DescribeResourceLog=[READY])
    outcome = await log_shipping(service).enable("p", "l", timeout_seconds=300)
    assert (outcome.has_changed, outcome.is_reached, len(service.asked)) == (False, True, 1)
    service = Service(DescribeResourceLog=[CREATING, CREATING, READY])
    outcome = await log_shipping(service).enable("p", "l", timeout_seconds=300)
    assert (outcome.has_changed, outcome.is_reached, len(service.asked)) == (False, True, 3)


async def test_enabling_does_not_divert_logs_that_go_elsewhere() -> None:
    """The place they go to is named, and no change is asked for."""
    service = Service(DescribeResourceLog=[OTHER])
    with pytest.raises(UsageError, match="go to q/l already"):
        await log_shipping(service).enable("p", "l", timeout_seconds=300)
    assert len(service.asked) == 1


async def test_enabling_a_group_of_which_no_configuration_is_found_asks_for_it() -> None:
    """A service may answer 404 for what is not configured; one that says so of the change as well is believed."""
    service = Service(CreateResourceLog=[{}], DescribeResourceLog=[NotFoundError("x"), NotFoundError("x"), READY])
    assert (await log_shipping(service).enable("p", "l", timeout_seconds=300)).is_reached
    service = Service(CreateResourceLog=[NotFoundError("no group")], DescribeResourceLog=[NotFoundError("x")])
    with pytest.raises(NotFoundError, match="no group"):
        await log_shipping(service).enable("p", "l", timeout_seconds=300)


async def test_a_lost_answer_is_resolved_by_looking() -> None:
    """What has begun is waited for; the change itself is never asked for twice."""
    lost = TransientError("lost")
    service = Service(CreateResourceLog=[lost], DescribeResourceLog=[NOTHING, NOTHING, CREATING, CREATING, READY])
    outcome = await log_shipping(service).enable("p", "l", timeout_seconds=300)
    assert (outcome.has_changed, outcome.is_reached) == (True, True)
    assert service.calls("CreateResourceLog") == 1
    service = Service(DeleteResourceLog=[lost], DescribeResourceLog=[READY, DELETING, DELETING, NOTHING])
    outcome = await log_shipping(service).disable(timeout_seconds=300)
    assert (outcome.has_changed, outcome.is_reached) == (True, True)
    assert service.calls("DeleteResourceLog") == 1


@pytest.mark.parametrize("after", [NOTHING, TransientError("still away")])
async def test_a_change_that_never_began_is_an_error(after: Any) -> None:
    """After half a minute without a sign of it the loss is told, and not waited for any longer."""
    service = Service(CreateResourceLog=[TransientError("lost")], DescribeResourceLog=[NOTHING, after])
    clock = LeapingClock()
    with pytest.raises(TransientError, match="lost"):
        await log_shipping(service, clock).enable("p", "l", timeout_seconds=300)
    assert sum(clock.sleeps) == 30


async def test_disabling_waits_until_nothing_is_configured() -> None:
    """Also where the service then knows of no configuration at all."""
    service = Service(DeleteResourceLog=[{}], DescribeResourceLog=[READY, DELETING, DELETING, NotFoundError("x")])
    outcome = await log_shipping(service).disable(timeout_seconds=300)
    assert (outcome.shipping, outcome.has_changed, outcome.is_reached) == (Shipping(), True, True)


async def test_disabling_what_is_not_there_asks_for_no_change() -> None:
    """A group that does not exist is an error all the same."""
    service = Service(DescribeResourceLog=[NOTHING])
    assert (await log_shipping(service).disable(timeout_seconds=300)).has_changed is False
    assert len(service.asked) == 1
    with pytest.raises(NotFoundError):
        await log_shipping(Service(DescribeResourceLog=[NotFoundError("x")])).disable(timeout_seconds=300)


async def test_what_is_being_switched_off_is_waited_for() -> None:
    """Then it is switched on anew, or has been switched off by somebody else."""
    service = Service(CreateResourceLog=[{}], DescribeResourceLog=[DELETING, DELETING, NOTHING, CREATING, READY])
    outcome = await log_shipping(service).enable("p", "l", timeout_seconds=300)
    assert (outcome.shipping, outcome.has_changed, outcome.is_reached) == (Shipping.of(READY), True, True)
    service = Service(DescribeResourceLog=[DELETING, DELETING, NOTHING])
    outcome = await log_shipping(service).disable(timeout_seconds=300)
    assert (outcome.has_changed, outcome.is_reached) == (False, True)


async def test_a_failed_status_is_an_error() -> None:
    """It says what the service says, also to who does not wait."""
    failed = READY | {"Status": "ResourceFailed", "Message": "no such project"}
    outcome = await log_shipping(Service(DescribeResourceLog=[failed])).enable("p", "l", timeout_seconds=0)
    with pytest.raises(CollectorError, match="the status is ResourceFailed: no such project"):
        require_reached(outcome, "enabled", 0)


async def test_without_waiting_one_look_shows_how_it_stands() -> None:
    """No pause is made, and not being there yet is no error."""
    service = Service(CreateResourceLog=[{}], DescribeResourceLog=[NOTHING, CREATING])
    clock = LeapingClock()
    outcome = await log_shipping(service, clock).enable("p", "l", timeout_seconds=0)
    assert (outcome.shipping.status, outcome.is_reached, clock.sleeps) == ("ResourceCreating", False, [])
    require_reached(outcome, "enabled", 0)


async def test_waiting_too_long_is_an_error_that_tells_the_status() -> None:
    """It says how long was waited."""
    service = Service(CreateResourceLog=[{}], DescribeResourceLog=[NOTHING, CREATING])
    outcome = await log_shipping(service).enable("p", "l", timeout_seconds=300)
    assert outcome.is_reached is False
    with pytest.raises(CollectorError, match="not enabled after 5m; the status is ResourceCreating"):
        require_reached(outcome, "enabled", 300)


@pytest.mark.parametrize(
    ("status", "changes"),
    [("ResourceReady", False), ("Running", False), ("ResourceCreating", True), ("Pending", True), ("", False)],
)
def test_a_status_that_will_change_is_known_by_its_word(status: str, changes: bool) -> None:
    """Running is no such word, though it ends like one."""
    assert Shipping(status=status).is_changing is changes


# Secrets


def test_secrets_are_masked_at_any_depth() -> None:
    """What is no secret stays as it is."""
    answer = {
        "Services": [{"ServiceName": "s", "AccessToken": TOKEN, "ServiceConfig": {"a": [TOKEN]}, "AppConfig": None}],
        "TotalCount": 1,
    }
    assert masked(answer, LIST_SERVICES.secret_fields) == {
        "Services": [
            {
                "ServiceName": "s",
                "AccessToken": f"cana*** ({len(TOKEN)} characters)",
                "ServiceConfig": "***",
                "AppConfig": None,
            }
        ],
        "TotalCount": 1,
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", ""),
        ("abc", "*** (3 characters)"),
        ("abcdefghijk", "*** (11 characters)"),
        ("abcdefghijkl", "abcd*** (12 characters)"),
        ("http://tracing.example.com:80/adapt_secret@x/api", "http://tracing.example.com:80/*** (48 characters)"),
        ("http://user:secret@tracing.example.com/x", "http*** (40 characters)"),
        ("http://[bad/x-y-z", "http*** (17 characters)"),
        (17, "***"),
        (["a"], "***"),
        (None, None),
    ],
)
def test_a_mask_tells_a_secret_apart_and_nothing_more(value: Any, shown: Any) -> None:
    """A short one shows none of its characters, a URL only its host."""
    assert mask(value) == shown


def test_hidden_secrets_appear_in_no_log() -> None:
    """Texts below a secret field are secrets too; numbers and short words are not blotted out of everything."""
    hide({"Services": [{"AccessToken": TOKEN, "ServiceConfig": {"key": "a-second-secret", "n": "1"}}]},
         LIST_SERVICES.secret_fields)  # fmt: skip
    assert redact(f"{TOKEN} a-second-secret 1") == "*** *** 1"


# The catalogue for people


@pytest.mark.parametrize("row", CATALOGUE.values(), ids=list(CATALOGUE))
def test_the_example_of_each_operation_is_right(row: Operation) -> None:
    """Its parameters pass the check that a call of it passes, and its help names every parameter."""
    example = read_parameters(row, example_parameters(row))
    assert checked(row, example) == example
    text = manual(row)
    assert all(parameter.name in text for parameter in row.parameters)
    assert "..." not in " ".join(example_parameters(row).values())


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("listsyslogs", "ListSyslogs"),
        ("DescribeDiagnostic", "DescribeDiagnosticResult"),
        ("xtracetoken", "GetXtraceTo"),
    ],
)
def test_an_unknown_operation_names_the_nearest(typed: str, near: str) -> None:
    """One far from all names none."""
    with pytest.raises(UsageError, match=f"did you mean .*{near}"):
        operation_of(typed)
    with pytest.raises(UsageError) as raised:
        operation_of("qqq")
    assert "did you mean" not in str(raised.value)
    with pytest.raises(UsageError):
        row_of(typed)


def test_the_list_for_programs_shows_no_price_as_zero() -> None:
    """An operation without a price has null; one that is free has zero."""
    by_name = {row["operation"]: row for row in json.loads(json.dumps(listing_json(CATALOGUE.values())))}
    assert set(by_name) == set(CATALOGUE)
    assert by_name["CreateResourceLog"]["price_cny"] is None
    assert by_name[GET_XTRACE_TOKEN.name]["price_cny"] == "0"


@pytest.mark.parametrize(
    ("price", "calls", "text"),
    [
        (None, 1, "unpriced"),
        (Price(Decimal(0)), 1, "free"),
        (Price(Decimal("0.001"), 1000), 1000, "free (1,000 of 1,000 free calls this month)"),
        (Price(Decimal("0.001"), 1000), 1001, "0.001 CNY"),
        (Price(Decimal("0.0001")), 1, "0.0001 CNY"),
    ],
)
def test_the_cost_of_a_call_is_told_after_the_free_ones(price: Price | None, calls: int, text: str) -> None:
    """A missing price is not called free."""
    assert cost_text(price, calls) == text


# Small things


@pytest.mark.parametrize("text", ["", "5", "0s", "-1m", "soon"])
def test_a_wrong_duration_names_its_option(text: str) -> None:
    """A bare number has no unit."""
    with pytest.raises(UsageError, match="--timeout: "):
        duration_of("--timeout", text)


@pytest.mark.parametrize(
    ("answer", "text"), [({"A": None}, ""), ({}, ""), ({"A": 5}, "5"), ("word", ""), ({"A": "x"}, "x")]
)
def test_a_field_of_an_answer_is_text(answer: Any, text: str) -> None:
    """Whatever the service made of it."""
    assert text_of(answer, "A") == text


def test_a_result_does_not_show_its_answer() -> None:
    """It may hold secrets, and a repr ends up in logs."""
    result = CallResult("Op", {"Token": TOKEN}, 200, "R", "free")
    assert TOKEN not in repr(result)
    assert asdict(result)["answer"] == {"Token": TOKEN}


def test_each_mistake_in_parameters_is_a_line() -> None:
    """The hint names the help of the operation."""
    with pytest.raises(ConfigError) as raised:
        checked(CATALOGUE["ListSyslogs"], {"FromTime": "yesterday", "Node": "e01-a"})
    assert len(raised.value.mistakes) == 4
    assert raised.value.hint == "pai-collector call ListSyslogs --help"
