"""What a recording of the API's traffic holds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any


def recorded_calls(folder: Path) -> list[dict[str, Any]]:
    """Every line of a recording but the heads, in order."""
    found = []
    for path in sorted(folder.iterdir()):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        head, *rest = data.splitlines()
        assert json.loads(head)["recording"] == 1
        found += [json.loads(line) for line in rest]
    return found
