"""Which streams are collected. `status` and `gaps` both ask here, so that they say the same."""

from __future__ import annotations

from collections.abc import Mapping

from collector.journal.entries import StreamState
from collector.model import StreamKey
from collector.owner.reader import Reader
from collector.pipeline.streams import Streams


async def expected(owner: Reader) -> dict[StreamKey, Streams]:
    """Return the streams of the configuration of which something is still to be collected, begun or not."""
    states, region, now = await owner.journal.streams(), owner.settings.api.region, owner.server_clock.now()
    return {
        key: streams
        for streams in await owner.streams()
        for key in streams.keys(region)
        if not streams.is_finished(states.get(key) or _new(key), now)
    }


async def watched(owner: Reader) -> Mapping[StreamKey, Streams]:
    """Return the streams that are collected, or would be if a service ran."""
    if owner.service_running is not None:
        return owner.service_running.watched()
    states = await owner.journal.streams()
    return {key: streams for key, streams in (await expected(owner)).items() if key in states}


def _new(key: StreamKey) -> StreamState:
    return StreamState(0, key, None, None, None, "", None)
