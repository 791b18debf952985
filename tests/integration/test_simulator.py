"""The simulated service, seen by a plain HTTP client that knows nothing of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from collector.catalogue.operations import CATALOGUE
from collector.catalogue.products.eflo_controller import LIST_SYSLOGS
from collector.clock import Clock
from collector.simulator.clock import SimulatorClock
from collector.simulator.drift import drift_syslog, drift_user
from collector.simulator.faults import PLACEABLE, UNPLACEABLE, Fault, FaultKind, FaultPlan, Shape
from collector.simulator.ledger import BusiestSecond, Ledger
from collector.simulator.nodes import Profile
from collector.simulator.paging import Position, TokenMint
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.service import SimulatorOptions
from collector.simulator.usage import workspaces
from collector.simulator.world import LateRows, World
from tests.support.virtual_clock import ManualClock

T = 1_760_000_000
NOW = T + 100_000
SYSLOGS, USERS = "ListSyslogs", "GetUserViewMetrics"
PATHS = {SYSLOGS: "/api/eflo-controller/2022-12-15/ListSyslogs", USERS: "/api/PaiStudio/2022-01-12/GetUserViewMetrics"}
PLENTY = {SYSLOGS: 100_000, USERS: 100_000}
BUSY = next(n for n in World(seed=7).node_ids if World(seed=7).profile(n) is Profile.BUSY)


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """A plain client of one simulator."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session

    async def send(self, method: str, path: str, **options: Any) -> Reply:
        async with self.session.request(method, self.simulator.base_url + path, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def syslogs(self, node_id: str = BUSY, first: int = T, last: int = T + 59, **more: Any) -> Reply:
        body = {"FromTime": str(first), "ToTime": str(last), "NodeId": node_id, **more}
        return await self.send("POST", PATHS[SYSLOGS], json=body)

    async def users(self, group_id: str = "rgsim0001", number: int = 1, size: int = 1000, **more: str) -> Reply:
        query = {"ResourceGroupID": group_id, "PageNumber": str(number), "PageSize": str(size), **more}
        return await self.send("GET", PATHS[USERS], params=query)

    async def pages(self, **question: Any) -> list[Any]:
        """All answers of one listing, following its tokens."""
        answers = [(await self.syslogs(**question)).json]
        while token := answers[-1].get("NextToken"):
            answers.append((await self.syslogs(**question, NextToken=token)).json)
        return answers

    async def listing(self, **question: Any) -> list[Any]:
        """All records of one listing."""
        return [record for answer in await self.pages(**question) for record in answer["Logs"]]


Start = Callable[..., Awaitable[Caller]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts simulators whose clock stands at NOW and whose quotas are out of the way, unless told otherwise."""
    async with AsyncExitStack() as stack:

        async def start(
            world: World | None = None,
            *,
            key: str = SIMULATOR_KEY,
            now: Callable[[], float] | None = None,
            clock: Clock | None = None,
            faults: Iterable[Fault] = (),
            **given: Any,
        ) -> Caller:
            options = SimulatorOptions(**{"quotas": PLENTY, **given})
            now = now or SimulatorClock.frozen(NOW)
            simulated = Simulator(world or World(seed=7), options, now=now, clock=clock, faults=faults)
            simulator = await stack.enter_async_context(simulated)
            headers = {"Authorization": f"Bearer {key}"}
            return Caller(simulator, await stack.enter_async_context(aiohttp.ClientSession(headers=headers)))

        yield start


def wires(world: World, node_id: str, start: int, end: int) -> list[dict[str, str]]:
    return [record.wire for record in world.truth(node_id, start, end)]


async def until(condition: Callable[[], bool]) -> None:
    """Let the server's tasks run until a condition holds; fails when it never does."""
    async with asyncio.timeout(180):
        while not condition():
            await asyncio.sleep(0)


# Syslogs


@pytest.mark.parametrize("page_size", [1, 7, 99, 100, 101])
async def test_pages_of_any_size_hold_exactly_the_window(start: Start, page_size: int) -> None:
    """Wherever pages end, in a second or between two, together they are the window, in order, once."""
    caller = await start(page_size=page_size)

    pages = await caller.pages(last=T + 39)

    assert [record for page in pages for record in page["Logs"]] == wires(caller.simulator.world, BUSY, T, T + 40)
    assert [len(page["Logs"]) for page in pages[:-1]] == [page_size] * (len(pages) - 1)


async def test_a_page_that_ends_with_the_window_has_no_next(start: Start) -> None:
    """A window of exactly one page, or exactly two, is not followed by an empty one."""
    world = World(seed=7)
    rows = len(world.truth(BUSY, T, T + 60))
    assert rows % 2 == 0, "choose another range: this test halves it"

    whole, halves = await start(world, page_size=rows), await start(world, page_size=rows // 2)

    assert len(await whole.pages()) == 1
    assert len(await halves.pages()) == 2


async def test_an_end_is_an_absent_token_or_an_empty_one(start: Start) -> None:
    """Both ways of saying that there is no next page occur."""
    caller = await start()

    answers = [(await caller.syslogs(first=T, last=T)).json for _ in range(2)]

    assert [answer.get("NextToken", "absent") for answer in answers] == ["", "absent"]


@pytest.mark.slow("simulators")
async def test_a_second_longer_than_a_page_spans_pages(start: Start) -> None:
    """A burst of hundreds of lines in one second is paged within the second, equal lines and all."""
    world = World(seed=7)
    by_second = Counter(r.time for n in world.node_ids for r in world.truth(n, T, T + 14_400))
    second = by_second.most_common(1)[0][0]
    node_id = max(world.node_ids, key=lambda n: len(world.records(n, second)))
    caller = await start(world)

    pages = await caller.pages(node_id=node_id, first=second, last=second)

    assert len(pages) >= 2
    assert [r for page in pages for r in page["Logs"]] == wires(world, node_id, second, second + 1)


async def test_the_end_of_a_range_is_inside_or_outside_as_told(start: Start) -> None:
    """`closed` answers FromTime <= Time <= ToTime; `half_open` leaves ToTime out."""
    world = World(seed=7)
    for bounds, end in (("closed", T + 31), ("half_open", T + 30)):
        caller = await start(world, bounds=bounds)
        assert await caller.listing(last=T + 30) == wires(world, BUSY, T, end)
    assert wires(world, BUSY, T + 30, T + 31)
    assert await caller.listing(first=T, last=T) == []


async def test_reverse_and_query(start: Start) -> None:
    """`Reverse` turns the whole listing round, over page ends too; `Query` keeps the lines that hold it."""
    caller = await start(page_size=13)
    truth = wires(caller.simulator.world, BUSY, T, T + 60)

    assert await caller.listing(Reverse=True) == truth[::-1]
    found = await caller.listing(Query="Session")
    assert found == [wire for wire in truth if "Session" in wire["Msg"]]
    assert 0 < len(found) < len(truth)
    assert await caller.listing(Query="Session", Reverse=True) == found[::-1]


async def test_rows_appear_when_they_arrive(start: Start) -> None:
    """As the clock moves a window fills up, and holds at each moment what the world says is visible."""
    caller = await start(now=SimulatorClock.frozen(T))
    world, sizes = caller.simulator.world, []
    for step in range(0, 91, 15):
        caller.simulator.clock.set(T + step)
        answer = await caller.listing()
        assert answer == [record.wire for record in world.window(BUSY, T, T + 59, T + step)]
        sizes.append(len(answer))
    assert sizes[0] == 0
    assert len(set(sizes)) > 4
    assert sizes[-1] == len(world.truth(BUSY, T, T + 60))


@pytest.mark.parametrize("reverse", [False, True])
async def test_late_rows_do_not_disturb_a_listing_under_way(start: Start, reverse: bool) -> None:
    """Late rows wait for the next listing: once there, and only after their time."""
    caller = await start(page_size=20)
    simulator = caller.simulator
    before = wires(simulator.world, BUSY, T, T + 60)
    first = (await caller.syslogs(Reverse=reverse)).json
    late = simulator.add_late(LateRows(BUSY, T, T + 60, count=25, visible_at=NOW + 10))
    assert len(await caller.listing()) == len(before)
    simulator.clock.advance(10)

    rest, token = [], first["NextToken"]
    while token:
        answer = (await caller.syslogs(Reverse=reverse, NextToken=token)).json
        rest += answer["Logs"]
        token = answer.get("NextToken")

    assert first["Logs"] + rest == (before[::-1] if reverse else before)
    after = await caller.listing()
    assert Counter(map(str, after)) == Counter(map(str, before + [record.wire for record in late]))


# Tokens


async def test_a_token_belongs_to_its_request(start: Start) -> None:
    """Another node, range, query or order with a token is a 400 that speaks of the token; a forged one too."""
    caller = await start(page_size=5)
    token = (await caller.syslogs()).json["NextToken"]
    other = caller.simulator.world.node_ids[0]

    for question in ({"node_id": other}, {"first": T + 1}, {"last": T + 58}, {"Query": "x"}, {"Reverse": True}):
        reply = await caller.syslogs(**question, NextToken=token)
        assert (reply.status, reply.json["Code"]) == (400, "InvalidParameter"), question
        assert "NextToken" in reply.json["Message"]
    for forged in (token[:-6] + "AAAAAA", "nonsense", "ключ", token + "===="):
        assert (await caller.syslogs(NextToken=forged)).json["Message"] == "The specified NextToken is not valid."
    assert (await caller.syslogs(NextToken=token)).status == 200


async def test_a_token_can_be_used_again_until_it_expires(start: Start) -> None:
    """A token resumes as often as wanted, and dies of age: 400 with a message that says so."""
    caller = await start(page_size=5, token_seconds_max=60)
    token = (await caller.syslogs()).json["NextToken"]
    caller.simulator.clock.advance(60)
    again = [(await caller.syslogs(NextToken=token)).json["Logs"] for _ in range(2)]
    caller.simulator.clock.advance(1)

    reply = await caller.syslogs(NextToken=token)

    assert again[0] == again[1] == wires(caller.simulator.world, BUSY, T, T + 60)[5:10]
    assert (reply.status, reply.json["Code"]) == (400, "InvalidParameter")
    assert reply.json["Message"] == "The specified NextToken is expired."


def test_a_token_of_another_seed_is_forged() -> None:
    """What one simulator issued, one of another seed refuses."""
    token = TokenMint(1).issue(Position("n", 1, 2, "", "asc", 3, 3.0, 1, 0))

    assert TokenMint(1).read(token, 4).node_id == "n"
    with pytest.raises(Exception, match="not valid"):
        TokenMint(2).read(token, 4)


# User metrics


async def test_a_snapshot_is_paged_by_number(start: Start) -> None:
    """1,500 records come in pages of at most 1000; each page has the summary and the total."""
    world = World(seed=7, users_per_group=1500)
    caller = await start(world)
    snapshot = world.snapshot("rgsim0001", NOW)

    answers = [(await caller.users(number=number)).json for number in (1, 2, 3)]

    assert [len(answer["UserMetrics"]) for answer in answers] == [1000, 500, 0]
    assert [user for answer in answers for user in answer["UserMetrics"]] == snapshot["UserMetrics"]
    assert all(answer["Total"] == 1500 and answer["Summary"] == snapshot["Summary"] for answer in answers)
    assert all(set(answer) == {"ResourceGroupId", "UserMetrics", "Summary", "Total"} for answer in answers)


async def test_users_are_sorted_and_filtered(start: Start) -> None:
    """`SortBy` a rate sorts by number, `Order` takes any case, `UserId` picks a user, `TimeStep` an average."""
    caller = await start()
    users = caller.simulator.world.snapshot("rgsim0001", NOW)["UserMetrics"]

    by_rate = (await caller.users(SortBy="GPUUsageRate", Order="DESC")).json["UserMetrics"]
    one = (await caller.users(UserId=users[2]["UserId"])).json
    hour = (await caller.users(TimeStep="1h")).json

    rates = [float(user["GPUUsageRate"]) for user in by_rate]
    assert rates == sorted(rates, reverse=True)
    assert sorted(map(str, by_rate)) == sorted(map(str, users))
    assert one["UserMetrics"] == [user for user in users if user["UserId"] == users[2]["UserId"]]
    assert one["Total"] == len(one["UserMetrics"])
    assert hour["UserMetrics"] == caller.simulator.world.snapshot("rgsim0001", NOW, time_step="1h")["UserMetrics"]


async def test_a_workspace_has_users_and_a_summary_of_its_own(start: Start) -> None:
    """Each user works in one of the workspaces; one that does not exist is refused by its name."""
    caller = await start()
    users = caller.simulator.world.snapshot("rgsim0001", NOW)["UserMetrics"]
    first, second = workspaces(caller.simulator.world.seed)

    answers = [(await caller.users(WorkspaceId=workspace)).json for workspace in (first, second)]
    refused = await caller.users(WorkspaceId="1")

    assert all(answer["UserMetrics"] for answer in answers)
    assert sorted(map(str, users)) == sorted(str(user) for answer in answers for user in answer["UserMetrics"])
    for answer in answers:
        assert answer["Summary"]["RequestGPU"] == sum(user["RequestGPU"] for user in answer["UserMetrics"])
    assert (refused.status, refused.json["Code"]) == (404, "InvalidWorkspaceId.NotFound")


# Refusals


async def test_a_wrong_key_is_refused_and_counted(start: Start) -> None:
    """No key and a wrong one are 401 with the documented error body, and billed like any call."""
    caller = await start(key="sk-wrong")

    reply = await caller.syslogs()

    assert (reply.status, reply.json["Code"]) == (401, "InvalidApiKey")
    assert set(reply.json) == {"RequestId", "HostId", "Code", "Message", "Recommend"}
    assert reply.headers["x-acs-request-id"] == reply.json["RequestId"]
    assert (await caller.users()).status == 401
    assert caller.simulator.stats[SYSLOGS].calls == 1
    assert caller.simulator.stats[SYSLOGS].by_status == {401: 1}


GOOD = {"FromTime": str(T), "ToTime": str(T + 9), "NodeId": BUSY}


@pytest.mark.parametrize(
    ("change", "status", "code", "says"),
    [
        ({"FromTime": None}, 400, "MissingParameter", "FromTime"),
        ({"ToTime": None}, 400, "MissingParameter", "ToTime"),
        ({"NodeId": None}, 400, "MissingParameter", "NodeId"),
        ({"FromTime": T}, 400, "InvalidParameter", "FromTime"),
        ({"ToTime": "2025-10-09"}, 400, "InvalidParameter", "ToTime"),
        ({"FromTime": "-5"}, 400, "InvalidParameter", "FromTime"),
        ({"ToTime": str(T - 1)}, 400, "InvalidParameter", "ToTime"),
        ({"Reverse": "true"}, 400, "InvalidParameter", "Reverse"),
        ({"Query": 5}, 400, "InvalidParameter", "Query"),
        ({"Nodeid": BUSY}, 400, "InvalidParameter", "Nodeid"),
        ({"NodeId": "e01-cn-nobody"}, 404, "InvalidNodeId.NotFound", "e01-cn-nobody"),
    ],
)
async def test_a_wrong_syslog_request_is_refused(
    start: Start, change: dict[str, Any], status: int, code: str, says: str
) -> None:
    """Missing, malformed, misspelt and unknown parameters each get their status, code and name."""
    caller = await start()

    reply = await caller.send("POST", PATHS[SYSLOGS], json={**GOOD, **change})

    assert (reply.status, reply.json["Code"]) == (status, code)
    assert says in reply.json["Message"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"ResourceGroupID": ""}, 400, "MissingParameter"),
        ({"PageNumber": ""}, 400, "MissingParameter"),
        ({"PageNumber": "0"}, 400, "InvalidParameter"),
        ({"PageSize": "1001"}, 400, "InvalidParameter"),
        ({"PageSize": "ten"}, 400, "InvalidParameter"),
        ({"Order": "upwards"}, 400, "InvalidParameter"),
        ({"SortBy": "Mood"}, 400, "InvalidParameter"),
        ({"TimeStep": "5d"}, 400, "InvalidParameter"),
        ({"ResourceGroupId": "rgsim0001"}, 400, "InvalidParameter"),
        ({"ResourceGroupID": "rgnobody"}, 404, "InvalidResourceGroupID.NotFound"),
    ],
)
async def test_a_wrong_user_metrics_request_is_refused(
    start: Start, change: dict[str, str], status: int, code: str
) -> None:
    """Each parameter is checked as the service's documentation describes it."""
    caller = await start()

    reply = await caller.users(**change)

    assert (reply.status, reply.json["Code"]) == (status, code)


