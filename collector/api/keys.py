"""An API key in a file, such as a mounted secret, which may be replaced while the program runs."""

from __future__ import annotations

import stat
from pathlib import Path

import structlog

from collector.api.gateways import Key
from collector.errors import ConfigError
from collector.redaction import register_secret
from collector.settings.credentials import KEY_FILE_VARIABLE

FILE_BYTES_MAX = 4096
"""No key is this long, and whatever else was named is not read to its end."""

_log = structlog.get_logger(__name__)


class KeyFile:
    """A bearer key as its file holds it. Every key that was ever read is hidden in logs and reports."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError where the file cannot be read, holds no usable key, or may be written by anybody."""
        self._path = path
        self._key = self._read()
        self._is_unusable = False

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r})"

    def get_secret_value(self) -> str:
        return self._key.get_secret_value()

    def reread(self) -> bool:
        """Read the file again; true when it holds another key now. A file without a usable key changes nothing."""
        try:
            key = self._read()
        except ConfigError as error:
            # It may be in the midst of being replaced.
            if not self._is_unusable:
                _log.warning("credentials_unreadable", reason=str(error))
            self._is_unusable = True
            return False
        self._is_unusable = False
        if key.get_secret_value() == self._key.get_secret_value():
            return False
        self._key = key
        _log.info("credentials_changed", file=str(self._path))
        return True

    def _read(self) -> Key:
        key = Key(_content(self._path), named=f"{KEY_FILE_VARIABLE}: the content of {self._path}")
        register_secret(key.get_secret_value())
        return key


def _content(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError([f"{KEY_FILE_VARIABLE}: {path} is no file; expected one that holds the API key"])
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([f"{KEY_FILE_VARIABLE}: {path} cannot be read: {error.strerror}"]) from None
    if status.st_mode & stat.S_IWOTH:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError([f"{KEY_FILE_VARIABLE}: anybody may write {path} (mode {mode:04o}); expected 0400 or 0600"])
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError([f"{KEY_FILE_VARIABLE}: {path} has over {FILE_BYTES_MAX} bytes; expected the key alone"])
    return content.decode("utf-8", "replace")
