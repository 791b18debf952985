"""The way to the engine in this process (chDB). Only the embedded store's files use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

CONFIG_FILE = "collector.xml"


def connection_string(path: Path) -> str:
    """What every handle on the store at `path` is opened with; the engine compares the paths as text."""
    return f"{path}?{urlencode({'config-file': str(path / CONFIG_FILE)})}"


def connect(connection: str) -> Any:
    """A new handle, in about a millisecond. Its settings and its database are its own. Untyped, as chDB is."""
    import chdb

    open_handle: Any = chdb.connect
    return open_handle(connection)
