"""The pages in which SQLite keeps a journal's schema, put back from what this program writes there itself.

A journal is made by one list of statements in one transaction, so its first pages are the same in each of this format.
"""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_MAGIC: Final = b"SQLite format 3\0"
_HEAD_BYTES: Final = 100
_SCHEMA_FACTS: Final = (slice(16, 18), slice(40, 44), slice(60, 64))
"""Of the file's head: the size of a page, how many statements have changed the schema, and the journal's format."""
_INNER: Final = 5
"""First byte of a page whose cells name other pages."""


def put_back(path: Path, make: Path) -> bool:
    """Write the lost pages of the schema of the journal at `path`; False if they are not known.

    `make` is a journal that was just made. If the head of the file shows that its schema was made like that, any
    number of pages may be lost, as long as the journal's id is found with them. Otherwise it is one page, and all
    other pages have to be equal: tables could be taken for one another.
    """
    new = make.read_bytes()
    page_bytes = int.from_bytes(new[16:18])
    pages = _schema_pages(new, page_bytes)
    with path.open("r+b") as file:
        before: dict[int, bytes] = {}
        for page in pages:
            file.seek((page - 1) * page_bytes)
            content = file.read(page_bytes)
            if _of_schema(content, page) != _of_schema(_page(new, page, page_bytes), page):
                before[page] = content
        file.seek(0)
        head = file.read(_HEAD_BYTES)
        has_head = head.startswith(_MAGIC) and head[16:18] == new[16:18]
        is_same = has_head and all(head[fact] == new[fact] for fact in _SCHEMA_FACTS)
        if not before or (len(before) > 1 and not is_same) or len(pages) < 2:
            return False
        for page in before:
            content = _page(new, page, page_bytes)
            if page == 1:
                count = path.stat().st_size // page_bytes
                # Its own head if it has one; else a new one that has the file's length, and no free pages.
                content = (
                    head + content[_HEAD_BYTES:]
                    if has_head
                    else content[:28] + count.to_bytes(4) + bytes(8) + content[40:]
                )
            file.seek((page - 1) * page_bytes)
            file.write(content)
        file.flush()
        if len(before) == 1 or _has_id(path):
            return True
        for page, content in before.items():
            file.seek((page - 1) * page_bytes)
            file.write(content)
    return False


def _has_id(path: Path) -> bool:
    """Whether the journal's id is where the schema has it: an upgraded journal has its tables in another order."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as db:
            (journal_id,) = db.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()
        return bool(uuid.UUID(journal_id))
    except (sqlite3.Error, TypeError, ValueError, AttributeError):
        return False


def restored(path: Path) -> bool:
    """As `put_back`, with a journal that is made for it."""
    from collector.journal.journal import Journal

    with TemporaryDirectory(prefix="pai-collector-") as folder:
        new = Path(folder) / "journal.db"
        Journal(new, {}, region="", threaded=False).close()
        try:
            return put_back(path, new)
        except OSError:
            # It cannot be written, so it is read as it is.
            return False


def _page(data: bytes, page: int, page_bytes: int) -> bytes:
    return data[(page - 1) * page_bytes : page * page_bytes]


def _of_schema(content: bytes, page: int) -> bytes:
    """What of a page is the schema's: of the first one all but the file's head."""
    return content[_HEAD_BYTES:] if page == 1 else content


def _schema_pages(data: bytes, page_bytes: int, page: int = 1) -> list[int]:
    """The pages of the tree that begins at `page`."""
    begin = (page - 1) * page_bytes
    at = begin + (_HEAD_BYTES if page == 1 else 0)
    if data[at] != _INNER:
        return [page]
    cells = int.from_bytes(data[at + 3 : at + 5])
    places = [int.from_bytes(data[at + 12 + 2 * n : at + 14 + 2 * n]) for n in range(cells)]
    children = [int.from_bytes(data[begin + place : begin + place + 4]) for place in places]
    children.append(int.from_bytes(data[at + 8 : at + 12]))
    return [page, *(inner for child in children for inner in _schema_pages(data, page_bytes, child))]
