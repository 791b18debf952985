"""Sessions with an owner, as commands have them, and an owner that answers them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from collector import rpc
from collector.api.gateways import ApiKey
from collector.cli.methods import find_method
from collector.clock import Clock
from collector.owner.caller import Caller
from collector.rpc import Access, Session
from collector.settings import Settings


def session(
    settings: Settings,
    access: Access = Access.CALLER,
    *,
    key: ApiKey | Callable[[], ApiKey | None] | None = None,
    clock: Clock | None = None,
) -> AbstractAsyncContextManager[Session]:
    """Reach the owner with all methods of the commands."""
    return rpc.reach(settings, access, find_method, key=key, clock=clock)


def listening(owner: Caller) -> AbstractAsyncContextManager[None]:
    """Answer all methods of the commands."""
    return rpc.listening(owner, find_method)