async def test_what_is_no_operation_is_not_found(start: Start) -> None:
    """Unknown operations, wrong versions, wrong methods and bodies that are no object are told apart."""
    caller = await start()

    for path in ("/api/PaiStudio/2022-01-12/DropEverything", "/api/eflo-controller/2021-01-01/ListSyslogs"):
        reply = await caller.send("POST", path)
        assert (reply.status, reply.json["Code"]) == (404, "InvalidAction.NotFound")
    assert (await caller.send("GET", PATHS[SYSLOGS])).status == 405
    assert (await caller.send("POST", PATHS[SYSLOGS], data=b"[1]")).json["Code"] == "InvalidParameter"
    assert (await caller.send("POST", PATHS[SYSLOGS], data=b"\xff")).json["Code"] == "InvalidParameter"


async def test_a_product_endpoint_answers_nobody_unknown(start: Start) -> None:
    """Without a signature a call is refused, and counted as a call on the product endpoint."""
    caller = await start()
    headers = {"Authorization": "", "x-acs-action": SYSLOGS, "x-acs-version": "2022-12-15"}

    reply = await caller.send("POST", "/", headers=headers, data=GOOD)

    assert (reply.status, reply.json["Code"]) == (400, "IncompleteSignature")
    stats = caller.simulator.stats[SYSLOGS]
    assert (stats.calls, dict(stats.by_gateway), dict(stats.by_status)) == (1, {"openapi": 1}, {400: 1})


