"""How a command that fails says so: one readable line for each error, then a hint."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from collector.errors import CollectorError, ConfigError
from collector.redaction import printable, redact
from collector.telemetry import log


@dataclass(slots=True)
class Reporter:
    """Reports what went wrong in the format of the logs: a program that reads stderr gets one format only."""

    level: log.Level = "info"
    format: log.Format = "auto"
    debug: bool = False
    is_configured: bool = False

    def __post_init__(self) -> None:
        """Decide what `auto` means, once for logs and reports."""
        self.format = log.resolve_format(self.format, sys.stderr)

    def configure(self, level: log.Level | None = None, format: log.Format | None = None) -> None:
        """Set up logging; None keeps level or format."""
        self.level = level or self.level
        self.format = log.resolve_format(format or self.format, sys.stderr)
        log.configure(self.level, self.format)
        self.is_configured = True

    def failed(self, error: BaseException) -> None:
        """Report an error that ends the command; with `debug` its traceback too."""
        hints = []
        for leaf in _leaves(error):
            lines, hint = _readable(leaf, debug=self.debug)
            for line in lines:
                self.line(line, error_type=type(leaf).__name__)
            hints += [hint] if hint else []
        for hint in dict.fromkeys(hints):
            self.line(hint, word="hint")
        if self.debug:
            self._traceback(error)

    def line(self, text: str, *, word: str = "error", error_type: str = "") -> None:
        """One line, such as `error: ...` or `hint: ...`."""
        text = printable(redact(" ".join(text.split())))
        if self.format == "json":
            # Errors and hints alike: a level that hides information must not hide what to do.
            fields = {"error_type": error_type} if error_type else {}
            self._log("command_failed" if word == "error" else word, message=text, **fields)
            return
        from rich.text import Text

        from collector.cli.output import stderr

        style = "bold red" if word == "error" else "bold yellow"
        # The exit status still tells, where nobody reads stderr any more.
        with contextlib.suppress(OSError):
            stderr().print(Text.assemble((f"{word}: ", style), text), soft_wrap=True)

    def notes(self, notes: Iterable[str]) -> None:
        """Print what a reader should know beside the result, a line each."""
        for note in notes:
            self.line(note, word="note")

    def _log(self, event: str, **fields: Any) -> None:
        # An error of the command line itself comes before logging is set up.
        if not self.is_configured:
            self.configure()
        import structlog

        structlog.get_logger().error(event, **fields)

    def _traceback(self, error: BaseException) -> None:
        if self.format == "json":
            self._log("traceback", exc_info=error)
            return
        text = "".join(traceback.format_exception(error))
        with contextlib.suppress(OSError):
            sys.stderr.write(printable(redact(text), lines=True))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group; each text once, since tasks often fail for one reason."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    seen = set()
    for inner in error.exceptions:
        for leaf in _leaves(inner):
            if (text := f"{type(leaf)} {leaf}") not in seen:
                seen.add(text)
                yield leaf


def _readable(error: BaseException, *, debug: bool) -> tuple[list[str], str]:
    """The lines of one error, and what to do about it."""
    if isinstance(error, ConfigError):
        return error.mistakes, error.hint
    if isinstance(error, CollectorError):
        return [str(error)], error.hint
    if isinstance(error, OSError) and error.strerror:
        return [f"{error.filename}: {error.strerror}" if error.filename else error.strerror], ""
    hint = "" if debug else "this is a fault of the program; --debug shows where"
    return [f"{type(error).__name__}: {error}"], hint
