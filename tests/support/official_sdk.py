"""The official SDK clients, all of them called alike: by the catalogue's names, in a thread of their own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from collector.catalogue.operation import Operation, Place, Product
from collector.catalogue.operations import CATALOGUE

_PACKAGES: Mapping[Product, str] = {
    Product.EFLO_CONTROLLER: "alibabacloud_eflo_controller20221215",
    Product.PAI_STUDIO: "alibabacloud_paistudio20220112",
    Product.EAS: "alibabacloud_eas20210701",
    Product.PAI_DLC: "alibabacloud_pai_dlc20201203",
    Product.PAI_DSW: "alibabacloud_pai_dsw20220101",
    Product.PAI_LLM_TRACE: "alibabacloud_paillmtrace20240311",
    Product.CMS: "alibabacloud_cms20190101",
}
_MILLISECONDS_MAX = 30_000


class Sdk:
    """Clients of all products, pointed at one address.

    `credentials` are those of the SDKs' `Config`: `access_key_id` and `access_key_secret`, with
    `security_token` or without, or a `bearer_token`.
    """

    def __init__(self, base_url: str, **credentials: str) -> None:
        config = {
            "endpoint": base_url.removeprefix("http://"),
            "protocol": "HTTP",
            "region_id": "cn-hangzhou",
            "no_proxy": "127.0.0.1",
            "connect_timeout": _MILLISECONDS_MAX,
            "read_timeout": _MILLISECONDS_MAX,
            **credentials,
        }
        made = _part("alibabacloud_tea_openapi", "utils_models").Config(**config)
        self._clients = {product: _part(package, "client").Client(made) for product, package in _PACKAGES.items()}

    async def call(self, name: str, **parameters: Any) -> Any:
        """The body of the answer, as the SDK's model. `parameters` as the SDK's requests spell them on the wire."""
        row = CATALOGUE[name]
        method = getattr(self._clients[row.product], snake(row.action))
        return (await asyncio.to_thread(method, *_arguments(row, parameters))).body

    async def call_async(self, name: str, **parameters: Any) -> Any:
        """As `call`, with the SDK's asynchronous method, which has another transport."""
        row = CATALOGUE[name]
        method = getattr(self._clients[row.product], f"{snake(row.action)}_async")
        return (await method(*_arguments(row, parameters))).body


def _part(package: str, name: str) -> ModuleType:
    # The packages have no types; imported by name, they are Any and need no exception to the checks.
    return import_module(f"{package}.{name}")


def snake(name: str) -> str:
    """`ListSyslogs` as the SDKs write it in Python: `list_syslogs`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _arguments(row: Operation, parameters: Mapping[str, Any]) -> list[Any]:
    """Path parameters one by one, in the path's order, then a request with the others where there is one."""
    left = dict(parameters)
    arguments: list[Any] = [left.pop(name) for name in re.findall(r"{(\w+)}", row.path)]
    if all(parameter.place is Place.PATH for parameter in row.parameters):
        return arguments
    request = getattr(_part(_PACKAGES[row.product], "models"), f"{row.action}Request")()
    request.from_map(left)
    for name, value in vars(request).items():
        if value == []:
            # Reading a map leaves empty lists behind, which would be sent.
            setattr(request, name, None)
    unknown = left.keys() - request.to_map().keys()
    assert not unknown, f"{row.name} of the SDK has no {', '.join(sorted(unknown))}"
    return [*arguments, request]
