"""What commands may have an owner do beside status, query and call, by name: the same through the socket or not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final

from collector.owner.backfilling import backfill, backfill_price
from collector.owner.gaps import gaps
from collector.owner.instance import Owner
from collector.owner.replaying import repair, replay
from collector.owner.verifying import verify, verify_price

Answer = Callable[[Owner, Mapping[str, Any]], Awaitable[dict[str, Any]]]
Follow = Callable[[Owner, Mapping[str, Any]], AsyncGenerator[dict[str, Any], None]]

ANSWERED: Final[Mapping[str, Answer]] = {
    "gaps": gaps,
    "backfill_price": backfill_price,
    "verify_price": verify_price,
}
"""Asked and answered at once."""

FOLLOWED: Final[Mapping[str, Follow]] = {
    "backfill": backfill,
    "verify": verify,
    "journal_repair": repair,
    "journal_replay": replay,
}
"""Work that takes a while and tells how far it is. It ends when nobody listens any more."""
