"""`pai-collector journal`: look into the journal, beside a running collector or not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from collector.cli.calling import key_if_any
from collector.cli.exits import ExitStatus
from collector.cli.groups import command_group
from collector.cli.methods import find_method
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.ranges import Progress, followed, say_some
from collector.cli.running import run_to_end
from collector.clock import SystemClock
from collector.errors import UsageError
from collector.journal.inspect import contents, verify
from collector.journal.recovery.set_aside import set_aside_of
from collector.owner.lock import keeping_owners_away
from collector.owner.stored import stored
from collector.rpc import Access, Method, Request, reach

if TYPE_CHECKING:
    from collector.owner.instance import Owner
    from collector.settings import Settings


class ReplayRequest(Request, frozen=True, tag="journal.replay"):
    """Bring what another journal holds into history."""

    path: str


class RepairRequest(Request, frozen=True, tag="journal.repair"):
    """Replay the journals that were set aside as damaged."""


class LeftOut(msgspec.Struct, frozen=True):
    """A stream whose rows were left out."""

    stream: str
    reason: str


class Report(msgspec.Struct, frozen=True):
    """What came of one journal."""

    path: str
    rows: int
    rows_added: int
    rows_damaged: int
    places_lost: int
    calls: int
    calls_left: str
    left_out: list[LeftOut]
    moved_to: str | None
    error: str


class Replayed(msgspec.Struct, frozen=True, tag=True):
    """A journal is done with."""

    report: Report


async def replay(owner: Owner, request: ReplayRequest) -> AsyncGenerator[Progress | Replayed, None]:
    """Replay one journal; see `owner.replaying.replay`."""
    from collector.owner import replaying

    async with aclosing(replaying.replay(owner, {"path": request.path})) as words:
        async for word in words:
            yield _event(word)


async def repair(owner: Owner, request: RepairRequest) -> AsyncGenerator[Progress | Replayed, None]:
    """Replay every journal that was set aside; see `owner.replaying.repair`."""
    from collector.owner import replaying

    async with aclosing(replaying.repair(owner, {})) as words:
        async for word in words:
            yield _event(word)


def _event(word: Mapping[str, Any]) -> Progress | Replayed:
    if "report" in word:
        return Replayed(msgspec.convert(word["report"], Report))
    return Progress(word["rows"], word["rows_read"])


REPLAY = Method(ReplayRequest, Progress | Replayed, replay, Access.COLLECTOR)
REPAIR = Method(RepairRequest, Progress | Replayed, repair, Access.COLLECTOR)
METHODS = (REPLAY, REPAIR)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = command_group("Look into the journal.")

    @group.command(name="ls")
    def ls(
        context: typer.Context,
        as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    ) -> None:
        """Show what waits to be shipped, and windows whose last page is missing."""
        path = options_of(context).settings().journal.path
        with keeping_owners_away(path):
            found = contents(path)
        if as_json:
            print_json(found)
            return
        print_line(f"{path}: {found['bytes']:,} bytes, {found['calls_unsettled']} calls not settled")
        print_table(
            "Waiting for the store",
            ["table", "partition", "mode", "chunks", "rows", "bytes", "in segments", "unsealed"],
            [tuple(chunk.values()) for chunk in found["chunks"]],
        )
        print_table(
            "Open windows",
            ["operation", "scope", "recheck delay", "start", "end", "pages", "reading"],
            [tuple(window.values()) for window in found["open_windows"]],
        )
        for aside in set_aside_of(path):
            print_line(f"set aside as damaged: {aside}")

    @group.command(name="verify")
    def check(
        context: typer.Context,
        path: Annotated[Path | None, typer.Option(metavar="FILE", help="Another file, such as one set aside.")] = None,
    ) -> int:
        """Check the file, every chunk against its checksum, and that nothing refers to what is not there."""
        target = path or options_of(context).settings().journal.path
        with keeping_owners_away(target):
            found = verify(target)
        for line in found:
            print_line(f"{target}: {line}")
        if not found:
            print_line(f"{target}: sound")
        return ExitStatus.FAILED if found else ExitStatus.DONE

    @group.command(name="replay")
    def replay_file(
        context: typer.Context,
        path: Annotated[Path, typer.Argument(metavar="FILE", help="A journal that no process works with.")],
        as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    ) -> int:
        """Bring what another journal holds into history: rows that the store lacks, and calls that it paid for.

        It may be damaged: what can be read of it is taken. The API is asked for nothing. The file is then renamed.
        """
        return _replayed(context, REPLAY, ReplayRequest(str(path.absolute())), as_json=as_json)

    @group.command(name="repair")
    def repair_damaged(
        context: typer.Context,
        as_json: Annotated[bool, typer.Option("--json", help="Print the reports as JSON.")] = False,
    ) -> int:
        """Bring back what can be read of journals that were set aside as damaged, as `journal replay` does.

        A damaged journal is set aside at the start of whatever works with it; this command is such a start too.
        """
        return _replayed(context, REPAIR, RepairRequest(), as_json=as_json)

    @group.command(name="forget")
    def forget(
        context: typer.Context,
        journal_id: Annotated[str, typer.Argument(metavar="ID", help="The journal; any other word lists them.")],
        force: Annotated[
            bool, typer.Option("--force", help="Also one that was alive just now; its process ends by itself.")
        ] = False,
    ) -> None:
        """Give up a journal that will not come back: its streams go to the other shards.

        Should it come back all the same, what it holds is compared with the store, and nothing is stored twice.
        """
        shares = run_to_end(_forget(options_of(context).settings(), journal_id, force=force))
        if shares:
            print_line(f"{journal_id}: given up; others may collect the streams of shard {', '.join(shares)}")
        else:
            print_line(f"{journal_id}: was given up before")

    app.add_typer(group, name="journal")


def _replayed(context: typer.Context, method: Method[Owner, Any, Any], request: Request, *, as_json: bool) -> int:
    options = options_of(context)
    settings = options.settings()

    async def work() -> list[Report]:
        async with reach(settings, method.access, find_method, key=lambda: key_if_any(settings)) as session:
            events = await followed(session, method, request, "replayed", lambda rows: f"{rows:,} rows")
        return [event.report for event in events]

    reports = run_to_end(work())
    if as_json:
        print_json(msgspec.to_builtins(reports))
        return _ended(reports)
    if not reports:
        print_line("no journal was set aside as damaged: there is nothing to repair")
    for report in reports:
        if report.error:
            options.reporter.line(report.error, word="failed")
            continue
        calls = f"none: {report.calls_left}" if report.calls_left else f"{report.calls:,}"
        print_table(
            "",
            [report.path, ""],
            [
                ("rows compared with the store", f"{report.rows:,}"),
                ("rows that it lacked", f"{report.rows_added:,}"),
                ("rows that cannot be read", f"{report.rows_damaged:,}"),
                ("places that cannot be read", f"{report.places_lost:,}"),
                ("calls entered", calls),
                ("the file is now", report.moved_to or "where it was"),
            ],
        )
        left_out = [f"rows of {one.stream} are left out: {one.reason}" for one in report.left_out]
        say_some(left_out, "rows of {} more streams are left out", options.reporter)
    return _ended(reports)


def _ended(reports: list[Report]) -> int:
    """What was left out, or cannot be read, is still in the file: that is no end."""
    return ExitStatus.FAILED if any(report.left_out or report.error for report in reports) else ExitStatus.DONE


async def _forget(settings: Settings, journal_id: str, *, force: bool) -> list[str]:
    from collector.owner.journals import forget_journal
    from collector.store.opening import writing_store

    async with stored(settings) as history:
        for difference in history.notes:
            raise UsageError(difference)
    async with writing_store(settings) as store:
        forgotten = await forget_journal(store, journal_id, int(SystemClock().wall()), force=force)
    return [str(one.share) for one in forgotten]
