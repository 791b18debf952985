"""An engine whose roles are those of `sql/grants`, in a process of its own.

The embedded engine takes no CREATE ROLE, but its configuration may hold roles with the same GRANT statements.
`python -m tests.support.engine_roles FOLDER` reads [[role, statement], ...] as JSON and prints a list with an answer
for each: "" or the error.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from collector.store.assets import sql_files, sql_folder
from collector.store.statements import split_statements

_GRANT = re.compile(r"(GRANT .+ ON .+) TO (pai_\w+)")
_WAIT_SECONDS_MAX = 120


def statements() -> list[tuple[str, str]]:
    """File and text of every statement in sql/grants."""
    return [(name, sql) for name, text in sql_files(sql_folder("grants")) for sql in split_statements(text)]


def answers(folder: Path, asked: Sequence[tuple[str, str]]) -> list[str]:
    """What the engine says to each statement under its role."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.engine_roles", str(folder)],
        cwd=Path(__file__).parents[2],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=_WAIT_SECONDS_MAX,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told: list[str] = json.loads(ran.stdout)
    return told


def _configure(folder: Path, rights: Iterable[str]) -> Path:
    by_role: dict[str, list[str]] = {}
    for right in rights:
        granted = _GRANT.fullmatch(" ".join(right.split()))
        if granted:
            by_role.setdefault(granted[2], []).append(f"<query>{granted[1]}</query>")
    roles = "".join(f"<{role}><grants>{''.join(given)}</grants></{role}>" for role, given in by_role.items())
    users = folder / "users.xml"
    users.write_text(
        f"<clickhouse><profiles><default/></profiles><quotas><default/></quotas><roles>{roles}</roles><users><default>"
        "<password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
        f"<grants><query>GRANT {', '.join(by_role)}</query></grants></default></users></clickhouse>"
    )
    config = folder / "config.xml"
    config.write_text(f"<clickhouse><users_config>{users}</users_config></clickhouse>")
    return config


def _main(folder: Path) -> None:
    import chdb

    config = _configure(folder, [sql for _, sql in statements()])
    told: list[str] = []
    anchor = chdb.connect(f"{folder / 'store'}?config-file={config}")
    for role, sql in json.load(sys.stdin):
        handle = chdb.connect(f"{folder / 'store'}?config-file={config}")
        try:
            handle.query(f"SET ROLE {role}")
            if told:
                handle.query("USE pai")  # The first statement makes it.
            handle.query(sql)
            told.append("")
        except Exception as error:
            told.append(str(error))
        finally:
            handle.close()
    anchor.close()
    print(json.dumps(told))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
