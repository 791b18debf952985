"""Exported history into a store, each file exactly once, however often it is tried."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from collector.backoff import backoff_seconds
from collector.clock import Clock
from collector.errors import StoreError, StoreTooLarge, StoreUnavailable, UsageError
from collector.packing import unpacked
from collector.store.base import DATABASE, Store
from collector.store.exporting import partition_rows
from collector.store.history import (
    MANIFEST,
    RESUME_SECONDS_MAX,
    FileEntry,
    Manifest,
    PartitionEntry,
    TableEntry,
    checksum,
    decode_manifest,
    foreign,
    token,
)
from collector.store.migrate import TABLE as MIGRATIONS

ATTEMPTS_MAX = 5
BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX = 0.5, 30.0
_DIVIDED = "divided"

OnFile = Callable[[FileEntry], None]


def read_manifest(folder: Path) -> Manifest:
    """What `folder` holds. Raises UsageError."""
    path = folder / MANIFEST
    try:
        manifest = decode_manifest(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise UsageError(
            f"{folder}: no {MANIFEST} in it, so it holds no whole export", hint="run pai-collector export again"
        ) from None
    for file in manifest.files:
        if not (folder / file.name).is_file():
            raise UsageError(f"{folder / file.name}: missing", hint="copy the folder again, as a whole")
    return manifest


async def import_history(
    store: Store,
    folder: Path,
    manifest: Manifest,
    clock: Clock,
    *,
    is_added: bool = False,
    on_file: OnFile = lambda file: None,
) -> None:
    """Bring every file into the store, which has its tables already.

    What earlier tries have brought is passed over. Raises UsageError where the store has other rows in the same
    partitions and `is_added` is not given, where a file is damaged, or where the store's tables are older than the
    export; StoreUnavailable and StoreRefused as the store does. Running it again goes on from there.
    """
    newest = int((await store.fetch(f"SELECT max(version) FROM {DATABASE}.{MIGRATIONS}"))[0][0])
    if newest < manifest.migration:
        raise UsageError(
            f"{folder}: from a store with migration {manifest.migration:04d}, this one has {newest:04d}",
            hint="use the newer pai-collector that exported it",
        )
    progress = Progress(folder, manifest, store.location)
    if not is_added:
        await _refuse_other_rows(store, folder, manifest, progress)
    for table in manifest.tables:
        for partition in table.partitions:
            await _import_partition(store, folder, manifest, table, partition, progress, clock, on_file)
    await _check_counts(store, manifest)


async def _import_partition(
    store: Store,
    folder: Path,
    manifest: Manifest,
    table: TableEntry,
    partition: PartitionEntry,
    progress: Progress,
    clock: Clock,
    on_file: OnFile,
) -> None:
    key = f"{table.name}/{partition.id}"
    left = [file for file in partition.files if file.name not in progress.done]
    begun_at = progress.begun.get(key)
    if left and begun_at is not None and clock.wall() - begun_at > RESUME_SECONDS_MAX:
        raise UsageError(
            f"{key}: its import was begun more than {RESUME_SECONDS_MAX // 3600} h ago, and the store may not know any "
            "more which of its files it has",
            hint=f"drop that partition of the table {table.name} in the target, delete {progress.path}, and run again",
        )
    if begun_at is None:
        progress.begin(key, int(clock.wall()))
    for file in partition.files:
        if file in left:
            body = read_file(folder, file)
            await _insert_divided(store, table, body, token(manifest, file), progress, clock)
            progress.finish(file)
        on_file(file)


async def _insert_divided(
    store: Store, table: TableEntry, body: bytes, token: str, progress: Progress, clock: Clock
) -> None:
    """Insert a body, in halves of halves where the store refuses it for its size.

    That it was divided is remembered before its halves are sent, so that a repeat sends the same halves under the
    same tokens. Raises StoreTooLarge for a single row.
    """
    if token not in progress.divided:
        try:
            await _insert(store, table, body, token, clock)
        except StoreTooLarge:
            if body.count(b"\n") == 1:
                raise
            progress.divide(token)
        else:
            return
    lines = body.splitlines(keepends=True)
    for number, half in enumerate((lines[: len(lines) // 2], lines[len(lines) // 2 :])):
        await _insert_divided(store, table, b"".join(half), f"{token}/{number}", progress, clock)


async def _insert(store: Store, table: TableEntry, body: bytes, token: str, clock: Clock) -> None:
    for attempt in range(1, ATTEMPTS_MAX):
        try:
            await store.insert(table.name, table.columns, body, token=token)
        except StoreTooLarge:
            raise
        except StoreUnavailable:
            await clock.sleep(backoff_seconds(attempt, BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX))
            continue
        return
    await store.insert(table.name, table.columns, body, token=token)


def read_file(folder: Path, file: FileEntry) -> bytes:
    """The rows of a file. Raises UsageError where they are not those that were exported."""
    content = (folder / file.name).read_bytes()
    if checksum(content) != file.sha256:
        raise UsageError(
            f"{folder / file.name}: damaged, its checksum is {checksum(content)[:12]}... and not {file.sha256[:12]}...",
            hint="copy it again from where it was exported; what is imported stays, and the import goes on from there",
        )
    body = unpacked(content)
    rows = body.count(b"\n")
    if rows != file.rows:
        raise UsageError(f"{folder / file.name}: holds {rows} rows; the manifest says {file.rows}")
    return body


async def _refuse_other_rows(store: Store, folder: Path, manifest: Manifest, progress: Progress) -> None:
    found = []
    for table in manifest.tables:
        begun = {partition.id for partition in table.partitions if f"{table.name}/{partition.id}" in progress.begun}
        others = foreign(table.partitions, await partition_rows(store, table.name), begun)
        found += [f"{table.name} {partition}: {rows:,}" for partition, rows in others.items()]
    if found:
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise UsageError(
            f"{store.location} has rows where {folder} has some too: {shown}",
            hint="rows that both have would be there twice; import into an empty store, or add --add where they are "
            "other rows for certain",
        )


async def _check_counts(store: Store, manifest: Manifest) -> None:
    """At the end: what was acknowledged is really there. Tables that merge rows may have fewer."""
    for table in manifest.tables:
        stored = await partition_rows(store, table.name)
        for partition in table.partitions:
            if not table.merges and stored.get(partition.id, 0) < partition.rows:
                raise StoreError(
                    f"{table.name} {partition.id}: the store has {stored.get(partition.id, 0):,} of "
                    f"{partition.rows:,} rows that were imported",
                    hint="was the target emptied since? then delete the file imported-*.jsonl in the folder, and run "
                    "again",
                )


class Progress:
    """What has been imported into one target, in a file beside the manifest. A line is written when a file is in."""

    def __init__(self, folder: Path, manifest: Manifest, location: str) -> None:
        target = hashlib.sha256(f"{manifest.id} {location}".encode()).hexdigest()[:12]
        self.path = folder / f"imported-{target}.jsonl"
        self.begun: dict[str, int] = {}
        """When the first file of a partition was sent, seconds since the epoch."""
        self.divided: set[str] = set()
        """Tokens of what was too large to be inserted as a whole."""
        self.done: set[str] = set()
        content = self.path.read_text() if self.path.exists() else ""
        for line in content.splitlines(keepends=True):
            # The last one may be cut off; its file is then sent once more, and known by its token.
            if line.endswith("\n"):
                what, *when = json.loads(line)
                if when == [_DIVIDED]:
                    self.divided.add(what)
                elif when:
                    self.begun[what] = when[0]
                else:
                    self.done.add(what)
        if content and not content.endswith("\n"):
            self.path.write_text(content[: content.rfind("\n") + 1])

    def begin(self, partition: str, now: int) -> None:
        """Before its first file is sent."""
        self._add([partition, now])
        self.begun[partition] = now

    def divide(self, token: str) -> None:
        """Before halves of what was refused for its size are sent."""
        self._add([token, _DIVIDED])
        self.divided.add(token)

    def finish(self, file: FileEntry) -> None:
        """Once the store has it."""
        self._add([file.name])
        self.done.add(file.name)

    def _add(self, line: list[object]) -> None:
        with self.path.open("a") as out:
            out.write(json.dumps(line) + "\n")
            out.flush()
            os.fsync(out.fileno())
