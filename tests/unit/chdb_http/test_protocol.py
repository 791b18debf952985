"""Requests, settings, bodies and errors of the SQL endpoint, taken apart without a network: odd input never crashes."""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode

import lz4.frame
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from collector.chdb_http.accounts import Account, Accounts
from collector.chdb_http.compression import PREFERRED, chosen, compressor, decompress
from collector.chdb_http.exceptions import READONLY, UNKNOWN_SETTING, failure, frame, status_of, text_of
from collector.chdb_http.protocol import ARGUMENTS_MAX, Credentials, credentials, is_true, killed_query, parse
from collector.chdb_http.settings import ACCEPTED, PASSED, apply_settings, check_names
from collector.errors import QueryError
from collector.queries import QueryLimits
from collector.redaction import forget_secrets, register_secret
from collector.store.gate import Refused, Vocabulary, check_tree

BYTES_MAX = 1 << 16
PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress, "lz4": lz4.frame.compress}

names = st.sampled_from(
    ["query", "database", "default_format", "query_id", "user", "password", "compress", "decompress", "role", "param_x",
     "enable_http_compression", "wait_end_of_query", "max_threads", "max_result_rows"]
) | st.text(max_size=300)  # fmt: skip
values = st.sampled_from(["", "0", "1", "true", "nan", "-1", "1e999"]) | st.text(max_size=300)
headers = st.dictionaries(
    st.sampled_from(["Authorization", "X-ClickHouse-User", "X-ClickHouse-Key", "X-ClickHouse-Format"]),
    st.sampled_from(["Basic ", "Bearer ", "Basic Og==", "basic!", "Digest x"]) | st.text(max_size=100),
)


@given(st.lists(st.tuples(names, values), max_size=20), headers, st.binary(max_size=500))
def test_any_request_is_taken_apart_or_refused(
    arguments: list[tuple[str, str]], given_headers: dict[str, str], body: bytes
) -> None:
    """With an error that a client understands; what is taken has no argument in two roles."""
    refusal, asked = None, None
    try:
        asked = parse(arguments, given_headers, body)
        credentials(dict(arguments), given_headers)
        check_names(asked.settings, ())
        apply_settings(asked.settings, QueryLimits())
    except QueryError as error:
        refusal = error
    if refusal is not None:
        assert status_of(refusal) >= 400
        assert text_of(refusal, "1.2.3").startswith("Code: ")
        return
    assert asked is not None
    assert asked.sql.endswith(body) or is_true(dict(arguments).get("decompress", ""))
    assert not {"query", "user", "password", "database", "query_id"} & set(asked.settings)
    assert not any(name.startswith("param_") for name in asked.settings)


def test_more_arguments_than_a_client_has_are_refused() -> None:
    """A thousand and one are no request."""
    with pytest.raises(QueryError, match="got 1001 arguments; expected at most 1000"):
        parse([(f"param_{number}", "") for number in range(ARGUMENTS_MAX + 1)], {}, b"")


@given(st.text(max_size=50).filter(lambda user: ":" not in user), st.text(max_size=50))
def test_a_user_and_password_survive_basic(user: str, password: str) -> None:
    """Whatever letters they are of, and colons in the password."""
    encoded = b64encode(f"{user}:{password}".encode()).decode()
    assert credentials({}, {"Authorization": f"Basic {encoded}"}) == Credentials(user, password)


def test_credentials_do_not_show_their_secret() -> None:
    """In no repr that a log or a traceback could quote."""
    assert "hush" not in repr(Credentials("u", "hush", "hush"))
    assert "hush" not in repr(Account(None, "hush"))


