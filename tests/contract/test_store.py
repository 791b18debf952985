"""What every store promises: exactly-once inserts, errors sorted by what to do next, reads that change nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collector.errors import QueryError, StoreRefused, StoreTooLarge, StoreUnavailable
from collector.model import BLOCK_ROWS_MAX
from collector.queries import Column, EngineQueryError, QueryLimits
from collector.store.base import Store
from collector.store.embedded import EmbeddedStore
from collector.store.embedded_answer import CHUNK_BYTES_MAX
from collector.store.embedded_reader import QUERIES_MAX
from collector.store.failures import query_failure, write_failure
from collector.store.values import bound
from tests.support.server_process import open_server
from tests.support.sql_server import sql_server

COLUMNS = ("time", "name", "number", "names")
TABLE = """
CREATE TABLE pai.probe
(
    time DateTime('UTC'), name LowCardinality(String), number Nullable(Int64), names Array(String),
    length UInt32 DEFAULT length(name), CONSTRAINT polite CHECK name != 'poison'
)
ENGINE = MergeTree PARTITION BY toYYYYMMDD(time) ORDER BY time
SETTINGS non_replicated_deduplication_window = 100000
"""


KINDS = ("embedded", "server")


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Store]:
    """A store of that kind with its rows in `folder`; the server is our own endpoint, asked by one who may write."""
    if kind == "embedded":
        embedded = await EmbeddedStore.open(folder)
        yield embedded
        await embedded.close()
        return
    async with sql_server(folder) as server:
        store = await open_server(server)
        yield store
        await store.close()


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(request.param, tmp_path / "store") as one:
        await one.execute(TABLE)
        yield one


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened("embedded", tmp_path / "store") as one:
        await one.execute(TABLE)
        yield one


def lines(rows: Sequence[Sequence[object]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def many(count: int, *, name: str = "n") -> bytes:
    return b"".join(b'[%d,"%s",%d,[]]\n' % (1_760_000_000 + i % 3600, name.encode(), i) for i in range(count))


async def count(store: Store) -> int:
    return int((await store.fetch("SELECT count() FROM probe"))[0][0])


async def read(store: Store, sql: str, **options: object) -> bytes:
    async with await store.query(sql, **options) as answer:
        return b"".join([chunk async for chunk in answer])


# Inserting


async def test_rows_come_back_as_they_were_sent(store: Store) -> None:
    """Times, text that breaks careless parsers, NULL and lists survive, and omitted columns get their default."""
    odd = "tab\t newline\n quote\" single' back\\slash \u2028 🚀 {name:String} -- ; /* */ \x00"
    rows = [[0, "", None, []], [4_294_967_295, odd, -(2**63), ["a", odd]], [1_760_000_000, "x", 2**63 - 1, [""]]]

    await store.insert("probe", COLUMNS, lines(rows), token="t")

    stored = "SELECT toUnixTimestamp(time), name, number, names FROM probe ORDER BY number NULLS FIRST"
    assert await store.fetch(stored) == rows
    assert await store.fetch("SELECT length FROM probe WHERE name = 'x'") == [[1]]


async def test_a_body_is_stored_once_for_its_token(store: Store) -> None:
    """Sending the same bytes again under the same token adds nothing; under another token they are other rows."""
    body = many(10)

    for token in ("a", "a", "b", "a", "b"):
        await store.insert("probe", COLUMNS, body, token=token)

    assert await count(store) == 20


async def test_a_repeat_is_recognised_whatever_the_session_is_set_to(embedded: Store) -> None:
    """Settings of the session between two tries neither move the borders of blocks nor switch deduplication off."""
    body = many(BLOCK_ROWS_MAX * 2 + 1)
    await embedded.insert("probe", COLUMNS, body, token="a")

    await embedded.execute(
        "SET max_insert_block_size = 1000, min_insert_block_size_rows = 1000, max_block_size = 1000, max_threads = 4,"
        " input_format_parallel_parsing = 1, insert_deduplicate = 0, deduplicate_insert = 'disable',"
        " deduplicate_insert_select = 'disable', insert_deduplication_token = 'z'"
    )
    await embedded.insert("probe", COLUMNS, body, token="a")

    assert await count(embedded) == BLOCK_ROWS_MAX * 2 + 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_repeat_is_recognised_after_the_store_was_opened_again(kind: str, tmp_path: Path) -> None:
    """Tokens are as durable as rows."""
    async with opened(kind, tmp_path / "store") as first:
        await first.execute(TABLE)
        await first.insert("probe", COLUMNS, many(5), token="a")

    async with opened(kind, tmp_path / "store") as second:
        await second.insert("probe", COLUMNS, many(5), token="a")
        assert await count(second) == 5


@pytest.mark.parametrize("characters", [1, 1340], ids=["short", "64MiB"])
async def test_rows_up_to_the_limit_are_one_part(store: Store, characters: int) -> None:
    """A segment, however wide its rows, becomes one part, so that it is there as a whole or not at all."""
    body = many(BLOCK_ROWS_MAX, name="x" * characters)

    await store.insert("probe", COLUMNS, body, token="a")

    parts = "SELECT sum(rows), count(), max(level) FROM system.parts WHERE table = 'probe' AND active"
    assert await store.fetch(parts) == [[BLOCK_ROWS_MAX, 1, 0]]


async def test_a_body_may_span_more_days_than_the_engine_likes(store: Store) -> None:
    """The engine's limit of 100 partitions in one insert does not hold rows back for ever."""
    await store.insert("probe", COLUMNS, lines([[day * 86_400, "n", 1, []] for day in range(150)]), token="a")

    assert await count(store) == 150


