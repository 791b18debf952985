"""Each error of the service's documentation has its reaction, and `docs/reference/errors.md` tells it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from collector.api.client import ApiClient, NullMeter, RetryPolicy
from collector.api.gateways import BearerGateway
from collector.api.throttle import buckets_for
from collector.catalogue.operation import Operation
from collector.catalogue.operations import CATALOGUE
from collector.cli.app import main
from collector.cli.exits import ExitStatus
from collector.clock import ServerClock
from collector.errors import (
    ApiError,
    BadRequestError,
    CredentialsError,
    ForbiddenError,
    NotFoundError,
    ThrottledError,
    TransientError,
)
from collector.owner.caller import retry_policy
from collector.settings import Settings
from collector.telemetry import log
from tests.integration.test_client import Service, error_reply, scripted, serve

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
START = 1_760_000_000
POLICY = retry_policy(Settings())


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the documentation's table of errors, and what has to follow from it."""

    line: str
    replies: tuple[tuple[int, str], ...]
    """Status and code of the answers that mean it; services differ."""
    error: type[ApiError]
    repeated: bool
    exit_status: ExitStatus
    advice: str
    """Words that the hint must hold."""
    operation: str = "GetUserViewMetrics"
    calls: int = 1
    """Calls that the error costs when it is not repeated as a passing failure."""

    def __str__(self) -> str:
        return self.line


TABLE = (
    Row("400", ((400, ""),), BadRequestError, False, ExitStatus.FAILED, "required ones, value ranges, time formats"),
    Row("401", ((401, ""), (401, "InvalidApiKey")), CredentialsError, False, ExitStatus.CREDENTIALS,
        "DASHSCOPE_API_KEY", calls=2),
    Row("403", ((403, ""), (403, "Forbidden.RAM")), ForbiddenError, False, ExitStatus.CREDENTIALS,
        "pai:GetUserViewMetrics"),
    Row("404", ((404, ""), (404, "InvalidResourceGroup.NotFound")), NotFoundError, False, ExitStatus.FAILED,
        "the id exists, is spelled right"),
    Row("429", ((429, ""),), ThrottledError, True, ExitStatus.FAILED, "lower api.quotas"),
    Row("500", ((500, ""), (500, "InternalError")), TransientError, True, ExitStatus.FAILED, "give support"),
    Row("503", ((503, ""), (503, "ServiceUnavailable")), TransientError, True, ExitStatus.FAILED, "repeated later"),
    Row("InvalidParameter", ((400, "InvalidParameter"), (400, "InvalidParameter.TimeStep"), (200, "InvalidParameter")),
        BadRequestError, False, ExitStatus.FAILED, "value ranges, time formats"),
    Row("UnauthorizedOperation", ((403, "UnauthorizedOperation"), (400, "UnauthorizedOperation"),
        (401, "UnauthorizedOperation")), ForbiddenError, False, ExitStatus.CREDENTIALS, "eflo:CreateDiagnosticTask",
        "CreateDiagnosticTask"),
    Row("Throttling", ((400, "Throttling"), (429, "Throttling.User"), (503, "Throttling.Api"), (200, "Throttling")),
        ThrottledError, True, ExitStatus.FAILED, "lengthen the interval"),
    Row("NoPermission", ((403, "NoPermission"), (400, "NoPermission"), (200, "NoPermission")), ForbiddenError, False,
        ExitStatus.CREDENTIALS, "AliyunARMSFullAccess", "GetXtraceToken"),
)  # fmt: skip

EVERY = [(row, http_status, code) for row in TABLE for http_status, code in row.replies]
REPEATED = [(row, http_status, code) for row, http_status, code in EVERY if row.repeated]

PARAMETERS: dict[str, dict[str, Any]] = {
    "GetUserViewMetrics": {"ResourceGroupID": "rg1", "PageNumber": "1", "PageSize": "10"},
    "CreateDiagnosticTask": {"ClusterId": "i1"},
    "GetXtraceToken": {},
    "ListSyslogs": {"FromTime": "1760000000", "ToTime": "1760000060", "NodeId": "e01"},
}


class LeapingClock:
    """Time that passes in sleeps only, and then at once."""

    def __init__(self) -> None:
        self._now = 0.0

    def wall(self) -> float:
        return START + self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += max(seconds, 0.0)
        await asyncio.sleep(0)


class Longest(Random):
    """Chance that always draws the largest wait."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


class Shortest(Random):
    """Chance that always draws the smallest wait."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, b)


@dataclass(slots=True)
class Calls:
    """A client before a service that answers as scripted, and when each call arrived there."""

    client: ApiClient
    service: Service
    meter: NullMeter
    arrivals: list[float]

    @property
    def gaps(self) -> list[float]:
        """Seconds between the calls."""
        return [after - before for before, after in zip(self.arrivals, self.arrivals[1:], strict=False)]

    async def refused(self, name: str = "GetUserViewMetrics") -> ApiError:
        """The error that a call ends with."""
        with pytest.raises(ApiError) as raised:
            await self.client.request(row_of(name), "scope", PARAMETERS[name])
        return raised.value


