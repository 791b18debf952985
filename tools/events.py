"""The reference of log events, made from their catalogue: `python -m tools.events`."""

from __future__ import annotations

from collector.telemetry.events import EVENTS, FIELDS


def reference() -> str:
    """The page of the documentation."""
    lines = [
        "# Events",
        "",
        "What is logged, on stderr: `--log-format json` makes each line an object with `timestamp`, `level`, `event`",
        "and the fields below. Made from `collector/telemetry/events.py`.",
        "",
        "| event | what has happened | fields |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {text} | {', '.join(f'`{field}`' for field in fields) or '-'} |"
        for name, (text, fields) in sorted(EVENTS.items())
    ]
    lines += ["", "| field | what it says |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in sorted(FIELDS.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
