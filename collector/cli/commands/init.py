"""`pai-collector init`: a configuration to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collector.cli.output import print_line
from collector.errors import UsageError
from collector.settings import API_KEY_VARIABLE, DEFAULT_FILE, example


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def init(
        path: Annotated[Path, typer.Option(metavar="FILE", help="Where to write it.")] = DEFAULT_FILE,
    ) -> None:
        """Write a commented configuration. Never overwrites a file."""
        write(path)
        print_line(f"wrote {path}")
        print_line(f"next: set {API_KEY_VARIABLE}, name your nodes and resource groups in {path}")


def write(path: Path) -> None:
    """Write the example configuration to a new file. Raises UsageError where it cannot."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(example())
    except FileExistsError:
        raise UsageError(
            f"{path}: already exists; init never overwrites", hint="name another with --path FILE"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
