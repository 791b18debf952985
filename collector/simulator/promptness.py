"""What a process that is a simulator sets, so that calls are counted when they arrive."""

from __future__ import annotations

import gc
import sys

SWITCH_SECONDS = 0.0005
"""The loop gets its turn this soon while a page is made beside it."""

YOUNG_OBJECTS_MAX = 50_000
"""Only young objects are collected: going through all rows kept for the next page stops every thread for
tens of milliseconds, and calls that arrive meanwhile would be counted too close together."""


def count_promptly() -> None:
    """To be called once by a process that does nothing but simulate."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 1_000_000)
