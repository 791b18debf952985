"""The configuration: read once at start, checked as a whole, frozen afterwards."""

from collector.settings.credentials import (
    API_KEY_VARIABLE,
    SECRETS,
    STORE_PASSWORD_VARIABLE,
    STORE_READER_PASSWORD_VARIABLE,
    STORE_TOKEN_VARIABLE,
    api_key,
    store_reader_password,
    store_secrets,
)
from collector.settings.document import EffectiveKey, effective, example, json_schema
from collector.settings.load import DEFAULT_FILE, FILE_VARIABLE, anchored, load, locate
from collector.settings.model import (
    SETTLE_AUTO_SECONDS,
    ApiSettings,
    JournalSettings,
    LogSettings,
    PriceSettings,
    Settings,
    SourceSettings,
    StoreSettings,
    SyslogsSettings,
    TargetSettings,
    UserMetricsSettings,
)

__all__ = [
    "API_KEY_VARIABLE",
    "DEFAULT_FILE",
    "FILE_VARIABLE",
    "SECRETS",
    "SETTLE_AUTO_SECONDS",
    "STORE_PASSWORD_VARIABLE",
    "STORE_READER_PASSWORD_VARIABLE",
    "STORE_TOKEN_VARIABLE",
    "ApiSettings",
    "EffectiveKey",
    "JournalSettings",
    "LogSettings",
    "PriceSettings",
    "Settings",
    "SourceSettings",
    "StoreSettings",
    "SyslogsSettings",
    "TargetSettings",
    "UserMetricsSettings",
    "anchored",
    "api_key",
    "effective",
    "example",
    "json_schema",
    "load",
    "locate",
    "store_reader_password",
    "store_secrets",
]
