"""What most tests need: a simulator, a configuration before it, a run, and the truth to compare with."""

from tests.support.collecting import (
    LOOKBACK,
    NOW,
    SETTLE,
    calls,
    collect_unshipped,
    configuration,
    fetch,
    run_once,
    settings,
    ship,
    simulator,
    stored_syslogs,
)
from tests.support.truth import SYSLOG_COLUMNS, as_row, differences, stored_columns, true_syslogs
from tests.support.unreliable_store import Unreliable

__all__ = [
    "LOOKBACK",
    "NOW",
    "SETTLE",
    "SYSLOG_COLUMNS",
    "Unreliable",
    "as_row",
    "calls",
    "collect_unshipped",
    "configuration",
    "differences",
    "fetch",
    "run_once",
    "settings",
    "ship",
    "simulator",
    "stored_columns",
    "stored_syslogs",
    "true_syslogs",
]
