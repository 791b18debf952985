"""The command line around the commands: options, exit statuses, errors, tables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import structlog
import typer

from collector import __version__
from collector.cli import commands, output
from collector.cli.app import main
from collector.cli.exits import ExitStatus, exit_status
from collector.cli.options import GlobalOptions, hoist, options_of
from collector.errors import (
    ConfigError,
    CredentialsError,
    ForbiddenError,
    JournalTooNew,
    StoreUnavailable,
    ThrottledError,
    UsageError,
)
from collector.redaction import forget_secrets, register_secret
from collector.settings import Settings, anchored, load
from collector.telemetry import log
from collector.units import rough_duration, rough_size

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, an environment that asks for errors as people read them, and logging left as it was."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PAI_COLLECTOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PAI_COLLECTOR__LOG__FORMAT", "console")
    yield
    log.reset()
    forget_secrets()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[GlobalOptions], Any]], None]:
    """Make `work` the body of a command of the name `work`."""

    def install(work: Callable[[GlobalOptions], Any]) -> None:
        class Module:
            @staticmethod
            def register(app: typer.Typer) -> None:
                @app.command(name="work")
                def run(context: typer.Context) -> Any:
                    return work(options_of(context))

        monkeypatch.setitem(sys.modules, f"{commands.__name__}.work", cast(ModuleType, Module))
        monkeypatch.setitem(commands.COMMANDS, "work", "Work.")

    return install


def raising(error: BaseException) -> Callable[[GlobalOptions], None]:
    """A command body that fails with `error`."""

    def work(_options: GlobalOptions) -> None:
        raise error

    return work


def collector(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "collector", *arguments],
        capture_output=True, text=True, timeout=180, check=False, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "options", "rest", "incomplete"),
    [
        ("run", "", "run", ""),
        ("--debug run", "--debug", "run", ""),
        ("run --debug --once", "--debug", "run --once", ""),
        ("--config a run", "--config=a", "run", ""),
        ("run --config a --once", "--config=a", "run --once", ""),
        ("run --config=a", "--config=a", "run", ""),
        ("run --config --debug", "--debug", "run", "--config"),
        ("--config --log-format json run", "--log-format=json", "run", "--config"),
        ("run --config --once", "", "run --once", "--config"),
        ("run --log-level --config", "", "run", "--log-level"),
        ("run --config=--odd", "--config=--odd", "run", ""),
        ("query --log-format json x", "--log-format=json", "query x", ""),
        ("query -- --debug --config", "", "query -- --debug --config", ""),
        ("query --debug -- --debug", "--debug", "query -- --debug", ""),
        ("call X --param Query=--debug", "", "call X --param Query=--debug", ""),
        ("run --config", "", "run", "--config"),
        ("run --config -- x", "", "run -- x", "--config"),
        ("run --configure a", "", "run --configure a", ""),
    ],
)
def test_global_options_stand_anywhere(words: str, options: str, rest: str, incomplete: str) -> None:
    """They are taken out before or after the command, and left alone behind `--`."""
    line = hoist(words.split())

    assert (line.options, line.rest, line.incomplete) == (tuple(options.split()), tuple(rest.split()), incomplete)


@pytest.mark.parametrize(
    "words", ["--config other.toml --log-level debug work", "work --log-level debug --config other.toml"]
)
def test_a_command_sees_its_global_options(words: str, command: Any, tmp_path: Path) -> None:
    """Wherever they stand, `settings` reads the file they name and the logs follow them."""
    (tmp_path / "other.toml").write_text('[api]\nregion = "cn-beijing"\n[log]\nlevel = "error"\n')
    seen = []
    command(lambda options: seen.append((options.settings({}).api.region, options.log_level)))

    assert main(words.split()) == ExitStatus.DONE
    assert seen == [("cn-beijing", "debug")]


def test_init_writes_what_loads(tmp_path: Path, capsys: Capture) -> None:
    """The new file is the defaults, and the next step is named."""
    assert main(["init"]) == ExitStatus.DONE

    assert load(tmp_path / "collector.toml", {}) == anchored(Settings(), tmp_path)
    out = capsys.readouterr().out
    assert "collector.toml" in out
    assert "DASHSCOPE_API_KEY" in out


def test_init_never_overwrites(tmp_path: Path, capsys: Capture) -> None:
    """An existing file stays as it is, and is named."""
    (tmp_path / "mine.toml").write_text("# mine\n")

    assert main(["init", "--path", "mine.toml"]) == ExitStatus.USAGE

    assert (tmp_path / "mine.toml").read_text() == "# mine\n"
    assert capsys.readouterr().err.splitlines() == [
        "error: mine.toml: already exists; init never overwrites",
        "hint: name another with --path FILE",
    ]


def test_init_says_where_it_cannot_write(capsys: Capture) -> None:
    """A folder that is not there is one line."""
    assert main(["init", "--path", "absent/collector.toml"]) == ExitStatus.USAGE
    assert capsys.readouterr().err == "error: absent/collector.toml: cannot be written: No such file or directory\n"


def test_version_goes_to_stdout(capsys: Capture) -> None:
    """Scripts read it there."""
    assert main(["--version"]) == ExitStatus.DONE
    assert capsys.readouterr().out == f"pai-collector {__version__}\n"


def test_help_lists_commands_and_without_a_command_is_wrong_usage(capsys: Capture) -> None:
    """Help that was asked for is a success; a forgotten command is not."""
    assert main(["--help"]) == ExitStatus.DONE
    asked = capsys.readouterr().out
    assert main([]) == ExitStatus.USAGE
    unasked = capsys.readouterr().out

    assert "init" in asked
    assert asked.split() == unasked.split()


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["initt"], ["error: No such command 'initt'. Did you mean 'init'?", "hint: pai-collector --help"]),
        (["init", "x"], ["error: Got unexpected extra argument(s) (x)", "hint: pai-collector init --help"]),
        (["init", "--config"], ["error: option --config needs a value", "hint: pai-collector --help"]),
        (
            ["init", "--log-level", "loud"],
            [
                "error: Invalid value for '--log-level': 'loud' is not one of 'debug', 'info', 'warning', 'error'.",
                "hint: pai-collector --help",
            ],
        ),
    ],
)
def test_wrong_usage_is_a_line_and_a_hint(words: list[str], lines: list[str], capsys: Capture) -> None:
    """Nothing is started, and the help that fits is named."""
    assert main(words) == ExitStatus.USAGE
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), ExitStatus.USAGE),
        (ConfigError(["x"]), ExitStatus.USAGE),
        (JournalTooNew("x"), ExitStatus.USAGE),
        (CredentialsError("x"), ExitStatus.CREDENTIALS),
        (ForbiddenError("x"), ExitStatus.CREDENTIALS),
        (ThrottledError("x"), ExitStatus.FAILED),
        (StoreUnavailable("x"), ExitStatus.FAILED),
        (OSError(28, "No space left on device"), ExitStatus.FAILED),
        (ZeroDivisionError("x"), ExitStatus.FAILED),
        (ExceptionGroup("x", [StoreUnavailable("x"), CredentialsError("x")]), ExitStatus.CREDENTIALS),
        (ExceptionGroup("x", [ExceptionGroup("y", [UsageError("x")]), CredentialsError("x")]), ExitStatus.USAGE),
    ],
)
def test_each_error_has_its_exit_status(error: Exception, status: ExitStatus, command: Any) -> None:
    """Scripts tell configuration, credentials and failed streams apart; in a group the first to change decides."""
    command(raising(error))

    assert exit_status(error) == main(["work"]) == status


def test_the_statuses_are_the_documented_ones() -> None:
    """Numbers that others rely on do not move."""
    assert {status.name: int(status) for status in ExitStatus} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "CREDENTIALS": 3,
        "BUDGET": 4,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize("end", [lambda _: ExitStatus.BUDGET, lambda _: (_ for _ in ()).throw(typer.Exit(4))])
def test_a_command_may_choose_its_status(end: Any, command: Any) -> None:
    """It returns it, or ends with it."""
    command(end)

    assert main(["work"]) == ExitStatus.BUDGET


def test_every_mistake_of_a_configuration_is_a_line(command: Any, tmp_path: Path, capsys: Capture) -> None:
    """A line each, and no other."""
    (tmp_path / "collector.toml").write_text('[api]\nsite = "mars"\nregion = ""\n')
    command(lambda options: options.settings({}))

    assert main(["work"]) == ExitStatus.USAGE
    assert capsys.readouterr().err.splitlines() == [
        'error: api.site: got "mars"; expected "china" or "international"',
        'error: api.region: got ""; expected a region without spaces',
    ]


def test_an_error_with_line_breaks_and_secrets_is_one_clean_line(command: Any, capsys: Capture) -> None:
    """Whatever a service answers, the line is one line, and no secret is in it."""
    register_secret("sk-canary")
    command(raising(StoreUnavailable("first\nsecond \x1b[31m sk-canary [bold]x[/bold]", hint="start it")))

    main(["work"])

    assert capsys.readouterr().err.splitlines() == [
        "error: first second \\x1b[31m *** [bold]x[/bold]",
        "hint: start it",
    ]


def test_a_fault_of_the_program_says_so(command: Any, capsys: Capture) -> None:
    """An error nobody foresaw is a line too, and where to look is named."""
    command(raising(ZeroDivisionError("by zero")))

    main(["work"])

    assert capsys.readouterr().err.splitlines() == [
        "error: ZeroDivisionError: by zero",
        "hint: this is a fault of the program; --debug shows where",
    ]


def test_debug_shows_the_traceback_without_secrets(command: Any, capsys: Capture) -> None:
    """The line stays first; the traceback follows it."""
    register_secret("sk-canary")
    command(raising(StoreUnavailable("no sk-canary")))

    main(["work", "--debug"])

    err = capsys.readouterr().err
    assert err.startswith("error: no ***\n")
    assert "Traceback (most recent call last)" in err
    assert "canary" not in err


def test_errors_of_a_group_are_told_once_each(command: Any, capsys: Capture) -> None:
    """Ten streams that fail for one reason give one line."""
    group = ExceptionGroup(
        "tasks", [StoreUnavailable("gone", hint="h"), StoreUnavailable("gone", hint="h"), OSError(5, "IO")]
    )
    command(raising(group))

    main(["work"])

    assert capsys.readouterr().err.splitlines() == ["error: gone", "error: IO", "hint: h"]


@pytest.mark.parametrize(
    "words",
    [
        ["--log-format", "json", "work"],
        ["work", "--log-format=json", "--debug"],
        ["work", "--log-format=json", "--log-level=error"],
        ["nothing", "--log-format=json"],
        ["init", "x", "--log-format=json"],
        ["work", "--log-format=json", "--config"],
    ],
)
def test_with_json_all_of_stderr_is_json(words: list[str], command: Any, capsys: Capture) -> None:
    """Errors, hints, tracebacks and wrong usage are objects, whatever the level."""
    command(raising(StoreUnavailable("gone", hint="start it")))

    assert main(words) != ExitStatus.DONE

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines[:2]] == ["command_failed", "hint"]
    assert all(line["timestamp"] and line["level"] == "error" for line in lines)


@pytest.mark.parametrize("where", ["environment", "file"])
def test_json_may_also_be_asked_for_without_an_option(
    where: str, command: Any, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration's log format holds for errors as for logs."""
    (tmp_path / "collector.toml").write_text('[log]\nformat = "json"\n' if where == "file" else "")
    monkeypatch.delenv("PAI_COLLECTOR__LOG__FORMAT")
    # On a terminal it would be the console's form.
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    if where == "environment":
        monkeypatch.setenv("PAI_COLLECTOR__LOG__FORMAT", "json")

    def work(options: GlobalOptions) -> None:
        options.settings(os.environ)
        raise StoreUnavailable("gone")

    command(work)
    main(["work"])

    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["event"], line["message"], line["error_type"]) == ("command_failed", "gone", "StoreUnavailable")


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("reads_settings", [True, False])
def test_logs_and_errors_have_one_form(
    is_terminal: bool,
    reads_settings: bool,
    command: Any,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `auto` means is decided once: off a terminal every line is an object, on one every line is text."""
    monkeypatch.delenv("PAI_COLLECTOR__LOG__FORMAT")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    (tmp_path / "collector.toml").touch()

    def work(options: GlobalOptions) -> None:
        if reads_settings:
            options.settings({})
        structlog.get_logger().warning("stream_failed")
        raise StoreUnavailable("gone", hint="start it")

    command(work)
    main(["work"])

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    if is_terminal:
        assert lines[1:] == ["error: gone", "hint: start it"]
        assert "stream_failed" in lines[0]
    else:
        assert [json.loads(line)["event"] for line in lines] == ["stream_failed", "command_failed", "hint"]


def test_a_quieter_command_keeps_the_form(command: Any, capsys: Capture) -> None:
    """A level of its own changes neither the form of logs nor that of errors."""

    def work(options: GlobalOptions) -> None:
        options.reporter.configure("error")
        structlog.get_logger().warning("not_shown")
        structlog.get_logger().error("shown")
        raise StoreUnavailable("gone")

    command(work)
    main(["work", "--log-format", "json"])

    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["shown", "command_failed"]


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_group_without_its_command_shows_its_help(format: str, capsys: Capture) -> None:
    """Help goes to stdout as the program's own does, and wrong usage is the status; nothing is logged."""
    assert main(["journal", "--log-format", format]) == ExitStatus.USAGE

    unasked = capsys.readouterr()
    assert unasked.err == ""
    assert main(["journal", "--help"]) == ExitStatus.DONE
    assert unasked.out.split() == capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("script", "on_path", "program"),
    [
        ("/opt/collector/__main__.py", False, "'/opt/my python' -m collector"),
        ("{folder}/pai-collector", True, "pai-collector"),
        ("{folder}/pai-collector", False, "{folder}/pai-collector"),
        ("-c", False, "pai-collector"),
    ],
)
def test_commands_to_paste_begin_as_this_one_did(
    script: str, on_path: bool, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever started the module or a script that is not on the path gets commands that work for them."""
    (tmp_path / "pai-collector").write_text("#!/bin/sh\n")
    (tmp_path / "pai-collector").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path) if on_path else "/nowhere")
    monkeypatch.setattr(sys, "argv", [script.format(folder=tmp_path), "demo"])
    monkeypatch.setattr(sys, "orig_argv", ["/opt/my python", "-m", "collector", "demo"])

    assert output.started_as() == program.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (59.9, "59s"), (60, "1m 0s"), (250, "4m 10s"), (3_600, "1h 0m"), (18_725, "5h 12m"),
        (86_400, "1d 0h"), (273_599, "3d 3h"), (86_400 * 400, "400d 0h"),
    ],
)  # fmt: skip
def test_a_rough_duration_has_two_units(seconds: float, text: str) -> None:
    """A person reads how far behind a stream is, and no more."""
    assert rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2 << 30, "2.0 GiB"), (3 << 40, "3.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)  # fmt: skip
def test_a_rough_size_has_one_decimal(size_bytes: int, text: str) -> None:
    """Sizes are shown in the largest unit that fits."""
    assert rough_size(size_bytes) == text


def test_ctrl_c_is_one_line(command: Any, capsys: Capture) -> None:
    """Interrupted work ends with the shell's status and no traceback."""
    command(raising(KeyboardInterrupt()))

    assert main(["work", "--debug"]) == ExitStatus.INTERRUPTED
    assert capsys.readouterr().err == "stopped: interrupted\n"


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    """`| head` is no error: nothing on stderr, not even at the interpreter's end."""
    code = """
import sys
from collector.cli import commands
from collector.cli.app import main

class Module:
    @staticmethod
    def register(app):
        @app.command(name="work")
        def work():
            sys.stdin.readline()
            for number in range(100_000):
                print("line", number)

sys.modules["collector.cli.commands.work"] = Module
commands.COMMANDS["work"] = "Work."
sys.exit(main(["work"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write("go\n")
        process.stdin.close()
        err = process.stderr.read()

    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("words", [["nothing"], ["nothing", "--debug"], ["nothing", "--log-format=json"]])
def test_the_status_tells_where_nobody_reads_the_error(words: list[str]) -> None:
    """A closed stderr does not turn wrong usage into something else."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "collector", *words], stdout=subprocess.PIPE, stderr=writer, timeout=180, check=False
    )
    os.close(writer)

    assert (ended.returncode, ended.stdout) == (2, b"")


