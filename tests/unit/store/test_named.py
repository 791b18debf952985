"""Named queries: header and SQL agree, values are read strictly, and what is wrong is told by name."""

from __future__ import annotations

import re
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from collector.cli.app import main
from collector.cli.exits import ExitStatus
from collector.errors import QueryError, UsageError
from collector.store.embedded import EmbeddedStore
from collector.store.named import bind_own, named_queries, named_query, parsed
from collector.store.parts import part
from collector.store.statements import placeholders
from collector.store.values import bound, literal, read_value
from tools.queries import reference

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    opened = await EmbeddedStore.open(tmp_path / "store")
    yield opened
    await opened.close()


# Files


def test_every_query_says_what_it_is_for_and_what_it_takes() -> None:
    """In one style: short names, a purpose without a full stop, a meaning for every parameter."""
    queries = named_queries()
    assert len(queries) >= 20
    for query in queries:
        assert re.fullmatch(r"[a-z]+(_[a-z]+){0,2}", query.name)
        assert 20 < len(query.purpose) < 120, query.name
        assert not query.purpose.endswith("."), query.name
        for known in query.parameters:
            assert len(known.meaning) > 5, (query.name, known.name)
            assert known.default is not None or (query.name, known.name) == ("job_faults", "job")


def test_queries_hold_on_a_cluster_too() -> None:
    """A subquery that reads a table is asked once for all shards; tables stand without database, and without FINAL."""
    for query in named_queries():
        assert not re.search(r"(?<!GLOBAL LEFT)(?<!GLOBAL INNER) JOIN\b(?<!ARRAY JOIN)", query.sql), query.name
        assert not re.search(r"(?<!GLOBAL) IN\s*\(\s*SELECT", query.sql), query.name
        assert not re.search(r"\bpai\.|\bFINAL\b", query.sql), query.name
        assert "ORDER BY" in query.sql, query.name


def test_a_range_means_the_same_everywhere() -> None:
    """Its first second belongs to it and its end does not, in every query that has one."""
    for query in named_queries():
        names = [known.name for known in query.parameters]
        if "until" in names and query.name != "job_faults":
            begun = re.findall(r"(\S+) >= range_start AND (\S+) < range_end", query.sql)
            assert begun, query.name
            assert all(one == other for one, other in begun), query.name
            # Hours are left out by their own column first.
            used = query.sql.replace("toStartOfHour(range_start)", "").count("range_start")
            assert used == len(begun) + 1, query.name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT 1", "needs one `-- purpose:` line"),
        ("-- purpose: a\nSELECT 1; SELECT 2", "exactly one statement"),
        ("-- purpose: a\nSELECT {n:UInt8}", "declares the parameters {} and uses [('n', 'UInt8')]"),
        ("-- purpose: a\n-- param: n UInt8 = 1  number\nSELECT 1", "uses []"),
        ("-- purpose: a\n-- param: n UInt8 = 1  number\nSELECT {n:UInt16}", "uses [('n', 'UInt16')]"),
        ("-- purpose: a\n-- param: n UInt8 = 1  number\nSELECT {n:UInt8} + {n:UInt16}", "('n', 'UInt16')"),
        (
            "-- purpose: a\n-- param: n UInt8 = 300  number\nSELECT {n:UInt8}",
            "the default of n is '300', expected a whole",
        ),
        ("-- purpose: a\n-- param: n UInt8 = 1\nSELECT {n:UInt8}", "is not `name Type = default  meaning`"),
        ("-- purpose: a\n-- param: n UInt8  x\n-- param: n UInt8  y\nSELECT {n:UInt8}", "declared twice"),
        ("-- purpose: a\n-- param: n UInt8  x\nSELECT '{n:UInt8}' -- {n:UInt8}", "uses []"),
    ],
)
def test_a_file_whose_header_and_sql_differ_is_refused(text: str, told: str) -> None:
    """With the file's name, and what does not match."""
    with pytest.raises(ValueError, match=re.escape(told)) as refusal:
        parsed("odd", text)
    assert str(refusal.value).startswith("sql/queries/odd.sql: ")


def test_a_part_stands_in_a_query_under_its_condition() -> None:
    """With its place and no comment; what a part and a query say together is held against the header."""
    head = "-- purpose: a\n-- param: n UInt8 = 1  number\n"
    query = parsed("odd", f"{head}SELECT * FROM\n(\n    -- part: drawn_points\n    {{n:UInt8}}\n    -- end\n)")

    assert query.sql == f"SELECT * FROM\n(\n{textwrap.indent(part('drawn_points', '{n:UInt8}'), '    ')}\n)"
    assert "--" not in query.sql
    assert "{n:UInt8}" in query.sql


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("-- part: nothing\n1\n-- end", "there is no sql/parts/nothing.sql"),
        ("-- part: drawn_points with max(1)\n1\n-- end", "sql/parts/drawn_points.sql: has no {more} for max(1)"),
        ("-- part: drawn_points\n1", "a `-- part: NAME` has no `-- end`"),
    ],
)
def test_a_part_that_is_none_is_refused(text: str, told: str) -> None:
    """By the file that wants it."""
    with pytest.raises(ValueError, match=re.escape(f"sql/queries/odd.sql: {told}")):
        parsed("odd", f"-- purpose: a\nSELECT * FROM (\n{text}\n)")


