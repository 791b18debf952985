"""The owner's socket: other commands of the same user have the owner do their work.

HTTP over a Unix socket beside the journal, mode 0600. Nothing of it is reachable from elsewhere.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from collector.errors import CollectorError, TransientError
from collector.owner.caller import Caller
from collector.owner.calls import CallResult, call, refusal_to_call, row_of
from collector.owner.check import check_all
from collector.owner.crossing import error_from, told
from collector.owner.requests import ANSWERED, FOLLOWED
from collector.owner.status import status

log = structlog.get_logger(__name__)

PATH_BYTES_MAX = 100
"""The system takes about 107 bytes as the path of a socket."""

REQUEST_BYTES_MAX = 16 << 20
"""Statements are short; the logs of a job that is to be diagnosed may be long."""
CONNECT_SECONDS = 5.0
READ_SECONDS = 120.0
ERROR_STATUS = 422
"""HTTP status of an answer that is an error of ours (`crossing.told`)."""

# A query's result travels in frames, so that an error after the first byte is told apart from an end.
_FRAME = struct.Struct(">cI")
_DATA, _ERROR, _END = b"D", b"E", b"."


def socket_path(journal_path: Path) -> Path:
    """Where the owner of a journal listens."""
    return journal_path.with_name(journal_path.name + ".sock")


@asynccontextmanager
async def reachable(path: Path) -> AsyncIterator[str]:
    """`path` in a form that fits into a socket address: a long one goes through its open directory."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


@asynccontextmanager
async def listening(owner: Caller) -> AsyncIterator[None]:
    """Answer other commands while the body runs. What they have begun by its end is finished first."""
    path = socket_path(owner.settings.journal.path)
    path.unlink(missing_ok=True)
    runner = web.AppRunner(_application(owner), access_log=None)
    await runner.setup()
    try:
        async with reachable(path) as address:
            # Made with the right mode at once: between bind and chmod anybody could connect.
            mask = os.umask(0o177)
            try:
                await web.UnixSite(runner, address).start()
            finally:
                os.umask(mask)
            yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


@web.middleware
async def _telling_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Errors of ours cross the socket; a fault of the program stays in the owner's log."""
    try:
        return await handler(request)
    except CollectorError as error:
        return web.json_response(told(error), status=ERROR_STATUS)
    except web.HTTPException:
        raise
    except Exception as error:
        log.exception("request_of_a_command_failed", path=request.path)
        return web.json_response(told(_fault(error)), status=ERROR_STATUS)


def _fault(error: Exception) -> CollectorError:
    return CollectorError(
        f"the owner failed at this: {type(error).__name__}", hint="a fault of the program; the owner's log has more"
    )