def row_of(name: str) -> Operation:
    return CATALOGUE[name]


@asynccontextmanager
async def calling(
    *replies: web.Response | dict[str, Any], policy: RetryPolicy = POLICY, random: Random | None = None
) -> AsyncIterator[Calls]:
    """A client with the collector's own policy, whose waits take no time."""
    clock, arrivals, script = LeapingClock(), [], scripted(*replies)

    async def handler(request: web.Request) -> web.StreamResponse:
        arrivals.append(clock.monotonic())
        return await script(request)

    async with serve(handler) as service:
        meter = NullMeter()
        client = ApiClient(
            BearerGateway("sk-test", base_url=service.base_url),
            clock=clock,
            server_clock=ServerClock(clock),
            meter=meter,
            buckets=buckets_for(CATALOGUE.values(), clock),
            policy=policy,
            random=random or Longest(),
            concurrency_max=4,
            timeout_seconds=10.0,
        )
        async with client:
            yield Calls(client, service, meter, arrivals)


@pytest.mark.parametrize(("row", "http_status", "code"), EVERY, ids=str)
async def test_each_error_has_its_reaction(row: Row, http_status: int, code: str) -> None:
    """Its kind, the calls that the service counts, the meter's entry for each of them, and what to do."""
    async with calling(error_reply(http_status, code, "words of the service")) as calls:
        error = await calls.refused(row.operation)

        repeatable = row.repeated and row_of(row.operation).repeatable
        assert type(error) is row.error
        assert row.advice in error.hint
        assert (error.http_status, error.operation, error.scope_id) == (http_status, row.operation, "scope")
        assert len(calls.service.requests) == (POLICY.attempts_max if repeatable else row.calls)
        assert len(calls.meter.settled) == len(calls.service.requests)
        assert all(attempt.code for attempt in calls.meter.settled)


@pytest.mark.parametrize(("row", "http_status", "code"), REPEATED, ids=str)
async def test_waits_double(row: Row, http_status: int, code: str) -> None:
    """Without a demand of the service, each wait is drawn from a range twice as long as the one before."""
    async with calling(error_reply(http_status, code)) as calls:
        await calls.refused()

        # A throttled operation also keeps its calls further apart.
        assert calls.gaps == pytest.approx([1, 2, 4, 8, 16], abs=0.1)


@pytest.mark.parametrize(("row", "http_status", "code"), REPEATED, ids=str)
async def test_no_wait_is_shorter_than_half(row: Row, http_status: int, code: str) -> None:
    """However chance falls, the first repeat comes half a base after the failure at the earliest."""
    async with calling(error_reply(http_status, code), random=Shortest()) as calls:
        await calls.refused()

        assert calls.gaps == pytest.approx([0.5, 1, 2, 4, 8], abs=0.1)
        assert calls.gaps[0] >= 0.5


async def test_the_configuration_says_how_calls_are_repeated() -> None:
    """Base, factor, attempts and deadline are those of `[api.retry]`, in the meter too: each attempt is billed."""
    retry = {"base": "3s", "factor": 3, "attempts_max": 4}
    async with calling(error_reply(503), policy=retry_policy(Settings(api={"retry": retry}))) as calls:
        await calls.refused()
        assert calls.gaps == pytest.approx([3, 9, 27], abs=0.1)
        assert len(calls.meter.settled) == 4
    retry["deadline"] = "13s"
    async with calling(error_reply(503), policy=retry_policy(Settings(api={"retry": retry}))) as calls:
        await calls.refused()
        assert calls.gaps == pytest.approx([3, 9], abs=0.1)


@pytest.mark.parametrize(("row", "http_status", "code"), REPEATED, ids=str)
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"x_acs_retry_after": "2500"}, 2.5),
        ({"Retry_After": "7", "x_acs_retry_after": "2500"}, 7.0),
        ({"Retry_After": "2", "x_acs_retry_after": "7500"}, 7.5),
        ({"Retry_After": formatdate(START + 90, usegmt=True), "Date": formatdate(START + 60, usegmt=True)}, 30.0),
        ({"Retry_After": "soon"}, 1.0),
        ({"Retry_After": "-3"}, 1.0),
    ],
    ids=str,
)
async def test_a_demanded_wait_is_kept(
    row: Row, http_status: int, code: str, headers: dict[str, str], seconds: float
) -> None:
    """`Retry-After` in seconds or as a date, `x-acs-retry-after` in milliseconds; the longer one counts."""
    async with calling(error_reply(http_status, code, **headers), {"UserMetrics": [], "Total": 0}) as calls:
        reply = await calls.client.request(row_of("GetUserViewMetrics"), "scope", PARAMETERS["GetUserViewMetrics"])
        await calls.meter.settle(reply.attempt)

        (gap,) = calls.gaps
        assert seconds <= gap <= seconds + 0.1


