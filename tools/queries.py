"""The reference of the named queries, made from their headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from collector.store.named import NamedQuery, QueryParameter, named_queries

_HEAD: Final = """\
# Named queries

The files of `sql/queries`, made from their headers (`make reference`).

```console
$ pai-collector query --list
$ pai-collector query --name faults --param hours=48 --param class=xid
$ pai-collector query --name faults --param hours=48 --show     the SQL alone, to be pasted into another tool
$ pai-collector query "SELECT count() FROM syslogs WHERE node_id = {node:String}" --param node=NODE
```

Values are given to the engine beside the SQL, never put into it. Moments are UTC, as `2025-10-09T08:00:00Z` or as
seconds since the epoch. A range of `hours` ends right before `until`, and has its first second. Every result has a
fixed order.

A query of one's own is a file in `sql/queries` with the same header:

```sql
-- purpose: lines of each node
-- param: hours UInt16 = 24  length of the range, hours
SELECT node_id, count() AS lines FROM syslogs WHERE time >= now() - toIntervalHour({hours:UInt16}) GROUP BY node_id
```
"""


def reference() -> str:
    """The whole page."""
    queries = named_queries()
    overview = "".join(f"| [{query.name}](#{query.name}) | {query.purpose} |\n" for query in queries)
    return "\n".join([_HEAD, f"| query | what it answers |\n| --- | --- |\n{overview}", *map(_section, queries)])


def _section(query: NamedQuery) -> str:
    return f"## {query.name}\n\n{query.purpose[:1].upper()}{query.purpose[1:]}.\n\n{_parameters(query.parameters)}"


def _parameters(parameters: Iterable[QueryParameter]) -> str:
    rows = [f"| `{known.name}` | {known.type} | {_default(known)} | {known.meaning} |\n" for known in parameters]
    if not rows:
        return "It takes no parameters.\n"
    return "| parameter | type | default | meaning |\n| --- | --- | --- | --- |\n" + "".join(rows)


def _default(known: QueryParameter) -> str:
    if known.default is None:
        return "must be given"
    return f"`{known.default}`" if known.default else "empty"


if __name__ == "__main__":
    print(reference(), end="")
