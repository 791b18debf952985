"""Who may call: the bearer key, or a signature of the kind ACS3-HMAC-SHA256 with an access key.

The verifier is written from the service's documentation and shares no line with the client that
signs, so that one of them can prove the other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import msgspec

from collector.simulator.requests import Call, Refusal, invalid_key

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


ALGORITHM: Final = "ACS3-HMAC-SHA256"
SKEW_SECONDS_MAX: Final = 900
"""The furthest that `x-acs-date` may be from the service's clock, either way."""
NONCES_MAX: Final = 200_000

_AUTHORIZATION = re.compile(rf"{ALGORITHM} Credential=([^,]+),SignedHeaders=([^,]+),Signature=([0-9a-f]{{64}})")
_NEEDED = ("x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256")


def canonical_request(call: Call, signed: Iterable[str]) -> str:
    """The text that is signed. `signed` are the names that `SignedHeaders` lists, in its order."""
    # A request line may write a space as a plus; the signature is always over %20.
    pairs = sorted(parse_qsl(call.query, keep_blank_values=True))
    names = list(signed)
    return "\n".join(
        (
            call.method,
            call.path or "/",
            "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in pairs),
            "".join(f"{name}:{call.headers.get(name, '').strip()}\n" for name in names),
            ";".join(names),
            hashlib.sha256(call.body).hexdigest(),
        )
    )


def signature_of(canonical: str, secret: str) -> str:
    """The signature of a canonical request, as lower-case hex."""
    text = f"{ALGORITHM}\n{hashlib.sha256(_bytes(canonical)).hexdigest()}"
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class Verifier:
    """Lets calls in or raises Refusal. It remembers the nonces that it has seen."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._nonces: OrderedDict[str, float] = OrderedDict()

    def verify_bearer(self, headers: Mapping[str, str]) -> None:
        """The bearer gateway's way: `Authorization: Bearer <key>`."""
        if not _same(headers.get("authorization", ""), f"Bearer {self.credentials.key}"):
            raise invalid_key()

    def verify_product(self, call: Call, now: float) -> None:
        """A product endpoint's way: a signature, or the bearer token of the official SDKs."""
        if "x-acs-bearer-token" in call.headers and "authorization" not in call.headers:
            self._verify_token(call)
        else:
            self._verify_signature(call, now)

    def _verify_token(self, call: Call) -> None:
        types = (call.headers.get("x-acs-signature-type"), dict(parse_qsl(call.query)).get("SignatureType"))
        if "BEARERTOKEN" not in types:
            raise Refusal(400, "InvalidSignatureType", "The signature type of a bearer token is BEARERTOKEN.")
        if not _same(call.headers["x-acs-bearer-token"], self.credentials.key):
            raise invalid_key()

    def _verify_signature(self, call: Call, now: float) -> None:
        headers = call.headers
        if "authorization" not in headers:
            raise Refusal(400, "MissingAccessKeyId", "AccessKeyId is mandatory for this action.")
        parts = _AUTHORIZATION.fullmatch(headers["authorization"])
        if parts is None:
            raise _incomplete("the Authorization header is not of the form that the algorithm has")
        key_id, names, signature = parts[1], parts[2].split(";"), parts[3]
        for name in _NEEDED:
            if not headers.get(name):
                raise _incomplete(f"the header {name} is missing")
        unsigned = {"host", *(name for name in headers if name.startswith("x-acs-"))} - set(names)
        if unsigned:
            raise _incomplete(f"SignedHeaders does not list {', '.join(sorted(unsigned))}")
        if names != sorted(names):
            raise _incomplete("SignedHeaders is not in order")
        if key_id != self.credentials.access_key_id:
            raise Refusal(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        self._check_date(headers["x-acs-date"], now)
        if not _same(headers["x-acs-content-sha256"], hashlib.sha256(call.body).hexdigest()):
            raise _mismatch("x-acs-content-sha256 is not the digest of the body.")
        canonical = canonical_request(call, names)
        if not _same(signature, signature_of(canonical, self.credentials.access_key_secret)):
            raise _mismatch(f"The server signs this canonical request:\n{_without_token(canonical)}")
        self._check_security_token(headers, now)
        self._use_nonce(headers["x-acs-signature-nonce"], now)

    def _check_date(self, text: str, now: float) -> None:
        try:
            date = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise Refusal(400, "InvalidTimeStamp.Format", "Specified time stamp is not well formatted.") from None
        if abs(date.timestamp() - now) > SKEW_SECONDS_MAX:
            raise Refusal(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")

    def _check_security_token(self, headers: Mapping[str, str], now: float) -> None:
        expected, expires_at = self.credentials.security_token, self.credentials.expires_at
        given = headers.get("x-acs-security-token")
        if expected is None and given is None:
            return
        if given is None:
            raise Refusal(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.")
        if expected is None or not _same(given, expected):
            raise Refusal(400, "MalformedSecurityToken", "Specified SecurityToken is not valid.")
        if expires_at is not None and now >= expires_at:
            raise Refusal(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")

    def _use_nonce(self, nonce: str, now: float) -> None:
        # A nonce is as good as new when no date that could come with it would be taken any more.
        nonces = self._nonces
        while nonces and (len(nonces) > NONCES_MAX or next(iter(nonces.values())) < now - 2 * SKEW_SECONDS_MAX):
            nonces.popitem(last=False)
        if nonce in nonces:
            raise Refusal(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
        nonces[nonce] = now


def _encoded(text: str) -> str:
    return quote(text, safe="~")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(_bytes(given), _bytes(expected))


def _bytes(text: str) -> bytes:
    # What was no UTF-8 in a header stands in it as surrogates.
    return text.encode(errors="surrogateescape")


def _without_token(canonical: str) -> str:
    return re.sub(r"^(x-acs-(?:security|bearer)-token:).*$", r"\1***", canonical, flags=re.MULTILINE)


def _incomplete(why: str) -> Refusal:
    return Refusal(400, "IncompleteSignature", f"The request signature does not conform to the standards: {why}.")


def _mismatch(why: str) -> Refusal:
    return Refusal(400, "SignatureDoesNotMatch", f"Specified signature is not matched with our calculation. {why}")