@pytest.mark.parametrize(
    ("columns", "body"),
    [
        (COLUMNS, b""),
        (COLUMNS, b"\n"),
        (COLUMNS, b'[1,"n",1,[]]\n\n[1,"n",1,[]]\n'),
        (COLUMNS, b'{"time": 1}\n'),
        (COLUMNS, b"not json\n"),
        (COLUMNS, b'[1,"n",1,[]]\n[1,"n"\n'),
        (COLUMNS, b'[1,"n",1,[]]\n[1,"n",1,["a"'),
        (COLUMNS, b'[1,"n",1]\n'),
        (COLUMNS, b'[1,"n",1,[],2]\n'),
        (COLUMNS, b'[1,"n","seven",[]]\n'),
        (COLUMNS, b'[1,"n",1.5,[]]\n'),
        (COLUMNS, b'["yesterday","n",1,[]]\n'),
        (COLUMNS, b'[1,"n",1,"a"]\n'),
        (COLUMNS, b"[1,null,1,[]]\n"),
        (COLUMNS, b'[null,"n",1,[]]\n'),
        (COLUMNS, b'[1,"n",1,[]]\n[1,"poison",1,[]]\n'),
        (COLUMNS, b'[1,"Code: 241. DB::Exception: Memory limit","x",[]]\n'),
        (("time", "nmae"), b'[1,"n"]\n'),
    ],
)
async def test_bytes_that_can_never_be_taken_are_refused(store: Store, columns: Sequence[str], body: bytes) -> None:
    """A row that does not fit refuses its whole body, stores nothing of it, and the next body goes in."""
    with pytest.raises(StoreRefused) as refusal:
        await store.insert("probe", columns, body, token="bad")

    assert "\n" not in str(refusal.value)
    await store.insert("probe", COLUMNS, many(3), token="good")
    assert await count(store) == 3


async def test_an_insert_needs_a_token(store: Store) -> None:
    """Without a token a repeat could not be told from other rows, so it is a mistake of the program."""
    with pytest.raises(ValueError, match="token"):
        await store.insert("probe", COLUMNS, many(1), token="")


