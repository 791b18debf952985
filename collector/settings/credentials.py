"""Secrets come from the environment, never from a file, and show themselves to nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from collector.errors import ConfigError

API_KEY_VARIABLE = "DASHSCOPE_API_KEY"
KEY_FILE_VARIABLE = "DASHSCOPE_API_KEY_FILE"
STORE_PASSWORD_VARIABLE = "PAI_COLLECTOR_STORE_PASSWORD"
STORE_TOKEN_VARIABLE = "PAI_COLLECTOR_STORE_TOKEN"
STORE_READER_PASSWORD_VARIABLE = "PAI_COLLECTOR_STORE_READER_PASSWORD"

SERVICE_TOKEN_VARIABLE = "PAI_COLLECTOR_SERVICE_TOKEN"

SECRETS: Final[Mapping[str, str]] = {
    API_KEY_VARIABLE: "API key of the account, for the bearer gateway.",
    KEY_FILE_VARIABLE: "File that holds this key; it is read again when the service refuses the key.",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "Access key of the openapi gateway, first in the official chain of credentials.",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "Secret of that access key.",
    "ALIBABA_CLOUD_SECURITY_TOKEN": "Token of a temporary access key.",
    STORE_PASSWORD_VARIABLE: "Password of the user of store.url.",
    STORE_TOKEN_VARIABLE: "Token of the user of store.url, in place of a password.",
    SERVICE_TOKEN_VARIABLE: "Token that this console, the metrics and the SQL endpoint ask for beyond this machine.",
}
"""Environment variables that hold secrets or name files with them, and what each is for."""


def api_key(environ: Mapping[str, str]) -> SecretStr:
    """The bearer key of all operations. Raises ConfigError where it is missing or cannot be sent in a header."""
    key = environ.get(API_KEY_VARIABLE, "").strip()
    if not key:
        raise ConfigError(
            [f"{API_KEY_VARIABLE}: not set; expected the API key of the account"],
            hint=f"export {API_KEY_VARIABLE}=sk-...",
        )
    # A line break would end the header and let the rest of the key start another.
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError([f"{API_KEY_VARIABLE}: not an API key; expected printable ASCII without spaces"])
    return SecretStr(key)


def store_secrets(environ: Mapping[str, str]) -> tuple[SecretStr, SecretStr]:
    """Password and token of the user of a ClickHouse server, at least one of them empty.

    Raises ConfigError where both are set, or where one cannot be sent in a header.
    """
    password = environ.get(STORE_PASSWORD_VARIABLE, "")
    token = environ.get(STORE_TOKEN_VARIABLE, "").strip()
    if password and token:
        raise ConfigError([f"{STORE_PASSWORD_VARIABLE} and {STORE_TOKEN_VARIABLE}: both are set; expected one of them"])
    if not re.fullmatch(r"[!-~]*", token):
        raise ConfigError([f"{STORE_TOKEN_VARIABLE}: not a token; expected printable ASCII without spaces"])
    return SecretStr(password), SecretStr(token)


def store_reader_password(environ: Mapping[str, str]) -> SecretStr:
    """Password of the user that readers' SQL runs as on a ClickHouse server; empty where it has none."""
    return SecretStr(environ.get(STORE_READER_PASSWORD_VARIABLE, ""))
