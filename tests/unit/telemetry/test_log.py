"""Logging: one chain for everything that is said on stderr, and no secret in it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog

from collector.redaction import forget_secrets, printable, redact, register_secret
from collector.telemetry import log

CANARY = 'sk-"canary"\\key'


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave the process's logging as it was."""
    register_secret(CANARY)
    yield
    log.reset()
    forget_secrets()


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Every line on stderr as the JSON object that it has to be."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def run(code: str, format: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own that logs in `format`."""
    head = f"from collector.telemetry import log\nlog.configure('info', {format!r})\n"
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True, timeout=180, check=False
    )


def test_json_is_one_object_a_line_with_the_usual_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """Time in UTC, level, logger and event, then the event's own fields."""
    log.configure("info", "json")

    structlog.get_logger("collector.pipeline").info("window_collected", rows=3, scope_id="节点")

    (line,) = logged(capsys)
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo == UTC
    assert line == {
        "level": "info",
        "logger": "collector.pipeline",
        "event": "window_collected",
        "rows": 3,
        "scope_id": "节点",
    }


def test_fields_of_every_type_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A value that JSON does not know is written in a way that people know."""
    log.configure("info", "json")
    deep: list[Any] = []
    deep.append(deep)

    structlog.get_logger().info(
        "event",
        price=Decimal("0.0001"),
        at=datetime(2025, 1, 2, tzinfo=UTC),
        path=Path("/srv"),
        ratio=float("nan"),
        nested={"a": ({1}, None, True)},
        deep=deep,
        other=object,
    )

    (line,) = logged(capsys)
    assert line["price"] == "0.0001"
    assert line["at"] == "2025-01-02T00:00:00+00:00"
    assert line["path"] == "/srv"
    assert line["ratio"] == "nan"
    assert line["nested"] == {"a": [[1], None, True]}
    assert line["other"] == "<class 'object'>"


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_holds_for_events_and_for_other_libraries(
    level: log.Level, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is less severe is not shown, whoever says it."""
    log.configure(level, "json")

    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)("ours")
        getattr(logging.getLogger("some.library"), name)("theirs")

    assert [(line["level"], line["event"]) for line in logged(capsys)] == [
        (name, event) for name in shown for event in ("ours", "theirs")
    ]


def test_talkative_libraries_are_heard_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each request of the HTTP server is not news."""
    log.configure("info", "json")

    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("aiohttp.access").warning("odd")

    assert [line["event"] for line in logged(capsys)] == ["odd"]


def test_a_logger_made_before_the_setup_follows_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Modules make their loggers on import, long before the configuration is read."""
    early = structlog.get_logger("early")
    log.configure("error", "json")
    early.info("unseen")
    log.configure("info", "json")
    early.info("seen")

    assert [line["event"] for line in logged(capsys)] == ["seen"]


@pytest.mark.parametrize("format", ["console", "json"])
def test_secrets_are_hidden_wherever_they_stand(format: log.Format, capsys: pytest.CaptureFixture[str]) -> None:
    """Event, fields, nested fields, keys, bytes, reprs, arguments of other libraries, exceptions."""
    log.configure("info", format)
    logger = structlog.get_logger()
    number = "98765432109"
    register_secret(number)

    logger.info(CANARY, field=CANARY, nested={"a": [{CANARY: (CANARY,)}]}, raw=CANARY.encode())
    logger.info("quoted", inner=repr({"key": CANARY}), body=json.dumps({"key": CANARY}), number=int(number))
    logger.info("twice", body=json.dumps(json.dumps(CANARY)), url="http://h/?k=sk-%22canary%22%5Ckey")
    logging.getLogger("aiohttp").warning("header %s", f"Bearer {CANARY}")
    try:
        raise ValueError(CANARY) from KeyError(CANARY)
    except ValueError:
        logger.exception("failed")
        logging.getLogger("library").exception("failed")

    err = capsys.readouterr().err
    assert "canary" not in err
    assert number not in err
    assert err.count("***") >= 12


@pytest.mark.parametrize("format", ["console", "json"])
def test_tracebacks_never_show_local_variables(format: log.Format, capsys: pytest.CaptureFixture[str]) -> None:
    """What a function holds is nobody's business, registered or not."""
    log.configure("info", format)

    def fail() -> None:
        local = "-".join(["never", "shown"])
        raise ValueError(len(local))

    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("failed")

    err = capsys.readouterr().err
    assert "in fail" in err
    assert "never-shown" not in err


