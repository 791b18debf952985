"""Fault rules: read from data, tried on the engine, made into its expressions, applied to new and to stored lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collector.errors import ConfigError
from collector.owner.instance import Owner
from collector.settings.model import StoreSettings
from collector.store.embedded import EmbeddedStore
from collector.store.fault_rules import check_rules, fault_rules, read_rules
from collector.store.faults import FaultRule, FaultRules
from collector.store.reclassify import DayClassified, reclassify
from collector.store.shape import apply_shape
from tests.support import settings

START = 1_760_000_000
CLASSES = ("sxid", "xid", "gpu_fallen_off_bus", "ecc", "nvlink", "nic", "nccl", "oom", "mce", "filesystem",
           "soft_lockup")  # fmt: skip


def users_file(folder: Path, text: str) -> StoreSettings:
    path = folder / "my_faults.toml"
    path.write_text(text)
    return StoreSettings(fault_rules=path)


async def put(store: EmbeddedStore, *messages: str, start: int = START, token: str = "a") -> None:
    body = b"".join(json.dumps([start + n, "n1", text]).encode() + b"\n" for n, text in enumerate(messages))
    await store.insert("syslogs", ("time", "node_id", "msg"), body, token=token)


async def classes(store: EmbeddedStore) -> list[tuple[str, int]]:
    rows = await store.fetch("SELECT fault_class, fault_code FROM syslogs ORDER BY time")
    return [(name, code) for name, code in rows]


# Text


def test_the_programs_own_rules_hold_every_class() -> None:
    """Each class has a meaning, patterns and an example; each number of a class has a meaning and what to do."""
    rules = fault_rules()

    assert tuple(rule.name for rule in rules.rules) == CLASSES
    assert all(rule.meaning and rule.patterns and rule.examples for rule in rules.rules)
    assert {code.name for code in rules.codes} == {"xid", "sxid"}
    assert all(code.meaning and code.action for code in rules.codes)
    assert len({(code.name, code.code) for code in rules.codes}) == len(rules.codes)


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("[[rule]\n", ["not TOML: "]),
        ("rules = 1", ["no such key 'rules'; there are rule, code"]),
        ("rule = 1", ["rule: expected tables, each under [[rule]]"]),
        ("[[rule]]\npatterns = ['x']", ["rule 1: class: got None; expected a word such as 'my_fault'"]),
        ("[[rule]]\nclass = 'My fault'\npatterns = ['x']", ["rule 'My fault': class: got 'My fault'; expected a word"]),
        ("[[rule]]\nclass = 'a'", ["rule 'a': patterns: got None; expected a list of texts"]),
        ("[[rule]]\nclass = 'a'\npatterns = ['']", ["rule 'a': patterns: got ''; expected 1 to 500 characters"]),
        (
            "[[rule]]\nclass = 'a'\npattern = 'x'\npatterns = ['x']",
            ["rule 'a': no such key 'pattern'; there are class"],
        ),
        ("[[rule]]\nclass = 'a'\npatterns = ['x']\n" * 2, ["rule 'a' stands twice"]),
        (
            "[[code]]\nclass = 'xid'\ncode = 70000",
            ["code 70000: code: got 70000; expected a whole number from 1 to 65535"],
        ),
        (
            "[[code]]\nclass = 'a'\ncode = true\nmeaning = 1",
            ["code True: code: got True; expected a whole number", "code True: meaning: got 1; expected a text"],
        ),
    ],
)
def test_every_mistake_in_a_file_of_rules_is_named(text: str, mistakes: list[str]) -> None:
    """A line says which rule or code, which key, what was seen and what would be right."""
    _, found = read_rules(text)

    assert len(found) == len(mistakes)
    for line, start in zip(found, mistakes, strict=True):
        assert line.startswith(start)


def test_a_file_that_cannot_be_read_names_the_key(tmp_path: Path) -> None:
    """A missing file and codes of an unknown class are mistakes of store.fault_rules."""
    with pytest.raises(ConfigError) as missing:
        fault_rules(tmp_path / "absent.toml")
    path = tmp_path / "codes.toml"
    path.write_text("[[code]]\nclass = 'xids'\ncode = 1\nmeaning = 'x'\n")
    with pytest.raises(ConfigError) as unknown:
        fault_rules(path)

    assert "store.fault_rules:" in str(missing.value)
    assert "absent.toml cannot be read: No such file" in str(missing.value)
    assert "got class 'xids'; expected the class of a rule" in str(unknown.value)


def test_a_users_rules_come_first_and_take_the_place_of_ours() -> None:
    """A new class is looked for first, one of the same name stands where ours stood, and no patterns switch it off."""
    own, _ = read_rules("[[rule]]\nclass='a'\npatterns=['1']\n[[rule]]\nclass='b'\npatterns=['2']\nexamples=['2']\n")
    users, _ = read_rules(
        "[[rule]]\nclass='b'\npatterns=['3']\n[[rule]]\nclass='c'\npatterns=['4']\n[[rule]]\nclass='a'\npatterns=[]\n"
    )

    merged = users.over(own)

    assert [(rule.name, rule.patterns) for rule in merged.rules] == [("c", ("4",)), ("b", ("3",))]


# The engine


async def test_every_rule_knows_its_examples(store: EmbeddedStore) -> None:
    """Each example of our own rules comes out as its class, with a number where the class has one."""
    await check_rules(store, fault_rules())


async def test_a_users_rule_classifies_new_lines_at_once(store: EmbeddedStore, tmp_path: Path) -> None:
    """With its number, before our rules; its meaning stands in `faults`, and a number without one means its class."""
    configured = users_file(
        tmp_path,
        "[[rule]]\nclass='fan'\nmeaning='A fan is slow'\npatterns=['(?i)fan (stall|slow)', 'tach low']\n"
        "code='FAN#(\\d+)'\nexamples=['FAN SLOW: FAN#3']\n"
        "[[code]]\nclass='fan'\ncode=3\nmeaning='The third fan is slow'\naction='Clean it'\n"
        "[[code]]\nclass='xid'\ncode=79\nmeaning='Gone'\naction='Call us'\n",
    )

    altered = await apply_shape(store, configured)
    assert len(altered) == 2
    assert await apply_shape(store, configured) == []
    await put(
        store, "Fan slow: FAN#3", "Tach Low: FAN#4", "tach low: FAN#4, ECC error",
        "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, x", "NVRM: Xid (PCI:0000:3b:00): 9999, pid=1, x",
    )  # fmt: skip

    assert await classes(store) == [("fan", 3), ("", 0), ("fan", 4), ("xid", 79), ("xid", 9999)]
    found = await store.fetch("SELECT fault_code, meaning, action FROM faults ORDER BY time")
    own = next(rule.meaning for rule in fault_rules().rules if rule.name == "xid")
    assert found == [
        [3, "The third fan is slow", "Clean it"], [4, "A fan is slow", ""], [79, "Gone", "Call us"], [9999, own, ""],
    ]  # fmt: skip
    ((comment,),) = await store.fetch(
        "SELECT comment FROM system.columns WHERE table = 'syslogs' AND name = 'fault_class'"
    )
    assert comment.endswith("empty when none: fan, " + ", ".join(CLASSES))


async def test_rules_that_are_taken_back_are_gone(store: EmbeddedStore, tmp_path: Path) -> None:
    """Without the user's file tables and meanings are as before it, however often it comes and goes."""
    configured = users_file(tmp_path, "[[rule]]\nclass='fan'\npatterns=['fan']\n[[rule]]\nclass='oom'\npatterns=[]\n")
    for number in range(2):
        await apply_shape(store, configured)
        known = await store.fetch("SELECT fault_class FROM fault_codes WHERE fault_code = 0")
        assert {name for (name,) in known} == {"fan", *CLASSES} - {"oom"}
        await put(store, "fan", "invoked oom-killer", start=START + 10 * number, token=str(number))
    await apply_shape(store, StoreSettings())

    known = await store.fetch("SELECT fault_class FROM fault_codes WHERE fault_code = 0")
    assert {name for (name,) in known} == set(CLASSES)
    assert await classes(store) == [("fan", 0), ("", 0)] * 2
    await put(store, "fan", "invoked oom-killer", start=START + 100, token="last")
    assert (await classes(store))[-2:] == [("", 0), ("oom", 0)]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[[rule]]\nclass='a'\npatterns=['fine', 'x(']", r"rule 'a': patterns\[1\]: got 'x\('; "),
        ("[[rule]]\nclass='a'\npatterns=['x']\ncode='(\\d'", r"rule 'a': code: got '\(\\\\d'; "),
        (
            "[[rule]]\nclass='a'\npatterns=['x']\nexamples=['y']",
            r"rule 'a': examples\[0\]: comes out as ''; expected 'a'",
        ),
        (
            "[[rule]]\nclass='a'\npatterns=['x']\ncode='n(\\d+)'\nexamples=['x n0']",
            r"rule 'a': examples\[0\]: code finds no number from 1 to 65535 in it",
        ),
    ],
)
async def test_a_rule_that_the_engine_does_not_take_is_named(
    store: EmbeddedStore, tmp_path: Path, text: str, mistake: str
) -> None:
    """The error says the rule, the key, what was seen and why; the table stays as it was."""
    await apply_shape(store, StoreSettings())

    with pytest.raises(ConfigError, match=mistake):
        await apply_shape(store, users_file(tmp_path, text))

    assert await apply_shape(store, StoreSettings()) == []