def test_what_several_queries_share_is_written_once() -> None:
    """Which service a figure is drawn from, and what an incident is, stands in `sql/parts`, and in no query."""
    for path in (*(ROOT / "sql/queries").iterdir(), *(ROOT / "contrib/grafana/boards").glob("*.py")):
        assert not re.search(r"points.source [!=]+ 'cloud_metrics',|is_older|arraySplit", path.read_text()), path.name
    used = "".join(path.read_text() for folder in ("queries", "console") for path in (ROOT / "sql" / folder).iterdir())
    used += (ROOT / "contrib/grafana/boards/variables.py").read_text()
    for path in (ROOT / "sql/parts").iterdir():
        assert path.stem in used, path.name


def test_the_page_of_the_queries_is_that_of_their_headers() -> None:
    """Make it anew with `make reference`."""
    assert (ROOT / "docs/reference/queries.md").read_text() == reference()


# Values


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        ("UInt8", "255", "255"),
        ("UInt16", "007", "7"),
        ("Int64", "-9223372036854775808", "-9223372036854775808"),
        ("Float64", "1e3", "1000.0"),
        ("String", "NULL", "NULL"),
        ("String", "", ""),
        ("Nullable(UInt8)", "NULL", None),
        ("DateTime('UTC')", "2025-10-09T08:53:20Z", "2025-10-09 08:53:20"),
        ("DateTime", "2025-10-09 16:53:20+08:00", "2025-10-09 08:53:20"),
        ("Nullable(DateTime('UTC'))", "1760000000", "2025-10-09 08:53:20"),
        ("Array(String)", "['a']", "['a']"),
    ],
)
def test_a_value_is_read_for_its_type(type: str, text: str, value: str | None) -> None:
    """What the engine would read otherwise than it was meant is spelled in its way."""
    assert read_value(type, text) == value


@pytest.mark.parametrize(
    ("type", "text", "expected"),
    [
        ("UInt8", "256", "a whole number from 0 to 255"),
        ("UInt8", "-1", "a whole number from 0 to 255"),
        ("UInt16", "1.5", "a whole number from 0 to 65535"),
        ("Int8", "", "a whole number from -128 to 127"),
        ("UInt8", "٣", "a whole number"),
        ("Float64", "nan", "a number"),
        ("Float64", "1_0", "a number"),
        ("DateTime('UTC')", "yesterday", "a moment such as"),
        ("DateTime('UTC')", "NULL", "a moment such as"),
        ("DateTime('UTC')", "1960-01-01T00:00:00Z", "a moment such as"),
        ("Nullable(UInt8)", "null", "a whole number"),
    ],
)
def test_a_value_that_is_none_is_refused(type: str, text: str, expected: str) -> None:
    """The engine would take a number that is too large for its type, and go on with another one."""
    with pytest.raises(ValueError, match=re.escape(expected)):
        read_value(type, text)


ODD = ["", "'", "\\", "\\N", "a\tb\nc\rd\0e", "{n:UInt8}", "' OR 1 = 1 --", "🚀\u2028", "NULL", "$$;$$"]


@pytest.mark.parametrize("text", ODD)
async def test_any_text_arrives_as_it_was_given(store: EmbeddedStore, text: str) -> None:
    """Bound beside the SQL, and as a literal in it."""
    for sql, parameters in (
        ("SELECT {t:String} AS t", {"t": bound("String", text)}),
        (f"SELECT {literal('String', text)} AS t", {}),
    ):
        async with await store.query(sql, format="JSONCompactEachRow", parameters=parameters) as answer:
            body = b"".join([piece async for piece in answer])
        assert msgspec.json.decode(body) == [text]


async def test_null_and_lists_arrive_too(store: EmbeddedStore) -> None:
    """A list is written as the engine writes it."""
    sql = "SELECT {n:Nullable(DateTime('UTC'))}, {l:Array(String)}, {f:Float64}"
    values = bind_own(sql, {"n": "NULL", "l": r"['a\'b','c']", "f": "0.5"})
    async with await store.query(sql, format="JSONCompactEachRow", parameters=values) as answer:
        assert msgspec.json.decode(b"".join([piece async for piece in answer])) == [None, ["a'b", "c"], 0.5]


async def test_a_value_that_only_the_engine_can_judge_is_refused_by_it(store: EmbeddedStore) -> None:
    """Types that are not known here are none of our business."""
    sql = "SELECT {d:Date}"
    with pytest.raises(QueryError, match="'d'"):
        await store.query(sql, parameters=bind_own(sql, {"d": "no day"}))


# Mistakes


def test_an_unknown_named_query_is_answered_with_those_there_are() -> None:
    """A slip of the pen gets a guess, and every name."""
    with pytest.raises(UsageError, match="no query named 'fault'") as refusal:
        named_query("fault")

    assert "did you mean faults?" in refusal.value.hint
    assert "spend" in refusal.value.hint


