"""A record under several spellings: what is taken out of it, and what is left for `extra`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from collector.sources.normalise import EXTRA_NONE, Field, Kind, as_json, values


class Fields:
    """The fields of one record, taken one after another."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._left = {name: value for name, value in record.items() if value is not None}

    def take(self, *names: str) -> Any:
        """The first of `names` that holds something, None where none does.

        Another of them that also holds something is left: it may say something else.
        """
        for name in names:
            if self._left.get(name, "") != "":
                found = self._left.pop(name)
                break
            self._left.pop(name, None)
        else:
            return None
        for name in names:
            if self._left.get(name) == "":
                del self._left[name]
        return found

    def text(self, *names: str) -> str:
        """As `take`, as text: empty where there is none, JSON where it is a list or an object."""
        return text_of(self.take(*names))

    def put(self, name: str, value: object) -> None:
        """Leave `value` for `extra`."""
        self._left[name] = value

    def extra(self) -> str:
        """What was not taken, as JSON text."""
        return ordered_json(self._left) if self._left else EXTRA_NONE


_TEXT: Sequence[Field] = (Field("", Kind.TEXT),)


def text_of(value: object) -> str:
    """Any JSON value as the text of a column."""
    (text,), _ = values({"": value}, _TEXT)
    return str(text)


def ordered_json(value: object) -> str:
    """Any JSON value as text with sorted keys, so that equal values are equal texts."""
    return as_json(_ordered(value))


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value