@pytest.mark.parametrize(("row", "http_status", "code"), REPEATED, ids=str)
async def test_a_wait_beyond_the_deadline_is_not_begun(row: Row, http_status: int, code: str) -> None:
    """A service that wants ten minutes gets no second call, and the caller hears it at once."""
    async with calling(error_reply(http_status, code, Retry_After="600")) as calls:
        error = await calls.refused()

        assert len(calls.arrivals) == 1
        assert error.retry_after_seconds == 600


@pytest.mark.parametrize(
    ("row", "http_status", "code"), [entry for entry in EVERY if not entry[0].repeated and entry[1] != 400], ids=str
)
async def test_a_demanded_wait_does_not_make_a_refusal_repeatable(row: Row, http_status: int, code: str) -> None:
    """What asking again cannot cure is asked as often as without the header."""
    async with calling(error_reply(http_status, code, Retry_After="1")) as calls:
        assert type(await calls.refused(row.operation)) is row.error
        assert len(calls.arrivals) == row.calls


@pytest.mark.parametrize(("http_status", "code", "count"), [(500, "InternalError", 1), (429, "Throttling", 6)])
async def test_what_may_have_taken_effect_is_not_repeated(http_status: int, code: str, count: int) -> None:
    """A task that may have been created is not created again; a call that was turned away is."""
    async with calling(error_reply(http_status, code)) as calls:
        await calls.refused("CreateDiagnosticTask")

        assert len(calls.arrivals) == count


async def test_a_refused_key_stops_every_operation() -> None:
    """After a second 401 nothing more is sent, whatever is asked."""
    async with calling(error_reply(401)) as calls:
        for name in PARAMETERS:
            assert type(await calls.refused(name)) is CredentialsError

        assert len(calls.arrivals) == 2


# The same errors, seen from the command line.


class Scripted:
    """A service in a thread that answers every call in one way."""

    def __init__(self, http_status: int, code: str) -> None:
        self.calls = 0
        body = json.dumps({"Code": code, "Message": "words of the service"} if code else {}).encode()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(404, b"")

            def do_GET(self) -> None:
                scripted.calls += 1
                self._answer(http_status, body)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits between repeats that nobody notices, a key, and logging left as it was."""
    monkeypatch.setenv("PAI_COLLECTOR__API__RETRY__BASE", "10ms")
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-test")
    yield
    log.reset()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("row", "http_status", "code"), [(row, *row.replies[0]) for row in TABLE], ids=[row.line for row in TABLE]
)
@pytest.mark.slow(
    "exit statuses",
    fast=(
        "403",
        "503",
    ),
)
def test_the_exit_status_of_a_run(
    row: Row, http_status: int, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that this error ends has the documented status, says the service's words, and asked as often as it may."""
    service = Scripted(http_status, code)
    thread = threading.Thread(target=service.server.serve_forever)
    thread.start()
    config = tmp_path / "collector.toml"
    # Unsorted: a list whose order is refused is asked for once more without it.
    config.write_text(
        f'[api]\nbase_url = "{service.base_url}"\n[targets]\nresource_groups = ["rg1"]\n'
        '[sources.user_metrics]\nsort_by = ""\n'
    )
    try:
        exit_status = main(
            ["run", "--once", "--source", "user_metrics", "--config", str(config), "--log-format", "console"]
        )
    finally:
        service.server.shutdown()
        thread.join()
        service.server.server_close()

    assert exit_status == row.exit_status
    assert service.calls == (POLICY.attempts_max if row.repeated else row.calls)
    said = capsys.readouterr().err
    assert "GetUserViewMetrics of rg1" in said
    assert f"HTTP {http_status}" in said


# The document.


def documented() -> dict[str, list[str]]:
    """The rows of the document's first table, by their first cell."""
    rows = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0].startswith("`"):
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def test_the_document_has_every_error() -> None:
    """No line of the documentation is missing, none is told twice or in another order."""
    assert list(documented())[: len(TABLE)] == [row.line for row in TABLE]


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_the_document_tells_what_happens(row: Row) -> None:
    """Kind, repeats, exit status and advice in the document are those of the program."""
    kind, repeated, exit_status, hint = documented()[row.line]
    async with calling(error_reply(*row.replies[0])) as calls:
        error = await calls.refused(row.operation)

    assert kind == f"`{type(error).__name__}`"
    expected = f"up to {POLICY.attempts_max} attempts" if row.repeated else {1: "no", 2: "once"}[row.calls]
    assert repeated == expected
    assert exit_status == str(int(row.exit_status))
    assert hint == error.hint
