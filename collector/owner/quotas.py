"""What this process may send of each operation."""

from __future__ import annotations

from collector.catalogue.operations import CATALOGUE
from collector.owner.streams import operations_of
from collector.settings import Settings
from collector.shares import quota_parts


def quotas_of(settings: Settings) -> dict[str, int]:
    """This process's part of each operation's quota, calls a second. Raises ConfigError where it is nothing."""
    quotas = {name: settings.api.quotas.get(name, row.quota.per_second) for name, row in CATALOGUE.items()}
    return quota_parts(settings.share, quotas, {row.name for row in operations_of(settings)})
