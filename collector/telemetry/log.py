"""Logging, set up once: structlog and the standard library's records through one chain to stderr.

`console` is for people, `json` gives one object a line and nothing else, also for warnings,
other libraries' records and uncaught exceptions. Registered secrets show as `***`.
Tracebacks never show local variables.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import threading
import warnings
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TextIO

from collector.redaction import printable, redact, register_secret
from collector.telemetry import stderr

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["Format", "Level", "configure", "register_secret", "reset", "resolve_format", "wants_colour"]

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

NESTING_MAX = 8
"""A value nested deeper is logged as its repr."""

# They report each request or retry at INFO, which the program's own events already tell.
_TALKATIVE = ("aiohttp.access", "asyncio", "clickhouse_connect", "urllib3")

_FIRST = ("timestamp", "level", "logger", "event")
_TRACEBACKS = ("exception", "stack")


def resolve_format(format: Format, stream: TextIO) -> Literal["console", "json"]:
    """What `auto` means for a stream: console on a terminal, else json."""
    if format == "auto":
        return "console" if stream.isatty() else "json"
    return format


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Colours only on a terminal that shows them, and not against NO_COLOR."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def configure(level: Level = "info", format: Format = "auto") -> None:
    """Send everything that is logged to stderr. May be called again; the last call counts."""
    # Imported here: a command line that is only parsed, such as one with --help, logs nothing.
    import structlog
    from structlog.stdlib import ProcessorFormatter

    reset()
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Modules hold their loggers; a cached one would miss the next call of this function.
        cache_logger_on_first_use=False,
    )
    render: list[Processor] = [_render_json]
    if resolve_format(format, sys.stderr) == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=wants_colour(sys.stderr, os.environ),
            # The default formatter shows local variables, and secrets are among them.
            exception_formatter=structlog.dev.plain_traceback,
        )
        render = [_spell_control_characters, console]
    handler = _StderrHandler()
    handler.setFormatter(
        ProcessorFormatter(
            processors=[
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _hide_secrets,
                *render,
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(number)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else max(number, logging.WARNING))
    _install_hooks()


def reset() -> None:
    """Take back all that `configure` did to the process."""
    import structlog

    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _StderrHandler)]:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()
    sys.excepthook = sys.__excepthook__
    sys.unraisablehook = sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    warnings.showwarning = _default_showwarning


class _StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, so that progress bars can take it over."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:
            # Said without the record's arguments: they are not redacted yet.
            if record.name != __name__:
                _log().error("log_line_failed", failed_logger=record.name, error_type=type(error).__name__)
            return
        # Work goes on when nobody reads stderr any more.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        if lines := stderr.dropped_since():
            _log().warning("log_lines_dropped", lines=lines)


def _log() -> Any:
    import structlog

    return structlog.get_logger(__name__)


def _hide_secrets(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    return {redact(str(key)): _plain(value) for key, value in event_dict.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON types, without secrets."""
    if isinstance(value, str):
        return redact(str(value))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        text = redact(str(value))
        return value if text == str(value) and math.isfinite(value) else text
    if isinstance(value, Mapping) and depth < NESTING_MAX:
        return {redact(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < NESTING_MAX:
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, date):
        return redact(value.isoformat())
    return redact(str(value) if isinstance(value, Decimal | os.PathLike) else repr(value))


def _spell_control_characters(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """For the console: nothing that a service sends moves the cursor or forges a line. JSON escapes by itself."""
    return {
        printable(key): printable(value, lines=key in _TRACEBACKS) if isinstance(value, str) else value
        for key, value in event_dict.items()
    }


def _render_json(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    first = {key: event_dict.pop(key) for key in _FIRST if key in event_dict}
    return json.dumps({**first, **event_dict})


def _install_hooks() -> None:
    """Warnings and exceptions that nobody catches become log lines too."""

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            return
        _log().error("uncaught_exception", exc_info=(kind, error, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            name = args.thread.name if args.thread else ""
            _log().error(
                "uncaught_exception", thread=name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
            )

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            about = args.err_msg or "Exception ignored"
            _log().error(
                "unraisable_exception", about=about, exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
            )

    def warn(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        _log().warning("warning_raised", message=str(message), category=category.__name__, at=f"{filename}:{lineno}")

    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
    warnings.showwarning = warn


_default_showwarning = warnings.showwarning