@given(st.text(max_size=20), st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_only_the_secret_admits(user: str, password: str, secret: str) -> None:
    """Any other password is refused, the empty one too, and the refusal says nothing of either."""
    accounts = Accounts(Account(None, secret))
    if password == secret:
        accounts.executor(Credentials(user, password))
        return
    with pytest.raises(QueryError) as refusal:
        accounts.executor(Credentials(user, password))
    assert str(refusal.value) == "Authentication failed: password is incorrect, or there is none"


@given(st.sampled_from(["gzip", "deflate", "zstd", "lz4", "br", "", "identity"]), st.binary(max_size=2_000))
def test_any_bytes_are_decompressed_or_refused(encoding: str, body: bytes) -> None:
    """Bytes that nobody compressed are an error of the client's, of whatever kind they are."""
    refused, made = 0, b""
    try:
        made = decompress(body, encoding, BYTES_MAX)
    except QueryError as error:
        refused = status_of(error)
    assert refused in (0, 400, 413, 501)
    assert len(made) <= BYTES_MAX


@given(st.sampled_from(sorted(PACK)), st.binary(max_size=5_000), st.data())
def test_a_broken_body_is_never_taken_for_a_whole_one(encoding: str, plain: bytes, data: st.DataObject) -> None:
    """What comes back is what was sent; of a part nothing does."""
    packed = PACK[encoding](plain)
    assert decompress(packed, encoding, BYTES_MAX) == plain
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(QueryError):
        decompress(packed[:cut], encoding, BYTES_MAX)
    if plain:
        with pytest.raises(QueryError, match="more than"):
            decompress(packed, encoding, len(plain) - 1)


def test_a_body_cannot_ask_for_memory() -> None:
    """A frame whose window is larger than any usual one is refused before it is given that memory."""
    packed = zstd.compress(b"SELECT 1", options={zstd.CompressionParameter.window_log: 27,
                                                 zstd.CompressionParameter.content_size_flag: 0})  # fmt: skip
    packing = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    streamed = packing.compress(b"SELECT 1") + packing.flush()
    assert decompress(packed, "zstd", BYTES_MAX) == b"SELECT 1"
    with pytest.raises(QueryError, match="the body is not zstd"):
        decompress(streamed, "zstd", BYTES_MAX)


@pytest.mark.parametrize("encoding", PREFERRED)
def test_an_answer_in_pieces_is_one_compressed_body(encoding: str) -> None:
    """However many pieces there are, also none."""
    for pieces in ([], [b""], [b"a"], [b"a" * 100_000, b"", b"b"] * 10):
        packing = compressor(encoding)
        packed = b"".join([*(packing.compress(piece) for piece in pieces), packing.flush()])
        assert decompress(packed, encoding, 1 << 24) == b"".join(pieces)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("", ""), ("identity", ""), ("br", ""), ("gzip", "gzip"), ("gzip, deflate, br", "gzip"), ("lz4,zstd", "zstd"),
        ("zstd;q=0, gzip;q=0.5", "gzip"), ("zstd;q=0.1, lz4;q=0.9", "lz4"), ("gzip;q=x", ""), ("GZIP", "gzip"),
    ],
)  # fmt: skip
def test_the_encoding_is_one_that_the_client_takes(accepted: str, encoding: str) -> None:
    """Its weights count, else the order of ours; none is used that it did not name."""
    assert chosen(accepted) == encoding


@given(st.text(max_size=100))
def test_any_accept_encoding_is_read(accepted: str) -> None:
    """A header that makes no sense asks for nothing."""
    assert chosen(accepted) in ("", *PREFERRED)


@given(st.sampled_from(["max_execution_time", "max_result_rows", "max_result_bytes", "max_memory_usage",
                        "max_threads"]), st.floats() | st.integers() | st.text(max_size=20))  # fmt: skip
def test_no_value_raises_a_limit(name: str, value: object) -> None:
    """Whatever a client sends for a limit, it comes out at most as high as it was, and above nothing."""
    before = QueryLimits()
    try:
        after, passed = apply_settings({name: str(value)}, before)
    except QueryError:
        return
    assert passed == {}
    for attribute in ("seconds_max", "rows_max", "bytes_max", "memory_bytes_max", "threads_max"):
        assert 0 < getattr(after, attribute) <= getattr(before, attribute)