async def test_every_call_is_held_against_the_catalogue(start: Start) -> None:
    """What a listing would overlook is refused before it, and no sooner than the faults had their turn."""
    caller = await start(faults=[Fault(kind=FaultKind.ERROR_500, arrivals=(2,))])
    path = "/api/eflo-controller/2022-12-15/ListClusters"

    replies = [await caller.send("POST", path, json={"MaxResults": 101}) for _ in range(2)]

    assert [(reply.status, reply.json["Code"]) for reply in replies] == [
        (400, "InvalidParameter"), (500, "InternalError"),
    ]  # fmt: skip


async def test_every_operation_has_an_answer(start: Start) -> None:
    """The catalogue and the simulator hold the same operations."""
    assert (await start()).simulator.backend.listings.keys() == CATALOGUE.keys()


async def test_bytes_that_are_no_text_are_refused(start: Start) -> None:
    """Whatever stands in path, query and headers, a call gets an answer that is JSON."""
    caller = await start()
    host, port = caller.simulator.base_url.removeprefix("http://").split(":")
    for path, action in (("resources/%FF/x/log", "DescribeResourceLog"), ("resources?Sort=%FF", "ListResources"),
                         ("resources", "ListResources"), ("%FF", "\udcff")):  # fmt: skip
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [
            f"GET /api/v2/{path} HTTP/1.1",
            "Host: simulator",
            "Connection: close",
            f"x-acs-action: {action}",
            "x-acs-version: 2021-07-01",
            "x-acs-bearer-token: \udcff",
            "x-acs-signature-type: BEARERTOKEN",
            *(("Authorization: \udcff",) if path == "resources" else ()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode(errors="surrogateescape"))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 404")), answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["Code"]


# Counting


async def test_quotas_refuse_the_101st_call_of_a_second(start: Start) -> None:
    """100 calls in a second are taken, the next is Throttling.User, and a second later all is well."""
    machine = ManualClock()
    caller = await start(quotas={}, clock=machine)

    for _ in range(100):
        assert (await caller.users()).status == 200
    refused = await caller.users()
    other = await caller.syslogs()
    await machine.advance(0.999)
    still = await caller.users()
    await machine.advance(1.0)

    assert (refused.status, refused.json["Code"], refused.headers["Retry-After"]) == (429, "Throttling.User", "1")
    assert other.status == 200
    assert still.status == 429
    assert (await caller.users()).status == 200
    stats = caller.simulator.stats[USERS]
    assert (stats.calls, stats.refused, dict(stats.by_status)) == (103, 2, {200: 101, 429: 2})
    assert caller.simulator.max_in_any_second(USERS) == 102


@pytest.mark.parametrize(
    ("arrivals", "most"),
    [([], 0), ([5.0], 1), ([0.0, 1.0, 2.0], 1), ([0.0, 0.999, 1.0], 2), ([0.0, 0.6, 0.9, 1.5, 1.59, 1.61], 4)],
)
def test_the_most_in_any_second_is_over_sliding_seconds(arrivals: list[float], most: int) -> None:
    """Seconds begin at any arrival, not at whole ones, and do not hold the instant they end."""
    busiest = BusiestSecond()
    for at in arrivals:
        busiest.add(at)
    assert busiest.most == most


def test_refused_calls_fill_the_quota_too() -> None:
    """A client that keeps hammering stays refused; one that pauses for a second is taken again."""
    ledger = Ledger({SYSLOGS: 2})

    refused = [ledger.arrive(LIST_SYSLOGS, at).over_quota for at in (0.0, 0.1, 0.6, 0.7, 1.2, 1.3, 2.5, 2.5)]

    assert refused == [False, False, True, True, True, True, False, False]


def test_a_quota_of_an_unknown_operation_is_a_mistake() -> None:
    """A misspelt operation does not silently leave the default in force."""
    with pytest.raises(ValueError, match="ListSyslog"):
        Ledger({"ListSyslog": 5})


async def test_calls_are_priced_after_the_free_tier(start: Start) -> None:
    """The first 1000 calls of a month are free, failed ones are not cheaper, and rows and bytes add up."""
    caller = await start()
    replies = [await caller.syslogs(first=T, last=T + second % 3) for second in range(40)]
    stats = caller.simulator.stats[SYSLOGS]

    assert stats.rows == sum(len(reply.json["Logs"]) for reply in replies)
    assert stats.bytes == sum(len(reply.body) for reply in replies)
    assert stats.cost_cny == Decimal(0)
    stats.calls = 1500
    await caller.syslogs("e01-cn-nobody")
    assert stats.cost_cny == Decimal("0.0501")
    assert stats.by_status == {200: 40, 404: 1}


async def test_a_call_counts_when_it_arrives_and_is_in_flight_until_answered(start: Start) -> None:
    """Answers are delayed after counting: all calls stand in the ledger while none has been answered."""
    machine = ManualClock()
    caller = await start(latency_seconds=(5.0, 9.0), clock=machine)
    calls = [asyncio.create_task(caller.syslogs()) for _ in range(10)]
    stats = caller.simulator.stats[SYSLOGS]
    await until(lambda: stats.in_flight == 10)

    assert (stats.calls, stats.in_flight, sum(stats.by_status.values())) == (10, 10, 0)
    await machine.advance(4.9)
    assert not any(call.done() for call in calls)
    while not all(call.done() for call in calls):
        await machine.advance(1.0)
    assert (stats.in_flight, stats.in_flight_max, stats.by_status) == (0, 10, {200: 10})


async def test_every_answer_is_dated_by_the_simulators_clock(start: Start) -> None:
    """`Date` is the service's time, not the machine's; the request id is in the header and repeats with the seed."""
    ids = []
    for _ in range(2):
        caller = await start()
        for reply in (await caller.syslogs(), await caller.users(), await caller.syslogs("e01-cn-nobody")):
            assert parsedate_to_datetime(reply.headers["Date"]).timestamp() == NOW
            ids.append(reply.headers["x-acs-request-id"])
        caller.simulator.clock.advance(3.7)
        assert parsedate_to_datetime((await caller.users()).headers["Date"]).timestamp() == NOW + 3
    assert len(set(ids)) == 3
    assert ids[:3] == ids[3:]


async def test_answers_are_compressed_for_those_who_take_it(start: Start) -> None:
    """With `compress` the body travels compressed and is the same."""
    plain, small = await start(), await start(compress=True)

    reply = await small.syslogs()

    assert reply.headers["Content-Encoding"] in ("gzip", "deflate")
    assert reply.body == (await plain.syslogs()).body


# Faults


REFUSED = {
    FaultKind.THROTTLE_429: (429, "Throttling.User", {"Retry-After": "2"}),
    FaultKind.THROTTLE_400: (400, "Throttling.User", {"x-acs-retry-after": "2000"}),
    FaultKind.ERROR_500: (500, "InternalError", {}),
    FaultKind.ERROR_503: (503, "ServiceUnavailable", {"Retry-After": "2"}),
    FaultKind.INVALID_PARAMETER: (400, "InvalidParameter", {}),
    FaultKind.UNAUTHORIZED: (401, "InvalidApiKey", {}),
    FaultKind.FORBIDDEN: (403, "NoPermission", {}),
    FaultKind.NOT_FOUND: (404, "InvalidScope.NotFound", {}),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_faults_that_refuse(start: Start, kind: FaultKind) -> None:
    """A refusing fault answers with its status, code and waiting time, and is counted."""
    caller = await start(faults=[Fault(kind=kind, retry_after_seconds=2)])
    status, code, headers = REFUSED[kind]

    reply = await caller.syslogs()

    assert (reply.status, reply.json["Code"]) == (status, code)
    assert {name: reply.headers[name] for name in headers} == headers
    assert caller.simulator.stats[SYSLOGS].by_status == {status: 1}
    assert caller.simulator.stats[SYSLOGS].faults == {kind: 1}


SPOILED: dict[FaultKind, Callable[[Reply], bool]] = {
    FaultKind.HTML_200: lambda r: r.status == 200 and b"<html>" in r.body and "text/html" in r.headers["Content-Type"],
    FaultKind.HTML_502: lambda r: r.status == 502 and b"Bad Gateway" in r.body,
    FaultKind.INVALID_JSON: lambda r: r.status == 200 and b"{'RequestId'" in r.body,
    FaultKind.EMPTY_BODY: lambda r: r.status == 200 and r.body == b"",
    FaultKind.NO_CONTENT: lambda r: r.status == 204 and r.body == b"",
    FaultKind.TRUNCATED: lambda r: r.status == 200 and r.body.startswith(b'{"RequestId"') and not r.body.endswith(b"}"),
    FaultKind.NOT_UTF8: lambda r: r.status == 200 and b"\xff\xfe" in r.body and b'"Logs"' in r.body,
}


@pytest.mark.parametrize("kind", SPOILED)
async def test_faults_that_spoil_the_body(start: Start, kind: FaultKind) -> None:
    """A spoiled body arrives whole, as HTTP sees it, and is not JSON."""
    caller = await start(faults=[Fault(kind=kind)])

    reply = await caller.syslogs()

    assert SPOILED[kind](reply), reply
    with pytest.raises(ValueError, match=r"."):
        json.loads(reply.body)
    assert caller.simulator.stats[SYSLOGS].rows == 0


async def test_an_error_inside_a_200(start: Start) -> None:
    """The status says 200, the body holds a code and no records."""
    reply = await (await start(faults=[Fault(kind=FaultKind.CODE_IN_200)])).syslogs()

    assert reply.status == 200
    assert (reply.json["Code"], "Logs" in reply.json) == ("InternalError", False)


@pytest.mark.parametrize(("given", "size"), [(5000, 5000), (None, 9 << 20)])
async def test_an_oversized_body(start: Start, given: int | None, size: int) -> None:
    """The answer is right but for padding, by default more than the operation's limit."""
    caller = await start(faults=[Fault(kind=FaultKind.OVERSIZED, bytes=given)])

    reply = await caller.syslogs()

    assert len(reply.json["Padding"]) == size
    assert reply.json["Logs"] == wires(caller.simulator.world, BUSY, T, T + 60)[:100]


@pytest.mark.parametrize(
    ("kind", "operation", "error"),
    [
        (FaultKind.RESET_BEFORE, SYSLOGS, aiohttp.ClientOSError),
        (FaultKind.RESET_DURING, SYSLOGS, aiohttp.ClientError),
        (FaultKind.RESET_DURING, USERS, aiohttp.ClientError),
        (FaultKind.CUT_SHORT, SYSLOGS, aiohttp.ClientPayloadError),
        (FaultKind.CUT_SHORT, USERS, aiohttp.ClientPayloadError),
    ],
)
async def test_broken_connections(
    start: Start, caplog: pytest.LogCaptureFixture, kind: FaultKind, error: type[Exception], operation: str
) -> None:
    """The connection breaks before or in the answer; the next call works; the server has nothing to log."""
    caller = await start(faults=[Fault(kind=kind, arrivals=(1,))])
    call = caller.syslogs if operation == SYSLOGS else caller.users

    with pytest.raises(error):
        await call()
    assert (await call()).status == 200

    stats = caller.simulator.stats[operation]
    assert stats.calls == 2
    assert stats.by_status == ({0: 1, 200: 1} if kind is FaultKind.RESET_BEFORE else {200: 2})
    assert stats.in_flight == 0
    assert not caplog.records


async def test_a_get_that_the_client_repeats_in_silence_is_two_calls(start: Start) -> None:
    """aiohttp sends a GET again after a reset without telling its caller; the service has counted both."""
    caller = await start(faults=[Fault(kind=FaultKind.RESET_BEFORE, arrivals=(1,))])

    assert (await caller.users()).status == 200

    assert caller.simulator.stats[USERS].calls == 2
    assert caller.simulator.stats[USERS].by_status == {0: 1, 200: 1}


async def test_a_reset_within_the_body_comes_after_its_headers(start: Start) -> None:
    """Status and length were seen, part of the body too, before the connection went."""
    caller = await start(faults=[Fault(kind=FaultKind.RESET_DURING)])

    async with caller.session.post(caller.simulator.base_url + PATHS[SYSLOGS], json=GOOD) as response:
        assert response.status == 200
        assert response.content_length is not None
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_latency_and_hang_delay_the_usual_answer(start: Start) -> None:
    """Latency lies between its bounds, a hang takes its full time; both end in the right answer."""
    machine = ManualClock()
    faults = [
        Fault(kind=FaultKind.LATENCY, operation=SYSLOGS, seconds_min=2, seconds_max=3),
        Fault(kind=FaultKind.HANG, operation=SYSLOGS, seconds_max=50, arrivals=(2,)),
    ]
    caller = await start(faults=faults, clock=machine)

    for low, high in ((2, 3), (52, 53)):
        call = asyncio.create_task(caller.syslogs())
        await until(lambda: machine.next_wake is not None)
        assert machine.next_wake is not None
        assert low <= machine.next_wake - machine.monotonic() < high
        await machine.advance(high)
        assert (await call).json["Logs"]


async def test_a_call_that_hangs_ends_with_its_client(start: Start) -> None:
    """When the client gives up, the call leaves the ledger without a status; stopping does not wait either."""
    caller = await start(faults=[Fault(kind=FaultKind.HANG)])
    stats = caller.simulator.stats[SYSLOGS]
    for count in (1, 2):
        call = asyncio.create_task(caller.syslogs())
        await until(partial(lambda hung: stats.faults[FaultKind.HANG] == hung, count))
        if count == 1:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await until(lambda: not stats.in_flight)
            assert stats.by_status == {0: 1}

    await caller.simulator.stop()

    with pytest.raises(aiohttp.ClientError):
        await call


async def test_a_repeated_token_is_the_one_that_was_sent(start: Start) -> None:
    """A later page gives back its own token while there is more; first pages are left alone."""
    caller = await start(page_size=5, faults=[Fault(kind=FaultKind.REPEATED_TOKEN)])
    token = (await caller.syslogs()).json["NextToken"]

    second = (await caller.syslogs(NextToken=token)).json

    assert second["NextToken"] == token
    assert second["Logs"] == wires(caller.simulator.world, BUSY, T, T + 60)[5:10]


async def test_an_expired_token_hits_only_calls_that_carry_one(start: Start) -> None:
    """Counting arrivals of this fault starts at the first call with a token."""
    caller = await start(page_size=5, faults=[Fault(kind=FaultKind.EXPIRED_TOKEN, arrivals=(2,))])
    token = (await caller.syslogs()).json["NextToken"]
    await caller.syslogs()

    replies = [await caller.syslogs(NextToken=token) for _ in range(3)]

    assert [reply.status for reply in replies] == [200, 400, 200]
    assert replies[1].json["Code"] == "InvalidParameter"
    assert "NextToken is expired" in replies[1].json["Message"]


async def test_disorder_shuffles_the_listing_and_loses_nothing(start: Start) -> None:
    """A listing that began in disorder goes on in it: every record once, not by time."""
    caller = await start(page_size=17, faults=[Fault(kind=FaultKind.DISORDER, arrivals=(1,))])
    truth = wires(caller.simulator.world, BUSY, T, T + 60)

    shuffled, straight = await caller.listing(), await caller.listing()

    assert shuffled != truth
    assert sorted(map(str, shuffled)) == sorted(map(str, truth))
    assert straight == truth


async def test_a_changing_total(start: Start) -> None:
    """Total wavers by one from call to call while the pages stay what they are; as text it is a string."""
    caller = await start(faults=[Fault(kind=FaultKind.CHANGING_TOTAL)])
    users = caller.simulator.world.snapshot("rgsim0001", NOW)["UserMetrics"]

    answers = [(await caller.users()).json for _ in range(2)]
    caller.simulator.faults = (Fault(kind=FaultKind.TOTAL_TEXT),)

    assert [answer["Total"] for answer in answers] == [len(users) + 1, len(users) - 1]
    assert all(answer["UserMetrics"] == users for answer in answers)
    assert (await caller.users()).json["Total"] == str(len(users))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
async def test_type_drift_is_what_the_simulator_says_it_is(start: Start, share: float) -> None:
    """Records drift by themselves, not by the call: asked twice, page by page or by hand, they are the same."""
    fault = Fault(kind=FaultKind.TYPE_DRIFT, shapes=tuple(Shape), share=share)
    caller = await start(faults=[fault], page_size=31)
    simulator = caller.simulator
    truth = wires(simulator.world, BUSY, T, T + 60)

    one, two = await caller.listing(), await caller.listing(Reverse=True)
    users = (await caller.users()).json["UserMetrics"]

    assert one == two[::-1] == simulator.served_syslogs(BUSY, T, T + 60)
    assert users == simulator.served_users("rgsim0001", NOW)
    changed = sum(a != b for a, b in zip(one, truth, strict=True)) / len(truth)
    assert changed == share if share in (0, 1) else abs(changed - share) < 0.1


WIRE = {**World(seed=7).truth(BUSY, T, T + 60)[0].wire, "Time": "1760000001", "TagReceiveTime": "1760000009"}
USER = World(seed=7).snapshot("rgsim0001", T)["UserMetrics"][0]


@pytest.mark.parametrize(
    ("shape", "field", "value"),
    [
        (None, "Time", "1760000001"),
        (Shape.TIME_INT, "Time", 1760000001),
        (Shape.TIME_MS, "Time", "1760000001000"),
        (Shape.TIME_MS_INT, "Time", 1760000001000),
        (Shape.TIME_ISO, "Time", "2025-10-09T08:53:21Z"),
        (Shape.NUMBERS, "TagReceiveTime", 1760000009),
        (Shape.UNKNOWN_FIELDS, "Rack", "r01"),
        (Shape.MISSING_FIELDS, "Topic", "absent"),
        (Shape.NULL_FIELDS, "Domain", None),
        (Shape.TIME_ABSENT, "Time", "absent"),
        (Shape.TIME_GARBAGE, "Time", "garbage"),
    ],
)
def test_shapes_of_a_syslog_record(shape: Shape | None, field: str, value: Any) -> None:
    """Each shape changes what its line of documentation says, and nothing else."""
    drifted = drift_syslog(WIRE, shape)

    assert drifted.get(field, "absent") == value
    assert type(drifted.get(field, "absent")) is type(value)
    touched = {name for name in drifted.keys() | WIRE.keys() if drifted.get(name, "absent") != WIRE.get(name, "absent")}
    assert touched <= {field, "Labels", "Domain", "TagUserDefinedId", "Ip"}


@pytest.mark.parametrize(
    ("shape", "field", "value"),
    [
        (Shape.NUMBERS, "CPUUsageRate", float(USER["CPUUsageRate"])),
        (Shape.STRINGS, "TotalCPU", str(USER["TotalCPU"])),
        (Shape.UNKNOWN_FIELDS, "Rack", f"r{USER['TotalCPU'] % 40:02d}"),
        (Shape.MISSING_FIELDS, "DiskReadRate", "absent"),
        (Shape.NULL_FIELDS, "CpuJobNames", None),
    ],
)
def test_shapes_of_a_user_metric(shape: Shape, field: str, value: Any) -> None:
    """Users drift in the shapes that fit them and keep their identity."""
    drifted = drift_user(USER, shape)

    assert drifted.get(field, "absent") == value
    assert (drifted["UserId"], drifted["JobType"]) == (USER["UserId"], USER["JobType"])


def test_shapes_that_cannot_be_placed() -> None:
    """Placeable and unplaceable shapes are all shapes; a record may be no object at all."""
    assert {*PLACEABLE, *UNPLACEABLE} == set(Shape)
    assert drift_syslog(WIRE, Shape.NOT_AN_OBJECT) == WIRE["Msg"]
    assert drift_user(USER, Shape.NOT_AN_OBJECT) == USER["UserId"]


def fired(plan: FaultPlan, count: int, operation: str = SYSLOGS, scope_id: str = "n") -> list[int]:
    """The ordinals of the calls that a fault hit."""
    return [n for n in range(1, count + 1) if plan.draw(operation, scope_id, has_token=False).kinds]


@pytest.mark.parametrize(
    ("limits", "hits"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"arrivals": (2, 5)}, [2, 5]),
        ({"arrivals": tuple(range(3, 5))}, [3, 4]),
        ({"times_max": 2}, [1, 2]),
        ({"arrivals": (4, 5, 6), "times_max": 1}, [4]),
        ({"probability": 0.0}, []),
        ({"operation": USERS}, []),
        ({"scope_id": "other"}, []),
        ({"operation": SYSLOGS, "scope_id": "n"}, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_when_a_fault_fires(limits: dict[str, Any], hits: list[int]) -> None:
    """Operation, scope, ordinals, probability and count each narrow a fault."""
    assert fired(FaultPlan([Fault(kind=FaultKind.ERROR_500, **limits)], seed=1), 6) == hits


def test_faults_of_first_and_of_later_pages_do_not_count_the_others() -> None:
    """The second listing is the second arrival of `disorder`, however many pages the first one had."""
    plan = FaultPlan([Fault(kind=FaultKind.DISORDER, arrivals=(2,)), Fault(kind=FaultKind.EXPIRED_TOKEN)], seed=1)

    hits = [plan.draw(SYSLOGS, "n", has_token=has_token).kinds for has_token in (False, True, True, False)]

    assert hits == [(), (FaultKind.EXPIRED_TOKEN,), (FaultKind.EXPIRED_TOKEN,), (FaultKind.DISORDER,)]


def test_chance_repeats_with_the_seed() -> None:
    """One seed hits the same calls again, another hits others, both about as often as asked."""
    faults = [Fault(kind=FaultKind.ERROR_500, probability=0.25)]
    one, same, other = (fired(FaultPlan(faults, seed), 400) for seed in (1, 1, 2))

    assert one == same != other
    assert all(70 < len(hits) < 130 for hits in (one, other))


def test_faults_of_one_call_are_combined() -> None:
    """Delays add up, the first that breaks wins and only it counts, bends apply together."""
    faults = [
        Fault(kind=FaultKind.LATENCY, seconds_min=1, seconds_max=1),
        Fault(kind=FaultKind.ERROR_503, times_max=1),
        Fault(kind=FaultKind.ERROR_500, times_max=1),
        Fault(kind=FaultKind.HANG, seconds_max=5),
        Fault(kind=FaultKind.TYPE_DRIFT),
        Fault(kind=FaultKind.DISORDER),
    ]
    plan = FaultPlan(faults, seed=1)
    hits = [plan.draw(SYSLOGS, "n", has_token=False) for _ in range(3)]

    assert [hit.delay_seconds for hit in hits] == [6, 6, 6]
    assert [hit.breaks and hit.breaks.kind for hit in hits] == [FaultKind.ERROR_503, FaultKind.ERROR_500, None]
    assert [bend.kind for bend in hits[2].bends] == [FaultKind.TYPE_DRIFT, FaultKind.DISORDER]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"operation": "ListSyslog"}, "operation"),
        ({"probability": 1.5}, "probability"),
        ({"share": -0.1}, "share"),
        ({"seconds_min": 5, "seconds_max": 2}, "seconds"),
    ],
)
def test_a_senseless_fault_is_refused(values: dict[str, Any], says: str) -> None:
    """Mistakes in the fault list show when it is made, not by faults that never fire."""
    with pytest.raises(ValueError, match=says):
        Fault(kind=FaultKind.LATENCY, **values)


