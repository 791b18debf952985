"""Secrets in answers: printed only when asked for. Pure but for `hide`, which blots them out of logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from collector.redaction import register_secret

HEAD_CHARACTERS: Final = 4
SHORT_CHARACTERS: Final = 12
"""A shorter secret shows nothing of itself: four of its characters would be too many."""


def masked(answer: Any, secret_fields: frozenset[str]) -> Any:
    """A JSON value whose secret fields, at any depth, show only what they are like."""
    match answer:
        case dict():
            return {
                name: mask(value) if name in secret_fields else masked(value, secret_fields)
                for name, value in answer.items()
            }
        case list():
            return [masked(value, secret_fields) for value in answer]
        case _:
            return answer


def mask(value: Any) -> Any:
    """What may be shown of a secret: its first characters and its length, of a URL its host."""
    if not isinstance(value, str):
        return value if value is None else "***"
    if not value:
        return ""
    host = _host(value)
    if host:
        return f"{host}/*** ({len(value)} characters)"
    head = value[:HEAD_CHARACTERS] if len(value) >= SHORT_CHARACTERS else ""
    return f"{head}*** ({len(value)} characters)"


def hide(answer: Any, secret_fields: frozenset[str]) -> None:
    """Blot the secrets of an answer out of everything that this process logs or reports from now on."""
    for text in _secrets(answer, secret_fields):
        # A short one, such as a number, would blot out half of every log.
        if len(text) >= SHORT_CHARACTERS:
            register_secret(text)


def _host(value: str) -> str:
    """Scheme and host of a URL, empty where the text is none, or may hold a secret there as well."""
    try:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            return ""
        return f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        return ""


def _secrets(value: Any, secret_fields: frozenset[str], *, inside: bool = False) -> Iterator[str]:
    match value:
        case str():
            if inside:
                yield value
        case Mapping():
            for name, field in value.items():
                yield from _secrets(field, secret_fields, inside=inside or name in secret_fields)
        case list():
            for part in value:
                yield from _secrets(part, secret_fields, inside=inside)