def test_a_broken_connection_is_not_taken_for_a_reader_that_left() -> None:
    """Only stdout's own end is quiet."""
    code = """
import sys
from collector.cli import commands
from collector.cli.app import main

class Module:
    @staticmethod
    def register(app):
        @app.command(name="work")
        def work():
            raise BrokenPipeError(32, "Broken pipe")

sys.modules["collector.cli.commands.work"] = Module
commands.COMMANDS["work"] = "Work."
sys.exit(main(["work"]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False)

    assert (ended.returncode, ended.stderr) == (1, "error: Broken pipe\n")


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """`python -m collector` takes the same words and ends with the same status."""
    done = collector("--version", cwd=tmp_path)
    wrong = collector("nothing", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, f"pai-collector {__version__}\n")
    assert (wrong.returncode, wrong.stdout) == (2, "")


HEAVY = ("aiohttp", "chdb", "clickhouse_connect", "collector.simulator.world", "collector.store.embedded")


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        (["--version"], []),
        (["init", "--help"], []),
        (["simulate", "--help"], ["aiohttp", "collector.simulator.world"]),
    ],
)
def test_a_command_line_loads_its_own_command(words: list[str], loaded: list[str]) -> None:
    """A word about the program does not wait for engines and clients that another command needs."""
    code = f"""
