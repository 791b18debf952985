"""The signature of the product endpoints, ACS3-HMAC-SHA256. Pure.

Source: "V3 request syntax and signature" of the service's documentation.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

ALGORITHM: Final = "ACS3-HMAC-SHA256"


def percent_encode(text: str) -> str:
    """`text` as it stands in a path segment or a canonical query: all but letters, digits and `-_.~` escaped."""
    return quote(text, safe="~")


def content_sha256(body: bytes) -> str:
    """What `x-acs-content-sha256` holds: of the exact bytes that are sent, of no bytes without a body."""
    return hashlib.sha256(body).hexdigest()


def canonical_request(
    method: str, path: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str]
) -> tuple[str, str]:
    """The text whose hash is signed, and the names of the headers in it, joined with `;`.

    `path` is percent-encoded, as it is sent; `query` is not. `headers` must hold `host` and
    `x-acs-content-sha256`. Only those are signed that the service demands: a proxy may change any
    other on the way.
    """
    signed = {name.lower(): value.strip() for name, value in headers.items() if _is_signed(name.lower())}
    names = sorted(signed)
    pairs = sorted((percent_encode(name), percent_encode(value)) for name, value in query)
    signed_names = ";".join(names)
    lines = [
        method,
        path or "/",
        "&".join(f"{name}={value}" for name, value in pairs),
        "".join(f"{name}:{signed[name]}\n" for name in names),
        signed_names,
        signed["x-acs-content-sha256"],
    ]
    return "\n".join(lines), signed_names


def string_to_sign(canonical: str) -> str:
    return f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def authorization(
    method: str,
    path: str,
    query: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
    *,
    key_id: str,
    secret: str,
) -> str:
    """The `Authorization` header of a request. Arguments as of `canonical_request`."""
    canonical, signed_names = canonical_request(method, path, query, headers)
    signature = hmac.new(secret.encode(), string_to_sign(canonical).encode(), hashlib.sha256).hexdigest()
    return f"{ALGORITHM} Credential={key_id},SignedHeaders={signed_names},Signature={signature}"


def _is_signed(name: str) -> bool:
    return name in ("host", "content-type") or name.startswith("x-acs-")
