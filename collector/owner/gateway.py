"""The gateway that a configuration asks for."""

from __future__ import annotations

from collector.api.gateways import ApiKey, BearerGateway, Gateway
from collector.api.hosts import Hosts
from collector.clock import Clock, ServerClock
from collector.errors import ConfigError
from collector.owner.streams import operations_of
from collector.settings import Settings


def needs_api_key(settings: Settings) -> bool:
    """Whether the API key of the environment is what proves who calls."""
    return settings.api.gateway == "bearer" or settings.api.sign_with == "bearer"


def check_endpoints(settings: Settings) -> None:
    """Raises ConfigError where an operation of the configuration has no endpoint in its region or network."""
    api = settings.api
    if api.gateway == "bearer":
        return
    hosts = Hosts(region=api.region, network=api.network, base_url=api.base_url, endpoints=api.endpoints)
    mistakes: list[str] = []
    for product in dict.fromkeys(row.product for row in operations_of(settings)):
        try:
            hosts.base_url(product)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)


def gateway_of(settings: Settings, key: ApiKey, clock: Clock, server_clock: ServerClock) -> Gateway:
    """The gateway with its credentials; `key` is not used where access keys sign.

    Raises ConfigError for what cannot work: a package that is missing, a region without endpoints.
    """
    api = settings.api
    check_endpoints(settings)
    if api.gateway == "bearer":
        return BearerGateway(key, site=api.site, base_url=api.base_url, endpoints=api.endpoints)
    # Whoever does not sign does not pay for loading what signs.
    from collector.api.credentials import BearerToken, ChangingToken, CredentialsSource, DefaultChain, StaticCredentials
    from collector.api.openapi import OpenApiGateway

    credentials: CredentialsSource
    if api.sign_with != "bearer":
        credentials = DefaultChain(clock)
    elif isinstance(key, str):
        credentials = StaticCredentials(BearerToken(key))
    else:
        credentials = ChangingToken(key)
    return OpenApiGateway(
        credentials,
        region=api.region,
        now=server_clock.now,
        network=api.network,
        base_url=api.base_url,
        endpoints=api.endpoints,
    )
