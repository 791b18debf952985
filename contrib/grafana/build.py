"""Write the dashboards: `python -m contrib.grafana.build`, with `--check` only tell which are not up to date."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from contrib.grafana.boards import collector, nodes, overview, usage
from contrib.grafana.panels import Board, dashboard

FOLDER = Path(__file__).parent / "dashboards"
BOARDS: tuple[Board, ...] = (overview.BOARD, nodes.BOARD, usage.BOARD, collector.BOARD)


def files() -> Iterator[tuple[Path, str]]:
    """Path and text of every dashboard."""
    for board in BOARDS:
        yield FOLDER / f"{board.name}.json", json.dumps(dashboard(board), indent=2, ensure_ascii=False) + "\n"


def stale() -> list[Path]:
    """The files that are not what the boards say."""
    return [path for path, text in files() if not path.exists() or path.read_text(encoding="utf-8") != text]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit("".join(f"{path.name} is not up to date\n" for path in stale()))
    FOLDER.mkdir(exist_ok=True)
    for path, text in files():
        path.write_text(text, encoding="utf-8")
