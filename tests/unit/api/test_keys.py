"""A key in a file: read again when it changes, refused with a reason when it is no key, shown to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.api.keys import FILE_BYTES_MAX, KeyFile
from collector.errors import ConfigError


def key_file(folder: Path, content: str | bytes = "sk-first\n", mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def test_a_key_that_was_replaced_is_taken_up(tmp_path: Path) -> None:
    """Reading again tells whether the key is another one, and shows neither."""
    path = key_file(tmp_path)
    key = KeyFile(path)
    assert key.get_secret_value() == "sk-first"
    assert not key.reread()
    path.write_text("sk-second")
    assert key.reread()
    assert key.get_secret_value() == "sk-second"
    assert "sk-" not in repr(key)


@pytest.mark.parametrize("content", ["", "two\nlines", b"\xff\xfe", "x" * (FILE_BYTES_MAX + 1)])
def test_a_file_in_the_midst_of_being_replaced_changes_nothing(tmp_path: Path, content: str | bytes) -> None:
    """The key of before is used until there is another usable one."""
    path = key_file(tmp_path)
    key = KeyFile(path)
    key_file(tmp_path, content)
    assert not key.reread()
    path.unlink()
    assert not key.reread()
    assert key.get_secret_value() == "sk-first"
    key_file(tmp_path, "sk-second")
    assert key.reread()


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        ("", 0o600, "DASHSCOPE_API_KEY_FILE"),
        ("sk-first", 0o602, "mode 0602"),
        ("x" * (FILE_BYTES_MAX + 1), 0o600, "expected the key alone"),
    ],
)
def test_a_file_that_holds_no_usable_key_is_refused(tmp_path: Path, content: str, mode: int, told: str) -> None:
    """The error names the variable and what is wrong with the file."""
    with pytest.raises(ConfigError, match=told):
        KeyFile(key_file(tmp_path, content, mode))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder or a path to nothing is told as such."""
    with pytest.raises(ConfigError, match="is no file"):
        KeyFile(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyFile(tmp_path / "absent")
