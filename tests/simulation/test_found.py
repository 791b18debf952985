"""What simulations have found, each as the shortest history that showed it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from collector.errors import StoreUnavailable
from collector.owner.instance import Owner
from tests.simulation.machine import Shop
from tests.simulation.twin import Twin
from tests.simulation.virtual import VirtualClock, VirtualLoop, run
from tests.support import NOW, settings


def test_a_start_without_its_store_says_so(tmp_path: Path) -> None:
    """Whatever keeps an owner from opening is what its caller is told."""
    loop = VirtualLoop()

    async def start() -> None:
        shop = Shop(Twin())
        shop.is_away = True
        await Owner.open(
            settings(tmp_path, "http://127.0.0.1:1"), clock=VirtualClock(loop, NOW), random=Random(1),
            store=shop, threaded=False,  # type: ignore[arg-type]
        )  # fmt: skip

    with pytest.raises(StoreUnavailable):
        run(start(), loop)
