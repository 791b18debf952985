"""Rules for faults in log lines, and the engine's expressions that they become. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

CODE_MAX = 65_535
"""`syslogs.fault_code` is a UInt16."""

SEVERITIES: Final = ("info", "corrected", "application", "degraded", "fatal")
"""What a person has to do, the worst last, as in the type of `syslogs.fault_severity`."""

DEFAULT_SEVERITY: Final = "degraded"
"""Of a rule that gives none."""

COLUMNS: Final = ("fault_class", "fault_code", "fault_case", "fault_device")
"""Columns of `syslogs` that the rules fill; each depends on those before it."""

SEVERITY: Final = "fault_severity"
"""The column that is computed from those when it is read."""

DEVICE: Final = (
    r"(?i)[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\b"
    r"|\b(?:nvme\d+(?:n\d+(?:p\d+)?)?|(?:sd|vd|xvd)[a-z]{1,2}\d{0,2}|dm-\d+|md\d+|ata\d+"
    r"|(?:eth|en[opsx]|bond|ib|team)\d[0-9a-z_]*|mlx5_\d+|mc\d+)\b"
)
"""Finds a PCI address with the last four digits of its domain, or a name that only a disk, an interface, an RDMA device
or a memory controller has. Without a group: the engine then finds it three times as fast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """One class of faults, and how a message of it is known."""

    name: str
    """Empty for a rule of lines that are no fault."""
    meaning: str = ""
    action: str = ""
    severity: str = ""
    source: str = ""
    """Where the judgement comes from."""
    patterns: tuple[str, ...] = ()
    """If empty, no line is of this class."""
    code: str | int = ""
    """Finds the number in a message, or is the number of all; empty if the class has no numbers."""
    whole_node: bool = False
    """Messages are about the node, whatever device they name."""
    examples: tuple[str, ...] = ()
    counter_examples: tuple[str, ...] = ()

    @property
    def pattern(self) -> str:
        """All patterns as one."""
        return _joined(self.patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultCase:
    """Some lines of a class that mean something else than the others."""

    name: str
    """The class."""
    case: str
    patterns: tuple[str, ...]
    codes: tuple[int, ...] = ()
    """Numbers that such lines have; empty for any."""
    unlisted: bool = False
    """A number with a FaultCode keeps what that says."""
    meaning: str = ""
    action: str = ""
    severity: str = ""
    source: str = ""

    @property
    def pattern(self) -> str:
        """All patterns as one."""
        return _joined(self.patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultCode:
    """What one number of a class means, and what to do about it."""

    name: str
    """The class."""
    code: int
    meaning: str
    action: str = ""
    severity: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class FaultMeaning:
    """What lines of a class, a number and a case mean. Number 0 and an empty case are all others of the class."""

    name: str
    code: int
    case: str
    severity: str
    meaning: str
    action: str
    source: str


@dataclass(frozen=True, slots=True)
class FaultRules:
    """All that is known of faults. If a line matches several rules, the first one decides."""

    rules: tuple[FaultRule, ...]
    codes: tuple[FaultCode, ...] = ()
    cases: tuple[FaultCase, ...] = ()
    """Of several cases that a line matches, the first one decides."""

    def over(self, others: FaultRules) -> FaultRules:
        """Return these rules in front of the others, each class and each code of a class once; none without patterns.

        A rule in front may take what is an example of one behind, so those are not kept. A rule that replaces another
        keeps its severity unless it gives one, and loses its cases.
        """
        behind = [replace(rule, examples=(), counter_examples=()) for rule in others.rules if rule.name]
        replaced = {rule.name: rule for rule in behind}
        mine = {
            rule.name: replace(rule, severity=rule.severity or replaced[rule.name].severity)
            if rule.name in replaced
            else rule
            for rule in self.rules
            if rule.name
        }
        ordered = [
            *(rule for rule in self.rules if not rule.name),
            *(rule for rule in mine.values() if rule.name not in replaced),
            *(replace(rule, examples=()) for rule in others.rules if not rule.name),
            *(mine.get(rule.name, rule) for rule in behind),
        ]
        known = {(code.name, code.code): code for code in others.codes}
        codes = known | {
            (code.name, code.code): replace(
                code, severity=code.severity or _severity(known.get((code.name, code.code)))
            )
            for code in self.codes
        }
        cases = (*self.cases, *(case for case in others.cases if case.name not in mine))
        return FaultRules(
            tuple(rule for rule in ordered if rule.patterns), tuple(codes[key] for key in sorted(codes)), cases
        )

    @property
    def classes(self) -> tuple[FaultRule, ...]:
        """The rules that name a class."""
        return tuple(rule for rule in self.rules if rule.name)

    @property
    def meanings(self) -> list[FaultMeaning]:
        """What each class, each number and each case of them means, with what they inherit filled in."""
        found = []
        for rule in self.classes:
            base = FaultMeaning(
                rule.name, 0, "", rule.severity or DEFAULT_SEVERITY, rule.meaning, rule.action, rule.source
            )
            numbers = [_under(replace(base, code=code.code), "", code) for code in self.codes if code.name == rule.name]
            found += [base, *numbers]
            for case in (case for case in self.cases if case.name == rule.name):
                known = [one for one in numbers if not case.codes or one.code in case.codes]
                found += [
                    replace(one, case=case.case) if case.unlisted else _under(one, case.case, case) for one in known
                ]
                unknown = sorted(set(case.codes) - {one.code for one in known}) or ([] if case.codes else [0])
                found += [_under(replace(base, code=code), case.case, case) for code in unknown]
        return found

    # The engine's expressions

    @property
    def expressions(self) -> dict[str, str]:
        """Each of COLUMNS from `msg` and the columns before it."""
        found = (self.class_expression, self.code_expression, self.case_expression, self.device_expression)
        return dict(zip(COLUMNS, found, strict=True))

    @property
    def class_expression(self) -> str:
        """The class of a line. One pass over the message finds all patterns."""
        return self._first([name for name, _, _ in self._entries])

    @property
    def code_expression(self) -> str:
        """The number in a line, 0 if there is none or it is larger than fits."""
        cases = {
            _is(rule): str(rule.code)
            if isinstance(rule.code, int)
            else f"toUInt16OrZero({_extracted(rule.code, _is(rule))})"
            for rule in self.classes
            if rule.code
        }
        tests = "".join(f"{test}, {value}, " for test, value in cases.items())
        return f"multiIf({tests}0)" if cases else "0"

    @property
    def case_expression(self) -> str:
        """The case of a line, empty if it is of none. The engine makes the pass once for this and the class."""
        return self._first([case for _, case, _ in self._entries]) if self.cases else "''"

    @property
    def severity_expression(self) -> str:
        """What a person has to do, from COLUMNS; empty if the line is no fault."""
        by_key = {_key(known): known.severity for known in self.meanings}
        keys, severities = f"[{_listed(by_key)}]", f"[{_listed(by_key.values())}]"
        exact = "concat(fault_class, ' ', toString(fault_code), ' ', fault_case)"
        without_number = "concat(fault_class, ' 0 ', fault_case)"
        found = (
            f"transform({exact}, {keys}, {severities},"
            f" transform({without_number}, {keys}, {severities}, {_literal(DEFAULT_SEVERITY)}))"
        )
        return f"CAST(if(fault_class = '', '', {found}), {_literal(severity_type())})" if by_key else "''"

    @property
    def device_expression(self) -> str:
        """The PCI address in a line as dddd:bb:dd, else the name of a device, else empty."""
        whole = ["", *(rule.name for rule in self.classes if rule.whole_node)]
        return f"lower({_extracted(DEVICE, f'fault_class NOT IN ({_listed(whole)})')})"

    @property
    def _entries(self) -> list[tuple[str, str, str]]:
        """Class, case and pattern, in the order in which they decide."""
        found = []
        for rule in self.rules:
            found += [(case.name, case.case, case.pattern) for case in self.cases if rule.name == case.name]
            found.append((rule.name, "", rule.pattern))
        return found

    def _first(self, values: Sequence[str]) -> str:
        """The value of the first entry that the message matches, empty if it matches none."""
        if not self.classes:
            return "''"
        patterns = _listed(pattern for _, _, pattern in self._entries)
        return (
            f"CAST([{_listed(('', *values))}], 'Array(LowCardinality(String))')"
            f"[1 + arrayMin(multiMatchAllIndices(msg, [{patterns}]))]"
        )


def severity_type() -> str:
    """The engine's type of a severity: it sorts by how bad it is."""
    names = ", ".join(f"'{name}' = {number}" for number, name in enumerate(("", *SEVERITIES)))
    return f"Enum8({names})"


def _severity(code: FaultCode | None) -> str:
    return code.severity if code is not None else ""


def _under(base: FaultMeaning, case: str, own: FaultCode | FaultCase) -> FaultMeaning:
    """What `own` says of a number or a case, and of `base` what it does not say."""
    # The class's action does not belong to the meaning of a number.
    action = own.action or ("" if isinstance(own, FaultCode) else base.action)
    return replace(
        base,
        case=case,
        severity=own.severity or base.severity,
        meaning=own.meaning or base.meaning,
        action=action,
        source=own.source or base.source,
    )


def _key(known: FaultMeaning) -> str:
    return f"{known.name} {known.code} {known.case}"


def _extracted(pattern: str, condition: str) -> str:
    """Return the search for a pattern in the messages that meet a condition; empty for the others.

    A default evaluates all branches for every row. With a dictionary the engine searches each different text once: the
    messages that meet the condition, and one empty text for all other rows.
    """
    return f"extract(toLowCardinality(if({condition}, msg, '')), {_literal(pattern)})"


def _is(rule: FaultRule) -> str:
    return f"fault_class = {_literal(rule.name)}"


def _joined(patterns: tuple[str, ...]) -> str:
    """One pattern for all; in groups, so that a flag such as `(?i)` ends with its own."""
    return patterns[0] if len(patterns) == 1 else "|".join(f"(?:{one})" for one in patterns)


def _listed(values: Iterable[str | int]) -> str:
    return ", ".join(str(value) if isinstance(value, int) else _literal(value) for value in values)


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
