"""The search box of the log page: what is written in it, and the conditions that it becomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.console.log_search import SEARCHED, Search, Term, filtered, searched, shown_fields
from collector.errors import UsageError
from collector.store.named import parsed

FILE = """-- purpose: lines
-- param: rows UInt32 = 5  rows at most
SELECT lines.msg
FROM syslogs AS lines
WHERE 1
    -- filters
LIMIT {rows:UInt32}
"""


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("nccl Timeout", [Term("nccl"), Term("Timeout")]),
        ('"link is down" -sshd', [Term("link is down"), Term("sshd", is_excluded=True)]),
        ("node:e01-cn-1 -level:info", [Term("e01-cn-1", "node"), Term("info", "level", is_excluded=True)]),
        ('node_id:a severity:err tag:"CRON x"', [Term("a", "node"), Term("err", "level"), Term("CRON x", "tag")]),
        (r'"a \"quote\" and \\"', [Term(r'a "quote" and \\'.replace("\\\\", "\\"))]),
        ('"not closed', [Term("not closed")]),
        ("NVRM: Xid 12:30:01 - --x", [Term("NVRM:"), Term("Xid"), Term("12:30:01"), Term("-x", is_excluded=True)]),
        ('class:* device:""', [Term("*", "class"), Term("", "device")]),
        ("twice twice", [Term("twice")]),
    ],
)
def test_a_search_is_words_phrases_and_values_of_columns(text: str, terms: list[Term]) -> None:
    """Each with an optional minus; columns by their short names or by those of the table."""
    assert list(searched(text).terms) == terms


@given(
    st.lists(
        st.builds(
            Term,
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
            st.sampled_from(["", "node", "tag", "device"]),
            st.booleans(),
        ),
        max_size=6,
        unique=True,
    )
)
def test_what_is_written_into_addresses_is_read_back(terms: list[Term]) -> None:
    """Whatever the words and values are made of."""
    assert searched(str(Search(tuple(terms)))) == Search(tuple(terms))


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("colour:red", "there is no column 'colour'", '"colour:red"'),
        ("time:now", "there is no column 'time'", "node, host, level"),
        ("code:many", "code: got 'many'; expected a number", ""),
        ("severity:fatal", "no level of syslog", "fault:fatal"),
        ("x" * 5000, "q: got 5,000 characters", ""),
        (" ".join(f"w{number}" for number in range(60)), "q: got 60 parts", ""),
        ("a\0b", "null character", ""),
    ],
)
def test_what_cannot_be_searched_is_refused_with_what_can(text: str, error: str, hint: str) -> None:
    """An unknown column is answered with the list of those that there are."""
    with pytest.raises(UsageError, match=error) as refused:
        searched(text)
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("value", ["x') OR 1 --", "x') OR 1 --*", "7"])
def test_every_value_is_bound_and_none_is_pasted(sign: str, value: str) -> None:
    """The SQL has nothing of what was written, for any column and for words."""
    for name in ("", *(field.name for field in SEARCHED if value == "7" or not field.is_number)):
        query, values = filtered(parsed("x", FILE), FILE, Search((Term(value, name, bool(sign)),)))
        assert "OR 1" not in query.sql
        assert {known.name for known in query.parameters} == {*values, "rows"}
        assert query.bind(values)


def test_only_what_is_asked_for_is_in_the_sql() -> None:
    """Without a search the file is as it is; with one, each part is a condition of its own."""
    plain, _ = filtered(parsed("x", FILE), FILE, Search())
    assert plain.sql == "SELECT lines.msg\nFROM syslogs AS lines\nWHERE 1\nLIMIT {rows:UInt32}"
    query, values = filtered(parsed("x", FILE), FILE, searched("node:a node:b* -class:* code:79 Größe"))
    assert query.sql.splitlines()[3:-1] == [
        "    AND (lines.node_id IN {node:Array(String)} OR match(lines.node_id, {node_like:String}))",
        "    AND lines.fault_class = ''",
        "    AND lines.fault_code IN {code:Array(UInt16)}",
        "    AND positionCaseInsensitiveUTF8(lines.msg, {word_1:String}) > 0",
    ]
    assert values == {"node": "['a']", "node_like": "^(?:b.*)$", "code": "[79]", "word_1": "Größe"}


def test_a_term_more_replaces_its_opposite() -> None:
    """What was left out is wanted now, and the other way round."""
    search = searched("-node:a word")
    assert str(search.plus(Term("a", "node"))) == "word node:a"
    assert str(search.plus(Term("word", is_excluded=True))) == "-node:a -word"
    assert str(search.without(Term("word"))) == "-node:a"


def test_columns_are_chosen_by_name() -> None:
    """Several in one value or in several; an unknown one is answered with the list."""
    assert [one.name for one in shown_fields(["time,host", "msg"], ())] == ["time", "host", "message"]
    assert [one.name for one in shown_fields([], ("node",))] == ["node"]
    with pytest.raises(UsageError, match="no column 'colour'") as refused:
        shown_fields(["colour"], ())
    assert "time, node, host" in (refused.value.hint or "")
