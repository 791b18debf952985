"""A store's history into files, table by table and partition by partition."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from collector.errors import UsageError
from collector.memory import bounds_of, memory_limit
from collector.model import BLOCK_ROWS_MAX
from collector.packing import packed
from collector.queries import QueryLimits, quoted_name
from collector.store.base import DATABASE, Store
from collector.store.cluster import LOCAL_SUFFIX
from collector.store.history import (
    FILE_BYTES_MAX,
    FORMAT_VERSION,
    MANIFEST,
    FileEntry,
    Manifest,
    PartitionEntry,
    TableEntry,
    checksum,
    encode_manifest,
    file_name,
)
from collector.store.migrate import TABLE as MIGRATIONS
from collector.store.shape import MEANINGS
from collector.units import DAY_SECONDS

LIMITS: Final = QueryLimits(seconds_max=DAY_SECONDS, rows_max=1 << 40, bytes_max=1 << 50, memory_bytes_max=1 << 30)
"""A partition is read as a whole, however large it is; it is streamed."""

NOT_HISTORY: Final = frozenset({MIGRATIONS, MEANINGS})
"""Tables that tell what a store has had done to it, and what its configuration says; the target's own hold there."""

OnFile = Callable[[str, int], None]
"""Told the table and the rows of each file that is done."""


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A table of the store whose rows are history."""

    name: str
    merges: bool
    columns: tuple[str, ...]
    rows: int


async def stored_tables(store: Store) -> list[StoredTable]:
    """Every table that holds history."""
    bound = {"database": DATABASE}
    engines = {
        name: engine
        for name, engine in await store.fetch(
            "SELECT name, engine FROM system.tables WHERE database = {database:String}"
            " AND (engine LIKE '%MergeTree' OR engine = 'Distributed') ORDER BY name",
            bound,
        )
    }
    columns: dict[str, list[str]] = {}
    for table, column in await store.fetch(
        "SELECT table, name FROM system.columns WHERE database = {database:String}"
        " AND default_kind IN ('', 'DEFAULT') ORDER BY table, position",
        bound,
    ):
        columns.setdefault(table, []).append(column)
    found = []
    for name, engine in engines.items():
        base = name.removesuffix(LOCAL_SUFFIX)
        if base in NOT_HISTORY or base in engines.keys() - {name}:
            # On a cluster the table that spreads over the machines stands for its local ones.
            continue
        kept_by = engines.get(name + LOCAL_SUFFIX, engine)
        merges = any(kind in kept_by for kind in ("Replacing", "Summing", "Aggregating"))
        rows = (await store.fetch(f"SELECT count() FROM {DATABASE}.{quoted_name(name)}"))[0][0]
        found.append(StoredTable(name, merges, tuple(columns[name]), int(rows)))
    return found


async def export_history(
    store: Store, tables: list[StoredTable], folder: Path, on_file: OnFile = lambda table, rows: None
) -> Manifest:
    """Write everything to `folder`, its manifest last. Raises UsageError, OSError, and as the store does.

    Cut off in the middle it leaves a folder without a manifest; a repeat begins anew and writes over what is there.
    """
    prepare(folder)
    newest = await store.fetch(f"SELECT max(version) FROM {DATABASE}.{MIGRATIONS}")
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        id=str(uuid.uuid4()),
        migration=int(newest[0][0]),
        exported_from=store.location,
        tables=tuple([await _export_table(store, table, folder, on_file) for table in tables]),
    )
    _write(folder / MANIFEST, encode_manifest(manifest))
    return manifest


def prepare(folder: Path) -> None:
    """Make the folder. Raises UsageError where it holds a whole export, or what no export has made."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        raise UsageError(f"{folder}: holds an exported history already", hint="name another folder")
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith((".jsonl.zst", ".part")):
            raise UsageError(f"{folder}: holds {path.name}, which is no exported file", hint="name an empty folder")


async def partition_rows(store: Store, table: str) -> dict[str, int]:
    """Rows of each partition of a table."""
    rows = await store.fetch(
        f"SELECT _partition_id, count() FROM {DATABASE}.{quoted_name(table)} GROUP BY 1 ORDER BY 1"
    )
    return {str(partition): int(count) for partition, count in rows}


async def _export_table(store: Store, table: StoredTable, folder: Path, on_file: OnFile) -> TableEntry:
    partitions = []
    names = ", ".join(map(quoted_name, table.columns))
    for partition in await partition_rows(store, table.name):
        files: list[FileEntry] = []
        answer = await store.query(
            f"SELECT {names} FROM {DATABASE}.{quoted_name(table.name)} WHERE _partition_id = {{partition:String}}",
            format="JSONCompactEachRow",
            parameters={"partition": partition},
            limits=LIMITS,
        )
        async with answer:
            async for rows, body in _cut(aiter(answer)):
                name = file_name(table.name, partition, len(files) + 1)
                content = packed(body)
                _write(folder / name, content)
                files.append(FileEntry(name=name, rows=rows, bytes=len(body), sha256=checksum(content)))
                on_file(table.name, rows)
        if files:
            partitions.append(PartitionEntry(id=partition, files=tuple(files)))
    return TableEntry(name=table.name, columns=table.columns, merges=table.merges, partitions=tuple(partitions))


async def _cut(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """Lines in portions that an insert takes as one block."""
    bytes_max = min(FILE_BYTES_MAX, bounds_of(memory_limit()).segment)
    lines: list[bytes] = []
    size = 0
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if lines and (len(lines) == BLOCK_ROWS_MAX or size + len(line) + 1 > bytes_max):
                yield len(lines), b"\n".join([*lines, b""])
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
    if lines:
        yield len(lines), b"\n".join([*lines, b""])


def _write(path: Path, content: bytes) -> None:
    """A file that is there as a whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    with suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
