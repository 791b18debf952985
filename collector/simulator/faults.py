"""Faults, as data: what goes wrong, for whom, and when.

A fault applies to the arrivals that its `operation` and `scope_id` name. Of those it fires on the
ones in `arrivals` (1 is the first; None means every one), with `probability`, at most `times_max`
times. The draw depends on the simulator's seed, the fault's place in the list and the ordinal of
the arrival, so a run repeats. Where several fire on one call, delays add up, the first that breaks
the answer wins, and those that only bend it all apply.

`SUMMARIES` says what the client sees of each kind, and which parameters change it.

The kinds that begin with `date_` are drawn apart from the others, and for answers that refuse a call
too; the first that fires wins. `answers` says which: those of `calls`, of the clock's `probe` (HEAD),
or `all`.

`repeated_token` and `expired_token` look only at calls that carry a NextToken, `disorder` only at
those that do not (a listing stays in the order it began in); other calls are not even counted as
arrivals of theirs. `changing_total` and `total_text` do nothing to `ListSyslogs`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from collector.catalogue.operations import CATALOGUE
from collector.simulator.hashing import between, fraction, key_of


class Shape(enum.StrEnum):
    """How a record differs from what the service documents."""

    TIME_INT = "time_int"
    TIME_MS = "time_ms"
    TIME_MS_INT = "time_ms_int"
    TIME_ISO = "time_iso"
    NUMBERS = "numbers"
    STRINGS = "strings"
    UNKNOWN_FIELDS = "unknown_fields"
    MISSING_FIELDS = "missing_fields"
    NULL_FIELDS = "null_fields"
    TIME_ABSENT = "time_absent"
    TIME_GARBAGE = "time_garbage"
    NOT_AN_OBJECT = "not_an_object"


UNPLACEABLE = (Shape.TIME_ABSENT, Shape.TIME_GARBAGE, Shape.NOT_AN_OBJECT)
"""Shapes of a record that no table can take."""


PLACEABLE = tuple(shape for shape in Shape if shape not in UNPLACEABLE)
"""Shapes that leave a record what it was: nothing of the documented fields is lost but what is missing or null."""


class Oddity(enum.StrEnum):
    """What is odd; the module's docstring has a line for each."""

    BAD_UTF8 = "bad_utf8"
    CONTROL = "control"
    BAD_ESCAPE = "bad_escape"
    SURROGATE = "surrogate"
    LONG_NUMBER = "long_number"
    NOT_A_NUMBER = "not_a_number"
    INFINITY = "infinity"
    DOUBLED = "doubled"
    DEEP = "deep"
    QUOTES = "quotes"
    QUOTE = "quote"
    CUT = "cut"
    MARK = "mark"
    TRAILING = "trailing"


UNREADABLE = (Oddity.DEEP, Oddity.QUOTES, Oddity.QUOTE, Oddity.CUT)
"""Oddities that cost the record."""


READABLE = tuple(oddity for oddity in Oddity if oddity not in UNREADABLE)
"""Oddities that leave a record what it was."""


class FaultKind(enum.StrEnum):
    """What goes wrong; `SUMMARIES` has a line for each."""

    LATENCY = "latency"
    HANG = "hang"
    THROTTLE_429 = "throttle_429"
    THROTTLE_400 = "throttle_400"
    ERROR_500 = "error_500"
    ERROR_503 = "error_503"
    INVALID_PARAMETER = "invalid_parameter"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    HTML_200 = "html_200"
    HTML_502 = "html_502"
    INVALID_JSON = "invalid_json"
    EMPTY_BODY = "empty_body"
    NOT_UTF8 = "not_utf8"
    CODE_IN_200 = "code_in_200"
    OVERSIZED = "oversized"
    RESET_BEFORE = "reset_before"
    RESET_DURING = "reset_during"
    TRUNCATED = "truncated"
    CUT_SHORT = "cut_short"
    REPEATED_TOKEN = "repeated_token"
    EXPIRED_TOKEN = "expired_token"
    DISORDER = "disorder"
    CHANGING_TOTAL = "changing_total"
    TYPE_DRIFT = "type_drift"
    TOTAL_TEXT = "total_text"
    BIG_HEAD = "big_head"
    PLAIN_AS_GZIP = "plain_as_gzip"
    BROTLI = "brotli"
    NO_CONTENT = "no_content"
    REDIRECT = "redirect"
    DENIED = "denied"
    EMPTY_PAGE = "empty_page"
    REPEATED_PAGE = "repeated_page"
    EMPTY_PAGES = "empty_pages"
    ODD_RECORDS = "odd_records"
    DATE_SKEWED = "date_skewed"
    DATE_CACHED = "date_cached"
    DATE_MISSING = "date_missing"
    DATE_GARBLED = "date_garbled"
    DATE_ODD = "date_odd"


