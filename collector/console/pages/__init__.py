"""Every page of the console, in the order of the navigation."""

from __future__ import annotations

from typing import Final

from collector.console.page import Page
from collector.console.pages.overview import overview

PAGES: Final = (Page("/", "Overview", overview),)