def _application(owner: Caller) -> web.Application:
    async def ping(request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async def show_status(request: web.Request) -> web.StreamResponse:
        return web.json_response(await status(owner))

    async def run_check(request: web.Request) -> web.StreamResponse:
        if owner.client is None:
            raise refusal_to_call(owner)
        return web.json_response([result.as_dict() for result in await check_all(owner)])

    async def make_call(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        result = await call(owner, str(asked["operation"]), asked["parameters"])
        return web.json_response(asdict(result))

    async def run_query(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            query = owner.store.query(
                str(asked["sql"]), format=str(asked["format"]), parameters=asked.get("parameters") or {}
            )
            async with await query as answer:
                async for piece in answer:
                    await response.write(_FRAME.pack(_DATA, len(piece)) + piece)
            await response.write(_FRAME.pack(_END, 0))
        except CollectorError as error:
            body = json.dumps(told(error)).encode()
            await response.write(_FRAME.pack(_ERROR, len(body)) + body)
        await response.write_eof()
        return response

    async def answer_request(request: web.Request) -> web.StreamResponse:
        return web.json_response(await ANSWERED[request.match_info["name"]](owner, await request.json()))

    async def follow_request(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            async with aclosing(FOLLOWED[request.match_info["name"]](owner, asked)) as words:
                async for word in words:
                    body = json.dumps(word).encode()
                    await response.write(_FRAME.pack(_DATA, len(body)) + body)
            await response.write(_FRAME.pack(_END, 0))
        except CollectorError as error:
            body = json.dumps(told(error)).encode()
            await response.write(_FRAME.pack(_ERROR, len(body)) + body)
        except ConnectionResetError:
            # Nobody listens any more: what was done until now stays.
            return response
        except Exception as error:
            log.exception("request_of_a_command_failed", path=request.path)
            body = json.dumps(told(_fault(error))).encode()
            await response.write(_FRAME.pack(_ERROR, len(body)) + body)
        await response.write_eof()
        return response

    application = web.Application(client_max_size=REQUEST_BYTES_MAX, middlewares=[_telling_errors])
    application.router.add_get("/ping", ping)
    application.router.add_get("/status", show_status)
    application.router.add_post("/check", run_check)
    application.router.add_post("/call", make_call)
    application.router.add_post("/query", run_query)
    application.router.add_post(f"/answer/{{name:{'|'.join(ANSWERED)}}}", answer_request)
    application.router.add_post(f"/follow/{{name:{'|'.join(FOLLOWED)}}}", follow_request)
    return application


class OwnerClient:
    """The other end of the socket, for a command that is not the owner.

    Raises what the owner raised, and aiohttp's errors when there is no owner, or none any more.
    """

    def __init__(self, address: str) -> None:
        self._session = aiohttp.ClientSession(
            "http://owner",
            connector=aiohttp.UnixConnector(path=address),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
        )

    @property
    def notes(self) -> Sequence[str]:
        """Nothing: an owner's tables are those of its own version."""
        return ()

    async def close(self) -> None:
        await self._session.close()

    async def ping(self) -> None:
        """Return if an owner is there."""
        async with self._session.get("/ping"):
            pass

    async def status(self) -> dict[str, Any]:
        """See `owner.status.status`."""
        async with self._session.get("/status") as response:
            found: dict[str, Any] = await _result(response)
            return found

    async def gaps(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """See `owner.gaps.gaps`."""
        return await self.answer("gaps", asked)

    async def check(self) -> list[dict[str, Any]]:
        """See `owner.check.check_all`."""
        async with self._session.post("/check") as response:
            found: list[dict[str, Any]] = await _result(response)
            return found

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> CallResult:
        """See `owner.calls.call`. Raises TransientError when an owner ends under a call that must not be repeated."""
        asked = {"operation": operation, "parameters": dict(parameters)}
        # The owner bounds a call: waiting less long than it does would lose an answer that was paid for.
        patient = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
        try:
            async with self._session.post("/call", json=asked, timeout=patient) as response:
                return CallResult(**await _result(response))
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            row = row_of(operation)
            if row.repeatable:
                raise
            raise TransientError(
                "the owner ended before it had told the answer; the call may have been made",
                operation=row.name,
                scope_id=row.scope_id(parameters),
            ) from error

    async def query(
        self, sql: str, format_name: str, parameters: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of a result in ClickHouse's format of that name; `parameters` as `Store.query` takes them.

        Raises QueryError.
        """
        asked = {"sql": sql, "format": format_name, "parameters": dict(parameters or {})}
        async with aclosing(self._frames("/query", asked)) as frames:
            async for body in frames:
                yield body

    async def answer(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """See `owner.requests.ANSWERED`."""
        async with self._session.post(f"/answer/{name}", json=dict(asked)) as response:
            found: dict[str, Any] = await _result(response)
            return found

    async def follow(self, name: str, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """See `owner.requests.FOLLOWED`."""
        async with aclosing(self._frames(f"/follow/{name}", asked)) as frames:
            async for body in frames:
                yield json.loads(body)

    async def _frames(self, path: str, asked: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        async with self._session.post(path, json=dict(asked)) as response:
            if response.status != 200:
                await _result(response)
            while True:
                try:
                    kind, size = _FRAME.unpack(await response.content.readexactly(_FRAME.size))
                    body = await response.content.readexactly(size)
                except EOFError as error:
                    raise aiohttp.ClientPayloadError("the owner ended before the result was complete") from error
                if kind == _END:
                    return
                if kind == _ERROR:
                    raise error_from(json.loads(body))
                yield body


async def _result(response: aiohttp.ClientResponse) -> Any:
    """What the owner answered. Raises what it raised."""
    if response.status == 200:
        return await response.json()
    if response.status == ERROR_STATUS:
        raise error_from(await response.json())
    raise CollectorError(
        f"the owner answers {response.method} {response.url.path} with HTTP {response.status}",
        hint="it may run another version of this program: restart it",
    )
