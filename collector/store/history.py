"""A history in files: what a folder of exported rows holds, and how a table is cut into files. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from collector.errors import UsageError
from collector.units import DAY_SECONDS

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
FILE_BYTES_MAX: Final = 64 << 20
"""Of a file's rows, before they are compressed."""
RESUME_SECONDS_MAX: Final = 7 * DAY_SECONDS // 2
"""Half of the time for which a store remembers tokens: so long a partition may take from its first file to its last."""

_FILE = re.compile(r"[A-Za-z0-9_]+/[A-Za-z0-9_-]+\.jsonl\.zst")


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file: at most a segment's rows, of one partition, a JSON array a line."""

    name: str
    """Path in the folder: `TABLE/PARTITION-0001.jsonl.zst`."""
    rows: int
    bytes: int
    """Of the rows, before they were compressed."""
    sha256: str
    """Of the file as it is, hexadecimal."""


class PartitionEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of a table."""

    id: str
    files: tuple[FileEntry, ...]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


class TableEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One table."""

    name: str
    columns: tuple[str, ...]
    merges: bool
    """Whether rows are replaced or added up when parts are merged, so that their number may shrink."""
    partitions: tuple[PartitionEntry, ...]

    @property
    def rows(self) -> int:
        return sum(partition.rows for partition in self.partitions)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the folder holds. It is written last, so a folder without one is not complete."""

    format_version: int
    id: str
    """Random. With a file's name it is the token under which the file is imported."""
    migration: int
    """The newest migration of the store that the rows are from."""
    exported_from: str
    tables: tuple[TableEntry, ...]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def files(self) -> list[FileEntry]:
        return [file for table in self.tables for partition in table.partitions for file in partition.files]


def encode_manifest(manifest: Manifest) -> bytes:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(content: bytes, shown_as: str) -> Manifest:
    """The manifest in a file. Raises UsageError where it is none, or one that this version does not know."""
    try:
        version = msgspec.json.decode(content, type=dict[str, msgspec.Raw]).get("format_version", msgspec.Raw(b"0"))
        if msgspec.json.decode(version) != FORMAT_VERSION:
            raise UsageError(
                f"{shown_as}: format version {bytes(version).decode()}; this version reads {FORMAT_VERSION}",
                hint="use the pai-collector that wrote it",
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{shown_as}: not a manifest of exported history: {error}") from None
    for file in manifest.files:
        if not _FILE.fullmatch(file.name):
            raise UsageError(f"{shown_as}: {file.name!r} is not the name of an exported file")
    return manifest


def file_name(table: str, partition: str, number: int) -> str:
    """Where a file stands in the folder."""
    return f"{table}/{partition}-{number:04d}.jsonl.zst"


def checksum(content: bytes) -> str:
    """Of a file."""
    return hashlib.sha256(content).hexdigest()


def token(manifest: Manifest, file: FileEntry) -> str:
    """The same at every try, and of no other export: a file is stored once however often it is sent."""
    return f"import {manifest.id} {file.name}"


def foreign(partitions: Sequence[PartitionEntry], stored: Mapping[str, int], begun: set[str]) -> dict[str, int]:
    """Rows by partition that a target has and that no earlier try of this import can have brought."""
    return {
        partition.id: stored[partition.id]
        for partition in partitions
        if stored.get(partition.id, 0) and partition.id not in begun
    }