import sys
from collector.cli.app import main
main({words})
print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True)

    assert ended.stderr.split() == loaded


LIBRARIES = frozenset({
    "aiohttp", "asyncio_throttle", "chdb", "clickhouse_connect", "msgspec", "opentelemetry", "prometheus_client",
    "pydantic_settings", "sqlite3", "structlog",
})  # fmt: skip
"""What the work of commands needs, and their help does not."""


def imported_by(*words: str) -> set[str]:
    """The modules that a fresh process has imported after a command line."""
    code = "import sys; from collector.cli.app import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=180, check=True)
    return set(done.stderr.split())


def test_the_version_needs_no_parser() -> None:
    """`--version` imports neither the command line's library nor anything that prints tables."""
    assert imported_by("--version") & (LIBRARIES | {"asyncio", "pydantic", "rich", "typer"}) == set()


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("--help", set()),
        # Requests and answers are types of msgspec; handlers import what they need where they run.
        ("gaps --help", {"structlog", "msgspec"}),
        ("status --help", {"structlog", "msgspec"}),
        ("check --help", {"structlog", "msgspec"}),
        ("verify --help", {"structlog", "msgspec"}),
        ("backfill --help", {"structlog", "msgspec"}),
        ("preview --help", {"structlog", "msgspec"}),
        # Its named queries are checked before a configuration is read.
        ("query --help", {"structlog", "msgspec", "catalogue", "sources", "store"}),
    ],
)
def test_help_imports_nothing_that_only_work_needs(words: str, more: set[str]) -> None:
    """Help imports no engine, no client and no journal, and few packages of the collector."""
    modules = imported_by(*words.split())
    packages = {name.split(".")[1] for name in modules if name.startswith("collector.")}

    assert modules & LIBRARIES <= more
    assert packages - more <= {"cli", "clock", "errors", "model", "owner", "redaction", "rpc", "telemetry", "units"}


