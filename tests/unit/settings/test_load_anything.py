"""Any configuration is taken or refused; what is refused says where, and nothing else ever comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from collector.errors import ConfigError
from collector.settings import Settings, load
from collector.settings.layers import ENVIRONMENT_PREFIX


def keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the configuration, as it is spelled in the file."""
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, here)
        else:
            yield here


KEYS = sorted(keys(Settings))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["", "30s", "0s", "-1s", "1e9d", "5GiB", "cn-hangzhou", "http://h", "https://u:p@h/pai", "127.0.0.1:99999", "0/3",
     "auto/3", "a/b", "../x", "{shard}", "~nobody/x", "true", "1", "[]", "nan", "\x00"]
)  # fmt: skip
PLAIN = TEXTS | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = PLAIN | st.lists(PLAIN, max_size=4) | st.dictionaries(TEXTS, PLAIN, max_size=3)


def toml(value: Any) -> str:
    """A value as TOML spells it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def taken_or_refused(text: str | bytes, environ: dict[str, str]) -> list[str]:
    """The mistakes that are told; empty where the configuration is taken."""
    mistakes = None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "collector.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        try:
            load(path, environ)
        except ConfigError as error:
            mistakes = error.mistakes
    assert mistakes != []
    assert all(line.strip() and "\n" not in line for line in mistakes or ())
    return mistakes or []


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_any_value_of_any_key_is_taken_or_refused_by_its_key(chosen: dict[tuple[str, ...], Any]) -> None:
    """Each line of a refusal begins with a key that the file has, or one that depends on it."""
    text = "".join(f"{'.'.join(key)} = {toml(value)}\n" for key, value in chosen.items())
    known = {".".join(key) for key in KEYS}
    for line in taken_or_refused(text, {}):
        named = line.partition(":")[0]
        assert any(named == key or named.startswith((f"{key}.", f"{key}[")) for key in known), line


@given(st.dictionaries(st.sampled_from(KEYS), TEXTS.filter(lambda text: "\0" not in text), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_text_of_any_variable_is_taken_or_refused(chosen: dict[tuple[str, ...], str]) -> None:
    """The environment says whatever it likes."""
    environ = {ENVIRONMENT_PREFIX + "__".join(key).upper(): value for key, value in chosen.items()}
    taken_or_refused("", environ)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=200, deadline=None)
def test_any_file_is_taken_or_refused(content: bytes) -> None:
    """What is no TOML, or no text, is one line that says so."""
    taken_or_refused(content, {})


@given(st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)))
@settings(max_examples=100, deadline=None)
def test_keys_that_do_not_exist_are_refused(value: Any) -> None:
    """However deep, whatever they hold."""
    assert taken_or_refused(f"nothing.of.this = {toml(value)}\n", {})
