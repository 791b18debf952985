"""The reference of metrics, made from their definitions: `python -m tools.metrics`."""

from __future__ import annotations

from collector.telemetry.metrics import COUNTERS, GAUGES, PREFIX, REQUEST_SECONDS, REQUESTS


def reference() -> str:
    """The page of the documentation."""
    rows = [(f"{PREFIX}{name}", "gauge", *rest) for name, rest in GAUGES.items()]
    rows += [(f"{PREFIX}{name}_total", "counter", *rest) for name, rest in COUNTERS.items()]
    rows += [
        (f"{PREFIX}{REQUESTS[0]}_total", "counter", *REQUESTS[1:]),
        (PREFIX + REQUEST_SECONDS[0], "histogram", *REQUEST_SECONDS[1:]),
    ]
    lines = [
        "# Metrics",
        "",
        "What `/metrics` tells, as Prometheus text or OpenMetrics. Labels hold names of the catalogue, the",
        "configuration and the program only, never of nodes or jobs. Made from `collector/telemetry/metrics.py`.",
        "",
        "| metric | kind | labels | what it says |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels) or '-'} | {text} |"
        for name, kind, text, labels in sorted(rows)
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
