"""The proxy of a request, as the environment names it: one rule for every HTTP client of the program.

HTTPS_PROXY and HTTP_PROXY (in either case; ALL_PROXY if neither fits) hold the proxy of each scheme, NO_PROXY the hosts
that are reached without one. This machine itself is never reached through a proxy.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from collector.errors import ConfigError
from collector.redaction import register_secret

METADATA_HOST: Final = "100.100.100.200"
"""Hands out credentials of the instance's role, and answers nobody but the instance itself."""
_VARIABLES: Final = ("http_proxy", "https_proxy", "all_proxy")
_hidden: dict[str, str] | None = None
"""The proxies of the environment, while they are hidden from libraries."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. Its text is safe to log: user and password are left out."""

    url: str = field(repr=False)
    """With user and password."""

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy through which `url` is requested, None for a direct connection.

    Raises ConfigError if the environment names one that cannot be used.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or host == METADATA_HOST:
        return None
    proxies = getproxies_environment() if _hidden is None else _hidden
    given = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not given or _is_exempt(host, parts.port, proxies):
        return None
    return _checked(given if "://" in given else f"http://{given}", parts.scheme)


def exempt_host(host: str) -> None:
    """Name `host` in this process's NO_PROXY, for libraries that read the environment themselves."""
    # The lower-case variable hides the other one.
    name = "no_proxy" if os.environ.get("no_proxy") else "NO_PROXY"
    hosts = [known.strip() for known in os.environ.get(name, "").split(",")]
    if host not in hosts and "*" not in hosts:
        os.environ[name] = ",".join(known for known in (*hosts, host) if known)


@contextmanager
def hidden_proxies() -> Iterator[None]:
    """Hide the environment's proxies from libraries that read it themselves. Not to be nested."""
    global _hidden
    _hidden = getproxies_environment()
    taken = {name: value for name, value in os.environ.items() if name.lower() in _VARIABLES}
    for name in taken:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(taken)
        _hidden = None


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_exempt(host: str, port: int | None, proxies: dict[str, str]) -> bool:
    where = f"{host}:{port}" if port else host
    if proxy_bypass(where, proxies):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in proxies.get("no", "").split(","):
        try:
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            # A name, which was compared above.
            continue
    return False


def _checked(url: str, scheme: str) -> Proxy:
    proxy = Proxy(url)
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        shown = url.rpartition("@")[2] if "@" in url else url
        raise ConfigError([f"{scheme.upper()}_PROXY: got {shown!r}; expected http://host:port"])
    if parts.password:
        register_secret(unquote(parts.password))
    return proxy
