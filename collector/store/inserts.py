"""What an insert means, the same at every kind of store. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from collector.errors import StoreRefused
from collector.model import BLOCK_ROWS_MAX

INSERT_SETTINGS: Final[Mapping[str, int | str]] = MappingProxyType(
    {
        "async_insert": 0,
        "insert_deduplicate": 1,
        # Blocks are numbered under the token, so their borders must fall on the same rows at every try:
        # one thread, and limits that no session or profile can change.
        "max_threads": 1,
        "max_insert_threads": 1,
        "input_format_parallel_parsing": 0,
        "max_block_size": BLOCK_ROWS_MAX,
        "max_insert_block_size": BLOCK_ROWS_MAX,
        "max_insert_block_size_bytes": 0,
        "min_insert_block_size_rows": BLOCK_ROWS_MAX,
        "min_insert_block_size_bytes": 0,
        "use_strict_insert_block_limits": 0,
        # A body with more days than the engine's default of 100 partitions could never be inserted.
        "max_partitions_per_insert_block": 0,
        # A NULL that the column does not take is a mistake to be seen, not a default to be stored.
        "input_format_null_as_default": 0,
        "input_format_allow_errors_num": 0,
        "input_format_allow_errors_ratio": 0,
    }
)
"""Settings that make a body of at most BLOCK_ROWS_MAX rows one block, stored once for its token or refused."""


def count_rows(table: str, body: bytes) -> int:
    """Rows in a body of JSON lines. What is no such body is refused here: the engine takes some of it as nothing."""
    if not body:
        raise StoreRefused(f"insert into {table}: the body holds no rows")
    # A newline inside a JSON string is always escaped, so each one in the bytes ends a line.
    lines = body.count(b"\n") + (not body.endswith(b"\n"))
    rows = body.startswith(b"[") + body.count(b"\n[")
    if rows != lines:
        raise StoreRefused(f"insert into {table}: {lines} lines, but {rows} of them begin a JSON array")
    return rows


def first_words(statement: str) -> str:
    """What a statement is about, for messages."""
    code = "\n".join(line for line in statement.splitlines() if not line.lstrip().startswith("--"))
    return " ".join(code.split()[:5])
