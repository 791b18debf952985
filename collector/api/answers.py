"""What the types of all answers have in common; each product's own stand in `collector.api.products`.

A record type refuses unknown fields on purpose: a record that is not exactly of its type takes
the tolerant path (`collector.sources.normalise`), where an unknown field is kept in `extra` and a
number in a string becomes a number. The common case pays nothing for that.
"""

from __future__ import annotations

import msgspec


class Answer(msgspec.Struct, rename="pascal"):
    """What every answer may carry beside its records."""

    request_id: str | None = None
    code: str | None = None
    message: str | None = None
