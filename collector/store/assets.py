"""The SQL files that travel with the program: `sql/` in a checkout, `_data/sql` in an installed wheel."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def sql_folder(name: str) -> Traversable:
    """The folder `sql/NAME`. Raises FileNotFoundError when the installation lacks it."""
    installed = files("collector").joinpath("_data", "sql", name)
    if installed.is_dir():
        return installed
    checkout = Path(__file__).resolve().parents[2] / "sql" / name
    if checkout.is_dir():
        return checkout
    raise FileNotFoundError(f"this installation has no sql/{name}")


def sql_files(folder: Traversable) -> list[tuple[str, str]]:
    """Name without `.sql` and text of every SQL file in `folder`, in the order of their names."""
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return [(entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8")) for entry in found]


def sql_file(name: str) -> Traversable:
    """The file `sql/NAME`. Raises FileNotFoundError when the installation lacks it."""
    installed = files("collector").joinpath("_data", "sql", name)
    for place in (installed, Path(__file__).resolve().parents[2] / "sql" / name):
        if place.is_file():
            return place
    raise FileNotFoundError(f"this installation has no sql/{name}")
