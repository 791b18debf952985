"""Answers whose head or coding is unusual: read if they can be, else refused with status and reason."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable

import pytest

from collector.api.decode import UndecodableAnswerError
from collector.errors import ApiError, BadRequestError, InvalidAnswerError, TransientError
from tests.integration.test_client import ONCE, PAGE, calling, raw_service, read_request

NOT_HTTP = "an answer came that cannot be read as HTTP"
BODY = json.dumps(PAGE).encode()
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(*headers: str, body: bytes = BODY, status: str = "HTTP/1.1 200 OK", length: bool = True) -> bytes:
    lines = [status, "Content-Type: application/json", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answering(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return talk


READABLE = {
    "a header of 100 KB": reply(f"X-Trace: {'x' * 100_000}"),
    "300 headers": reply(*(f"X-Trace-{i}: {i}" for i in range(300))),
    "a reason of 20 KB": reply(status=f"HTTP/1.1 200 {'x' * 20_000}"),
    "gzip": reply("Content-Encoding: gzip", body=gzip.compress(BODY)),
    "gzip announced, plain sent": reply("Content-Encoding: gzip"),
    "deflate announced, plain sent": reply("Content-Encoding: deflate"),
    "deflate without its header": reply("Content-Encoding: deflate", body=zlib.compress(BODY)[2:-4]),
    "HTTP/1.0, ended by closing": reply(status="HTTP/1.0 200 OK", length=False),
    "ended by closing": reply("Connection: close", length=False),
    "chunked": reply(
        "Transfer-Encoding: chunked", body=b"%x\r\n%s\r\n0\r\nX-Trailer: x\r\n\r\n" % (len(BODY), BODY), length=False
    ),
}


@pytest.mark.parametrize("name", READABLE)
async def test_an_unusual_answer_is_read(name: str) -> None:
    """Whatever a proxy or a careless server does to it, as long as it can be understood."""
    async with raw_service(answering(READABLE[name])) as base_url, calling(base_url, policy=ONCE) as api:
        got = await api.syslogs()

    assert got.answer.logs[0].msg == "link up"
    assert got.bytes == len(BODY)


REFUSED: dict[str, tuple[bytes, type[ApiError], str, int, str]] = {
    "brotli": (reply("Content-Encoding: br", body=b"\x0b\x02\x80"), UndecodableAnswerError, "Content-Encoding br", 200,
               "coding"),
    "204": (reply(status="HTTP/1.1 204 No Content", body=b"", length=False), InvalidAnswerError, "has no body", 204,
            "empty"),
    "blank": (reply(body=b"  "), InvalidAnswerError, "has no body", 200, "empty"),
    "307": (
        reply(f"Location: https://elsewhere.test/{'x' * 9000}?key=s3cret", status="HTTP/1.1 307 Temporary Redirect",
              body=b""), BadRequestError, r"redirects to https://elsewhere.test/x+ \(HTTP 307", 307, "307"),
    "407": (reply(status="HTTP/1.1 407 Proxy Authentication Required", body=b""), TransientError, "HTTP 407", 407,
            "407"),
    "damaged gzip": (
        reply("Content-Encoding: gzip", body=gzip.compress(BODY)[:40]), InvalidAnswerError, "ends too early", 200,
        "truncated"),
    "chunks that are none": (
        reply("Transfer-Encoding: chunked", body=b"zz\r\nnonsense\r\n", length=False), TransientError,
        f"{NOT_HTTP}: Invalid character in chunk size", 0, "connection"),
    "a header of 2 MB": (
        reply(f"X-Trace: {'x' * 2_000_000}"), TransientError, f"{NOT_HTTP}: Got more than", 0, "connection"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", TransientError, NOT_HTTP, 0, "connection"),
    "nothing": (b"", TransientError, "the connection broke before the answer came", 0, "connection"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_an_answer_that_cannot_be_read_is_refused_for_its_reason(name: str) -> None:
    """With the status it came with; that the connection broke is said only where no answer came."""
    answer, kind, words, http_status, code = REFUSED[name]
    async with raw_service(answering(answer)) as base_url, calling(base_url, policy=ONCE) as api:
        with pytest.raises(kind, match=words) as raised:
            await api.syslogs()

    assert raised.value.http_status == http_status
    assert api.codes == [(http_status, code)]
    assert "s3cret" not in str(raised.value)
    assert name == "nothing" or "connection broke" not in str(raised.value)
