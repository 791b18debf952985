"""Resource logs: eas `DescribeResourceLog`, one stream a serving resource group, one object an answer."""

from __future__ import annotations

from typing import Any

from collector.catalogue.answers import Answer
from collector.catalogue.products.eas import DESCRIBE_RESOURCE_LOG, DescribeResourceLogAnswer
from collector.model import StreamKey
from collector.sources.normalise import EXTRA_NONE
from collector.sources.source import Observed, Seen
from collector.sources.tables import RESOURCE_LOG_STATES


class ResourceLogSource:
    """Where the logs of one resource group are shipped; `scope_id` is `cluster_id/resource_id`.

    The message is part of the state, since a failing shipper says there what is wrong; the id of the
    request is not.
    """

    name = "resource_logs"
    operation = DESCRIBE_RESOURCE_LOG
    tables = (RESOURCE_LOG_STATES,)
    lists_all = False
    page_size = 1

    def parameters(self, key: StreamKey, cursor: str | None) -> dict[str, Any]:
        """Parameters that ask for the resource group of `key`."""
        cluster_id, _, resource_id = key.scope_id.partition("/")
        return {"ClusterId": cluster_id, "ResourceId": resource_id}

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """None: the answer is one object."""
        return None

    def held(self, key: StreamKey) -> dict[str, str]:
        """Columns and values that tell the rows of this resource group from those of others."""
        return {"object_id": key.scope_id}

    def page(self, key: StreamKey, cursor: str | None, answer: Answer) -> Seen:
        """The configuration as it is now; names are empty where nothing is shipped."""
        assert isinstance(answer, DescribeResourceLogAnswer)
        cluster_id, _, resource_id = key.scope_id.partition("/")
        values = (
            cluster_id,
            resource_id,
            answer.project_name or "",
            answer.log_store or "",
            answer.status or "",
            answer.message or "",
            EXTRA_NONE,
        )
        return Seen([Observed(key.scope_id, values)], record_count=1)
