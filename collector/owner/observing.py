"""What a single call shows of an object is history too: it is stored like what a list shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collector.api.client import Reply
from collector.catalogue.operation import Operation
from collector.catalogue.products.eas import DESCRIBE_RESOURCE_LOG
from collector.catalogue.products.eflo_controller import DESCRIBE_DIAGNOSTIC_RESULT
from collector.model import StreamKey
from collector.pipeline.adopt import adopt_states
from collector.pipeline.collect_states import note_object
from collector.pipeline.collecting import Collecting
from collector.pipeline.streams import ACCOUNT_SCOPE
from collector.sources.diagnostics import DiagnosticsSource
from collector.sources.resource_logs import ResourceLogSource
from collector.sources.source import StateSource
from collector.store.base import Store


async def conclude(
    collecting: Collecting,
    store: Store,
    region: str,
    operation: Operation,
    parameters: Mapping[str, Any],
    reply: Reply,
) -> bool:
    """Settle a call that a person asked for; true when what it showed was new and is stored."""
    watched = _watched(operation, parameters)
    if watched is None:
        await collecting.journal.settle(reply.attempt)
        return False
    source, scope_id = watched
    key = StreamKey(source.operation.name, region, scope_id)
    await adopt_states(collecting.journal, store, source, [key])
    return await note_object(collecting, source, (await collecting.journal.streams())[key], reply)


def _watched(operation: Operation, parameters: Mapping[str, Any]) -> tuple[StateSource, str] | None:
    """The source that stores the answers of this operation, and the scope of its stream."""
    if operation is DESCRIBE_DIAGNOSTIC_RESULT:
        return DiagnosticsSource(), ACCOUNT_SCOPE
    if operation is DESCRIBE_RESOURCE_LOG:
        return ResourceLogSource(), f"{parameters['ClusterId']}/{parameters['ResourceId']}"
    return None
