"""A client that answers as a test says, before the real journal, loops and store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from collector.api.client import Reply
from collector.api.gate import Gate
from collector.api.metering import Attempt
from collector.catalogue.answers import Answer
from collector.catalogue.operation import Operation
from collector.clock import ServerClock
from collector.owner.instance import Owner
from collector.pipeline.collecting import Collecting
from collector.pipeline.run import OnceRunner
from collector.pipeline.streams import Streams
from tests.support import NOW

Script = Callable[[Mapping[str, Any]], tuple[Answer, int]]
"""The parameters of a call -> its answer and the server's date, seconds since the epoch."""


class ScriptedClient:
    """Answers calls as the test says, reserving and handing over attempts as the real one does."""

    def __init__(self, owner: Owner, script: Script, date: int | None) -> None:
        self.gate = Gate(owner.clock)
        self._owner = owner
        self._script = script
        self._date = date
        self.asked: list[Mapping[str, Any]] = []
        self.operations: list[str] = []

    async def read_clock(self) -> None:
        if self._date is not None:
            self._owner.server_clock.observe(self._date)

    async def request(self, operation: Operation, scope_id: str, parameters: Mapping[str, Any]) -> Reply:
        ticket = await self._owner.journal.reserve(operation.name, NOW)
        self.asked.append(parameters)
        self.operations.append(operation.name)
        answer, date = self._script(parameters)
        self._owner.server_clock.observe(date)
        return Reply(answer, 200, 100, date, Attempt(ticket, operation.name, scope_id, date, 200, "", 1, 100))


async def run(
    owner: Owner, script: Script, streams: Streams | None = None, *, date: int | None = NOW
) -> ScriptedClient:
    """One run over the configured streams, or over `streams`, as of a process that starts at `date`.

    Without a date it goes by the machine's clock until the first answer.
    """
    owner.server_clock = ServerClock(owner.clock)
    client = ScriptedClient(owner, script, date)
    owner.client = client  # type: ignore[assignment]
    runner = owner.once() if streams is None else runner_of(owner, streams)
    report = await runner.run()
    assert not report.failures
    return client


def runner_of(owner: Owner, streams: Streams, collecting: Collecting | None = None) -> OnceRunner:
    async def stage() -> list[Streams]:
        return [streams]

    return OnceRunner(
        region="cn-hangzhou", store=owner.store, shipper=owner.shipper(),
        collecting=collecting or owner.collecting(), workers_max=4, stages=[stage],
    )  # fmt: skip
