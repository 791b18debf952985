"""Which of many cases a run without `--all` tries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(every: int, cases: Iterable[Any], kind: str) -> list[Any]:
    """Mark all but one in `every` of the cases of a parameter as slow.

    A case is a value, a tuple of values of several parameters, or a `pytest.param`.
    """
    params = [case if hasattr(case, "marks") else _param(case) for case in cases]
    slow = pytest.mark.slow(kind)
    return [
        pytest.param(*param.values, marks=[*param.marks, slow], id=param.id) if number % every else param
        for number, param in enumerate(params)
    ]


def _param(case: Any) -> Any:
    return pytest.param(*case) if isinstance(case, tuple) else pytest.param(case)
