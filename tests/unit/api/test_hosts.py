"""Which address serves a product, and what is said where none does."""

from __future__ import annotations

import pytest

from collector.api.hosts import Hosts
from collector.catalogue.operation import Product
from collector.errors import ConfigError


@pytest.mark.parametrize(
    ("product", "region", "network", "expected"),
    [
        (Product.PAI_STUDIO, "cn-shanghai", "public", "pai.cn-shanghai.aliyuncs.com"),
        (Product.PAI_STUDIO, "cn-hangzhou", "public", "pai.cn-hangzhou.aliyuncs.com"),
        (Product.PAI_STUDIO, "cn-hangzhou", "vpc", "pai-vpc.cn-hangzhou.aliyuncs.com"),
        (Product.PAI_STUDIO, "xx-new-9", "public", "pai.xx-new-9.aliyuncs.com"),
        (Product.EFLO_CONTROLLER, "cn-wulanchabu", "public", "eflo-controller.cn-wulanchabu.aliyuncs.com"),
        (Product.EFLO_CONTROLLER, "cn-wulanchabu", "vpc", "eflo-controller-vpc.cn-wulanchabu.aliyuncs.com"),
        (Product.EAS, "cn-shanghai", "public", "pai-eas.cn-shanghai.aliyuncs.com"),
        (Product.EAS, "cn-wulanchabu", "public", "pai-eas.cn-wulanchabu.aliyuncs.com"),
        (Product.EAS, "ap-northeast-1", "public", "pai-eas.ap-northeast-1.aliyuncs.com"),
        (Product.PAI_DLC, "cn-beijing", "public", "pai-dlc.cn-beijing.aliyuncs.com"),
        (Product.PAI_DLC, "cn-beijing", "vpc", "pai-dlc-vpc.cn-beijing.aliyuncs.com"),
        (Product.PAI_DLC, "cn-chengdu", "public", "pai-dlc.aliyuncs.com"),
        (Product.PAI_DSW, "cn-beijing", "public", "pai-dsw.cn-beijing.aliyuncs.com"),
        (Product.PAI_DSW, "cn-beijing", "vpc", "pai-dsw-vpc.cn-beijing.aliyuncs.com"),
        (Product.PAI_LLM_TRACE, "cn-shenzhen", "public", "paillmtrace.cn-shenzhen.aliyuncs.com"),
    ],
)
def test_a_product_has_its_host_in_each_region(product: Product, region: str, network: str, expected: str) -> None:
    """The host follows the documented pattern, in regions that did not exist when this was written, too."""
    assert Hosts(region=region, network=network).base_url(product) == f"https://{expected}"


def test_tracing_exists_in_four_regions_only() -> None:
    """Elsewhere the mistake names the region, the regions that work, and the key that overrides."""
    with pytest.raises(ConfigError) as caught:
        Hosts(region="cn-wulanchabu").base_url(Product.PAI_LLM_TRACE)

    assert str(caught.value) == (
        "api.region: PaiLLMTrace has no endpoint in cn-wulanchabu; expected one of cn-hangzhou, cn-beijing, "
        "cn-shanghai, cn-shenzhen, or an address in api.endpoints.PaiLLMTrace"
    )


@pytest.mark.parametrize("product", [Product.EAS, Product.PAI_LLM_TRACE])
def test_inside_a_vpc_only_documented_hosts_are_used(product: Product) -> None:
    """A product without a documented address inside a VPC is named; none is made up."""
    with pytest.raises(ConfigError, match=rf"api\.network: {product} has no documented endpoint"):
        Hosts(region="cn-hangzhou", network="vpc").base_url(product)


def test_an_address_of_ones_own_wins() -> None:
    """An endpoint replaces its product's address, whatever the region; a base URL that of all others."""
    endpoints = {"PaiLLMTrace": "http://127.0.0.1:9/trace/", "eas": "https://eas.internal"}
    own = Hosts(region="cn-wulanchabu", network="vpc", endpoints=endpoints)
    all_of_them = Hosts(region="cn-wulanchabu", base_url="http://127.0.0.1:8/", endpoints=endpoints)

    assert own.base_url(Product.PAI_LLM_TRACE) == "http://127.0.0.1:9/trace"
    assert own.base_url(Product.EAS) == "https://eas.internal"
    assert own.base_url(Product.PAI_DLC) == "https://pai-dlc-vpc.cn-wulanchabu.aliyuncs.com"
    others = set(Product) - {Product.PAI_LLM_TRACE, Product.EAS}
    assert all_of_them.base_url(Product.EAS) == "https://eas.internal"
    assert {all_of_them.base_url(product) for product in others} == {"http://127.0.0.1:8"}


def test_all_mistakes_are_named_at_once() -> None:
    """Region, network, products and addresses are checked together, each named by its key."""
    endpoints = {"paistudio": "https://a", "eas": "a.example", "pai-dlc": "https://a/?b", "pai-dsw": "https://u@a"}
    with pytest.raises(ConfigError) as caught:
        Hosts(region="cn-hangzhou.evil/", network="intranet", base_url="ftp://a", endpoints=endpoints)

    assert [mistake.partition(":")[0] for mistake in caught.value.mistakes] == [
        "api.region",
        "api.network",
        "api.endpoints.paistudio",
        "api.base_url",
        "api.endpoints.eas",
        "api.endpoints.pai-dlc",
        "api.endpoints.pai-dsw",
    ]


@pytest.mark.parametrize("region", ["", "CN-Hangzhou", "cn_hangzhou", "cn-hangzhou\n", "a.b", "cn-ü"])
def test_a_region_is_only_ever_a_label(region: str) -> None:
    """What could name another host is no region."""
    with pytest.raises(ConfigError, match=r"api\.region"):
        Hosts(region=region)