# Control


async def test_controls_from_outside(start: Start) -> None:
    """Clock, faults, late rows, truth and statistics can be had over HTTP."""
    caller = await start()
    world = World(seed=7)
    late = LateRows(BUSY, T, T + 10, 3, NOW)

    async def control(method: str, name: str, **options: Any) -> Any:
        reply = await caller.send(method, f"/_simulator/{name}", **options)
        assert reply.status == 200, reply.body
        return [json.loads(line) for line in reply.body.splitlines()] if "truth" in name else reply.json

    assert (await control("GET", "world"))["nodes"][BUSY] == "busy"
    assert await control("POST", "clock", json={"set": NOW - 5, "advance": 5, "rate": 0}) == {"now": NOW, "rate": 0}
    assert await control("POST", "late", data=msgspec.json.encode(late)) == {"added": 3}
    world.add_late(late)
    assert await control("GET", f"truth?node={BUSY}&start={T}&end={T + 60}") == wires(world, BUSY, T, T + 60)
    assert await control("GET", f"users?group=rgsim0001&time={T}") == world.snapshot("rgsim0001", T)
    drift = [{"kind": "type_drift", "shapes": ["time_int"]}, {"kind": "error_500", "arrivals": [2]}]
    assert await control("POST", "faults", json=drift) == {"faults": 2}
    assert [fault["kind"] for fault in await control("GET", "faults")] == ["type_drift", "error_500"]
    served = await control("GET", f"truth?node={BUSY}&start={T}&end={T + 10}&served=1")
    assert served == await caller.listing(last=T + 9)
    assert all(type(record["Time"]) is int for record in served)
    assert (await caller.syslogs()).status == 500
    account = caller.simulator.backend.account
    told = await control("GET", "world")
    assert (told["clusters"], told["services"]) == (account.cluster_ids, account.service_ids)
    assert (told["jobs"], told["eas_resources"]) == (account.job_ids(NOW), account.eas_resource_ids)
    stats = (await control("GET", "stats"))[SYSLOGS]
    assert (stats["calls"], stats["by_status"]) == (2, {"200": 1, "500": 1})
    assert stats["max_in_any_second"] == caller.simulator.max_in_any_second(SYSLOGS)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "truth?node=nobody&start=1&end=2", None, 404),
        ("GET", f"truth?node={BUSY}&start=1", None, 404),
        ("GET", "users?group=rgsim0001&time=now", None, 400),
        ("POST", "clock", b'{"forward": 5}', 400),
        ("POST", "clock", b'{"rate": -1}', 400),
        ("POST", "faults", b'[{"kind": "gremlins"}]', 400),
        ("POST", "faults", b'[{"kind": "error_500", "probability": 7}]', 400),
        ("POST", "faults", b"gremlins=5%", 400),
        ("POST", "faults", b"500=5%,node=nobody", 400),
        ("PUT", "faults", b'{"kind": "error_500"}', 400),
        ("DELETE", "faults?place=0", None, 400),
        ("POST", "credentials", b'{"password": "x"}', 400),
        ("POST", "credentials", b'{"expires_at": "soon"}', 400),
        ("POST", "late", b'{"node_id": "nobody", "start": 1, "end": 2, "count": 1, "visible_at": 2}', 404),
    ],
)
async def test_wrong_controls_are_refused(
    start: Start, method: str, path: str, body: bytes | None, status: int
) -> None:
    """A control that makes no sense says so and changes nothing."""
    caller = await start()

    reply = await caller.send(method, f"/_simulator/{path}", data=body)

    assert reply.status == status
    assert reply.body.strip()
    assert (caller.simulator.faults, caller.simulator.now()) == ((), NOW)