async def test_an_unknown_table_is_refused(store: Store) -> None:
    """Rows for a table that does not exist can never be taken."""
    with pytest.raises(StoreRefused, match="no such table"):
        await store.insert("nowhere", COLUMNS, many(1), token="a")


async def test_a_changed_table_is_noticed(store: Store) -> None:
    """A column added by a statement can be inserted into at once."""
    await store.insert("probe", COLUMNS, many(1), token="a")

    await store.execute("ALTER TABLE pai.probe ADD COLUMN more LowCardinality(String)")
    await store.insert("probe", ("time", "name", "more"), b'[1,"n","m"]\n', token="b")

    assert await store.fetch("SELECT more FROM probe ORDER BY more") == [[""], ["m"]]


async def test_no_memory_means_try_again(embedded: Store) -> None:
    """What fails for want of memory is unavailable, not refused, and the same bytes go in later, once."""
    body = many(BLOCK_ROWS_MAX, name="x" * 200)
    await embedded.execute("SET max_memory_usage_for_user = 1000000")

    with pytest.raises(StoreUnavailable, match="MEMORY_LIMIT_EXCEEDED 241"):
        await embedded.insert("probe", COLUMNS, body, token="a")
    await embedded.insert("probe", COLUMNS, body, token="a")

    assert await count(embedded) == BLOCK_ROWS_MAX


async def test_too_many_parts_mean_try_again(store: Store) -> None:
    """A table that cannot take another part now is unavailable; after a merge it takes it."""
    await store.execute("ALTER TABLE pai.probe MODIFY SETTING parts_to_delay_insert = 0, parts_to_throw_insert = 1")
    await store.insert("probe", COLUMNS, many(1), token="a")

    with pytest.raises(StoreUnavailable, match="TOO_MANY_PARTS 252"):
        await store.insert("probe", COLUMNS, many(1), token="b")
    await store.execute("ALTER TABLE pai.probe RESET SETTING parts_to_delay_insert, parts_to_throw_insert")
    await store.insert("probe", COLUMNS, many(1), token="b")

    assert await count(store) == 2


async def test_no_room_on_disk_means_try_again(embedded: Store, tmp_path: Path) -> None:
    """Bytes that cannot even be put down on this machine are unavailable, with the system's reason."""
    spool = tmp_path / "store" / "spool"
    shutil.rmtree(spool)

    with pytest.raises(StoreUnavailable, match="No such file"):
        await embedded.insert("probe", COLUMNS, many(1), token="a")
    spool.mkdir()
    await embedded.insert("probe", COLUMNS, many(1), token="a")

    assert await count(embedded) == 1


async def test_a_cancelled_insert_may_be_repeated(store: Store) -> None:
    """Whether the cancelled try went through or not, repeating it leaves the rows there once."""
    body = many(BLOCK_ROWS_MAX)
    first = asyncio.create_task(store.insert("probe", COLUMNS, body, token="a"))
    await asyncio.sleep(0)

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await store.insert("probe", COLUMNS, body, token="a")

    assert await count(store) == BLOCK_ROWS_MAX


async def test_a_reader_sees_rows_once_the_insert_has_returned(store: Store) -> None:
    """Reads run on other handles than inserts, and still see what was acknowledged."""
    for number in range(5):
        await store.insert("probe", COLUMNS, many(1), token=str(number))
        assert await read(store, "SELECT count() FROM probe") == b"%d\n" % (number + 1)


# The program's own reads


async def test_parameters_are_bound_not_pasted(store: Store) -> None:
    """Whatever text, numbers and lists hold, they arrive as values."""
    odd = "'; DROP TABLE probe; -- \\ \t\n\" {x:String} ü🚀"

    found = await store.fetch(
        "SELECT {text:String}, {number:Int64}, {texts:Array(String)}, {times:Array(UInt32)}, {none:Nullable(String)}",
        {"text": odd, "number": -(2**63), "texts": [odd, ""], "times": [1, 2], "none": None},
    )

    assert found == [[odd, -(2**63), [odd, ""], [1, 2], None]]


