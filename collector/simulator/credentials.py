"""What opens the simulator: a bearer key, and an access key with or without a security token."""

from __future__ import annotations

from typing import Any

import msgspec

SIMULATOR_KEY = "sk-simulator"
"""The bearer key that a simulator takes unless told otherwise. It opens nothing else."""

ACCESS_KEY_ID = "LTAI-simulator"
ACCESS_KEY_SECRET = "simulator-secret"
"""The access key that a simulator takes unless told otherwise. It opens nothing else."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller has to prove. With a `security_token` the access key is a temporary one."""

    key: str = SIMULATOR_KEY
    access_key_id: str = ACCESS_KEY_ID
    access_key_secret: str = ACCESS_KEY_SECRET
    security_token: str | None = None
    expires_at: float | None = None
    """UNIX seconds of the simulator's clock from which the token is refused, None for never."""

    def changed(self, changes: dict[str, Any]) -> Credentials:
        """These with some fields replaced. msgspec.ValidationError for unknown fields and wrong types."""
        return msgspec.convert({**msgspec.structs.asdict(self), **changes}, Credentials)

    def __repr__(self) -> str:
        return f"Credentials(access_key_id={self.access_key_id!r})"
