"""What log lines say about faults: rules and meanings, as the engine's expressions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

CODE_MAX = 65_535
"""`syslogs.fault_code` is a UInt16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """One class of faults, and how a message of it is known."""

    name: str
    meaning: str = ""
    patterns: tuple[str, ...] = ()
    """None of them: nothing is of this class."""
    code: str = ""
    """Finds the number in a message; empty where there is none."""
    examples: tuple[str, ...] = ()

    @property
    def pattern(self) -> str:
        """All patterns as one; in groups, so that a flag such as `(?i)` ends with its own."""
        return self.patterns[0] if len(self.patterns) == 1 else "|".join(f"(?:{one})" for one in self.patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultCode:
    """What one number of a class means, and what to do about it."""

    name: str
    """The class."""
    code: int
    meaning: str
    action: str = ""


@dataclass(frozen=True, slots=True)
class FaultRules:
    """Everything that is known of faults. Of several rules that a line matches, the first decides."""

    rules: tuple[FaultRule, ...]
    codes: tuple[FaultCode, ...]

    def over(self, others: FaultRules) -> FaultRules:
        """These rules in front of the others, each class and each code of a class once; none without patterns.

        A rule in front may take what is an example of one behind, so those are not kept.
        """
        behind = [replace(rule, examples=()) for rule in others.rules]
        rules = {rule.name: rule for rule in (*behind, *self.rules)}
        order = dict.fromkeys(
            [rule.name for rule in self.rules if rule.name not in {other.name for other in others.rules}]
            + [rule.name for rule in others.rules]
        )
        codes = {(code.name, code.code): code for code in (*others.codes, *self.codes)}
        kept = tuple(rules[name] for name in order if rules[name].patterns)
        return FaultRules(kept, tuple(codes[key] for key in sorted(codes)))

    # The engine's expressions

    @property
    def class_expression(self) -> str:
        """The class of a line, from `msg`. One pass over the message finds all patterns."""
        if not self.rules:
            return "''"
        names = ", ".join(_literal(name) for name in ("", *(rule.name for rule in self.rules)))
        patterns = ", ".join(_literal(rule.pattern) for rule in self.rules)
        return (
            f"CAST([{names}], 'Array(LowCardinality(String))')[1 + arrayMin(multiMatchAllIndices(msg, [{patterns}]))]"
        )

    @property
    def code_expression(self) -> str:
        """The number in a line, from `msg` and `fault_class`, 0 where there is none or a larger one than fits."""
        return self.code_of("fault_class")

    def code_of(self, name: str) -> str:
        """The number in a line, from `msg` and the expression `name` of its class."""
        numbered = [rule for rule in self.rules if rule.code]
        if not numbered:
            return "0"
        # Looked for only in lines of the class: `multiIf` leaves the others alone.
        cases = ", ".join(f"{name} = {_literal(rule.name)}, extract(msg, {_literal(rule.code)})" for rule in numbered)
        return f"toUInt16OrZero(multiIf({cases}, ''))"

    @property
    def meanings(self) -> list[tuple[str, int, str, str]]:
        """Class, code, meaning and action of each class (with code 0) and of each code."""
        names = {rule.name for rule in self.rules}
        return [(rule.name, 0, rule.meaning, "") for rule in self.rules] + [
            (code.name, code.code, code.meaning, code.action) for code in self.codes if code.name in names
        ]


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