SUMMARIES: Final[Mapping[FaultKind, tuple[str, str]]] = {
    FaultKind.LATENCY: ("the answer comes later", "seconds_min (0), seconds_max (1)"),
    FaultKind.HANG: ("no answer for very long, then the usual one", "seconds_max (3600)"),
    FaultKind.THROTTLE_429: ("429 Throttling.User, Retry-After in seconds", "retry_after_seconds (1; 0: no header)"),
    FaultKind.THROTTLE_400: (
        "400 Throttling.User, x-acs-retry-after in milliseconds",
        "retry_after_seconds (1; 0: no header)",
    ),
    FaultKind.ERROR_500: ("500 InternalError", ""),
    FaultKind.ERROR_503: ("503 ServiceUnavailable", "retry_after_seconds (none)"),
    FaultKind.INVALID_PARAMETER: ("400 InvalidParameter", ""),
    FaultKind.UNAUTHORIZED: ("401 InvalidApiKey", ""),
    FaultKind.FORBIDDEN: ("403 NoPermission", ""),
    FaultKind.NOT_FOUND: ("404 InvalidScope.NotFound", ""),
    FaultKind.HTML_200: ("200 and a sign-in page", ""),
    FaultKind.HTML_502: ("502 and a proxy's error page", ""),
    FaultKind.INVALID_JSON: ("200 and a body that is no JSON", ""),
    FaultKind.EMPTY_BODY: ("200 and no body", ""),
    FaultKind.NOT_UTF8: ("200 and the answer with bytes that are not UTF-8", ""),
    FaultKind.CODE_IN_200: ('200 and {"Code": "InternalError", ...} without records', ""),
    FaultKind.OVERSIZED: ("200 and the answer with a field Padding", "bytes (operation's limit + 1 MiB)"),
    FaultKind.RESET_BEFORE: ("the connection is reset before any byte", ""),
    FaultKind.RESET_DURING: ("the connection is reset after headers and half of the body", ""),
    FaultKind.TRUNCATED: ("half of the body, Content-Length says so: cut-off JSON", ""),
    FaultKind.CUT_SHORT: ("half of the body, Content-Length promises all, then the connection ends", ""),
    FaultKind.REPEATED_TOKEN: ("the answer's NextToken is the one that was sent", ""),
    FaultKind.EXPIRED_TOKEN: ("400 InvalidParameter: the specified NextToken is expired", ""),
    FaultKind.DISORDER: ("the rows of the whole listing come in a shuffled order", ""),
    FaultKind.CHANGING_TOTAL: (
        "Total is off by one, up or down with the ordinal; never so that it ends the list with a full page",
        "",
    ),
    FaultKind.TYPE_DRIFT: ("records in other shapes", "shapes (all placeable), share (1)"),
    FaultKind.TOTAL_TEXT: ("Total is a string", ""),
    FaultKind.BIG_HEAD: ("the answer with a header of 64 KiB and 300 more", ""),
    FaultKind.PLAIN_AS_GZIP: ("the answer, not compressed, with Content-Encoding: gzip", ""),
    FaultKind.BROTLI: ("the answer with Content-Encoding: br, which was not asked for", ""),
    FaultKind.NO_CONTENT: ("204 and no body", ""),
    FaultKind.REDIRECT: ("307 to another host", ""),
    FaultKind.DENIED: ("200, no records and signs of failure beside them", "signs (Success false, status 500)"),
    FaultKind.EMPTY_PAGE: ("the page has no records and no NextToken; Total stays", ""),
    FaultKind.REPEATED_PAGE: ("every page is the first one, with a NextToken that is new", ""),
    FaultKind.EMPTY_PAGES: ("every page has no records and a NextToken that is new", ""),
    FaultKind.ODD_RECORDS: ("records whose text is odd", "oddities (readable ones), share (1)"),
    FaultKind.DATE_SKEWED: ("Date is off", "skew_seconds (3600), answers (all)"),
    FaultKind.DATE_CACHED: (
        "a cache answered: Date is old, Age and X-Cache say so",
        "skew_seconds (-7200), answers (all)",
    ),
    FaultKind.DATE_MISSING: ("no Date", "answers (all)"),
    FaultKind.DATE_GARBLED: ("a Date that is no date", "answers (all)"),
    FaultKind.DATE_ODD: ("Date in another form that HTTP allows, or nearly", "form (asctime), answers (all)"),
}
"""What the client sees of each kind, and the parameters (with their defaults) that change it."""


