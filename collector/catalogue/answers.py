"""What the types of all answers have in common; each product's own stand in `collector.catalogue.products`.

A record type refuses unknown fields on purpose: a record that is not exactly of its type takes
the tolerant path (`collector.sources.normalise`), where an unknown field is kept in `extra` and a
number in a string becomes a number. The common case pays nothing for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class Answer(msgspec.Struct, rename="pascal", dict=True):
    """What every answer may carry beside its records."""

    request_id: str | None = None
    code: str | None = None
    message: str | None = None

    @property
    def replaced_bytes(self) -> int:
        """Pieces of the body that were not UTF-8, each U+FFFD now."""
        return int(self.__dict__.get("replaced_bytes", 0))

    @replaced_bytes.setter
    def replaced_bytes(self, count: int) -> None:
        self.__dict__["replaced_bytes"] = count

    @property
    def total_denied(self) -> int:
        """Records that the last page of a list with cursors counts while it holds none itself, else 0."""
        return int(self.__dict__.get("total_denied", 0))

    @total_denied.setter
    def total_denied(self, count: int) -> None:
        self.__dict__["total_denied"] = count


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """What is in an answer in the place of a record that is not JSON, or that no program could hold."""

    reason: str
    text: str
    """As it came; may hold secrets."""
