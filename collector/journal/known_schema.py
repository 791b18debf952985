"""The pages in which SQLite keeps a journal's schema, put back from what this program writes there itself.

A journal is made by one list of statements in one transaction, so its first pages are the same in each of this format.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_MAGIC: Final = b"SQLite format 3\0"
_HEAD_BYTES: Final = 100
_INNER: Final = 5
"""First byte of a page whose cells name other pages."""


def put_back(path: Path, make: Path) -> bool:
    """Write the one page of the schema that was lost of the journal at `path`; False where another one is not told.

    `make` is a journal that was just made. All other pages of its schema have to be in the file as they are there, or
    tables could be taken for one another.
    """
    new = make.read_bytes()
    page_bytes = int.from_bytes(new[16:18])
    pages = _schema_pages(new, page_bytes)
    with path.open("r+b") as file:
        lost: list[int] = []
        for page in pages:
            file.seek((page - 1) * page_bytes)
            if _of_schema(file.read(page_bytes), page) != _of_schema(_page(new, page, page_bytes), page):
                lost.append(page)
        if len(lost) != 1 or len(pages) < 2:
            return False
        (page,) = lost
        content = _page(new, page, page_bytes)
        if page == 1:
            file.seek(0)
            head = file.read(_HEAD_BYTES)
            count = path.stat().st_size // page_bytes
            # Its own head where that is one; else a new one that knows how long the file is, and of no free pages.
            content = (
                head + content[_HEAD_BYTES:]
                if head.startswith(_MAGIC) and head[16:18] == new[16:18]
                else content[:28] + count.to_bytes(4) + bytes(8) + content[40:]
            )
        file.seek((page - 1) * page_bytes)
        file.write(content)
    return True


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
