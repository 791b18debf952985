"""An answer on its connection: sent whole, or broken on purpose."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

from aiohttp import web

from collector.simulator.breaking import Answer
from collector.simulator.faults import FaultKind


def whole(answer: Answer, headers: Mapping[str, str], *, compress: bool) -> web.Response:
    """The response that carries an answer as it is."""
    response = web.Response(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        charset="utf-8",
        headers={**answer.headers, **headers},
    )
    if compress:
        response.enable_compression()
    return response


async def broken(request: web.Request, answer: Answer, headers: Mapping[str, str]) -> web.StreamResponse:
    """Break the connection as the answer's `transport` says: before any byte, or after half of the body."""
    if answer.transport is FaultKind.RESET_BEFORE:
        _reset(request)
        return web.Response()
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_type = answer.content_type
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if answer.transport is FaultKind.RESET_DURING:
        _reset(request)
    elif request.transport is not None:
        request.transport.close()
    return response


def _reset(request: web.Request) -> None:
    """Close the connection with a TCP reset, dropping whatever was not sent."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
