"""Words of the domain: how a scope holds a target and the filters it is asked with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model import StreamKey, filtered_scope
from collector.shares import owner_index

TARGETS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="?"), min_size=1)
FILTERS = st.dictionaries(st.sampled_from(["WorkspaceId", "UserId", "Query"]), st.text(st.characters(codec="utf-8")))


def key(scope: str) -> StreamKey:
    return StreamKey("ListSyslogs", "r", scope)


@given(TARGETS, FILTERS)
def test_a_scope_gives_back_target_and_filters(target: str, filters: dict[str, str]) -> None:
    """Whatever they hold; and a target alone is a scope without filters."""
    asked = key(filtered_scope(target, filters))
    assert (asked.target_id, asked.filters) == (target, filters)
    assert key(target).filters == {}


@pytest.mark.parametrize(
    ("filters", "scope"),
    [
        ({}, "n1"),
        ({"Query": "oom killer"}, "n1?Query=oom killer"),
        ({"Query": "a=b & 100%?"}, "n1?Query=a=b %26 100%25%3F"),
        ({"UserId": "u", "WorkspaceId": "w"}, "n1?WorkspaceId=w&UserId=u"),
    ],
)
def test_a_scope_can_be_read(filters: dict[str, str], scope: str) -> None:
    """Only what separates filters is encoded, and their order does not depend on the configuration's."""
    assert filtered_scope("n1", filters) == scope


def test_a_target_with_a_question_mark_is_one() -> None:
    """Only the name of a filter makes what is behind it one."""
    assert (key("n?x=1").target_id, key("n?x=1").filters) == ("n?x=1", {})
    assert key("n?x=1?Query=a").target_id == "n?x=1"


@given(TARGETS, FILTERS, st.integers(1, 9))
def test_all_streams_of_a_target_are_of_one_shard(target: str, filters: dict[str, str], of: int) -> None:
    """Or two journals would have rows in common."""
    assert owner_index(key(filtered_scope(target, filters)), of) == owner_index(key(target), of)


def test_only_workspaces_have_rows_of_their_own() -> None:
    """Any two queries or users of one target may have rows in common, as either has with everything."""
    spaces = {scope: key(scope).row_space for scope in ("n1", "n1?Query=a", "n1?Query=b", "n1?UserId=u")}
    assert len(set(spaces.values())) == 1
    others = {key(scope).row_space for scope in ("n2", "n1?WorkspaceId=w", "n1?WorkspaceId=v&UserId=u")}
    assert len(others | set(spaces.values())) == 4