async def test_wrong_sql_of_the_program_is_refused(store: Store) -> None:
    """A read that can never work does not look like a store that is away."""
    with pytest.raises(StoreRefused, match="UNKNOWN_TABLE 60"):
        await store.fetch("SELECT * FROM nowhere")


# Readers


async def test_a_result_is_given_in_bounded_chunks(store: Store) -> None:
    """A large result comes in pieces of at most a mebibyte that make one document."""
    await store.insert("probe", COLUMNS, many(BLOCK_ROWS_MAX, name="x" * 100), token="a")

    async with await store.query("SELECT number, name FROM probe ORDER BY number", format="CSVWithNames") as answer:
        chunks = [chunk async for chunk in answer]

    document = b"".join(chunks).splitlines()
    assert max(map(len, chunks)) <= CHUNK_BYTES_MAX
    assert len(chunks) > 3
    assert document[0] == b'"number","name"'
    assert [line.partition(b",")[0] for line in document[1:]] == [b"%d" % n for n in range(BLOCK_ROWS_MAX)]


@pytest.mark.parametrize(
    ("format", "document"),
    [
        ("CSVWithNames", b'"n","t""x"\n0,"a"\n1,"a"\n'),
        ("TSVWithNames", b'n\tt"x\n0\ta\n1\ta\n'),
        ("JSONEachRow", b'{"n":0,"t\\"x":"a"}\n{"n":1,"t\\"x":"a"}\n'),
        ("JSONCompactEachRow", b'[0, "a"]\n[1, "a"]\n'),
        (None, b"0\ta\n1\ta\n"),
    ],
)
async def test_a_format_is_the_engines_own(store: Store, format: str | None, document: bytes) -> None:
    """Streamed or made in one piece, the bytes are what ClickHouse writes in that format."""
    sql = "SELECT number AS n, 'a' AS `t\"x` FROM numbers(2) -- with a comment"

    assert await read(store, sql, format=format) == document


async def test_an_empty_result_keeps_its_header(store: Store) -> None:
    """A CSV without rows still says which columns it has."""
    assert await read(store, "SELECT name, number FROM probe", format="CSVWithNames") == b'"name","number"\n'


async def test_parquet_is_one_whole_file(store: Store) -> None:
    """A format with a footer has exactly one."""
    document = await read(store, "SELECT number FROM numbers(100000)", format="Parquet")

    assert document.startswith(b"PAR1")
    assert document.endswith(b"PAR1")
    assert document.count(b"PAR1") == 2


async def test_columns_come_with_their_types(store: Store) -> None:
    """Names and types are known before the first byte, for results without rows and for SHOW too."""
    async with await store.query("SELECT name, number AS n FROM probe;", format="JSONEachRow", columns=True) as answer:
        assert answer.columns == (Column("name", "LowCardinality(String)"), Column("n", "Nullable(Int64)"))
    async with await store.query("SHOW TABLES", format="TSV", columns=True) as answer:
        assert answer.columns == (Column("name", "String"),)
        assert [chunk async for chunk in answer] == [b"probe\n"]


async def test_the_sql_may_choose_its_format_when_the_caller_does_not(store: Store) -> None:
    """FORMAT in the SQL is obeyed, and refused where another was already chosen."""
    async with await store.query("SELECT 1 AS x FORMAT JSONEachRow;") as answer:
        assert answer.format == "JSONEachRow"
        assert [chunk async for chunk in answer] == [b'{"x":1}\n']
    with pytest.raises(QueryError, match="leave FORMAT JSON out"):
        await store.query("SELECT 1 FORMAT JSON", format="CSV")