async def test_wrong_rules_end_the_start_with_their_own_error(tmp_path: Path) -> None:
    """Not with one of the parts that were not open yet; and once they are right, the same folder opens."""
    rules = tmp_path / "mine.toml"
    rules.write_text("[[rule]]\nclass='a'\npatterns=['x(']\n")
    configuration = settings(tmp_path, "http://127.0.0.1:9", store={"fault_rules": rules})

    with pytest.raises(ConfigError, match="rule 'a'"):
        await Owner.open(configuration)

    rules.write_text("[[rule]]\nclass='a'\npatterns=['x']\n")
    async with await Owner.open(configuration) as owner:
        assert (await owner.store.fetch("SELECT count() FROM fault_codes WHERE fault_class = 'a'")) == [[1]]


async def test_no_rules_at_all_find_nothing(store: EmbeddedStore, tmp_path: Path) -> None:
    """Every class may be switched off."""
    text = "".join(f"[[rule]]\nclass='{name}'\npatterns=[]\n" for name in CLASSES)

    await apply_shape(store, users_file(tmp_path, text))
    await put(store, "invoked oom-killer")

    assert await classes(store) == [("", 0)]
    assert await store.fetch("SELECT * FROM fault_codes") == []


# Stored lines


async def test_stored_lines_are_classified_anew_day_by_day(store: EmbeddedStore, tmp_path: Path) -> None:
    """The newest day first, and only what changes; the hours follow, and a repeat does nothing."""
    await apply_shape(store, StoreSettings())
    for day in range(3):
        await put(store, "fan 7", "invoked oom-killer", "well", start=START + 86_400 * day, token=str(day))
    rules = fault_rules(
        users_file(tmp_path, "[[rule]]\nclass='fan'\npatterns=['fan']\ncode='fan (\\d+)'\n").fault_rules
    )

    planned = [day async for day in reclassify(store, rules, dry_run=True)]
    assert await classes(store) == [("", 0), ("oom", 0), ("", 0)] * 3
    first = [day async for day in reclassify(store, rules)]

    assert planned == first == [DayClassified(day, 3, 1) for day in ("20251011", "20251010", "20251009")]
    assert await classes(store) == [("fan", 7), ("oom", 0), ("", 0)] * 3
    hours = await store.fetch(
        "SELECT fault_class, fault_code, sum(lines) FROM syslogs_hourly GROUP BY ALL ORDER BY ALL"
        " SETTINGS force_optimize_projection = 1"
    )
    assert hours == [["", 0, 3], ["fan", 7, 3], ["oom", 0, 3]]
    assert [day.changed async for day in reclassify(store, rules)] == [0, 0, 0]


