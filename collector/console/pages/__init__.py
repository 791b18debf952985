"""Every page of the console, in the order of the navigation."""

from __future__ import annotations

from typing import Final

from collector.console.page import Page
from collector.console.pages.cluster import cluster
from collector.console.pages.collection import collection
from collector.console.pages.configuration import configuration
from collector.console.pages.faults import faults
from collector.console.pages.logs import logs
from collector.console.pages.money import money
from collector.console.pages.node import node
from collector.console.pages.nodes import nodes
from collector.console.pages.overview import overview
from collector.console.pages.sql import DOWNLOADS, sql
from collector.console.pages.usage import usage

PAGES: Final = (
    Page("/", "Overview", overview),
    Page("/collection", "Collection", collection),
    Page("/logs", "Logs", logs),
    Page("/nodes", "Nodes", nodes),
    Page("/nodes/{node_id}", "", node),
    Page("/faults", "Faults", faults),
    Page("/usage", "Usage", usage),
    Page("/sql", "SQL", sql, downloads=DOWNLOADS, posts=True),
    Page("/money", "Money", money),
    Page("/cluster", "Cluster", cluster),
    Page("/configuration", "Configuration", configuration),
)
