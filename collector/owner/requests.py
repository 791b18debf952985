"""What commands may have an owner do beside status, query and call, by name: the same through the socket or not."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from collector.errors import OwnedElsewhere
from collector.owner.backfilling import backfill, backfill_price
from collector.owner.caller import Caller
from collector.owner.gaps import gaps
from collector.owner.instance import Owner
from collector.owner.lock import Holder, command_line
from collector.owner.previewing import preview
from collector.owner.replaying import repair, replay
from collector.owner.verifying import verify, verify_price

Answer = Callable[[Caller, Mapping[str, Any]], Awaitable[dict[str, Any]]]
Follow = Callable[[Caller, Mapping[str, Any]], AsyncGenerator[dict[str, Any], None]]


def collects(work: Callable[[Owner, Mapping[str, Any]], AsyncGenerator[dict[str, Any], None]]) -> Follow:
    """Return work that a process which writes the store can do. Elsewhere it raises OwnedElsewhere."""

    async def guarded(owner: Caller, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        if not isinstance(owner, Owner):
            holder = Holder(os.getpid(), command_line())
            raise OwnedElsewhere(
                f"{owner.journal.path} is owned by {holder}, which does not write the store",
                hint="wait until it ends, then try again",
            )
        async with aclosing(work(owner, asked)) as words:
            async for word in words:
                yield word

    return guarded


ANSWERED: Final[Mapping[str, Answer]] = {
    "gaps": gaps,
    "backfill_price": backfill_price,
    "verify_price": verify_price,
    "preview": preview,
}
"""Asked and answered at once."""

FOLLOWED: Final[Mapping[str, Follow]] = {
    "backfill": collects(backfill),
    "verify": verify,
    "journal_repair": collects(repair),
    "journal_replay": collects(replay),
}
"""Work that takes a while and tells how far it is. It ends when nobody listens any more."""
