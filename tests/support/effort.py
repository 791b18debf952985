"""Which of many cases a run without `--all` tries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(every: int, cases: Iterable[Any], kind: str) -> list[Any]:
    """Mark all but one in `every` of the cases of a parameter as slow; a tuple is a case of several parameters."""
    slow = pytest.mark.slow(kind)
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=[slow] if number % every else [])
        for number, case in enumerate(cases)
    ]
