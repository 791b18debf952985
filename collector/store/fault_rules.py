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
from collector.store.faults import CODE_MAX, COLUMNS, SEVERITIES, SEVERITY, FaultCase, FaultCode, FaultRule, FaultRules

FILE = "faults.toml"
KEY = "store.fault_rules"

CLASSES_MAX = 100
PATTERN_CHARACTERS_MAX = 500

_MATCHED = "SELECT multiMatchAllIndices(materialize(''), {patterns:Array(String)})"
_EXTRACTED = "SELECT extract(materialize(''), {patterns:Array(String)}[1])"
_PATTERN_CODES = ("(BAD_ARGUMENTS 36)", "(CANNOT_COMPILE_REGEXP 427)", "(HYPERSCAN_CANNOT_SCAN_TEXT 459)")
_CLASS = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TABLES = ("rule", "case", "code", "ignore")
_TEXT_KEYS = ("meaning", "action", "severity", "source")
_RULE_KEYS = ("class", *_TEXT_KEYS, "patterns", "code", "whole_node", "examples", "counter_examples")
_CASE_KEYS = ("class", "case", *_TEXT_KEYS, "patterns", "codes", "unlisted")
_CODE_KEYS = ("class", "code", "codes", *_TEXT_KEYS)
_IGNORE_KEYS = ("patterns", "examples")


def fault_rules(path: Path | None = None) -> FaultRules:
    """Return the program's rules, with the user's file `path` over them.

    Raises ConfigError with all mistakes of that file.
    """
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
        known = sorted({rule.name for rule in (*users.classes, *own.classes)})
        mistakes = [
            f"{what}: got class {name!r}; expected the class of a rule: {', '.join(known)}"
            for what, name in (
                *((f"code {code.code}", code.name) for code in users.codes),
                *((f"case {case.case!r}", case.name) for case in users.cases),
            )
            if name not in known
        ]
        if len(rules.rules) > CLASSES_MAX:
            mistakes.append(f"got {len(rules.rules)} classes; expected at most {CLASSES_MAX}")
    if mistakes:
        raise ConfigError([f"{KEY}: {path}: {mistake}" for mistake in mistakes])
    return rules


def read_rules(text: str) -> tuple[FaultRules, list[str]]:
    """Return the rules of a TOML text, and a line for each mistake in it. Pure."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        return FaultRules(()), [f"not TOML: {error}"]
    mistakes = [f"no such key {key!r}; there are {', '.join(_TABLES)}" for key in document if key not in _TABLES]
    ignored = [_ignore(raw, number, mistakes) for number, raw in _tables(document, "ignore", mistakes)]
    rules = [_rule(raw, number, mistakes) for number, raw in _tables(document, "rule", mistakes)]
    cases = [_case(raw, number, mistakes) for number, raw in _tables(document, "case", mistakes)]
    codes = [code for number, raw in _tables(document, "code", mistakes) for code in _codes(raw, number, mistakes)]
    names = [rule.name for rule in rules]
    mistakes += [f"rule {name!r} is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    return FaultRules((*ignored, *rules), tuple(codes), tuple(cases)), mistakes


async def check_rules(store: Store, rules: FaultRules) -> None:
    """Try every pattern and example on the engine that will use them. Raises ConfigError with all mistakes."""
    patterns, codes = _probes(rules)
    mistakes = await _refused(store, patterns, _MATCHED)
    for probe in codes:
        mistakes += await _refused(store, [probe], _EXTRACTED)
    if not mistakes:
        mistakes = [f"{KEY}: {mistake}" async for mistake in _wrong_examples(store, rules)]
    if mistakes:
        raise ConfigError(mistakes)


async def classify(store: Store, rules: FaultRules, messages: Sequence[str]) -> list[tuple[str, int, str, str, str]]:
    """Return class, number, case, device and severity of each message by the rules. Stores nothing."""
    sql = (
        "SELECT number, {messages:Array(String)}[number] AS msg"
        " FROM (SELECT arrayJoin(arrayEnumerate({messages:Array(String)})) AS number)"
    )
    # One subquery for each column, because each depends on those before it.
    for column, expression in (rules.expressions | {SEVERITY: rules.severity_expression}).items():
        sql = f"SELECT *, {expression} AS {column} FROM ({sql})"
    rows = await store.fetch(
        f"SELECT {', '.join(COLUMNS)}, {SEVERITY} FROM ({sql}) ORDER BY number", {"messages": list(messages)}
    )
    return [(name, code, case, device, severity) for name, code, case, device, severity in rows]


def _probes(rules: FaultRules) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return where each expression stands, with its text: those that are matched, and those that extract a number."""
    patterns, codes = [], []
    for rule in rules.rules:
        where = f"rule {rule.name!r}" if rule.name else "ignore"
        patterns += [(f"{where}: patterns[{index}]", pattern) for index, pattern in enumerate(rule.patterns)]
        if isinstance(rule.code, str) and rule.code:
            codes.append((f"{where}: code", rule.code))
    for case in rules.cases:
        where = f"case {case.case!r} of {case.name!r}"
        patterns += [(f"{where}: patterns[{index}]", pattern) for index, pattern in enumerate(case.patterns)]
    return patterns, codes