DATES = frozenset(
    {FaultKind.DATE_SKEWED, FaultKind.DATE_CACHED, FaultKind.DATE_MISSING, FaultKind.DATE_GARBLED, FaultKind.DATE_ODD}
)
"""Kinds that change the headers that tell the time, and nothing else."""
DELAYS = frozenset({FaultKind.LATENCY, FaultKind.HANG})
BENDS = frozenset(
    {
        FaultKind.REPEATED_TOKEN,
        FaultKind.DISORDER,
        FaultKind.CHANGING_TOTAL,
        FaultKind.TYPE_DRIFT,
        FaultKind.TOTAL_TEXT,
        FaultKind.EMPTY_PAGE,
        FaultKind.REPEATED_PAGE,
        FaultKind.EMPTY_PAGES,
    }
)
"""Kinds that leave an answer an answer."""
_LATER_PAGES = frozenset({FaultKind.REPEATED_TOKEN, FaultKind.EXPIRED_TOKEN})
_FIRST_PAGES = frozenset({FaultKind.DISORDER})


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One row of the fault list. ValueError for values that make no sense."""

    kind: FaultKind
    operation: str | None = None
    """Name in the catalogue; None is any."""
    scope_id: str | None = None
    """Node or resource group; None is any."""
    probability: float = 1.0
    arrivals: tuple[int, ...] | None = None
    """Ordinals, from 1, among the arrivals that this fault looks at; a range is `tuple(range(...))`."""
    times_max: int | None = None
    seconds_min: float = 0.0
    seconds_max: float | None = None
    retry_after_seconds: float | None = None
    bytes: int | None = None
    shapes: tuple[Shape, ...] = PLACEABLE
    share: float = 1.0
    """Of the records, this part drifts, or is odd."""
    oddities: tuple[Oddity, ...] = READABLE
    signs: dict[str, Any] | None = None
    """Fields of a `denied` answer that report its failure."""
    skew_seconds: float | None = None
    form: Literal["asctime", "rfc850", "minus_zero"] = "asctime"
    answers: Literal["all", "calls", "probe"] = "all"

    def __post_init__(self) -> None:
        if self.operation is not None and self.operation not in CATALOGUE:
            raise ValueError(f"operation: expected one of {', '.join(CATALOGUE)}, got {self.operation!r}")
        for name, value in (("probability", self.probability), ("share", self.share)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: expected 0 to 1, got {value}")
        low, high = self.delay_seconds
        if not 0 <= low <= high:
            raise ValueError(f"seconds: expected 0 <= min <= max, got {low} and {high}")

    @property
    def delay_seconds(self) -> tuple[float, float]:
        """Shortest and longest delay of a `latency` or `hang`."""
        if self.kind is FaultKind.HANG:
            high = 3600.0 if self.seconds_max is None else self.seconds_max
            return high, high
        return self.seconds_min, max(self.seconds_min, 1.0) if self.seconds_max is None else self.seconds_max

    def looks_at(self, operation: str, scope_id: str, *, has_token: bool) -> bool:
        """Whether a call counts as an arrival of this fault."""
        if self.operation not in (None, operation) or self.scope_id not in (None, scope_id):
            return False
        if self.kind in _LATER_PAGES:
            return has_token
        return not (self.kind in _FIRST_PAGES and has_token)


class Fired(msgspec.Struct, frozen=True):
    """What hits one call."""

    delay_seconds: float = 0.0
    breaks: Fault | None = None
    bends: tuple[Fault, ...] = ()
    kinds: tuple[FaultKind, ...] = ()

    def bend(self, kind: FaultKind) -> Fault | None:
        return next((fault for fault in self.bends if fault.kind is kind), None)


NOTHING = Fired()


class FaultPlan:
    """Decides, arrival by arrival, which faults fire."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        self.faults: Sequence[Fault] = tuple(faults)
        self._seed = seed
        self._arrivals = [0] * len(self.faults)
        self._times = [0] * len(self.faults)
        self._ordinals = [None if f.arrivals is None else frozenset(f.arrivals) for f in self.faults]

    def changed(self, *, without: int | None = None, more: Iterable[Fault] = ()) -> FaultPlan:
        """A plan without the fault at a place, and with more behind the others, which go on where they are."""
        kept = [place for place in range(len(self.faults)) if place != without]
        plan = FaultPlan([*(self.faults[place] for place in kept), *more], self._seed)
        for new, old in enumerate(kept):
            plan._arrivals[new], plan._times[new] = self._arrivals[old], self._times[old]
        return plan

    def told(self) -> list[dict[str, Any]]:
        """Each fault with its place, the arrivals that it has seen, and how often it fired."""
        return [
            {"place": place, **msgspec.to_builtins(fault), "seen": self._arrivals[place], "fired": self._times[place]}
            for place, fault in enumerate(self.faults)
        ]

    def draw(self, operation: str, scope_id: str, *, has_token: bool) -> Fired:
        """The faults of the next call of this operation and scope."""
        if not self.faults:
            return NOTHING
        delay_seconds = 0.0
        breaks: Fault | None = None
        bends: list[Fault] = []
        kinds: list[FaultKind] = []
        for place, fault in enumerate(self.faults):
            if fault.kind in DATES or not fault.looks_at(operation, scope_id, has_token=has_token):
                continue
            self._arrivals[place] += 1
            h = key_of("fault", self._seed, place, self._arrivals[place])
            if not self._fires(place, fault, h):
                continue
            if fault.kind in DELAYS:
                # The draw's own bits decided that it fires; how long it takes needs others.
                delay_seconds += between(key_of("delay", h), *fault.delay_seconds)
            elif fault.kind in BENDS:
                bends.append(fault)
            elif breaks is None:
                breaks = fault
            else:
                continue
            self._times[place] += 1
            kinds.append(fault.kind)
        return Fired(delay_seconds, breaks, tuple(bends), tuple(kinds))

    def draw_date(self, operation: str | None, scope_id: str = "") -> Fault | None:
        """The fault of the headers that tell the time, for the next answer; the clock's probe has no operation."""
        found: Fault | None = None
        for place, fault in enumerate(self.faults):
            if fault.kind not in DATES or fault.answers == ("calls" if operation is None else "probe"):
                continue
            if operation is not None and not fault.looks_at(operation, scope_id, has_token=False):
                continue
            self._arrivals[place] += 1
            h = key_of("date", self._seed, place, self._arrivals[place])
            if found is None and self._fires(place, fault, h):
                self._times[place] += 1
                found = fault
        return found

    def drift(self, operation: str, scope_id: str) -> Fault | None:
        """The type drift of a scope, as if it fired on every call; for computing what was served."""
        drifts = (fault for fault in self.faults if fault.kind is FaultKind.TYPE_DRIFT)
        return next((fault for fault in drifts if fault.looks_at(operation, scope_id, has_token=False)), None)

    def _fires(self, place: int, fault: Fault, h: int) -> bool:
        ordinals = self._ordinals[place]
        if ordinals is not None and self._arrivals[place] not in ordinals:
            return False
        if fault.times_max is not None and self._times[place] >= fault.times_max:
            return False
        return fraction(h) < fault.probability
