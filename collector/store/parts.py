"""What several queries share: the files of `sql/parts`, each a SELECT whose `{condition}` the query that uses it gives.

    FROM
    (
        -- part: drawn_points
        points.time >= range_start AND points.time < range_end
        -- end
    ) AS series

A part with `{more}` in it takes an expression too: `-- part: NAME with EXPRESSION`.
"""

from __future__ import annotations

import re
import textwrap
from typing import Final

from collector.store.assets import sql_file
from collector.store.statements import split_statements

CONDITION: Final = "{condition}"
MORE: Final = "{more}"
NOTHING: Final = "''"
_USE: Final = re.compile(
    r"^(?P<indent> *)-- part: (?P<name>\w+)(?: with (?P<more>[^\n]+))?\n(?P<condition>.*?)^ *-- end$",
    re.MULTILINE | re.DOTALL,
)


def part(name: str, condition: str, more: str = NOTHING) -> str:
    """The SQL of a part, without comments. Raises ValueError for a part that does not exist, or has no place for it."""
    try:
        text = sql_file(f"parts/{name}.sql").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"there is no sql/parts/{name}.sql") from None
    statements = split_statements(text)
    if len(statements) != 1 or CONDITION not in statements[0]:
        raise ValueError(f"sql/parts/{name}.sql: needs exactly one statement, with {CONDITION} in it")
    if more != NOTHING and MORE not in statements[0]:
        raise ValueError(f"sql/parts/{name}.sql: has no {MORE} for {more}")
    return statements[0].replace(MORE, more).replace(CONDITION, condition.strip())


def with_parts(text: str) -> str:
    """The text of a query with its parts put in. Raises ValueError for a part that does not exist or does not end."""

    def put_in(use: re.Match[str]) -> str:
        return textwrap.indent(part(use["name"], use["condition"], use["more"] or NOTHING), use["indent"])

    found = _USE.sub(put_in, text)
    if "-- part:" in found:
        raise ValueError("a `-- part: NAME` has no `-- end`")
    return found
