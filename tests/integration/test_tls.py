"""Who answers must prove that it is whom the address names: nothing is sent to anybody else."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from collector.api.gateways import HttpRequest
from collector.api.transport import Failure, Transport


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1 that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    (folder / "certificate.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@asynccontextmanager
async def secure_server(folder: Path, seen: list[str]) -> AsyncIterator[str]:
    """An HTTPS server that notes what it is asked for."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.path)
        return web.Response(text="{}")

    runner = web.ServerRunner(web.Server(answer), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate(folder)).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def exchange(url: str) -> Failure | None:
    departures = []

    async def depart() -> None:
        departures.append(url)

    async with Transport(timeout_seconds=10) as transport:
        request = HttpRequest("GET", url + "/secret", {}, {"Authorization": "Bearer sk-canary"})
        done = await transport.exchange(request, depart=depart, body_bytes_max=1000)
    assert bool(departures) == (done.failure is None), "a call that is not sent is not metered"
    return done.failure


async def test_a_certificate_that_nobody_trusts_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """Neither the request nor its key leaves the machine, and the call is not metered."""
    seen: list[str] = []
    async with secure_server(tmp_path, seen) as url:
        assert await exchange(url) is Failure.NO_CONNECTION
    assert seen == []


async def test_a_trusted_certificate_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same server, with its certificate among those that the machine trusts."""
    seen: list[str] = []
    async with secure_server(tmp_path, seen) as url:
        # aiohttp makes its context when it is imported, long before this certificate.
        trusted = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusted)
        assert await exchange(url) is None
    assert seen == ["/secret"]
