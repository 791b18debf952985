"""What all of these tests share."""

from __future__ import annotations

import pytest

from collector.pipeline import ship


@pytest.fixture(autouse=True)
def short_outages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails is tried again at once: nobody waits for it to recover."""
    monkeypatch.setattr(ship, "BACKOFF_SECONDS_MIN", 0.01)