async def test_faults_come_and_go_while_it_runs(start: Start) -> None:
    """Each way of writing adds to the others, which go on counting; one goes by its place, all without."""
    caller = await start()

    async def faults(method: str, path: str = "", **options: Any) -> Any:
        reply = await caller.send(method, f"/_simulator/faults{path}", **options)
        assert reply.status == 200, reply.body
        return reply.json

    assert await faults("POST", data=f"once:500,node={BUSY}\n\nonce:404\n") == {"faults": 2}
    assert (await caller.syslogs()).status == 500
    assert await faults("POST", json={"kind": "hang", "operation": "ListServices"}) == {"faults": 3}
    told = await faults("GET")
    assert [(fault["place"], fault["kind"], fault["seen"], fault["fired"]) for fault in told] == [
        (0, "error_500", 1, 1), (1, "not_found", 1, 0), (2, "hang", 0, 0),
    ]  # fmt: skip
    assert (told[0]["scope_id"], told[0]["times_max"]) == (BUSY, 1)
    assert await faults("DELETE", "?place=1") == {"faults": 2}
    # What fired once does not fire again because the list changed.
    assert (await caller.syslogs()).status == 200
    assert await faults("PUT", json=[{"kind": "forbidden"}]) == {"faults": 1}
    assert (await caller.syslogs()).status == 403
    assert await faults("DELETE") == {"faults": 0}
    assert (await caller.syslogs()).status == 200


