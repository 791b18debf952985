"""What most tests need: a simulator, a configuration before it, a run, and the truth to compare with."""

from tests.support.collecting import (
    LOOKBACK,
    NOW,
    SETTLE,
    SYSLOG_COLUMNS,
    Unreliable,
    as_row,
    calls,
    collect_unshipped,
    differences,
    fetch,
    run_once,
    settings,
    simulator,
    stored_columns,
    stored_syslogs,
    true_syslogs,
)

__all__ = [
    "LOOKBACK",
    "NOW",
    "SETTLE",
    "SYSLOG_COLUMNS",
    "Unreliable",
    "as_row",
    "calls",
    "collect_unshipped",
    "differences",
    "fetch",
    "run_once",
    "settings",
    "simulator",
    "stored_columns",
    "stored_syslogs",
    "true_syslogs",
]
