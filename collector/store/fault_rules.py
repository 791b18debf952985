"""Rules for faults, read from TOML and tried on the engine.

`sql/faults.toml` holds the program's own rules, and says what such a file looks like; a user's file comes before it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from collector.errors import ConfigError, StoreRefused, StoreUnavailable
from collector.store.assets import sql_file
from collector.store.base import Store
from collector.store.faults import CODE_MAX, FaultCode, FaultRule, FaultRules

FILE = "faults.toml"
KEY = "store.fault_rules"

CLASSES_MAX = 100
PATTERN_CHARACTERS_MAX = 500

_PATTERN_CODES = ("(BAD_ARGUMENTS 36)", "(CANNOT_COMPILE_REGEXP 427)", "(HYPERSCAN_CANNOT_SCAN_TEXT 459)")
_CLASS = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RULE_KEYS = ("class", "meaning", "patterns", "code", "examples")
_CODE_KEYS = ("class", "code", "meaning", "action")


def fault_rules(path: Path | None = None) -> FaultRules:
    """The program's rules, with the user's file `path` over them. Raises ConfigError with all mistakes of that file."""
    own, mistakes = read_rules(sql_file(FILE).read_text(encoding="utf-8"))
    assert not mistakes, mistakes
    if path is None:
        return own
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{KEY}: {path} cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{KEY}: {path} is not UTF-8 text"]) from None
    users, mistakes = read_rules(text)
    if not mistakes:
        rules = users.over(own)
        known = {rule.name for rule in (*users.rules, *own.rules)}
        mistakes = [
            f"code {code.code}: got class {code.name!r}; expected the class of a rule: {', '.join(sorted(known))}"
            for code in users.codes
            if code.name not in known
        ]
        if len(rules.rules) > CLASSES_MAX:
            mistakes.append(f"got {len(rules.rules)} classes; expected at most {CLASSES_MAX}")
    if mistakes:
        raise ConfigError([f"{KEY}: {path}: {mistake}" for mistake in mistakes])
    return rules


def read_rules(text: str) -> tuple[FaultRules, list[str]]:
    """The rules of a TOML text, and a line for each mistake in it. Pure."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        return FaultRules((), ()), [f"not TOML: {error}"]
    mistakes = [f"no such key {key!r}; there are rule, code" for key in document if key not in ("rule", "code")]
    rules, codes = [], []
    for number, raw in _tables(document, "rule", mistakes):
        rule, wrong = _rule(raw, number)
        mistakes += wrong
        rules.append(rule)
    for number, raw in _tables(document, "code", mistakes):
        code, wrong = _code(raw, number)
        mistakes += wrong
        codes.append(code)
    names = [rule.name for rule in rules]
    mistakes += [f"rule {name!r} stands twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    return FaultRules(tuple(rules), tuple(codes)), mistakes


async def check_rules(store: Store, rules: FaultRules) -> None:
    """Try every pattern and example on the engine that will use them. Raises ConfigError with all mistakes."""
    mistakes = []
    for rule in rules.rules:
        for key, pattern, probe in _probes(rule):
            try:
                await store.fetch(probe, {"pattern": pattern})
            except (StoreRefused, StoreUnavailable) as error:
                if not _is_about_pattern(error):
                    raise
                mistakes.append(f"{KEY}: rule {rule.name!r}: {key}: got {pattern!r}; {_reason(error)}")
    if not mistakes:
        mistakes = [f"{KEY}: {mistake}" async for mistake in _wrong_examples(store, rules)]
    if mistakes:
        raise ConfigError(mistakes)


def _probes(rule: FaultRule) -> Iterator[tuple[str, str, str]]:
    for index, pattern in enumerate(rule.patterns):
        yield f"patterns[{index}]", pattern, "SELECT multiMatchAllIndices(materialize(''), [{pattern:String}])"
    if rule.code:
        yield "code", rule.code, "SELECT extract(materialize(''), {pattern:String})"


async def _wrong_examples(store: Store, rules: FaultRules) -> AsyncIterator[str]:
    for rule in rules.rules:
        for index, example in enumerate(rule.examples):
            ((found, code),) = await store.fetch(
                f"SELECT {rules.class_expression} AS fault_class, {rules.code_expression}"
                " FROM (SELECT materialize({msg:String}) AS msg)",
                {"msg": example},
            )
            if found != rule.name:
                yield f"rule {rule.name!r}: examples[{index}]: comes out as {found!r}; expected {rule.name!r}"
            elif rule.code and not code:
                yield f"rule {rule.name!r}: examples[{index}]: code finds no number from 1 to {CODE_MAX} in it"


def _is_about_pattern(error: StoreRefused | StoreUnavailable) -> bool:
    # BAD_ARGUMENTS and the like may be the moment's elsewhere; of a query that holds only a pattern they are for ever.
    return isinstance(error, StoreRefused) or any(code in str(error) for code in _PATTERN_CODES)


def _reason(error: StoreRefused | StoreUnavailable) -> str:
    return str(error).removeprefix("read: ").partition(". Look at ")[0]


def _tables(document: Mapping[str, Any], key: str, mistakes: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    tables = document.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        mistakes.append(f"{key}: expected tables, each under [[{key}]]")
        return
    yield from enumerate(tables, start=1)


def _rule(raw: Mapping[str, Any], number: int) -> tuple[FaultRule, list[str]]:
    name = raw.get("class")
    where = f"rule {name!r}" if isinstance(name, str) else f"rule {number}"
    mistakes = list(_unknown_keys(where, raw, _RULE_KEYS))
    name = _class(where, name, mistakes)
    patterns = _texts(where, "patterns", raw.get("patterns"), mistakes)
    examples = _texts(where, "examples", raw.get("examples", []), mistakes)
    for pattern in patterns:
        if not pattern or len(pattern) > PATTERN_CHARACTERS_MAX:
            right = f"1 to {PATTERN_CHARACTERS_MAX} characters"
            mistakes.append(f"{where}: patterns: got {pattern[:40]!r}; expected {right}")
    meaning, code = (_text(where, key, raw.get(key, ""), mistakes) for key in ("meaning", "code"))
    if len(code) > PATTERN_CHARACTERS_MAX:
        mistakes.append(f"{where}: code: expected at most {PATTERN_CHARACTERS_MAX} characters")
    return FaultRule(name=name, meaning=meaning, patterns=patterns, code=code, examples=examples), mistakes


def _code(raw: Mapping[str, Any], number: int) -> tuple[FaultCode, list[str]]:
    where = f"code {raw.get('code', f'number {number}')!r}"
    mistakes = list(_unknown_keys(where, raw, _CODE_KEYS))
    name = _class(where, raw.get("class"), mistakes)
    code = raw.get("code")
    if isinstance(code, bool) or not isinstance(code, int) or not 1 <= code <= CODE_MAX:
        mistakes.append(f"{where}: code: got {code!r}; expected a whole number from 1 to {CODE_MAX}")
        code = 0
    meaning, action = (_text(where, key, raw.get(key, ""), mistakes) for key in ("meaning", "action"))
    return FaultCode(name=name, code=code, meaning=meaning, action=action), mistakes


def _unknown_keys(where: str, raw: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    return (f"{where}: no such key {key!r}; there are {', '.join(known)}" for key in raw if key not in known)


def _class(where: str, value: object, mistakes: list[str]) -> str:
    if isinstance(value, str) and _CLASS.fullmatch(value):
        return value
    mistakes.append(f"{where}: class: got {value!r}; expected a word such as 'my_fault', of a-z, 0-9 and _")
    return ""


def _text(where: str, key: str, value: object, mistakes: list[str]) -> str:
    if isinstance(value, str):
        return value
    mistakes.append(f"{where}: {key}: got {value!r}; expected a text")
    return ""


def _texts(where: str, key: str, value: object, mistakes: list[str]) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    mistakes.append(f"{where}: {key}: got {value!r}; expected a list of texts")
    return ()