async def test_credentials_are_changed_from_outside(start: Start) -> None:
    """What is named changes, the rest stays; a caller with the old key is refused from then on."""
    caller = await start()

    reply = await caller.send("POST", "/_simulator/credentials", json={"key": "sk-new", "expires_at": NOW})

    assert reply.json == {"changed": ["expires_at", "key"]}
    assert (await caller.syslogs()).status == 401
    credentials = caller.simulator.credentials
    assert (credentials.key, credentials.expires_at, credentials.access_key_secret) == (
        "sk-new",
        NOW,
        "simulator-secret",
    )


async def test_uploads_of_spans(start: Start) -> None:
    """The endpoint that goes with a token takes spans, compressed or not; without a token it does not."""
    caller = await start()
    span = b"\x0a\x08\x12\x06\x12\x04\x2a\x02ok"
    path = "/api/PaiLLMTrace/2024-03-11/GetXtraceToken"
    endpoint = (await caller.send("GET", path)).json["HttpEndpoint"].removeprefix(caller.simulator.base_url)
    headers = {"Content-Type": "application/x-protobuf"}

    plain = await caller.send("POST", endpoint, data=span, headers=headers)
    packed = await caller.send(
        "POST", endpoint, data=gzip.compress(span), headers={**headers, "Content-Encoding": "gzip"}
    )
    stranger = await caller.send("POST", "/adapt_nobody/api/otlp/traces", data=span, headers=headers)

    assert (plain.status, packed.status, stranger.status) == (200, 200, 401)
    assert (await caller.send("GET", "/_simulator/uploads")).json == [["ok"], ["ok"]]


