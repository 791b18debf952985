"""Pages of the simulator, read as strictly as the catalogue's types allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from collector.catalogue.operations import operation
from collector.simulator.faults import Fault, FaultKind, Fired
from collector.simulator.paging import Listing, Page
from collector.simulator.requests import Refusal

T = 1_760_000_000


def decoded(name: str, page: Page) -> Any:
    """The answer as the catalogue's type. Fails for a field that no type has, in the answer and in its records."""
    body = b"{" + page.fields + b"}"
    known = set(operation(name).answer.__struct_encode_fields__)
    assert set(msgspec.json.decode(body)) <= known - {"RequestId"}
    return msgspec.json.decode(body, type=operation(name).answer)


def plain(page: Page) -> dict[str, Any]:
    """The answer as it came."""
    answer: dict[str, Any] = msgspec.json.decode(b"{" + page.fields + b"}")
    return answer


def bent(*kinds: FaultKind, **values: Any) -> Fired:
    """A call that these faults hit."""
    return Fired(bends=tuple(Fault(kind=kind, **values) for kind in kinds))


def refusal(listing: Listing, parameters: dict[str, Any], now: float = T) -> tuple[int, str]:
    """Status and code of the refusal that the call must end in."""
    with pytest.raises(Refusal) as caught:
        listing.page(parameters, now, Fired(), 1)
    return caught.value.status, caught.value.code


def all_by_token(listing: Listing, key: str, parameters: dict[str, Any], now: Callable[[], float]) -> list[Any]:
    """The records of all pages of a listing with tokens."""
    found: list[Any] = []
    token = ""
    for ordinal in range(1, 1000):
        answer = plain(listing.page(parameters | ({"NextToken": token} if token else {}), now(), Fired(), ordinal))
        found += answer[key]
        token = answer.get("NextToken", "")
        if not token:
            return found
    raise AssertionError("the listing does not end")
