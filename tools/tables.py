"""The reference of tables and columns, made from the comments in a store.

    python -m tools.tables [--check] [FILE]

`--check` writes nothing and ends with 1 where the file differs from what migrations make.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from collector.settings.model import StoreSettings
from collector.store.base import DATABASE, Store
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import migrate
from collector.store.shape import apply_shape

COMMAND: Final = "python -m tools.tables"
DEFAULT: Final = Path(__file__).parents[1] / "docs" / "reference" / "tables.md"

_HEAD: Final = f"""\
# Tables and views

What is in the database `{DATABASE}`. Made by `make reference` from the comments in a store: `DESCRIBE TABLE syslogs`
shows the same. Times are UTC. A plain `SELECT count()` is right everywhere; nothing needs `FINAL`.

"""
_INNER: Final = """\
## Tables behind the views

What is written; the views above say what it comes to.

"""


async def document(store: Store) -> str:
    """The whole file."""
    tables = await store.fetch(
        "SELECT name, engine, partition_key, sorting_key, comment FROM system.tables"
        f" WHERE database = '{DATABASE}' ORDER BY name"
    )
    parts = [_HEAD, "| table or view | holds |\n| --- | --- |\n"]
    shown = [table for table in tables if not _is_inner(table[0])]
    parts += [f"| [`{name}`](#{name}) | {comment} |\n" for name, _, _, _, comment in shown]
    for table in shown:
        parts.append("\n" + await _section(store, table))
    parts.append("\n" + _INNER)
    for table in tables:
        if _is_inner(table[0]):
            parts.append(await _section(store, table, level=3) + "\n")
    return "".join(parts).rstrip("\n") + "\n"


def _is_inner(name: str) -> bool:
    return name.endswith(("_states", "_parts")) or name == "migrations"


async def _section(store: Store, table: Sequence[str], level: int = 2) -> str:
    name, engine, partition_key, sorting_key, comment = table
    columns = await store.fetch(
        "SELECT name, type, comment FROM system.columns"
        f" WHERE database = '{DATABASE}' AND table = {{table:String}} ORDER BY position",
        {"table": name},
    )
    kind = (
        "A view."
        if engine == "View"
        else f"Ordered by `{sorting_key}`" + (f", a part for each `{partition_key}`." if partition_key else ".")
    )
    rows = "".join(f"| `{column}` | `{type}` | {about} |\n" for column, type, about in columns)
    return f"{'#' * level} {name}\n\n{comment}. {kind}\n\n| column | type | holds |\n| --- | --- | --- |\n{rows}"


async def made() -> str:
    """The reference of a store as a new installation has it."""
    with tempfile.TemporaryDirectory(prefix="pai-tables-") as folder:
        store = await EmbeddedStore.open(Path(folder) / "store")
        try:
            await migrate(store)
            await apply_shape(store, StoreSettings())
            return await document(store)
        finally:
            await store.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the reference, or compare it; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the reference of tables and columns.")
    parser.add_argument("--check", action="store_true", help="only compare; 1 where the file differs")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT, metavar="FILE", help="[%(default)s]")
    given = parser.parse_args(arguments)
    path: Path = given.file
    text = asyncio.run(made())
    if given.check:
        is_same = path.is_file() and path.read_text(encoding="utf-8") == text
        if not is_same:
            sys.stderr.write(f"{path}: differs from the tables; {COMMAND} writes it anew\n")
        return 0 if is_same else 1
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