async def test_a_clock_that_was_handed_in_cannot_be_moved(start: Start) -> None:
    """With a plain function for `now` the clock control answers 400 instead of pretending."""
    caller = await start(now=lambda: float(T))

    assert (await caller.send("POST", "/_simulator/clock", json={"advance": 5})).status == 400
    assert parsedate_to_datetime((await caller.users()).headers["Date"]).timestamp() == T


async def test_a_simulator_clock_runs_at_its_rate() -> None:
    """Simulated time is machine time times the rate, from wherever it was set; 0 stands still."""
    machine = ManualClock(wall=T)
    real, fast = SimulatorClock(clock=machine), SimulatorClock(5.0, rate=60, clock=machine)
    frozen = SimulatorClock.frozen(9.0)

    await machine.advance(10)

    assert (real.now(), fast.now(), frozen.now()) == (T + 10, 605.0, 9.0)
    fast.set(100.0, rate=0)
    fast.advance(7)
    await machine.advance(10)
    assert (fast.now(), real()) == (107.0, T + 20)


@pytest.mark.slow("simulators")
async def test_a_process_of_its_own() -> None:
    """`python -m collector.simulator` says where it listens, answers, and leaves on SIGTERM with 0."""
    command = ["-m", "collector.simulator", "--seed", "7", "--start", str(NOW), "--rate", "0"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        headers = {"Authorization": f"Bearer {SIMULATOR_KEY}"}
        async with (
            aiohttp.ClientSession(ready["base_url"], headers=headers) as session,
            session.post(PATHS[SYSLOGS], json=GOOD) as response,
        ):
            assert (await response.json())["Logs"] == wires(World(seed=7), BUSY, T, T + 10)
        assert ready["pid"] == process.pid
        os.kill(process.pid, signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
