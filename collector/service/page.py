"""The status page: one look says whether all is well, and if not, what to do about it."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from collector.units import rough_duration, rough_size

REFRESH_SECONDS = 10
STREAMS_SHOWN_MAX = 50

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
.well { border-left: .4rem solid #2a9d5c; padding-left: .6rem; }
.ill { border-left: .4rem solid #d1462f; padding-left: .6rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; vertical-align: top; }
th { font-weight: 600; } .n { text-align: right; } .bad { color: #d1462f; font-weight: 600; }
p.small { opacity: .7; font-size: .85rem; }
"""
STYLE_HASH = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
"""For the page's content security policy, which allows this style and nothing else."""


def page(told: Mapping[str, Any]) -> str:
    """The page for what `owner.status.status` tells."""
    well = told["is_well"]
    budget, journal = told["budget"], told["journal"]
    money = [
        ("spent this month", f"{budget['spent_cny']} CNY"),
        ("forecast", f"{budget['forecast_cny']} CNY"),
        ("budget", f"{budget['cap_cny']} CNY" if budget["cap_cny"] is not None else "none"),
    ]
    waiting = [
        ("size", f"{rough_size(journal['bytes'])} of {rough_size(journal['bytes_max'])}"),
        ("rows that the store does not have yet", f"{journal['rows']:,}"),
        ("store", f"fails: {told['store_error']}" if told["store_error"] else "takes rows"),
        ("SQL, for ClickHouse's clients", told["sql_address"] or "not served"),
    ]
    worst = [stream for stream in told["streams"] if stream["error"] and stream["state"] != "ended"][:STREAMS_SHOWN_MAX]
    parts = [
        f'<h1 class="{"well" if well else "ill"}">{escape(told["headline"])}</h1>',
        _table(
            "What is wrong",
            ("what", "seen", "what to do"),
            [(r["text"], r["detail"], r["action"]) for r in told["reasons"]],
        ),
        _table(
            "Stopped",
            ("what", "operation", "since", "next try", "why"),
            [(s["what"], s["operation"], s["since"], s["next_try"], s["error"]) for s in told["stops"]],
        ),
        _table(
            "Sources",
            ("source", "operation", "streams", "behind", "promised", "waiting", "ticks missed"),
            [_source(source) for source in told["sources"]],
        ),
        _table(
            "Streams that fail",
            ("operation", "scope", "since", "next try", "error"),
            [(s["operation"], s["scope_id"], s["error_at"], s["next_try"], s["error"]) for s in worst],
        ),
        _table("Money (billing month, UTC+8)", (), money),
        _table("Journal and store", (), waiting),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}"><title>pai-collector</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}"
        f'<p class="small">{escape(told["now"] or "")} by the service\'s clock; renewed every {REFRESH_SECONDS} s. '
        '<a href="/metrics">metrics</a> <a href="/status">json</a></p></body></html>'
    )


def _source(source: Mapping[str, Any]) -> Sequence[str]:
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(source["states"].items()) if count)
    behind = source["freshness_seconds"]
    return (
        source["source"],
        source["operation"],
        states,
        "" if behind is None else rough_duration(int(behind)),
        rough_duration(int(source["freshness_promise_seconds"])),
        f"{source['due']:,}",
        f"{source['ticks_missed']:,}",
    )


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [
        "<tr>" + "".join(f"<td>{escape('' if cell is None else str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    ]
    if not lines:
        return ""
    head = "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in heads) + "</tr>" if heads else ""
    return f"<h2>{escape(title)}</h2><div><table>{head}{''.join(lines)}</table></div>"
