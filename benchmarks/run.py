"""`make bench`: every measurement, several runs each, as minimum, median and maximum."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from statistics import median

from benchmarks import console, cost, idle, intervals, late, pages, quota, soak, store


def spread(values: list[float], form: str) -> str:
    return " / ".join(form.format(value) for value in (min(values), median(values), max(values)))


async def run_cost(rounds: int) -> None:
    results = [await cost.measure() for _ in range(rounds)]
    print(f"CPU per stored log line, {results[0].rows:,} rows a round, {rounds} rounds: min / median / max")
    print(f"  floor, fetch and parse   {spread([r.floor_fetch_us for r in results], '{:.2f}')} us")
    print(f"  floor, native insert     {spread([r.floor_insert_us for r in results], '{:.2f}')} us")
    print(f"  collector, all of it     {spread([r.collector_us for r in results], '{:.2f}')} us")
    print(f"  collector over floor     {spread([r.ratio for r in results], '{:.2f}')}")


async def run_quota(rounds: int, seconds: float) -> None:
    for limit in (100, 10):
        results = [await quota.measure(limit, seconds, seed) for seed in range(1, rounds + 1)]
        print(f"ListSyslogs at {limit} requests a second, {quota.NODES} nodes, {rounds} runs of {seconds:g} s:")
        print(
            f"  quota used while there is work  {spread([r.used_ratio for r in results], '{:.4f}')}  min / median / max"
        )
        print(f"  most in any sliding second       {max(r.max_in_any_second for r in results)}")
        print(f"  refused                          {sum(r.refused for r in results)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        choices=["cost", "quota", "soak", "intervals", "idle", "late", "store", "pages", "console"],
        default=["cost", "quota"],
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one quota run")
    parser.add_argument("--minutes", type=float, default=20.0, help="length of a soak")
    parser.add_argument("--rows", type=int, default=1_000_000, help="log lines of the store")
    parser.add_argument("--points", type=int, default=250_000, help="metric points of the store")
    parser.add_argument("--latency", action="store_true", help="of the store, measure the latency of queries alone")
    parser.add_argument(
        "--folder", type=Path, help="of the store for pages, which console reads; made if missing, and kept"
    )
    parser.add_argument("--nodes", type=int, default=1_000, help="of the store for pages")
    parser.add_argument("--hours", type=int, default=90, help="of history in the store for pages")
    parser.add_argument("--faults-kept", type=int, default=pages.FAULTS_KEPT, help="1 keeps all simulated faults")
    parser.add_argument("--only", default="", help="of console, the pages whose name has these words")
    arguments = parser.parse_args()
    if "pages" in arguments.what:
        sys.exit(
            asyncio.run(
                pages.measure(
                    arguments.folder or parser.error("pages needs --folder"),
                    nodes=arguments.nodes,
                    hours=arguments.hours,
                    rows=arguments.rows,
                    faults_kept=arguments.faults_kept,
                )
            )
        )
    if "console" in arguments.what:
        folder = arguments.folder or parser.error("console needs --folder, made by pages")
        sys.exit(asyncio.run(console.measure(folder, only=arguments.only, rounds=arguments.rounds)))
    if "store" in arguments.what:
        sys.exit(
            asyncio.run(
                store.measure(arguments.rows, arguments.points, arguments.rounds, latency_only=arguments.latency)
            )
        )
    if "intervals" in arguments.what:
        sys.exit(intervals.report(intervals.measure("15m", 24.0), intervals.measure("30s", 1.0)))
    if "late" in arguments.what:
        sys.exit(late.report())
    if "idle" in arguments.what:
        sys.exit(idle.report(asyncio.run(idle.measure())))
    if "soak" in arguments.what:
        sys.exit(soak.report(asyncio.run(soak.soak(arguments.minutes))))
    if "cost" in arguments.what:
        asyncio.run(run_cost(arguments.rounds))
    if "quota" in arguments.what:
        asyncio.run(run_quota(arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
