"""What a server's errors mean to the program: what to try again, what never, and what a person has to change."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from collector.errors import StoreRefused, StoreUnavailable
from collector.store.address import ServerAddress, parse_address
from collector.store.server_failures import failure_in, server_failure

ADDRESS = parse_address("https://ops@db.example.com/pai")


def told(code: int, text: str, name: str) -> DatabaseError:
    """As clickhouse-connect tells what a server said."""
    return DatabaseError(
        f"Received ClickHouse exception, code: {code}, server response: Code: {code}. DB::Exception: {text}. ({name}) "
        "(version 26.9.2.1 (official build)) (for url https://db.example.com:8443)",
        code=code,
        name=name,
    )


@pytest.mark.parametrize(
    ("error", "kind", "message", "hint"),
    [
        (told(516, "ops: Authentication failed", "AUTHENTICATION_FAILED"), StoreUnavailable,
         "insert into syslogs: https://db.example.com:8443 refuses the user ops (AUTHENTICATION_FAILED 516)",
         "PAI_COLLECTOR_STORE_PASSWORD"),
        (told(497, "ops: Not enough privileges. To execute this query, it's necessary to have the grant INSERT(time)"
                   " ON pai.syslogs", "ACCESS_DENIED"), StoreUnavailable,
         "insert into syslogs: ops: Not enough privileges. To execute this query, it's necessary to have the grant "
         "INSERT(time) ON pai.syslogs (ACCESS_DENIED 497)", "docs/how-to/server.md"),
        (told(81, "Database pai does not exist", "UNKNOWN_DATABASE"), StoreUnavailable,
         "insert into syslogs: Database pai does not exist (UNKNOWN_DATABASE 81)", "restart"),
        (told(252, "Too many parts", "TOO_MANY_PARTS"), StoreUnavailable,
         "insert into syslogs: Too many parts (TOO_MANY_PARTS 252)", ""),
        (told(285, "Number of alive replicas (1) is less than requested quorum (2/2)", "TOO_FEW_LIVE_REPLICAS"),
         StoreUnavailable, "insert into syslogs: Number of alive replicas (1) is less than requested quorum (2/2) "
         "(TOO_FEW_LIVE_REPLICAS 285)", ""),
        (told(60, "Table pai.syslogs does not exist", "UNKNOWN_TABLE"), StoreRefused,
         "insert into syslogs: there is no such table (UNKNOWN_TABLE 60)", ""),
        (told(27, "Cannot parse input: expected '[' (at row 3)\n: \n\nRow 3:\nColumn 1, name: msg, text: \"Code: 241\"",
              "CANNOT_PARSE_INPUT_ASSERTION_FAILED"), StoreRefused,
         "insert into syslogs: Cannot parse input: expected '[' (at row 3) (CANNOT_PARSE_INPUT_ASSERTION_FAILED 27)",
         ""),
        (OperationalError("HTTP driver received HTTP status 503, server response: <html>busy</html> "
                          "(for url https://db.example.com:8443)"), StoreUnavailable,
         "insert into syslogs: HTTP status 503: <html>busy</html> (https://db.example.com:8443)", ""),
        (OperationalError("Network Error: Cannot connect to host db.example.com:8443"), StoreUnavailable,
         "insert into syslogs: Network Error: Cannot connect to host db.example.com:8443 (https://db.example.com:8443)",
         ""),
        (TimeoutError(), StoreUnavailable, "insert into syslogs: TimeoutError (https://db.example.com:8443)", ""),
    ],
)  # fmt: skip
def test_a_servers_error_says_what_to_do_next(error: Exception, kind: type[Exception], message: str, hint: str) -> None:
    """By its code only; the text stays readable, one line, without the client's frame around it and without rows."""
    failure = server_failure("insert into syslogs", error, ADDRESS)

    assert type(failure) is kind
    assert str(failure) == message
    assert hint in failure.hint


def test_an_error_behind_rows_is_told_from_them() -> None:
    """What a server puts behind a result that breaks off becomes an error; the same words inside a row do not."""
    said = b"Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED) (version 26.9.2.1)"
    frame = b"\r\n__exception__\r\nabcdefghijklmnop\r\n%b\n%d abcdefghijklmnop\r\n__exception__\r\n"
    framed = frame % (said, len(said) + 1)

    rows, error = failure_in(b"1\n2\n" + framed)
    assert rows == b"1\n2\n"
    assert str(error) == "Memory limit exceeded"
    assert failure_in(framed + b"3\n") == (framed + b"3\n", None)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://db", ServerAddress("http", "db", 8123, "default")),
        ("https://ops%40here@db/pai", ServerAddress("https", "db", 8443, "ops@here")),
        ("http://ops@[::1]:9123", ServerAddress("http", "::1", 9123, "ops")),
    ],
)
def test_an_address_is_taken_apart(url: str, address: ServerAddress) -> None:
    """Ports and user have ClickHouse's defaults; what is escaped is taken as meant."""
    assert parse_address(url) == address
