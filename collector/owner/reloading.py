"""What of a configuration can change while a process runs. Pure."""

from __future__ import annotations

from typing import Final

from collector.settings import Settings

LIVE: Final = frozenset(
    {"api.quotas", "api.prices", "api.retry", "targets", "sources", "budget", "service.grace", "log"}
)
"""Keys, and tables with all that is in them, that apply at once. Everything else takes a restart."""


def fixed_changes(before: Settings, after: Settings) -> list[str]:
    """The keys that differ and take a restart, as a file spells them."""
    old = before.model_dump(mode="json", by_alias=True)
    new = after.model_dump(mode="json", by_alias=True)
    return [key for key in _differing(old, new, "") if not is_live(key)]


def changes(before: Settings, after: Settings) -> list[str]:
    """Every key that differs, as a file spells it."""
    return _differing(before.model_dump(mode="json", by_alias=True), after.model_dump(mode="json", by_alias=True), "")


def _differing(old: object, new: object, path: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        below = [_differing(old.get(key), new.get(key), f"{path}.{key}".lstrip(".")) for key in {**old, **new}]
        return [key for keys in below for key in keys]
    return [path] if old != new else []


def is_live(key: str) -> bool:
    """Return whether a key, as a file spells it, applies without a restart."""
    return any(key == live or key.startswith(live + ".") for live in LIVE)
