"""The catalogue: everything the project knows about an operation, in one row each.

Client, throttle, meter, simulator, commands and docs read these rows. Facts about quotas, prices
and limits come from the service's description; where it gives none, the row says so
(`Quota.documented`, `price=None`), and nothing downstream turns that into a silent zero.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from collector.api import answers


class Style(enum.StrEnum):
    """How the product endpoint takes a call."""

    RPC = "rpc"
    """`POST /`, the operation named in a header, parameters in a form body."""
    ROA = "roa"
    """A path and a method of its own."""


class Place(enum.StrEnum):
    """Where a parameter travels on the product endpoint. On the bearer gateway the method decides."""

    PATH = "path"
    QUERY = "query"
    FORM = "form"
    JSON = "json"


class Paging(enum.StrEnum):
    """How an operation pages."""

    NONE = "none"
    NEXT_TOKEN = "next_token"
    """Ask again with the answer's `NextToken` until there is none."""
    PAGE_NUMBER = "page_number"
    """Ask `PageNumber` 1, 2, ... until `Total` records have come."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One request parameter, spelled as the service spells it."""

    name: str
    place: Place
    help: str
    type: type = str
    required: bool = False
    choices: tuple[str, ...] = ()
    """The values the service takes, compared without case; empty means any."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Requests that the service takes in any second, per account and operation."""

    per_second: int
    documented: bool = True
    """False where the service gives no figure and this is the conservative default."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one call costs, whether it succeeds or fails."""

    cny: Decimal
    free_calls_per_month: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the catalogue.

    `price` is None where the service gives none ("unpriced"): its calls are counted but add
    nothing to the spend, and every place that shows money says so.
    """

    name: str
    product: str
    version: str
    style: Style
    method: str
    path: str
    summary: str
    parameters: tuple[Parameter, ...]
    quota: Quota
    price: Price | None
    paging: Paging
    repeatable: bool
    """True when asking twice does no harm, so that a call whose answer was lost may be sent again."""
    answer: type[answers.Answer]
    records_field: str | None
    """Attribute of `answer` that holds the records, None where the answer itself is the record."""
    records_max: int | None
    """Records in one answer at most."""
    answer_bytes_max: int
    """A larger body is refused while it is being read."""
    identity: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """For each table that the operation fills: the columns that make two records the same one."""
    one_host: bool = False
    """True for an operation that the bearer gateway serves at api.aliyun.com for both sites."""

    @property
    def wire_records_field(self) -> str | None:
        """The records' key in the JSON answer, such as `Logs`."""
        return self.records_field and _wire_name(self.answer, self.records_field)

    def parameter(self, name: str) -> Parameter | None:
        return next((p for p in self.parameters if p.name == name), None)


def _wire_name(answer: type[answers.Answer], attribute: str) -> str:
    index = answer.__struct_fields__.index(attribute)
    name: str = answer.__struct_encode_fields__[index]
    return name


_MIB = 1 << 20

LIST_SYSLOGS = Operation(
    name="ListSyslogs",
    product="eflo-controller",
    version="2022-12-15",
    style=Style.RPC,
    method="POST",
    path="/",
    summary="Log lines of one node in a time range, 100 a page.",
    parameters=(
        Parameter("FromTime", Place.FORM, "Start of the range, UNIX seconds.", required=True),
        Parameter("ToTime", Place.FORM, "End of the range, UNIX seconds.", required=True),
        Parameter("NodeId", Place.FORM, "The node.", required=True),
        Parameter("Query", Place.FORM, "Search condition."),
        Parameter("Reverse", Place.FORM, "Newest first.", type=bool),
        Parameter("NextToken", Place.FORM, "Cursor of the next page."),
    ),
    quota=Quota(100, documented=False),
    price=Price(Decimal("0.0001"), free_calls_per_month=1000),
    paging=Paging.NEXT_TOKEN,
    repeatable=True,
    answer=answers.ListSyslogsAnswer,
    records_field="logs",
    records_max=100,
    answer_bytes_max=8 * _MIB,
    identity=MappingProxyType(
        {
            "syslogs": (
                "time", "receive_time", "region", "cluster_id", "node_id", "hostname", "ip", "sn",
                "facility", "severity", "syslogtag", "source", "domain", "topic", "tag_hostname",
                "tag_pack_id", "tag_path", "tag_user_defined_id", "msg",
            ),
        }
    ),
)  # fmt: skip

GET_USER_VIEW_METRICS = Operation(
    name="GetUserViewMetrics",
    product="PaiStudio",
    version="2022-01-12",
    style=Style.ROA,
    method="GET",
    path="/api/v1/resources/{ResourceGroupID}/usermetrics",
    summary="Present usage of every user of a resource group.",
    parameters=(
        Parameter("ResourceGroupID", Place.PATH, "The resource group.", required=True),
        Parameter("PageNumber", Place.QUERY, "1-based page.", required=True),
        Parameter("PageSize", Place.QUERY, "Records a page, at most 1000.", required=True),
        Parameter("SortBy", Place.QUERY, "Field to sort by."),
        Parameter("Order", Place.QUERY, "asc or desc.", choices=("asc", "desc")),
        Parameter("UserId", Place.QUERY, "Only this user."),
        Parameter("TimeStep", Place.QUERY, "Averaging step, such as 5m; units h, m, s."),
        Parameter("WorkspaceId", Place.QUERY, "Only this workspace."),
    ),
    quota=Quota(100),
    price=Price(Decimal("0.001"), free_calls_per_month=1000),
    paging=Paging.PAGE_NUMBER,
    repeatable=True,
    answer=answers.GetUserViewMetricsAnswer,
    records_field="user_metrics",
    records_max=1000,
    answer_bytes_max=32 * _MIB,
    identity=MappingProxyType(
        {
            "user_metrics": ("time", "region", "resource_group_id", "user_id", "job_type"),
            "resource_group_metrics": ("time", "region", "resource_group_id"),
        }
    ),
    one_host=True,
)

CATALOGUE: Mapping[str, Operation] = MappingProxyType(
    {operation.name: operation for operation in (LIST_SYSLOGS, GET_USER_VIEW_METRICS)}
)


def operation(name: str) -> Operation:
    """The catalogue's row of `name`; KeyError names what there is."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise KeyError(f"no operation {name!r}; the catalogue has {', '.join(CATALOGUE)}") from None


def price_text(price: Price | None) -> str:
    """A price as people read it; an absent one is never shown as zero."""
    return "unpriced" if price is None else f"{price.cny} CNY"


def coerce_parameters(row: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the parameters of a call against the catalogue before it is spent.

    Returns them without those that are None. Raises ValueError with one line per mistake.
    """
    mistakes = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        known = row.parameter(name)
        if known is None:
            names = ", ".join(p.name for p in row.parameters)
            mistakes.append(f"{name}: {row.name} has no such parameter; it has {names}")
            continue
        if value is None:
            continue
        if not isinstance(value, known.type):
            mistakes.append(f"{name}: expected {known.type.__name__}, got {value!r}")
        elif known.choices and str(value).lower() not in known.choices:
            mistakes.append(f"{name}: expected one of {', '.join(known.choices)}, got {value!r}")
        else:
            values[name] = value
    mistakes += [f"{p.name}: required by {row.name}" for p in row.parameters if p.required and p.name not in values]
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return values
