"""Shares: streams, quotas and money divided among shards, nothing twice and nothing left over."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import ConfigError
from collector.model import StreamKey
from collector.shares import ALONE, Share, owner_index, parse_share, quota_parts

names = st.text(max_size=12)
keys = st.builds(StreamKey, names, names, names)


@given(keys, st.integers(1, 40))
def test_every_stream_is_one_shards(key: StreamKey, of: int) -> None:
    """Whatever the number of shards, exactly one of them owns a stream."""
    assert sum(Share(index, of).owns(key) for index in range(of)) == 1


@given(keys, st.integers(1, 40))
def test_one_shard_more_takes_streams_and_moves_no_other(key: StreamKey, of: int) -> None:
    """From N to N + 1 a stream stays where it is or goes to the new shard."""
    assert owner_index(key, of + 1) in (owner_index(key, of), of)


@pytest.mark.parametrize("of", [2, 3, 10])
def test_streams_are_spread_evenly(of: int) -> None:
    """No shard has many more streams than another."""
    counts = Counter(owner_index(StreamKey("ListSyslogs", "cn-hangzhou", f"node-{n}"), of) for n in range(6000))

    assert set(counts) == set(range(of))
    assert all(0.85 < count * of / 6000 < 1.15 for count in counts.values())


def test_where_a_stream_belongs_never_changes() -> None:
    """The hash is part of the contract between processes of different versions."""
    places = [owner_index(StreamKey("ListSyslogs", "cn-hangzhou", f"node-{n}"), 5) for n in range(12)]

    assert places == [4, 4, 1, 1, 1, 3, 4, 4, 1, 1, 2, 1]


@given(st.integers(0, 10**12), st.integers(1, 200))
def test_parts_add_up_and_are_alike(total: int, of: int) -> None:
    """The parts of all shards make the whole, and no two differ by more than one."""
    parts = [Share(index, of).part(total) for index in range(of)]

    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


@pytest.mark.parametrize(
    ("text", "hostname", "share"),
    [
        ("", "collector-7", ALONE),
        ("0/1", "", ALONE),
        ("2/3", "collector-0", Share(2, 3)),
        ("auto/3", "collector-2", Share(2, 3)),
        ("auto/12", "pai-11.collector.svc.cluster.local", Share(11, 12)),
    ],
)
def test_a_share_is_read_from_text_or_host_name(text: str, hostname: str, share: Share) -> None:
    """`I/N` as it stands, `auto/N` with the ordinal of the host, nothing for a process that is alone."""
    assert parse_share(text, hostname) == share


@pytest.mark.parametrize(
    ("text", "hostname", "message"),
    [
        ("3/3", "", r'got "3/3" with the number 3; 3 shards are numbered 0 to 2'),
        ("auto/2", "collector-5", r"number 5 \(from the host name collector-5\)"),
        ("auto/2", "collector", "host name with a number at its end"),
        ("0/0", "", 'a part such as "0/3"'),
        ("1", "", 'a part such as "0/3"'),
        ("-1/2", "", 'a part such as "0/3"'),
    ],
)
def test_what_is_no_share_is_refused(text: str, hostname: str, message: str) -> None:
    """The refusal says what was seen and what would be right."""
    with pytest.raises(ValueError, match=message):
        parse_share(text, hostname)


def test_a_share_outside_its_number_cannot_be_made() -> None:
    """There is no fourth of three."""
    with pytest.raises(ValueError, match="0/3 to 2/3"):
        Share(3, 3)


@given(st.integers(1, 10), st.dictionaries(names, st.integers(10, 1000), max_size=5))
def test_quotas_are_divided_without_rest(of: int, quotas: dict[str, int]) -> None:
    """All shards together call as often as the account may, and each may call."""
    parts = [quota_parts(Share(index, of), quotas, quotas) for index in range(of)]

    for operation, quota in quotas.items():
        assert sum(part[operation] for part in parts) == quota
        assert min(part[operation] for part in parts) >= 1


@pytest.mark.parametrize("index", [0, 11])
def test_more_shards_than_calls_a_second_are_refused_by_each_of_them(index: int) -> None:
    """The refusal names every operation that is short, its quota, and how many shards there may be."""
    quotas = {"DeleteResourceLog": 10, "ListSyslogs": 100, "GetXtraceToken": 5, "ListJobs": 11}
    with pytest.raises(ConfigError) as refusal:
        quota_parts(Share(index, 12), quotas, {"ListSyslogs", "GetXtraceToken", "ListJobs"})

    assert refusal.value.mistakes == [
        f"shard: got {index}/12, but GetXtraceToken allows 5 calls a second; expected at most 5 shards, or a higher "
        "api.quotas.GetXtraceToken",
        f"shard: got {index}/12, but ListJobs allows 11 calls a second; expected at most 11 shards, or a higher "
        "api.quotas.ListJobs",
    ]


def test_what_only_people_ask_for_can_be_asked_by_each_shard() -> None:
    """A quota that is smaller than the number of shards hinders no shard that does not need it."""
    assert quota_parts(Share(11, 12), {"DeleteResourceLog": 10}, set()) == {"DeleteResourceLog": 1}
