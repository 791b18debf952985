"""What a row of the catalogue says about an operation. Pure data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from collector.catalogue.answers import Answer


class Product(enum.StrEnum):
    """A product whose operations are called, as the services spell it."""

    EFLO_CONTROLLER = "eflo-controller"
    PAI_STUDIO = "PaiStudio"
    EAS = "eas"
    PAI_DLC = "pai-dlc"
    PAI_DSW = "pai-dsw"
    PAI_LLM_TRACE = "PaiLLMTrace"
    CMS = "Cms"


RAM_CODES: Final[Mapping[Product, str]] = MappingProxyType(
    {
        Product.EFLO_CONTROLLER: "eflo",
        Product.PAI_STUDIO: "pai",
        Product.EAS: "eas",
        Product.PAI_DLC: "paidlc",
        Product.PAI_DSW: "paidsw",
        Product.PAI_LLM_TRACE: "paillmtrace",
        Product.CMS: "cms",
    }
)
"""First part of the RAM actions of each product; the second is the operation."""


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
    """A field of the JSON body. The bearer gateway takes these together, as the object `body`."""


class Spread(enum.StrEnum):
    """How a list or an object becomes text in a query or form of the product endpoint."""

    COMMAS = "commas"
    """`NodeIds=a,b`"""
    NUMBERED = "numbered"
    """`OperatingStates.1=Using&OperatingStates.2=Unused`; of objects, `Tags.1.Key=k&Tags.1.Value=v`."""
    JSON = "json"
    """One field that holds compact JSON."""


class Form(enum.StrEnum):
    """What the text of a parameter must look like."""

    ANY = "any"
    SECONDS = "seconds"
    """A moment in UNIX seconds, such as 1687363300; milliseconds are refused."""
    MINUTE = "minute"
    """A moment in UNIX seconds that is a whole minute."""
    MOMENT = "moment"
    """A moment as 2025-10-09T08:00:00Z, UTC."""
    CIVIL = "civil"
    """A moment as 2025-10-09 08:00:00, UTC."""
    TIME_STEP = "time_step"
    """A span such as 5m, 1h or 30s; a bare number means seconds."""
    COUNT = "count"
    """A whole number from 1 up, as text."""
    MILLISECONDS = "milliseconds"
    """A moment in UNIX milliseconds, such as 1687363300000, or as 2025-10-09 08:00:00, UTC."""


class Nesting(enum.StrEnum):
    """Where the list of records is in the JSON answer."""

    PLAIN = "plain"
    """The field of the answer is the list."""
    TEXT = "text"
    """The field is a text, and that is the list as JSON."""
    RESOURCE = "resource"
    """The field is an object, whose field `Resource` is the list."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One request parameter, spelled as the service spells it."""

    name: str
    place: Place
    help: str
    type: type = str
    """str, int, bool, list or dict."""
    required: bool = False
    choices: tuple[str, ...] = ()
    """The values that the service takes, compared without case; empty means any."""
    form: Form = Form.ANY
    least: int | None = None
    most: int | None = None
    """Bounds of a whole number, or of a text of `Form.COUNT`."""
    spread: Spread = Spread.COMMAS
    inside: str = ""
    """On the product endpoint it is a field of this object, which travels as JSON."""
    bearer_only: bool = False
    """True for a parameter that the product endpoint does not have."""
    is_secret: bool = False
    """Its value is shown to nobody."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Paging by cursor: ask again with the answer's `NextToken` until there is none."""

    size: str = ""
    """Parameter that holds the records a page, empty where the service decides."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Paging by number: ask page 1, 2, ... until the total has come."""

    number: str = "PageNumber"
    size: str = "PageSize"
    total: str = "total_count"
    """Attribute of the answer that holds the records of all pages."""
    as_text: bool = False
    """True where both parameters are text."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Requests that the service takes in any second, per account and operation."""

    per_second: int
    documented: bool = True
    """False where the service gives no figure and this is the conservative default."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one call costs, whether it succeeds or fails."""

    cny: Decimal | None
    """None where the service says how many calls are free, and not what others cost."""
    free_calls_per_month: int = 0
    pot: str = ""
    """Name of the pot that the free calls are in, where several operations share them; else empty."""

    @property
    def counted_cny(self) -> Decimal:
        """What a call adds to the spend: nothing where its price is not known."""
        return self.cny or Decimal(0)


MIB: Final = 1 << 20
QUOTA_UNDOCUMENTED: Final = Quota(100, documented=False)
FREE: Final = Price(Decimal(0))


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the catalogue.

    `price` is None where the service gives none ("unpriced"): its calls are counted but add
    nothing to the spend, and every place that shows money says so.
    """

    name: str
    product: Product
    version: str
    style: Style
    method: str
    path: str
    """On the product endpoint; `{Name}` stands for the parameter of that name."""
    summary: str
    parameters: tuple[Parameter, ...]
    answer: type[Answer]
    records_field: str | None = None
    """Attribute of `answer` that holds the records, None where the answer itself is the record."""
    records_max: int | None = None
    """Records in one answer at most."""
    nesting: Nesting = Nesting.PLAIN
    """Where the list of records is in the answer."""
    paging: Tokens | Numbers | None = None
    quota: Quota = QUOTA_UNDOCUMENTED
    price: Price | None = None
    repeatable: bool = True
    """True when asking twice does no harm, so that a call whose answer was lost may be sent again."""
    answer_bytes_max: int = 8 * MIB
    """A larger body is refused while it is being read."""
    scope: str = ""
    """Parameter that names what the call is about, empty where it is about the account."""
    identity: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """For each table that the operation fills: the columns that make two records the same one."""
    secret_fields: frozenset[str] = frozenset()
    """Fields of the answer, at any depth, that are never stored, logged or printed unasked."""
    one_host: bool = False
    """True for an operation that the bearer gateway serves at api.aliyun.com for both sites."""
    wire_name: str = ""
    """Name on the wire, where two products have an operation of the same name; empty if it is `name`."""
    ram_name: str = ""
    """Second part of the RAM action, empty if it is the operation's name on the wire."""

    @property
    def action(self) -> str:
        """The operation's name on the wire, such as `ListSyslogs`."""
        return self.wire_name or self.name

    @property
    def ram_action(self) -> str:
        """The action that a RAM policy has to allow, such as `eflo:ListSyslogs`."""
        return f"{RAM_CODES[self.product]}:{self.ram_name or self.action}"

    @property
    def wire_records_field(self) -> str | None:
        """The records' key in the JSON answer, such as `Logs`; None if the answer itself is the record."""
        return self.records_field and wire_name(self.answer, self.records_field)

    def parameter(self, name: str) -> Parameter | None:
        return next((p for p in self.parameters if p.name == name), None)

    def scope_id(self, parameters: Mapping[str, Any]) -> str:
        """What a call with these parameters is about, empty where it is about the account."""
        return str(parameters.get(self.scope, "")) if self.scope else ""


def wire_name(answer: type[Answer], attribute: str) -> str:
    """The JSON key of an answer's attribute."""
    index = answer.__struct_fields__.index(attribute)
    name: str = answer.__struct_encode_fields__[index]
    return name


def known_cny(price: Price | None) -> Decimal | None:
    """Return what a call beyond the free ones costs, None if it is unpriced."""
    return None if price is None else price.cny


def price_text(price: Price | None) -> str:
    """A price as people read it; an absent one is never shown as zero."""
    cny = known_cny(price)
    return "unpriced" if cny is None else f"{cny} CNY"
