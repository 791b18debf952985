"""`pai-collector simulate`: a deterministic PAI on loopback, for trying things offline."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from collector.cli.options import options_of
from collector.cli.output import print_json, print_line
from collector.errors import ConfigError, UsageError
from collector.simulator.clock import SimulatorClock
from collector.simulator.fault_words import fault_help, parse_fault
from collector.simulator.faults import Fault
from collector.simulator.replay import Replay, check_replayable
from collector.simulator.server import Simulator, count_promptly
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import World


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(context_settings={"help_option_names": []})
    def simulate(
        context: typer.Context,
        port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
        seed: Annotated[int, typer.Option(help="The same seed gives the same history.")] = 1,
        nodes: Annotated[int, typer.Option(min=1, max=100_000, help="Nodes that log.")] = 20,
        groups: Annotated[int, typer.Option(min=1, max=1_000, help="Resource groups.")] = 2,
        latency: Annotated[tuple[float, float], typer.Option(metavar="MIN MAX", help="Seconds until an answer.")] = (
            0.02,
            0.2,
        ),
        fault: Annotated[
            list[str] | None,
            typer.Option(metavar="FAULT", help="What goes wrong, such as 429=5%; may be repeated. See below."),
        ] = None,
        replay: Annotated[
            Path | None, typer.Option(metavar="DIR", help="Answer with what run --record wrote there.")
        ] = None,
        fast: Annotated[
            bool, typer.Option("--fast", help="With --replay: answer at once, not as late as it was.")
        ] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="Tell address, key and targets as one JSON line.")
        ] = False,
        wants_help: Annotated[bool, typer.Option("--help", help="Show this, and the faults.")] = False,
    ) -> None:
        """Serve simulated PAI operations until Ctrl-C. Nothing leaves this machine, nothing costs money.

        While it runs, GET, POST and DELETE of /_simulator/faults list, add and remove faults.
        """
        if wants_help:
            for line in (*context.get_help().splitlines(), "", *fault_help().splitlines()):
                print_line(line)
            return
        assert options_of(context)
        if not 0 <= latency[0] <= latency[1]:
            raise UsageError(f"--latency: got {latency[0]} {latency[1]}; expected 0 <= MIN <= MAX")
        world = World(seed, nodes, groups)
        faults = _faults(world, fault or [], is_checked=replay is None)
        recorded = None if replay is None else _recorded(replay, faults, is_fast=fast)
        if recorded is None and fast:
            raise UsageError("--fast is about a recording: it goes with --replay DIR")
        asyncio.run(_serve(world, port, latency, faults, recorded, as_json=as_json))


def _recorded(folder: Path, faults: Sequence[Fault], *, is_fast: bool) -> Replay:
    """Read a recording. Raises UsageError where it cannot be replayed with these faults."""
    try:
        check_replayable(faults)
    except ValueError as error:
        raise UsageError(f"--fault: {error}") from None
    try:
        return Replay.read(folder, is_fast=is_fast)
    except OSError as error:
        raise UsageError(f"--replay: {folder} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"--replay: {error}") from None


def _faults(world: World, texts: Sequence[str], *, is_checked: bool) -> list[Fault]:
    """Read the faults; what is not simulated is refused if `is_checked`. Raises ConfigError with all mistakes."""
    found: list[Fault] = []
    mistakes: list[str] = []
    for text in texts:
        try:
            found.append(parse_fault(text, [*world.node_ids, *world.group_ids] if is_checked else None))
        except ValueError as error:
            mistakes.append(f"--fault: {error}")
    if mistakes:
        raise ConfigError(mistakes, hint="pai-collector simulate --help lists the kinds")
    return found


async def _serve(
    world: World,
    port: int,
    latency: tuple[float, float],
    faults: Sequence[Fault],
    replay: Replay | None,
    *,
    as_json: bool,
) -> None:
    count_promptly()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    simulator = Simulator(
        world,
        SimulatorOptions(latency_seconds=latency, port=port, threaded=True),
        faults=faults,
        replay=replay,
        # A collector that begins now asks what one asked that began then.
        now=None if replay is None else SimulatorClock(replay.started_at),
    )
    try:
        async with simulator as running:
            _tell(running, replay, as_json=as_json)
            # A program at the other end of a pipe waits for this before it does anything.
            sys.stdout.flush()
            await stop.wait()
    except OSError as error:
        raise UsageError(f"--port: cannot listen on {port}: {error.strerror or error}") from error


def _tell(running: Simulator, replay: Replay | None, *, as_json: bool) -> None:
    world, credentials = running.world, running.credentials
    node_ids, group_ids = world.node_ids, world.group_ids
    if replay is not None:
        node_ids = replay.scope_ids.get("ListSyslogs", [])
        group_ids = replay.scope_ids.get("GetUserViewMetrics", [])
    if as_json:
        targets = {"nodes": node_ids, "resource_groups": group_ids}
        print_json({"base_url": running.base_url, "key": credentials.key, **targets})
        return
    nodes = ", ".join(f'"{node}"' for node in node_ids[:3])
    groups = ", ".join(f'"{group}"' for group in group_ids[:2])
    print_line(f"simulator at {running.base_url}, {len(node_ids)} nodes, {len(group_ids)} resource groups")
    if replay is not None:
        cut = f"; {replay.unreadable_lines} lines cannot be read" if replay.unreadable_lines else ""
        print_line(f"answers with {replay.requests} recorded requests of {', '.join(sorted(replay.scope_ids))}{cut}")
    print_line("in another terminal:")
    print_line(f"  export DASHSCOPE_API_KEY={credentials.key}")
    print_line("  pai-collector init")
    print_line("and in collector.toml:")
    print_line(f'  [api]     base_url = "{running.base_url}"')
    print_line(f"  [targets] nodes = [{nodes}]")
    print_line(f"            resource_groups = [{groups}]")
    print_line('or, with gateway = "openapi" under [api], signed as the product endpoints want it:')
    print_line(f"  export ALIBABA_CLOUD_ACCESS_KEY_ID={credentials.access_key_id}")
    print_line(f"  export ALIBABA_CLOUD_ACCESS_KEY_SECRET={credentials.access_key_secret}")
    print_line("faults while it runs, listed by --help:")
    print_line(f"  curl -d 429=5% {running.base_url}/_simulator/faults")
    print_line("Ctrl-C ends it")