async def _refused(store: Store, probes: Sequence[tuple[str, str]], sql: str) -> list[str]:
    """Return a mistake for each pattern that the engine refuses: all are tried at once, halves only if that fails."""
    try:
        await store.fetch(sql, {"patterns": [pattern for _, pattern in probes]})
    except (StoreRefused, StoreUnavailable) as error:
        if not _is_about_pattern(error):
            raise
        if len(probes) > 1:
            half = len(probes) // 2
            return await _refused(store, probes[:half], sql) + await _refused(store, probes[half:], sql)
        where, pattern = probes[0]
        return [f"{KEY}: {where}: got {pattern!r}; {_reason(error)}"]
    return []


async def _wrong_examples(store: Store, rules: FaultRules) -> AsyncIterator[str]:
    examples = [
        (rule, f"{kind}[{index}]", message)
        for rule in rules.rules
        for kind, messages in (("examples", rule.examples), ("counter_examples", rule.counter_examples))
        for index, message in enumerate(messages)
    ]
    found = await classify(store, rules, [message for _, _, message in examples])
    for (rule, where, _), (name, code, *_) in zip(examples, found, strict=True):
        what = f"rule {rule.name!r}: {where}" if rule.name else f"ignore: {where}"
        if where.startswith("counter_examples"):
            if name == rule.name:
                yield f"{what}: is taken for {name!r}"
        elif name != rule.name:
            yield f"{what}: comes out as {name!r}; expected {rule.name!r}"
        elif rule.code and not code:
            yield f"{what}: code finds no number from 1 to {CODE_MAX} in it"


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


def _rule(raw: Mapping[str, Any], number: int, mistakes: list[str]) -> FaultRule:
    name = raw.get("class")
    where = f"rule {name!r}" if isinstance(name, str) else f"rule {number}"
    mistakes += _unknown_keys(where, raw, _RULE_KEYS)
    code = raw.get("code", "")
    return FaultRule(
        name=_class(where, name, mistakes),
        patterns=_patterns(where, raw, mistakes),
        code=_number(where, code, mistakes) if isinstance(code, int) else _pattern(where, "code", raw, mistakes),
        whole_node=_flag(where, "whole_node", raw, mistakes),
        examples=_texts(where, "examples", raw.get("examples", []), mistakes),
        counter_examples=_texts(where, "counter_examples", raw.get("counter_examples", []), mistakes),
        **_judgement(where, raw, mistakes),
    )


def _ignore(raw: Mapping[str, Any], number: int, mistakes: list[str]) -> FaultRule:
    where = f"ignore {number}"
    mistakes += _unknown_keys(where, raw, _IGNORE_KEYS)
    return FaultRule(
        name="",
        patterns=_patterns(where, raw, mistakes),
        examples=_texts(where, "examples", raw.get("examples", []), mistakes),
    )