def test_a_command_line_that_is_wrong_imports_no_command() -> None:
    """An unknown word is answered out of the list of names."""
    assert not [name for name in imported_by("statsu") if name.startswith("collector.cli.commands.")]


def test_a_word_for_its_end_does_not_hide_the_command(capsys: Capture) -> None:
    """`--` before a command leaves it what it is."""
    assert main(["--", "gaps", "--help"]) == ExitStatus.DONE
    assert "pai-collector gaps" in capsys.readouterr().out


def test_every_command_is_listed_and_loads(capsys: Capture) -> None:
    """The names in the list are the names of the commands, each with all the words of its summary."""
    assert main(["--help"]) == ExitStatus.DONE
    listed = capsys.readouterr().out
    for name in commands.COMMANDS:
        assert f"  {name:<14}{commands.COMMANDS[name]}\n" in listed
        assert main([name, "--help"]) == ExitStatus.DONE
        assert f"pai-collector {name}" in capsys.readouterr().out


ROWS = [
    ["e01-cn-1", 3, Decimal("0.0001"), None, True],
    ["节点节点节点", 1200, Decimal("12.5"), datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), False],
]
COLUMNS = ["node", "rows", "cny", "seen", "busy"]


def test_a_table_off_a_terminal_is_plain_aligned_text(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers end together, wide characters count double, nothing is cut at a terminal's width."""
    monkeypatch.setenv("COLUMNS", "20")

    output.print_table("Nodes", COLUMNS, ROWS)

    assert capsys.readouterr().out.splitlines() == [
        "Nodes",
        "node          rows     cny  seen                  busy",
        "e01-cn-1         3  0.0001  -                     yes",
        "节点节点节点  1200    12.5  2025-01-02T03:04:05Z  no",
        "",
    ]


def test_a_table_as_json_keeps_its_values(capsys: Capture) -> None:
    """Programs get numbers as numbers, and no title."""
    output.print_table("Nodes", COLUMNS, ROWS, json=True)

    assert json.loads(capsys.readouterr().out) == [
        {"node": "e01-cn-1", "rows": 3, "cny": 0.0001, "seen": None, "busy": True},
        {"node": "节点节点节点", "rows": 1200, "cny": 12.5, "seen": "2025-01-02T03:04:05Z", "busy": False},
    ]


def test_a_table_without_rows_still_has_its_header(capsys: Capture) -> None:
    """Nothing found looks different from nothing printed."""
    output.print_table("Nodes", ["node"], [])

    assert capsys.readouterr().out == "Nodes\nnode\n\n"


def test_a_cell_cannot_forge_a_line(capsys: Capture) -> None:
    """What nodes log is shown, not executed."""
    output.print_table("T", ["msg"], [["a\nb\x1b[2J [red]x[/red]"]])

    assert capsys.readouterr().out == "T\nmsg\na\\nb\\x1b[2J [red]x[/red]\n\n"


def on_a_terminal(environ: dict[str, str]) -> str:
    """What a table looks like on a real terminal."""
    reader, writer = os.openpty()
    code = "from collector.cli.output import print_table; print_table('Nodes', ['node', 'rows'], [['[a]', 3]])"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        stdout=writer,
        timeout=180,
        check=True,
        env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm-256color", **environ},
    )
    os.close(writer)
    assert ended.returncode == 0
    text = os.read(reader, 65_536).decode()
    os.close(reader)
    return text


