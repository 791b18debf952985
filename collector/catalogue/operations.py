"""The catalogue: everything the project knows about an operation, in one row each.

Client, throttle, meter, simulator, commands and docs read these rows. Facts about quotas, prices
and limits come from the service's description; where it gives none, the row says so
(`Quota.documented`, `price=None`), and nothing downstream turns that into a silent zero. The rows
stand with their answers' types, one file per product, in `collector.catalogue.products`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from collector.catalogue.operation import Operation
from collector.catalogue.products import cms, eas, eflo_controller, pai_dlc, pai_dsw, pai_llm_trace, pai_studio

PRODUCTS = (eflo_controller, pai_studio, pai_dlc, pai_dsw, eas, pai_llm_trace, cms)

CATALOGUE: Mapping[str, Operation] = MappingProxyType({row.name: row for product in PRODUCTS for row in product.ROWS})


def operation(name: str) -> Operation:
    """The catalogue's row of `name`; KeyError names what there is."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise KeyError(f"no operation {name!r}; the catalogue has {', '.join(CATALOGUE)}") from None