def test_a_secret_inside_another_leaves_no_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """The longer one is hidden first; a blank one hides nothing."""
    for secret in ("abcd", "abcd-efgh", "", " "):
        register_secret(secret)

    assert redact("x abcd-efgh abcd y") == "x *** *** y"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 节点", "plain 节点"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\t", "a\\nb\\t"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_spelled_out(text: str, shown: str) -> None:
    """What a service answers cannot move the cursor or forge a line."""
    assert printable(text) == shown


def test_a_console_line_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    """A field with a line break stays on its line."""
    log.configure("info", "console")

    structlog.get_logger().info("event\nforged", field="a\nforged \x1b[31m")

    assert capsys.readouterr().err.count("\n") == 1


def test_a_record_with_wrong_arguments_is_told_without_them() -> None:
    """A library's slip neither ends the program nor prints what it could not format."""
    ended = run("import logging; logging.getLogger('library').warning('%d', 'never-shown')", "json")

    line = json.loads(ended.stderr)
    assert (line["event"], line["failed_logger"]) == ("log_line_failed", "library")
    assert "never-shown" not in ended.stderr


def test_a_closed_stderr_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting goes on when nobody reads the logs any more."""
    log.configure("info", "json")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)

    structlog.get_logger().info("event")


def test_python_warnings_are_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A deprecation says so in the log, in the log's form."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log.configure("info", "json")
        warnings.warn(f"old {CANARY}", DeprecationWarning, stacklevel=1)

    (line,) = logged(capsys)
    assert (line["event"], line["category"], line["message"]) == ("warning_raised", "DeprecationWarning", "old ***")


def test_an_exception_in_a_thread_is_a_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing dies in silence or in another form."""
    log.configure("info", "json")

    def fail() -> None:
        raise ValueError(CANARY)

    thread = threading.Thread(target=fail, name="reader")
    thread.start()
    thread.join()

    (line,) = logged(capsys)
    assert (line["event"], line["thread"]) == ("uncaught_exception", "reader")
    assert line["exception"].endswith("ValueError: ***")


def test_all_of_stderr_is_json_to_the_end_of_the_process() -> None:
    """Uncaught exceptions, forgotten tasks, broken destructors and warnings are objects too."""
    ended = run(
        """
        import asyncio, logging, warnings

        class Broken:
            def __del__(self):
                raise RuntimeError("in a destructor")

        async def forgotten():
            raise ValueError("nobody awaits this")

        async def main():
            task = asyncio.ensure_future(forgotten())
            await asyncio.wait([task])
            del task

        warnings.warn("old", UserWarning)
        Broken()
        asyncio.run(main())
        logging.getLogger("library").error("theirs")
        raise KeyError("the end")
        """,
        "json",
    )

    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 1
    assert [line["event"].partition("\n")[0] for line in lines] == [
        "warning_raised",
        "unraisable_exception",
        "Task exception was never retrieved",
        "theirs",
        "uncaught_exception",
    ]


def test_auto_is_json_where_nobody_watches() -> None:
    """In a pipe or a container each line is an object, and colours are nowhere."""
    ended = run("import structlog; structlog.get_logger().info('event')", "auto")

    assert json.loads(ended.stderr)["event"] == "event"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "format", "colour"),
    [
        (_Terminal(), {}, "console", True),
        (_Terminal(), {"NO_COLOR": "1"}, "console", False),
        (_Terminal(), {"TERM": "dumb"}, "console", False),
        (io.StringIO(), {}, "json", False),
    ],
)
def test_console_and_colours_are_for_terminals(
    stream: io.StringIO, environ: dict[str, str], format: str, colour: bool
) -> None:
    """A terminal gets text, in colours unless it or its user says no."""
    assert log.resolve_format("auto", stream) == format
    assert log.wants_colour(stream, environ) is colour


def test_the_setup_can_be_taken_back() -> None:
    """After `reset` the process logs as if `configure` had never been called."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook, list(logging.getLogger().handlers)
    log.configure("debug", "json")

    log.reset()

    assert before == (sys.excepthook, threading.excepthook, sys.unraisablehook, list(logging.getLogger().handlers))