@pytest.mark.parametrize(
    ("name", "given", "message", "hint"),
    [
        (
            "faults",
            {"hour": "2"},
            "the query faults has no parameter 'hour', which was given as '2'",
            "did you mean hours?",
        ),
        ("job_faults", {}, "the query job_faults needs a value of job, String", "job String: id of the job"),
        ("faults", {"hours": "two"}, "hours: got 'two', expected a whole number from 0 to 65535", "hours UInt16 = 24"),
        ("faults", {"until": "now"}, "until: got 'now', expected a moment such as", "or NULL"),
        ("spend", {"days": "1"}, "the query spend has no parameter 'days'", "it takes no parameters"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_would_be_right(
    name: str, given: dict[str, str], message: str, hint: str
) -> None:
    """The parameter, the value seen, what is expected, and a hint with all there are."""
    with pytest.raises(UsageError) as refusal:
        named_query(name).bind(given)
    assert message in str(refusal.value)
    assert hint in f"{refusal.value} {refusal.value.hint}"


def test_parameters_of_own_sql_are_those_in_it() -> None:
    """Not those in strings and comments; each has to be given, and no other."""
    sql = "SELECT {n:UInt8}, '{no:UInt8}', { m : Array(String) } /* {no:UInt8} */ -- {no:UInt8}"
    assert placeholders(sql) == [("n", "UInt8"), ("m", "Array(String)")]
    assert bind_own(sql, {"n": "1", "m": "[]"}) == {"n": "1", "m": "[]"}
    with pytest.raises(UsageError, match="the SQL needs a value of m, Array") as refusal:
        bind_own(sql, {"n": "256", "no": "1"})
    assert "the SQL has no parameter 'no'" in str(refusal.value)
    assert "n: got '256', expected a whole number from 0 to 255" in str(refusal.value)


def test_sql_to_be_pasted_stands_alone() -> None:
    """Every value is in it, quoted where it has to be, and its purpose is above."""
    text = named_query("faults").standing_alone({"node": "it's", "until": "2025-10-09T08:00:00Z", "hours": "48"})
    assert text.startswith("-- faults: ")
    assert placeholders(text) == []
    assert "lines.node_id = 'it\\'s'" in text
    assert "coalesce(CAST('2025-10-09 08:00:00' AS Nullable(DateTime('UTC'))), now('UTC'))" in text
    assert "toIntervalHour(48)" in text


# The command


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["--name", "job_faults"],
            ["error: the query job_faults needs a value of job, String", "hint: it takes job String: id of the job;"],
        ),
        (
            ["--name", "spend", "--param", "days=1"],
            ["error: the query spend has no parameter 'days', which was given as '1'", "hint: it takes no parameters"],
        ),
        (
            ["SELECT {n:UInt8}", "--param", "n=x"],
            ["error: n: got 'x', expected a whole number from 0 to 255", "hint: it takes n UInt8"],
        ),
        (
            ["SELECT 1", "--param", "n"],
            ["error: --param: expected NAME=VALUE, got 'n'", "hint: such as --param hours=48"],
        ),
        (["--name", "faults", "--param", "rows=1", "--param", "rows=2"], ["error: --param rows is given twice"]),
        (["SELECT 1", "--show"], ["error: --show is for a named query", "hint: query --list shows the names"]),
        (["--list", "--format", "csv"], ["error: the list is a table or json, not csv", "hint: query --list"]),
    ],
)
def test_wrong_use_is_a_line_and_a_hint(
    words: list[str], lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """With exit 2, before anything is opened."""
    monkeypatch.chdir(tmp_path)
    assert main(["--log-format", "console", "query", *words]) == ExitStatus.USAGE
    told = capsys.readouterr()
    assert told.out == ""
    for said, line in zip(told.err.splitlines(), lines, strict=True):
        assert said.startswith(line)
    assert list(tmp_path.iterdir()) == []


def test_named_queries_are_listed_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """A table for people, JSON for programs, the SQL alone for other tools; none of it needs a configuration."""
    monkeypatch.chdir(tmp_path)
    assert main(["query", "--list"]) == ExitStatus.DONE
    table = capsys.readouterr().out
    assert main(["query", "--list", "--format", "json"]) == ExitStatus.DONE
    listed = msgspec.json.decode(capsys.readouterr().out)
    assert main(["query", "--name", "faults", "--param", "hours=48", "--show"]) == ExitStatus.DONE
    sql = capsys.readouterr().out

    head, *rows = table.splitlines()
    assert head.split() == ["name", "purpose", "parameters"]
    assert [row.split()[0] for row in rows] == [query["name"] for query in listed]
    assert "hours=24, until=NULL, node='', class='', rows=100" in table
    faults = next(query for query in listed if query["name"] == "faults")
    assert list(faults) == ["name", "purpose", "parameters", "sql"]
    assert faults["parameters"][0] == {
        "name": "hours",
        "type": "UInt16",
        "default": "24",
        "meaning": "length of the range, hours",
    }
    assert sql == named_query("faults").standing_alone({"hours": "48"}) + "\n"
    assert list(tmp_path.iterdir()) == []
