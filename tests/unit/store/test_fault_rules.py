"""Fault rules: read from data, tried on the engine, made into its expressions, applied to new and to stored lines."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from collector.errors import ConfigError
from collector.owner.instance import Owner
from collector.queries import literal
from collector.settings.model import StoreSettings
from collector.simulator.hashing import mix
from collector.simulator.nodes import LINES as LINES_OF_NODES
from collector.simulator.world import World
from collector.store.embedded import EmbeddedStore
from collector.store.fault_rules import check_rules, classify, fault_rules, read_rules
from collector.store.faults import COLUMNS, DEVICE, SEVERITIES, FaultCode, FaultRule, FaultRules
from collector.store.migrate import load_migrations, migrate
from collector.store.reclassify import DayClassified, reclassify
from collector.store.shape import apply_shape
from tests.support import settings
from tools import faults as fault_reference

START = 1_760_000_000
CLASSES = (
    "kernel_panic", "sxid", "xid", "gpu_fallen_off_bus", "gpu_init", "nvlink", "pcie", "ecc", "mce", "rdma", "nic",
    "nccl", "oom", "disk", "filesystem", "network_filesystem", "soft_lockup", "thermal", "container", "limits",
)  # fmt: skip
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "faults.md"
LINES = Path(__file__).parents[2] / "testdata" / "fault_lines.jsonl"


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
    """Each class has a judgement with its source, patterns, examples and counter-examples; each number a judgement."""
    rules = fault_rules()

    assert tuple(rule.name for rule in rules.classes) == CLASSES
    for rule in rules.classes:
        assert rule.patterns, rule.name
        assert rule.examples, rule.name
        assert rule.counter_examples, rule.name
    judgements: tuple[FaultRule | FaultCode, ...] = (*rules.classes, *rules.codes)
    for judged in judgements:
        assert judged.meaning, judged
        assert judged.action, judged
        assert judged.severity in SEVERITIES, judged
        assert judged.source, judged
    assert all(case.severity in SEVERITIES and case.action and case.source for case in rules.cases)
    assert {code.name for code in rules.codes} == {"xid", "sxid", "gpu_fallen_off_bus"}
    assert len({(code.name, code.code) for code in rules.codes}) == len(rules.codes)


def test_the_page_of_faults_is_that_of_the_rules() -> None:
    """Make it again with `make reference`."""
    assert PAGE.read_text(encoding="utf-8") == fault_reference.reference()


def test_what_a_number_and_a_case_do_not_say_they_inherit() -> None:
    """A case takes the number's meaning, a number the class's severity; `unlisted` leaves listed numbers alone."""
    rules, mistakes = read_rules(
        "[[rule]]\nclass='a'\nmeaning='A'\naction='do a'\nseverity='info'\npatterns=['a']\ncode='(.)'\n"
        "[[code]]\nclass='a'\ncodes=[1, 2]\nmeaning='One or two'\n"
        "[[case]]\nclass='a'\ncase='bad'\ncodes=[2, 3]\npatterns=['bad']\naction='hurry'\nseverity='fatal'\n"
        "[[case]]\nclass='a'\ncase='odd'\nunlisted=true\npatterns=['odd']\nmeaning='Odd'\n"
    )

    assert mistakes == []
    assert [(known.code, known.case, known.severity, known.meaning, known.action) for known in rules.meanings] == [
        (0, "", "info", "A", "do a"), (1, "", "info", "One or two", ""), (2, "", "info", "One or two", ""),
        (2, "bad", "fatal", "One or two", "hurry"), (3, "bad", "fatal", "A", "hurry"),
        (1, "odd", "info", "One or two", ""), (2, "odd", "info", "One or two", ""), (0, "odd", "info", "Odd", "do a"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("[[rule]\n", ["not TOML: "]),
        ("rules = 1", ["no such key 'rules'; there are rule, case, code, ignore"]),
        ("rule = 1", ["rule: expected tables, each under [[rule]]"]),
        ("[[rule]]\npatterns = ['x']", ["rule 1: class: got None; expected a word such as 'my_fault'"]),
        ("[[rule]]\nclass = 'My fault'\npatterns = ['x']", ["rule 'My fault': class: got 'My fault'; expected a word"]),
        ("[[rule]]\nclass = 'a'", ["rule 'a': patterns: got None; expected a list of texts"]),
        ("[[rule]]\nclass = 'a'\npatterns = ['']", ["rule 'a': patterns: got ''; expected 1 to 500 characters"]),
        (
            "[[rule]]\nclass = 'a'\npattern = 'x'\npatterns = ['x']",
            ["rule 'a': no such key 'pattern'; there are class"],
        ),
        ("[[rule]]\nclass = 'a'\npatterns = ['x']\n" * 2, ["rule 'a' is there twice"]),
        (
            "[[code]]\nclass = 'xid'\ncode = 70000",
            ["code 70000: code: got 70000; expected a whole number from 1 to 65535"],
        ),
        (
            "[[rule]]\nclass = 'a'\npatterns = ['x']\nseverity = 'bad'\ncode = 0\nwhole_node = 1",
            [
                "rule 'a': code: got 0; expected a whole number from 1 to 65535",
                "rule 'a': whole_node: got 1; expected true or false",
                "rule 'a': severity: got 'bad'; expected one of info, corrected, application, degraded, fatal",
            ],
        ),
        (
            "[[case]]\nclass = 'a'\ncase = 'A b'\npatterns = ['x']\ncodes = 5",
            [
                "case 'A b': case: got 'A b'; expected a word such as",
                "case 'A b': codes: got 5; expected a list of whole numbers",
            ],
        ),
        ("[[ignore]]\npattern = 'x'", ["ignore 1: no such key 'pattern'; there are patterns, examples", "ignore 1: "]),
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


async def test_what_looks_alike_and_is_none_is_no_fault_at_all(store: EmbeddedStore) -> None:
    """A counter-example of our own rules does not come out as some other class either."""
    lines = [text for rule in fault_rules().classes for text in rule.counter_examples]

    found = await classify(store, fault_rules(), lines)

    assert [(line, got[0]) for line, got in zip(lines, found, strict=True) if got[0]] == []


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
    assert len(altered) == 4
    assert [text.split()[5] for text in altered] == ["fault_class", "fault_code", "fault_case", "fault_severity"]
    assert await apply_shape(store, configured) == []
    await put(
        store, "Fan slow: FAN#3", "Tach Low: FAN#4", "tach low: FAN#4, ECC Errors: 4",
        "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, x", "NVRM: Xid (PCI:0000:3b:00): 9999, pid=1, x",
    )  # fmt: skip

    assert await classes(store) == [("fan", 3), ("", 0), ("fan", 4), ("xid", 79), ("xid", 9999)]
    found = await store.fetch("SELECT fault_code, meaning, action FROM faults ORDER BY time")
    own = next(rule for rule in fault_rules().classes if rule.name == "xid")
    assert found == [
        [3, "The third fan is slow", "Clean it"], [4, "A fan is slow", ""], [79, "Gone", "Call us"],
        [9999, own.meaning, own.action],
    ]  # fmt: skip
    severities = await store.fetch("SELECT fault_severity FROM faults ORDER BY time")
    assert severities == [["degraded"], ["degraded"], ["fatal"], ["degraded"]]
    ((comment,),) = await store.fetch(
        "SELECT comment FROM system.columns WHERE table = 'syslogs' AND name = 'fault_class'"
    )
    assert comment.endswith("empty when none: fan, " + ", ".join(CLASSES))


@pytest.mark.slow("reclassified stores")
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


async def test_lines_of_real_formats_get_class_number_and_severity(store: EmbeddedStore) -> None:
    """Formats of kernels, drivers and daemons; those without a class are what healthy nodes write."""
    expected = [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()]

    found = await classify(store, fault_rules(), [line[3] for line in expected])

    wrong = [(line, got) for line, got in zip(expected, found, strict=True) if line[:3] != [got[0], got[1], got[4]]]
    assert wrong == []
    assert len(expected) > 150


async def test_the_simulators_lines_are_told_as_the_faults_they_are(store: EmbeddedStore) -> None:
    """Everyday talk is none; every line of a driver is one, and a switch says Fatal where its number does."""
    node = World(seed=1, node_count=1).nodes[0]
    told = [(line, line.render(mix(seed), node)) for line in LINES_OF_NODES for seed in range(12)]

    found = await classify(store, fault_rules(), [text for _, text in told])

    by_line: dict[str, set[str]] = {}
    for (line, text), (name, code, _, _, severity) in zip(told, found, strict=True):
        by_line.setdefault(f"{line.tag}: {text[:12] if line.tag == 'kernel' else ''}", set()).add(name)
        if line.tag == "kernel":
            assert name or text.endswith("Link up"), text
        if name == "sxid" and "atal, " in text:
            assert (severity == "fatal") is (", Fatal, " in text), text
        assert (name in ("xid", "sxid", "gpu_fallen_off_bus")) is bool(code), text
    everyday = {name for line, names in by_line.items() if not line.startswith(("kernel", "trainer")) for name in names}
    assert everyday == {""}
    assert {name for name, *_ in found} >= {"sxid", "xid", "ecc", "mce", "nic", "nccl", "oom", "disk", "filesystem"}


async def test_the_device_of_a_line_has_one_form(store: EmbeddedStore) -> None:
    """PCI addresses lose prefix, function and long domain; else the name of the device; else nothing."""
    lines = {
        "NVRM: Xid (PCI:0000:3B:00): 79, pid=1, x": "0000:3b:00",
        "NVRM: Xid (0000:3b:00): 79, pid=1, x": "0000:3b:00",
        "NVRM: Xid (PCI:0018:01:00 GPU-I:05): 31, pid=1, x": "0018:01:00",
        "nvidia-nvswitch3: SXid (PCI:0000:c3:00.0): 12028, Non-fatal, Link 5 x": "0000:c3:00",
        "detected NVSwitch fatal error 20034 on fid 0 on NVSwitch pci bus id 00000000:87:00.0 physical id 2 port 17":
            "0000:87:00",
        "nvme nvme2: controller is down; will reset: CSTS=0x3": "nvme2",
        "bond1: now running without any active interface!": "bond1",
        "Out of memory: Killed process 5 (a) total-vm:1kB on 0000:3b:00": "",
        "well, at 0000:3b:00.0": "",
    }  # fmt: skip

    found = await classify(store, fault_rules(), list(lines))

    assert [device for _, _, _, device, _ in found] == list(lines.values())


async def test_stored_numbers_and_devices_are_those_of_each_line_alone(store: EmbeddedStore) -> None:
    """Lines of all formats in one insert, whole, cut and joined, some often: each as its own search finds it."""
    rules = fault_rules()
    chance = random.Random(5)
    known = [json.loads(line)[3] for line in LINES.read_text(encoding="utf-8").splitlines()]
    known += [text for rule in rules.rules for text in (*rule.examples, *rule.counter_examples)]
    messages = [*known, "", "\0", "Xid (\u017f): 70000", "NVRM: Xid (PCI:0000:3B:00): 65536, x"]
    for _ in range(3_000):
        first, second = chance.choice(known), chance.choice(known)
        messages.append(first[: chance.randint(0, len(first))] + chance.choice((" ", "\n", "é")) + second)
    chance.shuffle(messages)
    numbers = ", ".join(
        f"fault_class = {literal(rule.name)},"
        f" {rule.code if isinstance(rule.code, int) else f'toUInt16OrZero(extract(msg, {literal(rule.code)}))'}"
        for rule in rules.classes
        if rule.code
    )
    nodes = ["", *(rule.name for rule in rules.classes if rule.whole_node)]
    await apply_shape(store, StoreSettings())
    await put(store, *messages)

    rows = await store.fetch(
        f"SELECT msg, fault_class, fault_code, multiIf({numbers}, 0), fault_device,"
        f" if(has({{nodes:Array(String)}}, fault_class), '', lower(extract(msg, {literal(DEVICE)})))"
        " FROM syslogs ORDER BY time",
        {"nodes": nodes},
    )

    assert [row[0] for row in rows] == messages
    assert [row for row in rows if row[2] != row[3] or row[4] != row[5]] == []
    assert {row[1] for row in rows} == {"", *CLASSES}
    assert len({row[2] for row in rows}) > 10
    assert len({row[4] for row in rows}) > 10


@pytest.mark.slow("reclassified stores")
async def test_a_users_ignore_silences_lines_of_our_rules(store: EmbeddedStore, tmp_path: Path) -> None:
    """An [[ignore]] of the user's goes before everything, and its examples are tried."""
    text = "[[ignore]]\npatterns=['Xid .*: 43,']\nexamples=['NVRM: Xid (PCI:0000:3b:00): 43, pid=1, x']\n"
    await apply_shape(store, users_file(tmp_path, text))
    await put(store, "NVRM: Xid (PCI:0000:3b:00): 43, pid=1, x", "NVRM: Xid (PCI:0000:3b:00): 31, pid=1, x")

    assert await classes(store) == [("", 0), ("xid", 31)]
    with pytest.raises(ConfigError, match=r"ignore: examples\[0\]: comes out as 'oom'; expected ''"):
        await apply_shape(store, users_file(tmp_path, "[[ignore]]\npatterns=['zz']\nexamples=['invoked oom-killer']\n"))


