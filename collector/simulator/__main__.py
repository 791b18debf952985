"""`python -m collector.simulator`: the simulator as a process of its own.

Prints one JSON line `{"base_url": ..., "pid": ...}` when it listens, and runs until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from collector.simulator.clock import SimulatorClock
from collector.simulator.credentials import ACCESS_KEY_ID, ACCESS_KEY_SECRET, SIMULATOR_KEY, Credentials
from collector.simulator.faults import Fault
from collector.simulator.server import Simulator, count_promptly
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import LongLines, World


def _quota(text: str) -> tuple[str, int]:
    operation, _, figure = text.partition("=")
    return operation, int(figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m collector.simulator", description="A deterministic PAI.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--nodes-per-cluster", type=int, default=500)
    parser.add_argument("--users-per-group", type=int, help="records of a snapshot; 3 to 40 without it")
    parser.add_argument("--density", type=float, default=1.0, help="multiplies how much is logged")
    parser.add_argument("--lines-per-second", type=float, help="all nodes log alike, at this rate")
    parser.add_argument(
        "--long-lines", type=int, nargs=2, metavar=("PER_SECOND", "BYTES"),
        help="the first node logs so many more lines in every second, each of so many bytes",
    )  # fmt: skip
    parser.add_argument("--no-bursts", action="store_true")
    parser.add_argument("--calm", action="store_true", help="one node in six logs faults, not every one")
    parser.add_argument("--key", default=SIMULATOR_KEY, help="the bearer key that is taken")
    parser.add_argument("--access-key-id", default=ACCESS_KEY_ID, help="the access key that is taken")
    parser.add_argument("--access-key-secret", default=ACCESS_KEY_SECRET)
    parser.add_argument("--security-token", help="makes the access key a temporary one")
    parser.add_argument("--quota", type=_quota, action="append", default=[], metavar="OPERATION=N")
    parser.add_argument("--latency", type=float, nargs=2, default=(0.0, 0.0), metavar=("MIN", "MAX"), help="seconds")
    parser.add_argument("--faults", type=Path, help="JSON file with a list of faults")
    parser.add_argument("--bounds", choices=("closed", "half_open"), default="closed")
    parser.add_argument("--page-size", type=int, default=100)
    parser.add_argument("--token-seconds", type=float, help="how long a NextToken lives")
    parser.add_argument("--start", type=float, help="time of day at the start, UNIX seconds; the machine's without it")
    parser.add_argument("--rate", type=float, default=1.0, help="simulated seconds a second; 0 stands still")
    parser.add_argument("--compress", action="store_true", help="compress answers for clients that take it")
    return parser


async def _run(arguments: argparse.Namespace) -> None:
    count_promptly()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    world = World(
        arguments.seed,
        arguments.nodes,
        arguments.groups,
        users_per_group=arguments.users_per_group,
        nodes_per_cluster=arguments.nodes_per_cluster,
        density=arguments.density,
        bursts=not arguments.no_bursts,
        calm=arguments.calm,
        lines_per_second=arguments.lines_per_second,
    )
    if arguments.long_lines is not None:
        per_second, size = arguments.long_lines
        world.add_long(LongLines(world.node_ids[0], 0, 1 << 32, per_second, size))
    options = SimulatorOptions(
        credentials=Credentials(
            key=arguments.key,
            access_key_id=arguments.access_key_id,
            access_key_secret=arguments.access_key_secret,
            security_token=arguments.security_token,
        ),
        quotas=dict(arguments.quota),
        latency_seconds=tuple(arguments.latency),
        bounds=arguments.bounds,
        page_size=arguments.page_size,
        token_seconds_max=arguments.token_seconds,
        compress=arguments.compress,
        port=arguments.port,
        threaded=True,
    )
    clock = SimulatorClock(arguments.start, rate=arguments.rate)
    async with Simulator(world, options, now=clock, faults=arguments.faults) as simulator:
        sys.stdout.write(json.dumps({"base_url": simulator.base_url, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; 2 when the arguments make no sense."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        faults = arguments.faults
        arguments.faults = () if faults is None else msgspec.json.decode(faults.read_bytes(), type=tuple[Fault, ...])
        asyncio.run(_run(arguments))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
