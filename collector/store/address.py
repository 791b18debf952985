"""Where a server is and who asks it. Pure; what is secret shows itself to nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from collector.store.base import DATABASE

_PORTS = {"http": 8123, "https": 8443}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The address of a server's HTTP interface."""

    scheme: str
    host: str
    port: int
    user: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.user}@{url_host(self.host)}:{self.port}/{DATABASE}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves the user: a password, or a token in its place."""

    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def url_host(host: str) -> str:
    """Spell a host as a URL does: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def parse_address(url: str) -> ServerAddress:
    """`http://user@host:8123/pai` taken apart; the configuration has checked that it is one."""
    parts = urlsplit(url)
    return ServerAddress(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or _PORTS[parts.scheme],
        user=unquote(parts.username or "default"),
    )
