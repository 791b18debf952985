"""Who may ask, and who runs what they ask for."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from collector.chdb_http.exceptions import AUTHENTICATION_FAILED, failure
from collector.chdb_http.protocol import Credentials, SqlRequest
from collector.queries import QueryAnswer


class Executor(Protocol):
    """Runs requests."""

    @property
    def body_bytes_max(self) -> int:
        """Of a request's body, decompressed."""

    async def run(self, request: SqlRequest) -> QueryAnswer:
        """Begin to answer. An answer without a format has no body to be read. Raises QueryError."""


@dataclass(frozen=True, slots=True)
class Account:
    """A way in."""

    executor: Executor
    secret: str = field(default="", repr=False)
    """Password or bearer token; none is asked where it is empty."""

    def admits(self, credentials: Credentials) -> bool:
        given = credentials.token or credentials.password
        return not self.secret or hmac.compare_digest(given.encode(), self.secret.encode())


@dataclass(frozen=True, slots=True)
class Accounts:
    """Every way in: by name, else the one that is everybody's, whatever name they give."""

    everybody: Account
    named: Mapping[str, Account] = field(default_factory=dict)

    def executor(self, credentials: Credentials) -> Executor:
        """Who runs the requests of whoever shows these. Raises QueryError."""
        account = self.named.get(credentials.user, self.everybody)
        if not account.admits(credentials):
            # Neither the name nor the password comes back: people type one into the other's place.
            raise failure(AUTHENTICATION_FAILED, "Authentication failed: password is incorrect, or there is none")
        return account.executor
