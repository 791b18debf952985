"""The way to the engine in this process (chDB). Only the embedded store's files use it."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from collector.errors import UsageError

CONFIG_FILE = "collector.xml"


def connection_string(path: Path) -> str:
    """What every handle on the store at `path` is opened with; the engine compares the paths as text."""
    return f"{path}?{urlencode({'config-file': str(path / CONFIG_FILE)})}"


def connect(connection: str) -> Any:
    """Return a new handle, in about a millisecond. Its settings and its database are its own. Untyped, as chDB is.

    Raises UsageError if the engine cannot be loaded.
    """
    return _engine().connect(connection)


@functools.cache
def _engine() -> Any:
    """Load the engine, which takes UTC as its time zone: times are UTC everywhere in this program.

    It reads TZ once, and knows only names of zones: with `CST-8`, which any C library takes, it does not load.
    """
    given = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    try:
        return importlib.import_module("chdb")
    except ImportError as error:
        # chDB says of any failure that its engine is not installed.
        cause: BaseException = error
        while cause.__context__ is not None:
            cause = cause.__context__
        raise UsageError(
            f"the embedded store's engine, chDB, cannot be loaded: {cause}",
            hint="if a part of it is missing: pip install --force-reinstall 'pai-collector[embedded]'",
        ) from None
    finally:
        if given is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = given