async def test_a_users_rule_takes_the_place_of_our_cases_and_keeps_our_severity(store: EmbeddedStore) -> None:
    """A file from before there were severities means what it meant."""
    users, _ = read_rules("[[rule]]\nclass='nic'\npatterns=['Link']\n[[code]]\nclass='xid'\ncode=13\nmeaning='x'\n")
    rules = users.over(fault_rules())

    found = await classify(store, rules, ["eth0: Link down, NETDEV WATCHDOG", "NVRM: Xid (PCI:0000:3b:00): 13, x"])

    assert [(name, case, severity) for name, _, case, _, severity in found] == [
        ("nic", "", "fatal"),
        ("xid", "", "application"),
    ]


# Stored lines


@pytest.mark.slow("reclassified stores")
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


@pytest.mark.slow("reclassified stores")
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


@pytest.mark.slow("reclassified stores")
async def test_a_store_from_before_the_columns_is_carried_forward(tmp_path: Path) -> None:
    """Its lines have case, device and severity when read, and on disk once they are classified again."""
    opened = await EmbeddedStore.open(tmp_path / "old")
    try:
        await migrate(opened, load_migrations()[:17])
        message = "NVRM: Xid (PCI:0000:3b:00): 149, NETIR_BER_EVENT Nonfatal XC0 i0 Link 03 (0x0)"
        await put(opened, message, "EDAC MC0: Giving out device to module skx_edac")
        await migrate(opened)
        await apply_shape(opened, StoreSettings())

        shown = "SELECT fault_class, fault_code, fault_case, fault_device, fault_severity FROM syslogs ORDER BY time"
        before = await opened.fetch(shown)
        planned = [day async for day in reclassify(opened, fault_rules(), dry_run=True)]
        done = [day async for day in reclassify(opened, fault_rules())]
        written = await opened.fetch(
            "SELECT DISTINCT column FROM system.parts_columns WHERE table = 'syslogs' AND active"
            " AND column LIKE 'fault_%' ORDER BY column"
        )

        assert before == [["xid", 149, "nonfatal", "0000:3b:00", "corrected"], ["ecc", 0, "", "mc0", "fatal"]]
        assert planned == done == [DayClassified("20251009", 2, 1)]
        assert await opened.fetch(shown) == [before[0], ["", 0, "", "", ""]]
        assert [column for (column,) in written] == sorted(COLUMNS)
        assert [day.changed async for day in reclassify(opened, fault_rules())] == [0]
    finally:
        await opened.close()


async def test_classifying_anew_changes_nothing_else(store: EmbeddedStore) -> None:
    """A segment sent again afterwards is still known by its token."""
    await apply_shape(store, StoreSettings())
    await put(store, "fan", "well")
    rules = FaultRules((FaultRule(name="fan", patterns=("fan",)),), ())
    before = await store.fetch("SELECT * EXCEPT (fault_class, fault_code, fault_device) FROM syslogs ORDER BY time")

    assert [day async for day in reclassify(store, rules)] == [DayClassified("20251009", 2, 1)]
    await put(store, "fan", "well")

    assert (
        await store.fetch("SELECT * EXCEPT (fault_class, fault_code, fault_device) FROM syslogs ORDER BY time")
        == before
    )