@pytest.mark.parametrize(
    ("sql", "message", "code"),
    [
        ("SELECT nope FROM probe", "Unknown expression identifier `nope`", 47),
        ("SELECT * FROM nowhere", "nowhere", 60),
        ("SELEC 1", r"position \d", 62),
        ("SELECT 1 SETTINGS max_threads = 9", "readonly", 164),
    ],
)
async def test_wrong_sql_of_a_reader_ends_with_one_readable_line(
    store: Store, sql: str, message: str, code: int
) -> None:
    """The engine's message stays, with its code; its stack, version and prefix go."""
    with pytest.raises(EngineQueryError, match=message) as failure:
        await store.query(sql)

    assert failure.value.code == code
    assert "\n" not in str(failure.value)
    assert "DB::Exception" not in str(failure.value)
    assert "version" not in str(failure.value)


@pytest.mark.parametrize("sql", ["", "  \n", "-- nothing", ";"])
async def test_no_sql_is_an_error(store: Store, sql: str) -> None:
    """Nothing to run is said, not run."""
    with pytest.raises(QueryError):
        await store.query(sql)


@pytest.mark.parametrize(
    ("sql", "limits", "name"),
    [
        ("SELECT sum(sipHash64(number)) FROM numbers(10e12)", QueryLimits(seconds_max=0.2), "TIMEOUT_EXCEEDED"),
        ("SELECT number FROM numbers(1000000)", QueryLimits(rows_max=1000), "TOO_MANY_ROWS_OR_BYTES"),
        ("SELECT hex(number) FROM numbers(999999)", QueryLimits(bytes_max=10**6), "TOO_MANY_ROWS_OR_BYTES"),
        ("SELECT groupArray(number) FROM numbers(10e8)", QueryLimits(memory_bytes_max=10**7), "MEMORY_LIMIT_EXCEEDED"),
    ],
)
@pytest.mark.parametrize("format", ["CSV", "Parquet"])
async def test_a_runaway_query_is_stopped(store: Store, sql: str, limits: QueryLimits, name: str, format: str) -> None:
    """Each limit ends the query with an error, streamed or not, and the store goes on working."""
    with pytest.raises(EngineQueryError) as failure:
        await read(store, sql, format=format, limits=limits)

    assert failure.value.name == name
    assert failure.value.hint
    assert await read(store, "SELECT 1") == b"1\n"


async def test_constant_columns_count_as_bytes(store: Store) -> None:
    """The engine counts a constant once however often it is written out; the limit holds all the same."""
    with pytest.raises(EngineQueryError, match="too many bytes"):
        await read(store, "SELECT repeat('x', 1000) FROM numbers(9999)", limits=QueryLimits(bytes_max=10**6))


async def test_a_query_that_fails_on_the_way_says_so(store: Store) -> None:
    """What was given out before the failure is followed by an error, never by a quiet end."""
    given: list[int] = []

    async def take() -> None:
        async with await store.query("SELECT throwIf(number = 400000) FROM numbers(1000000)", format="CSV") as answer:
            async for chunk in answer:
                given.append(len(chunk))

    with pytest.raises(EngineQueryError, match="throwIf"):
        await take()

    assert 0 < sum(given) < 1_000_000


async def test_an_answer_left_early_gives_its_turn_back(store: Store) -> None:
    """More endless queries than may run at once, each left after its first bytes, still leave room for the next."""
    for _ in range(QUERIES_MAX + 2):
        async with await store.query("SELECT * FROM numbers(1000000000000)", format="CSV") as answer:
            async for _chunk in answer:
                break

    assert await read(store, "SELECT 1") == b"1\n"


