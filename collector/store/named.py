"""Named queries: the files of `sql/queries`, each one SELECT with a line that says what it is for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from collector.errors import UsageError
from collector.store.assets import sql_files, sql_folder
from collector.store.statements import header, split_statements


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One file of `sql/queries`; the file is named after it."""

    name: str
    purpose: str
    """What it answers, from its `-- purpose:` line."""
    sql: str


def named_queries() -> tuple[NamedQuery, ...]:
    """Every named query, by name. Raises ValueError for a file without a purpose or with several statements."""
    queries = []
    for name, text in sql_files(sql_folder("queries")):
        statements = split_statements(text)
        purpose = header(text).get("purpose", "")
        if not purpose or len(statements) != 1:
            raise ValueError(f"sql/queries/{name}.sql: needs a `-- purpose:` line and exactly one statement")
        queries.append(NamedQuery(name, purpose, statements[0]))
    return tuple(queries)


def named_query(name: str) -> NamedQuery:
    """The named query `name`. Raises UsageError, with what there is."""
    queries = {query.name: query for query in named_queries()}
    try:
        return queries[name]
    except KeyError:
        close = difflib.get_close_matches(name, queries, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"there is no query named {name!r}", hint=f"{guess}there are: {', '.join(queries)}") from None
