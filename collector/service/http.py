"""What the service answers over HTTP: is it alive, is it ready, metrics, its status, and the console.

On loopback without a token, and only to requests that name a loopback host: a page in a browser whose name
was made to point here must not read it. Everywhere else only with the token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import structlog
from aiohttp import web

from collector.console.access import Access
from collector.console.page import HEADERS
from collector.console.server import BODY_BYTES_MAX, add_console, is_open, refuse
from collector.errors import ConfigError, UsageError
from collector.owner.condition import answers, judged
from collector.owner.instance import Owner
from collector.owner.measured import measured
from collector.owner.status import status
from collector.proxies import is_loopback
from collector.telemetry.metrics import OPENMETRICS, TEXT

log = structlog.get_logger(__name__)

TOKEN_VARIABLE: Final = "PAI_COLLECTOR_SERVICE_TOKEN"
OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Asked by what watches processes, and telling nothing but yes or no to whoever has no token."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def split_address(listen: str) -> tuple[str, int]:
    """`127.0.0.1:9600` or `[::1]:9600` as host and port."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def check_listener(listen: str, token: str, key: str = "service.listen") -> None:
    """Raises ConfigError where others could reach the listener and there is no token."""
    if listen and not token and not is_loopback(split_address(listen)[0]):
        raise ConfigError(
            [f'{key}: got "{listen}"; expected a loopback address, or a token in {TOKEN_VARIABLE}'],
            hint="any long random text will do as a token; clients send it as Authorization: Bearer",
        )


@asynccontextmanager
async def serving_http(owner: Owner, *, listen: str, token: str) -> AsyncIterator[str]:
    """Answer at `listen` while the body runs; gives the address, "" where `listen` is empty.

    Raises ConfigError as `check_listener` does, UsageError when the address cannot be had.
    """
    check_listener(listen, token)
    if not listen:
        yield ""
        return
    host, port = split_address(listen)
    application = _application(owner, token, is_loopback(host))
    # A browser that goes takes its query along.
    runner = web.AppRunner(application, access_log=None, handle_signals=False, handler_cancellation=True)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise UsageError(
                f'service.listen: got "{listen}"; it cannot be listened at: {error.strerror or error}',
                hint='choose another port, or "" for none',
            ) from None
        bound = runner.addresses[0]
        address = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        log.info("listener_started", address=address)
        yield address
    finally:
        await runner.cleanup()


def _application(owner: Owner, token: str, is_on_loopback: bool) -> web.Application:
    access = Access(token, owner.clock, is_on_loopback=is_on_loopback)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _guarded(access, request, handler)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    async def healthz(request: web.Request) -> web.Response:
        is_alive = await journal_lives(owner)
        return web.Response(status=200 if is_alive else 503, text="alive\n" if is_alive else "the journal hangs\n")

    async def readyz(request: web.Request) -> web.Response:
        judgement = await judged(owner)
        reasons = [str(reason) for reason in judgement.reasons if reason.is_severe]
        body = {"ready": judgement.is_ready} | ({"reasons": reasons} if access.is_known(request) else {})
        return web.json_response(body, status=200 if judgement.is_ready else 503)

    async def metrics(request: web.Request) -> web.Response:
        openmetrics = "application/openmetrics-text" in request.headers.get("Accept", "")
        body = owner.metrics.exposition(await measured(owner), openmetrics=openmetrics)
        return web.Response(body=body, headers={"Content-Type": OPENMETRICS if openmetrics else TEXT})

    async def show_status(request: web.Request) -> web.Response:
        body = msgspec.json.encode(await status(owner))
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    application = web.Application(middlewares=[guard], client_max_size=BODY_BYTES_MAX)
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", metrics)
    application.router.add_get("/status", show_status)
    add_console(application, owner, access)
    return application


async def _guarded(access: Access, request: web.Request, handler: Handler) -> web.StreamResponse:
    """The answer to a request, or a refusal of one who may not ask."""
    is_open_here = access.has_token and (request.path in OPEN or is_open(request.path))
    if not access.is_known(request) and not is_open_here:
        return refuse(request, access)
    if access.is_foreign(request):
        return web.Response(status=403, text="pages of other sites cannot ask here\n")
    try:
        return await handler(request)
    except web.HTTPException as error:
        # aiohttp raises it; the headers of every response belong on it too.
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return web.Response(status=error.status, text=f"{error.reason}\n", headers=headers)


async def journal_lives(owner: Owner) -> bool:
    """Whether the journal answers, or is known to wait for its disk or for another program: a restart cures neither."""
    return owner.room.is_full or await answers(owner.journal.counters()) or owner.room.is_full