async def test_a_run_that_was_cut_off_goes_on_with_the_days_that_are_left(store: EmbeddedStore) -> None:
    """Days that are as the rules say are left alone."""
    await apply_shape(store, StoreSettings())
    for day in range(3):
        await put(store, "fan", start=START + 86_400 * day, token=str(day))
    rules = FaultRules((FaultRule(name="fan", patterns=("fan",)),), ())

    async for _ in reclassify(store, rules):
        break

    assert await classes(store) == [("", 0), ("", 0), ("fan", 0)]
    assert [day.changed async for day in reclassify(store, rules)] == [0, 1, 1]


async def test_classifying_anew_changes_nothing_else(store: EmbeddedStore) -> None:
    """A segment sent again afterwards is still known by its token."""
    await apply_shape(store, StoreSettings())
    await put(store, "fan", "well")
    rules = FaultRules((FaultRule(name="fan", patterns=("fan",)),), ())
    before = await store.fetch("SELECT * EXCEPT (fault_class, fault_code) FROM syslogs ORDER BY time")

    assert [day async for day in reclassify(store, rules)] == [DayClassified("20251009", 2, 1)]
    await put(store, "fan", "well")

    assert await store.fetch("SELECT * EXCEPT (fault_class, fault_code) FROM syslogs ORDER BY time") == before
