"""`pai-collector journal`: look into the journal, beside a running collector or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from collector.cli.calling import working
from collector.cli.exits import ExitStatus
from collector.cli.groups import command_group
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.ranges import followed, say_some
from collector.cli.running import run_to_end
from collector.clock import SystemClock
from collector.errors import UsageError
from collector.journal.inspect import contents, set_aside_of, verify
from collector.owner.journals import forget_journal
from collector.owner.lock import keeping_owners_away
from collector.owner.reader import stored
from collector.settings import Settings
from collector.store.migrate import describe_difference
from collector.store.opening import writing_store


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
    def replay(
        context: typer.Context,
        path: Annotated[Path, typer.Argument(metavar="FILE", help="A journal that no process works with.")],
        as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    ) -> int:
        """Bring what another journal holds into history: rows that the store lacks, and calls that it paid for.

        It may be damaged: what can be read of it is taken. The API is asked for nothing. The file is then renamed.
        """
        return _replayed(context, "journal_replay", {"path": str(path.absolute())}, as_json=as_json)

    @group.command(name="repair")
    def repair(
        context: typer.Context,
        as_json: Annotated[bool, typer.Option("--json", help="Print the reports as JSON.")] = False,
    ) -> int:
        """Bring back what can be read of journals that were set aside as damaged, as `journal replay` does.

        A damaged journal is set aside at the start of whatever works with it; this command is such a start too.
        """
        return _replayed(context, "journal_repair", {}, as_json=as_json)

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


def _replayed(context: typer.Context, name: str, asked: dict[str, Any], *, as_json: bool) -> int:
    options = options_of(context)
    work = followed(working(options.settings()), name, asked, "replayed", "rows", lambda rows: f"{rows:,} rows")
    reports = [word["report"] for word in run_to_end(work)]
    if as_json:
        print_json(reports)
        return _ended(reports)
    if not reports:
        print_line("no journal was set aside as damaged: there is nothing to repair")
    for report in reports:
        if report["error"]:
            options.reporter.line(report["error"], word="failed")
            continue
        calls = f"none: {report['calls_left']}" if report["calls_left"] else f"{report['calls']:,}"
        print_table(
            "",
            [report["path"], ""],
            [
                ("rows compared with the store", f"{report['rows']:,}"),
                ("rows that it lacked", f"{report['rows_added']:,}"),
                ("rows that cannot be read", f"{report['rows_damaged']:,}"),
                ("places that cannot be read", f"{report['places_lost']:,}"),
                ("calls entered", calls),
                ("the file is now", report["moved_to"] or "where it was"),
            ],
        )
        left_out = [f"rows of {one['stream']} are left out: {one['reason']}" for one in report["left_out"]]
        say_some(left_out, "rows of {} more streams are left out", options.reporter)
    return _ended(reports)


def _ended(reports: list[dict[str, Any]]) -> int:
    """What was left out, or cannot be read, is still in the file: that is no end."""
    return ExitStatus.FAILED if any(report["left_out"] or report["error"] for report in reports) else ExitStatus.DONE


async def _forget(settings: Settings, journal_id: str, *, force: bool) -> list[str]:
    async with stored(settings) as store:
        if difference := await describe_difference(store):
            raise UsageError(difference)
    async with writing_store(settings) as store:
        forgotten = await forget_journal(store, journal_id, int(SystemClock().wall()), force=force)
    return [str(one.share) for one in forgotten]
