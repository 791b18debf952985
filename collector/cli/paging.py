"""All pages of a list, one call after the other, for `call --all`."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from collector.api.envelope import signs_of, total_of
from collector.catalogue.operation import Numbers, Operation, Tokens, wire_name
from collector.errors import CursorLoopError, UsageError

if TYPE_CHECKING:
    from collector.cli.calling import Ask
    from collector.owner.calls import CallResult

PAGES_MAX: Final = 100
BYTES_MAX: Final = 64 << 20
TOKEN: Final = "NextToken"


@dataclass(slots=True)
class Pages:
    """The pages of a list that were read, also if the next one failed."""

    row: Operation
    pages_max: int = PAGES_MAX
    bytes_max: int = BYTES_MAX
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """When set, the page that is being read is the last one."""
    left_out: str = ""
    """Why there may be more than was read; empty if there is not."""
    calls: int = 0
    _first: dict[str, Any] = field(default_factory=dict)
    _last: dict[str, Any] = field(default_factory=dict)
    _records: list[Any] = field(default_factory=list)
    _bytes: int = 0
    _costs: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Raises UsageError for an operation that has one page."""
        if self.row.paging is None or self.row.wire_records_field is None:
            raise UsageError(f"--all: {self.row.name} has no pages", hint="leave --all out")

    @property
    def answer(self) -> dict[str, Any]:
        """The last answer, with the records of all."""
        assert self.row.wire_records_field is not None
        return {**self._first, **self._last, self.row.wire_records_field: self._records}

    @property
    def cost(self) -> str:
        """What the calls cost, for people."""
        return ", ".join(f"{count:,} x {text}" if count > 1 else text for text, count in self._costs.items())

    async def read(self, ask: Ask, parameters: Mapping[str, Any]) -> None:
        """Ask for page after page until the last one, the stop or a bound.

        Raises UsageError for parameters that name a page, CursorLoopError for a list that does not end, and what a
        call raises; what was read before stays.
        """
        from collector.pipeline.repeats import PageWatch, loop_error
        from collector.sources.numbered import NumberedCursor, whole_total

        paging, watch, used = self.row.paging, PageWatch(), {""}
        named = TOKEN if isinstance(paging, Tokens) else paging.number if paging else ""
        if named in parameters:
            raise UsageError(f"{named}: got {parameters[named]!r}; expected nothing, since --all asks for every page")
        here, token = NumberedCursor(), ""
        while True:
            if isinstance(paging, Numbers):
                size = int(parameters.get(paging.size) or self.row.records_max or 1)
                numbers = {paging.number: here.page_number, paging.size: size}
                asked: dict[str, Any] = {n: str(v) for n, v in numbers.items()} if paging.as_text else dict(numbers)
            else:
                asked = {TOKEN: token} if token else {}
                if isinstance(paging, Tokens) and paging.size and paging.size not in parameters:
                    # Full pages take the fewest calls.
                    known = self.row.parameter(paging.size)
                    asked[paging.size] = (known.type if known else int)(self.row.records_max)
            records = self._take(await ask(self.row.name, {**parameters, **asked}))
            keys = [json.dumps(record, sort_keys=True) for record in records]
            if isinstance(paging, Numbers):
                total = whole_total(self._last.get(wire_name(self.row.answer, paging.total)))
                there = here.after(keys, total, size)
                if there is None:
                    if here.is_short(keys, total):
                        self.left_out = _ended_before(total)
                    return
                here = there
            else:
                token = str(self._last.get(TOKEN) or "")
                if not token:
                    if not records and (total := total_of(signs_of(self._last)) or 0) > len(self._records):
                        self.left_out = _ended_before(total)
                    return
                if token in used:
                    raise CursorLoopError(f"{self.row.name} returned a {TOKEN} that it had returned before")
                used.add(token)
            if fault := watch.fault(keys):
                raise loop_error(self.row.name, self.row.scope_id(parameters), fault)
            if self.calls >= self.pages_max:
                self.left_out = f"more than {self.pages_max:,} pages; --pages-max N reads more"
            elif self._bytes >= self.bytes_max:
                self.left_out = f"more than {self.bytes_max >> 20:,} MiB; narrow the list down by its parameters"
            elif self.stop.is_set():
                self.left_out = "interrupted"
            if self.left_out:
                return

    def _take(self, result: CallResult) -> list[Any]:
        assert self.row.wire_records_field is not None
        answer = result.answer if isinstance(result.answer, dict) else {}
        found = answer.get(self.row.wire_records_field)
        records = found if isinstance(found, list) else []
        self._first, self._last = self._first or answer, answer
        self._records += records
        self._bytes += sum(len(json.dumps(record)) for record in records)
        self._costs["free" if result.cost.startswith("free") else result.cost] += 1
        self.calls += 1
        return records


def _ended_before(total: int | None) -> str:
    return f"the list ended before the {total} records that it counts"
