"""The headers of an answer that tell the time, right or with a fault."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Final

from collector.simulator.faults import Fault, FaultKind

SKEW_SECONDS: Final = 3600.0
CACHED_SECONDS: Final = 7200.0
"""How far a `date_skewed` is ahead, and a `date_cached` behind, unless the fault says otherwise."""

_FORMS: Final = {
    "asctime": "%a %b %e %H:%M:%S %Y",
    "rfc850": "%A, %d-%b-%y %H:%M:%S GMT",
    "minus_zero": "%a, %d %b %Y %H:%M:%S -0000",
}


def date_headers(now: float, fault: Fault | None = None) -> dict[str, str]:
    """`Date` at `now` (s since the epoch) and what a cache adds. A `Date` that is empty is not sent."""
    if fault is None:
        return {"Date": formatdate(now // 1, usegmt=True)}
    match fault.kind:
        case FaultKind.DATE_MISSING:
            return {"Date": ""}
        case FaultKind.DATE_GARBLED:
            return {"Date": "yesterday, perhaps"}
        case FaultKind.DATE_ODD:
            return {"Date": time.strftime(_FORMS[fault.form], time.gmtime(now))}
        case FaultKind.DATE_CACHED:
            skew = -CACHED_SECONDS if fault.skew_seconds is None else fault.skew_seconds
            headers = date_headers(now + skew)
            return headers | {"Age": str(round(-skew)), "X-Cache": "HIT", "Via": "1.1 cache"}
        case _:
            return date_headers(now + (SKEW_SECONDS if fault.skew_seconds is None else fault.skew_seconds))