def _case(raw: Mapping[str, Any], number: int, mistakes: list[str]) -> FaultCase:
    where = f"case {raw.get('case', f'number {number}')!r}"
    mistakes += _unknown_keys(where, raw, _CASE_KEYS)
    return FaultCase(
        name=_class(where, raw.get("class"), mistakes),
        case=_class(where, raw.get("case"), mistakes, "case"),
        patterns=_patterns(where, raw, mistakes),
        codes=_numbers(where, raw.get("codes", []), mistakes),
        unlisted=_flag(where, "unlisted", raw, mistakes),
        **_judgement(where, raw, mistakes),
    )


def _codes(raw: Mapping[str, Any], number: int, mistakes: list[str]) -> list[FaultCode]:
    where = f"code {raw.get('code', raw.get('codes', f'number {number}'))!r}"
    mistakes += _unknown_keys(where, raw, _CODE_KEYS)
    name = _class(where, raw.get("class"), mistakes)
    if "codes" in raw:
        numbers = _numbers(where, raw["codes"], mistakes)
    else:
        numbers = (_number(where, raw.get("code"), mistakes),)
    judgement = _judgement(where, raw, mistakes)
    return [FaultCode(name=name, code=one, **judgement) for one in numbers]


def _judgement(where: str, raw: Mapping[str, Any], mistakes: list[str]) -> dict[str, str]:
    found = {key: _text(where, key, raw.get(key, ""), mistakes) for key in _TEXT_KEYS}
    if found["severity"] and found["severity"] not in SEVERITIES:
        mistakes.append(f"{where}: severity: got {found['severity']!r}; expected one of {', '.join(SEVERITIES)}")
    return found


def _patterns(where: str, raw: Mapping[str, Any], mistakes: list[str]) -> tuple[str, ...]:
    patterns = _texts(where, "patterns", raw.get("patterns"), mistakes)
    for pattern in patterns:
        if not pattern or len(pattern) > PATTERN_CHARACTERS_MAX:
            right = f"1 to {PATTERN_CHARACTERS_MAX} characters"
            mistakes.append(f"{where}: patterns: got {pattern[:40]!r}; expected {right}")
    return patterns


def _pattern(where: str, key: str, raw: Mapping[str, Any], mistakes: list[str]) -> str:
    pattern = _text(where, key, raw.get(key, ""), mistakes)
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        mistakes.append(f"{where}: {key}: expected at most {PATTERN_CHARACTERS_MAX} characters")
    return pattern


def _flag(where: str, key: str, raw: Mapping[str, Any], mistakes: list[str]) -> bool:
    value = raw.get(key, False)
    if not isinstance(value, bool):
        mistakes.append(f"{where}: {key}: got {value!r}; expected true or false")
    return value is True


def _numbers(where: str, value: object, mistakes: list[str]) -> tuple[int, ...]:
    if isinstance(value, list):
        return tuple(_number(where, one, mistakes, "codes") for one in value)
    mistakes.append(f"{where}: codes: got {value!r}; expected a list of whole numbers from 1 to {CODE_MAX}")
    return ()


def _number(where: str, value: object, mistakes: list[str], key: str = "code") -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= CODE_MAX:
        return value
    mistakes.append(f"{where}: {key}: got {value!r}; expected a whole number from 1 to {CODE_MAX}")
    return 0


def _unknown_keys(where: str, raw: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    return (f"{where}: no such key {key!r}; there are {', '.join(known)}" for key in raw if key not in known)


def _class(where: str, value: object, mistakes: list[str], key: str = "class") -> str:
    if isinstance(value, str) and _CLASS.fullmatch(value):
        return value
    mistakes.append(f"{where}: {key}: got {value!r}; expected a word such as 'my_fault', of a-z, 0-9 and _")
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