@given(st.text(max_size=80) | st.sampled_from(["allow_ddl", "allow_introspection_functions", "format_schema"]))
def test_a_setting_that_is_not_listed_is_refused(name: str) -> None:
    """With ClickHouse's code for it: one for what the engine has, another for what it has not."""
    if name in ACCEPTED:
        return
    for known, kind in (({name}, READONLY), (set[str](), UNKNOWN_SETTING)):
        with pytest.raises(QueryError) as refusal:
            check_names([name], known)
        assert refusal.value.code == kind[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("sql", [
    "KILL QUERY WHERE query_id = 'a-b'", "KILL QUERY WHERE query_id='a-b'",
    " kill  query where query_id = 'a-b' SYNC ; ",
    "KILL QUERY WHERE query_id = 'a-b' ASYNC FORMAT TabSeparated",
])  # fmt: skip
def test_a_request_to_cancel_names_its_query(sql: str) -> None:
    """As drivers write it."""
    found = killed_query(sql.encode())
    assert found is not None
    assert found[0] == "a-b"


@pytest.mark.parametrize("sql", [
    "KILL QUERY WHERE 1", "KILL QUERY WHERE query_id != ''", "KILL QUERY WHERE query_id = ''",
    "KILL QUERY WHERE query_id = 'a' OR 1", "KILL QUERY WHERE query_id = 'a\\' OR \\''", "KILL MUTATION WHERE 1",
    "KILL QUERY ON CLUSTER x WHERE query_id = 'a'", "KILL QUERY WHERE query_id = 'a'; SELECT 1", "SELECT 1",
])  # fmt: skip
def test_no_other_kill_is_taken_for_one(sql: str) -> None:
    """It goes the way of all SQL."""
    assert killed_query(sql.encode()) is None


def test_no_setting_that_names_a_file_passes() -> None:
    """Formats can take schemas and templates from files, and write them; readers cannot have that."""
    assert not {name for name in PASSED if "schema" in name or "template" in name or "path" in name or "file" in name}


def test_a_secret_in_an_error_is_hidden() -> None:
    """An engine may quote what a client has sent."""
    register_secret("a-long-token")
    try:
        told = text_of(failure(READONLY, "Cannot parse 'a-long-token'\nin line 2"), "1.2.3")
    finally:
        forget_secrets()
    assert told == (
        "Code: 164. DB::Exception: Cannot parse '***' in line 2; queries are read-only and take no SETTINGS."
        " (READONLY) (version 1.2.3)"
    )


@given(st.text(max_size=300))
def test_the_frame_of_an_error_says_how_long_its_text_is(text: str) -> None:
    """So a client finds where it begins, counted from the end."""
    framed = frame(text, "0123456789abcdef")
    head, _, rest = framed.partition(b"\r\n0123456789abcdef\r\n")
    assert head == b"\r\n__exception__"
    assert rest == text.encode() + b"\n%d 0123456789abcdef\r\n__exception__\r\n" % (len(text.encode()) + 1)


TREE = st.lists(
    st.builds(
        lambda depth, kind, name: " " * depth + f"{kind} {name}".rstrip(),
        st.integers(0, 6),
        st.sampled_from(["SelectWithUnionQuery", "Explain", "Function", "Identifier", "TableIdentifier", "Set",
                         "Literal", "Asterisk", "DropQuery", "ShowTables"]) | st.text(max_size=20),
        st.sampled_from(["", "file", "`FILE`", "url", "system.processes", "x (alias y)", "plus (children 2)"])
        | st.text(max_size=20),
    ),
    max_size=12,
)  # fmt: skip


@given(TREE)
def test_any_tree_is_judged(lines: list[str]) -> None:
    """What the gate lets through has a root that it knows and no name that it does not want."""
    try:
        is_select = check_tree(lines, Vocabulary.of(["url"], ["file", "now"]))
    except Refused:
        return
    words = [line.split() for line in lines if line.split()]
    assert not any(word[:2] == ["Function", name] for word in words for name in ("file", "`FILE`", "url"))
    assert not any(word[:2] == ["TableIdentifier", "system.processes"] for word in words)
    assert not is_select or any(word[0] == "SelectWithUnionQuery" for word in words)