async def test_a_cancelled_query_gives_its_turn_back(store: Store) -> None:
    """A caller that goes away while its query runs stops it, and leaves nothing behind."""
    limits = QueryLimits(seconds_max=3600)
    for _ in range(QUERIES_MAX + 2):
        task = asyncio.create_task(store.query("SELECT sum(sipHash64(number)) FROM numbers(10e12)", limits=limits))
        await asyncio.wait([task], timeout=0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert await read(store, "SELECT 1") == b"1\n"


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_the_store_stops_running_queries(kind: str, tmp_path: Path) -> None:
    """A query that would run for an hour does not keep the store open; whoever waits for it gets an error."""
    async with opened(kind, tmp_path / "store") as store:
        hour = QueryLimits(seconds_max=3600)
        waiting = asyncio.create_task(store.query("SELECT sum(sipHash64(number)) FROM numbers(10e12)", limits=hour))
        await asyncio.wait([waiting], timeout=0.02)

        await store.close()

        with pytest.raises(QueryError):
            await waiting


async def test_readers_parameters_are_values(store: Store) -> None:
    """A reader's parameter is bound as a value of the type that the SQL names, or as NULL."""
    sql = "SELECT {x:String} AS x, {n:UInt8} + 1 AS n, {l:Array(String)} AS l, {m:Nullable(DateTime)} IS NULL AS m"
    given = {"x": "a\\'b\t\n", "n": "3", "l": r"['a\'b\t','\\N']", "m": None}
    types = {"x": "String", "n": "UInt8", "l": "Array(String)", "m": "Nullable(DateTime)"}
    parameters = {name: bound(types[name], value) for name, value in given.items()}

    assert json.loads(await read(store, sql, parameters=parameters, format="JSONCompactEachRow")) == [
        "a\\'b\t\n", 4, ["a'b\t", "\\N"], 1,
    ]  # fmt: skip


# Closing


@pytest.mark.parametrize("kind", KINDS)
async def test_a_closed_store_says_so(kind: str, tmp_path: Path) -> None:
    """After close, which may be called twice and ends open queries, every call is told that the store is closed."""
    async with opened(kind, tmp_path / "store") as store:
        answer = await store.query("SELECT * FROM numbers(1000000000000)", format="CSV")
        await store.close()
        await store.close()

        assert len([chunk async for chunk in answer]) <= 1
        for call in (store.fetch("SELECT 1"), store.insert("t", ("a",), b"[1]\n", token="a"), store.query("SELECT 1")):
            with pytest.raises(StoreUnavailable, match="closed"):
                await call


# Errors, purely


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)", StoreTooLarge, "241"),
        ("Code: 243. DB::Exception: Cannot reserve 1 MiB. (NOT_ENOUGH_SPACE)", StoreUnavailable, "243"),
        ("Code: 999999. DB::Exception: New in a later version. (SOMETHING_NEW)", StoreUnavailable, "SOMETHING_NEW"),
        ("connection reset", StoreUnavailable, "connection reset"),
        ("", StoreUnavailable, "RuntimeError"),
        ("Code: 27. DB::Exception: Code: 27. DB::Exception: Bad 'Code: 241. x'", StoreRefused, "'Code: 241. x'"),
        ("Code: 469. DB::Exception: Constraint `c` is violated. (VIOLATED_CONSTRAINT)", StoreRefused, "469"),
    ],
)
def test_errors_are_sorted_by_what_to_do_next(text: str, kind: type[Exception], message: str) -> None:
    """Only what can never work is refused; the unknown is tried again; a record's text decides nothing."""
    error = write_failure("insert into t", RuntimeError(text))

    assert type(error) is kind
    assert message in str(error)
    assert str(error).startswith("insert into t: ")


def test_a_message_is_one_line_without_the_engines_plumbing() -> None:
    """Prefix, version, stack and the copy of the row go; what is wrong and where stays."""
    text = (
        "Streaming query failed: Code: 27. DB::Exception: Code: 27. DB::Exception: Cannot parse input: expected '\"'"
        ' (at row 2)\n: \n\nRow 1:\nColumn 0,   name: time, parsed text: "1"\n: While executing Values.'
        " (CANNOT_PARSE_INPUT_ASSERTION_FAILED) (version 26.9.2.1 (official build))"
    )

    error = query_failure(RuntimeError(text))

    assert str(error) == "Cannot parse input: expected '\"' (at row 2)"
    assert (error.code, error.name) == (27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED")
