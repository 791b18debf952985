"""Where each product listens, by region and network. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from collector.catalogue.operation import Product
from collector.errors import ConfigError

NETWORKS: Final = ("public", "vpc")
"""`vpc` are the addresses inside a virtual private cloud of the same region."""


@dataclass(frozen=True, slots=True)
class _Host:
    public: str
    """First label of the host; `.{region}.aliyuncs.com` follows."""
    vpc: str = ""
    """The same inside a VPC, empty where the documentation has none."""
    regions: tuple[str, ...] = ()
    """The only regions it exists in; empty where it follows the pattern in new regions, too."""
    central: frozenset[str] = frozenset()
    """Regions that one host without a region serves."""


# Each line is from the operations' public metadata, which the official Python SDK contradicts in
# places: it sends PaiStudio in cn-hangzhou to another domain, leaves the region out for PaiLLMTrace,
# and misspells the host of PaiStudio and EAS in regions that it does not list.
_HOSTS: Final[Mapping[Product, _Host]] = MappingProxyType(
    {
        Product.EFLO_CONTROLLER: _Host("eflo-controller", "eflo-controller-vpc"),
        Product.PAI_STUDIO: _Host("pai", "pai-vpc"),
        Product.EAS: _Host("pai-eas"),
        Product.PAI_DLC: _Host(
            "pai-dlc",
            "pai-dlc-vpc",
            central=frozenset(
                {
                    "ap-south-1", "ap-southeast-2", "cn-beijing-finance-1", "cn-beijing-gov-1", "cn-chengdu",
                    "cn-fujian", "cn-huhehaote", "cn-north-2-gov-1", "cn-qingdao", "cn-shenzhen-finance-1",
                    "cn-wuhan", "cn-zhangjiakou", "eu-west-1", "me-east-1",
                }
            ),
        ),
        Product.PAI_DSW: _Host("pai-dsw", "pai-dsw-vpc"),
        Product.PAI_LLM_TRACE: _Host(
            "paillmtrace", regions=("cn-hangzhou", "cn-beijing", "cn-shanghai", "cn-shenzhen")
        ),
        Product.CMS: _Host("metrics"),
    }
)  # fmt: skip


class Hosts:
    """The base URLs of the product endpoints of one region."""

    def __init__(
        self,
        *,
        region: str,
        network: str = "public",
        base_url: str = "",
        endpoints: Mapping[str, str] | None = None,
    ) -> None:
        """`endpoints` replaces a product's address, `base_url` that of all others; both are http(s) URLs
        without query. Raises ConfigError with one line per mistake."""
        given = endpoints or {}
        products = [product.value for product in Product]
        mistakes = []
        if not re.fullmatch(r"[a-z0-9-]+", region):
            mistakes.append(f"api.region: got {region!r}; expected a region id such as cn-hangzhou")
        if network not in NETWORKS:
            mistakes.append(f"api.network: got {network!r}; expected one of {', '.join(NETWORKS)}")
        mistakes += [
            f"api.endpoints.{name}: no such product; expected one of {', '.join(products)}"
            for name in given
            if name not in products
        ]
        urls = {"api.base_url": base_url} if base_url else {}
        urls |= {f"api.endpoints.{name}": url for name, url in given.items()}
        mistakes += [f"{key}: got {url!r}; expected {wrong}" for key, url in urls.items() if (wrong := _wrong(url))]
        if mistakes:
            raise ConfigError(mistakes)
        self._region = region
        self._network = network
        self._base_url = base_url.rstrip("/")
        self._endpoints = {Product(name): url.rstrip("/") for name, url in given.items()}

    def __repr__(self) -> str:
        return f"Hosts(region={self._region!r}, network={self._network!r}, base_url={self._base_url!r})"

    def base_url(self, product: Product) -> str:
        """Scheme and host that serve `product`, such as https://pai.cn-hangzhou.aliyuncs.com.

        Raises ConfigError where the product has no address in this region or network.
        """
        if given := self._endpoints.get(product, self._base_url):
            return given
        host = _HOSTS[product]
        if host.regions and self._region not in host.regions:
            raise ConfigError(
                [
                    f"api.region: {product} has no endpoint in {self._region}; expected one of "
                    f"{', '.join(host.regions)}, or an address in api.endpoints.{product}"
                ]
            )
        if self._network == "vpc":
            if not host.vpc:
                raise ConfigError(
                    [
                        f"api.network: {product} has no documented endpoint inside a VPC; expected public, or an "
                        f"address in api.endpoints.{product}"
                    ]
                )
            return f"https://{host.vpc}.{self._region}.aliyuncs.com"
        if self._region in host.central:
            return f"https://{host.public}.aliyuncs.com"
        return f"https://{host.public}.{self._region}.aliyuncs.com"


def _wrong(url: str) -> str:
    """What a base URL should be, empty where it is that."""
    right = "an http(s) address without query, such as https://pai.cn-hangzhou.aliyuncs.com"
    if not re.fullmatch(r"https?://[!-~]+", url) or any(character in url for character in '?#\\"<>{}|^`'):
        return right
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return right
    return "" if parts.hostname and port != 0 and "@" not in parts.netloc else right
