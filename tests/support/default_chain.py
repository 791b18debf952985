"""The default credential chain of the official library, in a test's hands.

The library reads the environment once, when it is imported: which test comes first would decide what all others see.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from collector.simulator.credentials import ACCESS_KEY_ID, ACCESS_KEY_SECRET


def empty_chain(monkeypatch: pytest.MonkeyPatch, home: Path) -> Any:
    """Return the library's view of the environment, with nothing in it and its files looked for in `home`."""
    library = importlib.import_module("alibabacloud_credentials.utils.auth_util")
    constants = importlib.import_module("alibabacloud_credentials.utils.auth_constant")
    for name in vars(library):
        if name.startswith("environment_"):
            monkeypatch.setattr(library, name, None)
    for name in ("environment_cli_profile_disabled", "environment_imds_v1_disabled", "environment_enable_vpc"):
        monkeypatch.setattr(library, name, "false")
    monkeypatch.setattr(library, "environment_ecs_metadata_disabled", "true")
    monkeypatch.setattr(library, "enable_oidc_credential", False)
    monkeypatch.setattr(constants, "HOME", str(home))
    return library


def use_access_key(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Let the chain find the simulator's access key in the environment, in this process and in those it starts."""
    library = empty_chain(monkeypatch, home)
    for name, value in {"access_key_id": ACCESS_KEY_ID, "access_key_secret": ACCESS_KEY_SECRET}.items():
        monkeypatch.setattr(library, f"environment_{name}", value)
        monkeypatch.setenv(f"ALIBABA_CLOUD_{name.upper()}", value)
