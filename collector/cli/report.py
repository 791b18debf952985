"""How a command that fails says so: one readable line for each error, then a hint."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from rich.text import Text

from collector.cli.output import stderr
from collector.errors import CollectorError, ConfigError
from collector.telemetry import log
from collector.telemetry.secrets import printable, redact

_log = structlog.get_logger()


@dataclass(slots=True)
class Reporter:
    """Tells people, or with `as_json` programs, what went wrong."""

    as_json: bool = False
    debug: bool = False

    def configure(self, level: log.Level, format: log.Format | None = None) -> None:
        """Set logging up, and report in the form that it has; None keeps the form.

        `auto` is decided here, once for both: a program that reads stderr gets one form only.
        """
        if format is not None:
            self.as_json = log.resolve_format(format, sys.stderr) == "json"
        log.configure(level, "json" if self.as_json else "console")

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
        if self.as_json:
            # Errors and hints alike: a level that hides information must not hide what to do.
            fields = {"error_type": error_type} if error_type else {}
            _log.error("command_failed" if word == "error" else word, message=text, **fields)
            return
        style = "bold red" if word == "error" else "bold yellow"
        # The exit status still tells, where nobody reads stderr any more.
        with contextlib.suppress(OSError):
            stderr().print(Text.assemble((f"{word}: ", style), text), soft_wrap=True)

    def _traceback(self, error: BaseException) -> None:
        if self.as_json:
            _log.error("traceback", exc_info=error)
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