def test_a_terminal_gets_lines_and_colours() -> None:
    """The header stands out, in a colour that is readable on a dark background, and values are shown as they are."""
    text = on_a_terminal({})

    assert "\x1b[1;36mnode" in text
    assert "─" in text
    assert "[a]" in text


def test_no_color_is_respected() -> None:
    """A user who wants no colours gets none."""
    assert "\x1b[1;36m" not in on_a_terminal({"NO_COLOR": "1"})
    assert "\x1b[36m" not in on_a_terminal({"NO_COLOR": "1"})


def test_progress_shows_nothing_off_a_terminal(capsys: Capture) -> None:
    """Logs in a file hold no half-drawn bars."""
    with output.progress() as bars:
        task = bars.add_task("collecting", total=2)
        bars.update(task, advance=1)

    assert capsys.readouterr() == ("", "")


def test_a_signal_from_the_keyboard_reaches_the_status() -> None:
    """A process that is interrupted ends with 130 and one line."""
    code = """
import signal
import sys
from collector.cli import commands
from collector.cli.app import main

class Module:
    @staticmethod
    def register(app):
        @app.command(name="work")
        def work():
            print("ready", flush=True)
            sys.stdin.readline()

sys.modules["collector.cli.commands.work"] = Module
commands.COMMANDS["work"] = "Work."
# A shell starts background jobs with the signal ignored, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(["work"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()

    assert (process.returncode, err) == (130, "stopped: interrupted\n")
