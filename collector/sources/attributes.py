"""A record as one JSON text that can be kept: without secrets, and equal for equal states."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any, NamedTuple

import msgspec

from collector.redaction import HIDDEN
from collector.sources.normalise import as_json

FLEETING_FIELDS = frozenset(
    {
        "AccumulatedRunningTimeInMs", "Duration", "GmtModified", "GmtModifiedTime", "GmtModifyTime",
        "IdleTimeInMinutes", "LastUsedTime", "RemainingTimeInMs", "RequestId", "UpdateTime",
    }
)  # fmt: skip
"""Fields, at any depth, that change while the object does not: with them every look would find a new state."""

_SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|credential|accesskey|apikey|privatekey|signature|cookie|webhook"
    # A login, and what programs are started with: both are where people put keys.
    r"|auth$|authorization$|^(user)?(command|script)$|^args$|env(s|ironment|ironmentvariables)?$"
)
_PAIRS = (("Key", "Value"), ("Name", "Value"), ("TagKey", "TagValue"), ("LabelKey", "LabelValue"))
"""How lists of named values are spelled: a name there is as telling as that of a field."""
_LOGIN_IN_URL = re.compile(r"(://)[^/\s@]+@")
_SECRET_IN_URL = re.compile(
    r"([?&][^=&#\s]*(?:token|secret|passw|credential|access_?key|api_?key|signature)[^=&#\s]*=)[^&#\s]+", re.IGNORECASE
)


class _Rules(NamedTuple):
    """What is left out of a record."""

    secret_fields: frozenset[str]
    """Folded."""
    fleeting: Set[str] = frozenset()
    spared: Set[str] = frozenset()
    """Names that look like a secret's."""
    keeps_nulls: bool = False


def attributes(record: dict[str, Any], secret_fields: Set[str]) -> str:
    """All that a record says and that lasts, as JSON text with sorted keys.

    Absent are `secret_fields` and fields named like a secret, FLEETING_FIELDS, and nulls. JSON inside
    of texts is treated alike, and logins in URLs are hidden.
    """
    return as_json(_kept(record, _Rules(_folded(secret_fields), FLEETING_FIELDS)))


def without_secrets(value: Any, secret_fields: Set[str]) -> Any:
    """Any JSON value without the secrets that `attributes` leaves out."""
    return _kept(value, _Rules(_folded(secret_fields)))


def blotted(value: Any, secret_fields: Set[str], spared: Set[str]) -> Any:
    """Any JSON value without its secrets, and else as it came; `spared` are names that only look like a secret's."""
    return _kept(value, _Rules(_folded(secret_fields), spared=spared, keeps_nulls=True))


def _folded(names: Set[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in names)


def _kept(value: Any, rules: _Rules) -> Any:
    match value:
        case dict():
            hidden = {of for name, of in _PAIRS if of in value and _is_secret(value.get(name), rules)}
            return {
                name: _kept(value[name], rules)
                for name in sorted(value)
                if name not in rules.fleeting
                and name not in hidden
                and (value[name] is not None or rules.keeps_nulls)
                and not _is_secret(name, rules)
            }
        case list():
            return [_kept(item, rules) for item in value]
        case str():
            return _kept_text(value, rules)
        case _:
            return value


def _kept_text(text: str, rules: _Rules) -> str:
    if text.lstrip()[:1] in ("{", "["):
        try:
            value = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass
        else:
            kept = _kept(value, rules)
            return text if kept == value else as_json(kept)
    if "://" in text or "?" in text:
        text = _LOGIN_IN_URL.sub(rf"\1{HIDDEN}@", text)
        text = _SECRET_IN_URL.sub(rf"\1{HIDDEN}", text)
    return text


def _is_secret(name: object, rules: _Rules) -> bool:
    if not isinstance(name, str) or name in rules.spared:
        return False
    folded = name.casefold()
    return folded in rules.secret_fields or _SECRET_NAME.search(re.sub(r"[\W_]", "", folded)) is not None
