"""What a seed means: a small account, a service or several, an hour or less, and what goes wrong in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """What can go wrong."""

    CRASH_AT_AWAIT = "crash at any await"
    CRASH_BEFORE_COMMIT = "crash before a commit"
    CRASH_AFTER_COMMIT = "crash after a commit"
    CRASH_BEFORE_INSERT = "crash before an insert"
    CRASH_AFTER_INSERT = "crash after an insert"
    TORN_TAIL = "torn journal tail"
    CRASH_AT_START = "crash while starting"
    RESTART = "restart"
    JOURNAL_LOST = "journal lost"
    OLD_JOURNAL = "old journal returns"
    SHARDS = "shards change"
    STORE_AWAY = "store away"
    STORE_SLOW = "store slow"
    LOST_ANSWER = "lost acknowledgement"
    DOUBLE_DELIVERY = "duplicate delivery"
    TOKENS_FORGOTTEN = "store forgets a token"
    POISON = "row that the store refuses for ever"
    DISK_FULL = "disk full"
    API_AWAY = "service out of reach"
    API_ERRORS = "errors and broken answers"
    API_SLOW = "slow answers"
    CURSOR_EXPIRED = "cursor expires"
    CURSOR_REPEATED = "cursor repeats"
    DISORDER = "rows out of order"
    LATE_ROWS = "late rows"
    ANSWER_CHANGED = "answer changes between two reads"
    QUOTA_CUT = "quota cut"
    KEY_REVOKED = "credentials expire"
    CLOCK_STEP = "clock step"
    TOO_LARGE = "segments too large for the store"
    KEY_REFUSED_ONCE = "good key refused once"
    ANSWERS_DENIED = "answers that contradict themselves"
    PAGES_REPEAT = "pages that repeat"
    JOURNAL_LOCKED = "journal locked by another program"
    ODD_RECORDS = "records that strict parsers refuse"
    DATES_AHEAD = "dates ahead for a while"
    DATES_MIXED = "dates that disagree"
    DATES_STALE = "stale cached dates"
    DATES_ODD = "dates odd or missing"
    ANSWERS_TOO_LARGE = "answers that are too large"


DRAWN_BESIDE = (Kind.ANSWERS_DENIED, Kind.PAGES_REPEAT, Kind.ODD_RECORDS, Kind.ANSWERS_TOO_LARGE)
"""Kinds that are drawn by themselves, so that the other incidents of a seed stay as they were before these existed."""
BESIDE_SHARE = 0.4
"""Share of the histories that get one of these for each draw that is left."""
CRASHES = frozenset(
    {
        Kind.CRASH_AT_AWAIT, Kind.CRASH_BEFORE_COMMIT, Kind.CRASH_AFTER_COMMIT, Kind.CRASH_BEFORE_INSERT,
        Kind.CRASH_AFTER_INSERT, Kind.TORN_TAIL, Kind.CRASH_AT_START, Kind.JOURNAL_LOST, Kind.OLD_JOURNAL,
    }
)  # fmt: skip


DATES = frozenset({Kind.DATES_AHEAD, Kind.DATES_MIXED, Kind.DATES_STALE, Kind.DATES_ODD})
"""What goes wrong with the headers that tell the time. Drawn apart, so that the others stay what they were."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that goes wrong."""

    number: int
    """Its place in the seed's list, which names it."""
    kind: Kind
    at: float
    """Seconds from the start."""
    seconds: float
    """How long it lasts, or how long the machine is down after it."""
    count: int
    """Which step, commit, insert or answer it hits."""
    machine: int
    """Which of the processes, where there are several."""


@dataclass(frozen=True, slots=True)
class LongStretch:
    """Some seconds in which a node logs more and longer lines."""

    node: int
    at: int
    """Seconds from the start."""
    seconds: int
    per_second: int
    bytes: int
    is_equal: bool


@dataclass(frozen=True, slots=True)
class History:
    """Everything that a seed decides."""

    seed: int
    begins: int
    """Server time, s since the epoch."""
    minutes: int
    nodes: int
    groups: int
    page_size: int
    users_page_size: int
    interval: int
    settle: int
    rechecks: tuple[int, ...]
    flush_seconds: float
    lines_per_second: float
    tokens_max: int
    """Tokens that the store remembers."""
    incidents: tuple[Incident, ...]
    segment_bytes: int = 0
    """Largest segment and window of the program, in bytes; 0: as much as the machine's memory allows."""
    long_lines: tuple[LongStretch, ...] = ()

    @property
    def seconds(self) -> float:
        return self.minutes * 60.0

    def only(self, numbers: tuple[int, ...]) -> History:
        """The history with these incidents alone."""
        return replace(self, incidents=tuple(one for one in self.incidents if one.number in numbers))

    @property
    def is_ever_ahead(self) -> bool:
        """Whether answers may have been dated in the future, so that streams are set back."""
        return any(one.kind in (Kind.DATES_AHEAD, Kind.DATES_MIXED) for one in self.incidents)

    @property
    def is_misdated(self) -> bool:
        """Whether answers may have been dated otherwise than when they were given."""
        return any(one.kind in DATES and one.kind is not Kind.DATES_ODD for one in self.incidents)

    @property
    def has_shards(self) -> bool:
        return any(one.kind is Kind.SHARDS for one in self.incidents)


INCIDENTS_MAX = 6
BEGINNINGS = (1_760_000_000, 1_759_968_000, 1_761_955_200, 1_761_926_400)
"""Some time before: a plain morning, midnight UTC, a new month in UTC, a new billing month (UTC+8)."""
SIZED_SHARE = 0.65
"""Of the histories, so many have lines of ordinary length only, and a store that takes any segment."""
SHARDED_SHARE = 0.12
"""Of the histories, so many have several processes."""


DATES_SHARE = 0.2
"""Of the histories, so many have dates that are wrong."""


def draw(seed: int) -> History:
    """The history of a seed."""
    random = Random(seed)
    minutes = random.choice((2, 3, 5, 8))
    has_shards = random.random() < SHARDED_SHARE
    # Sizes are drawn by themselves too.
    beside = (Kind.SHARDS, Kind.TOO_LARGE, *DRAWN_BESIDE, *DATES)
    kinds = [kind for kind in Kind if kind not in beside]
    if has_shards:
        # Journals that are lost are a person's affair there: the history of the shards holds it.
        kinds = [kind for kind in kinds if kind not in (Kind.JOURNAL_LOST, Kind.OLD_JOURNAL)]
    count = random.randint(1, INCIDENTS_MAX)
    drawn: list[Kind] = [random.choice(kinds) for _ in range(count)]
    if has_shards:
        drawn += [Kind.SHARDS] * random.randint(1, 2)
        minutes = max(minutes, 10)
    times = sorted(random.uniform(0, minutes * 60) for _ in drawn)
    incidents = tuple(
        Incident(number, kind, at, _lasts(kind, random), _hits(kind, random), random.randrange(2))
        for number, (kind, at) in enumerate(zip(random.sample(drawn, len(drawn)), times, strict=True), start=1)
    )
    incidents += _beside(seed, minutes, len(incidents))
    incidents += _draw_dates(seed, minutes, len(incidents))
    return _with_sizes(
        History(
            seed=seed,
            begins=random.choice(BEGINNINGS) - random.randrange(minutes * 60),
            minutes=minutes,
            nodes=random.choice((1, 1, 2, 3)),
            groups=random.choice((1, 1, 2)),
            page_size=random.choice((6, 12, 40)),
            users_page_size=random.choice((4, 50)),
            interval=random.choice((40, 60, 90)),
            settle=random.choice((25, 40, 60)),
            rechecks=random.choice(((), (90,), (60, 180), (150,))),
            flush_seconds=random.choice((5.0, 15.0, 45.0)),
            lines_per_second=random.choice((0.02, 0.06, 0.15)),
            tokens_max=random.choice((1, 3, 1000)) if not has_shards else 1000,
            incidents=incidents,
        )
    )


def _with_sizes(history: History) -> History:
    """Long lines, small bounds and a store with little memory, in some of the histories."""
    random = Random(f"sizes {history.seed}")
    if random.random() < SIZED_SHARE:
        return history
    seconds = int(history.seconds)
    stretches = tuple(
        LongStretch(
            random.randrange(history.nodes), random.randrange(-100, seconds), random.choice((1, 3, 20)),
            random.choice((1, 8, 25)), random.choice((200, 900, 1500)), random.random() < 0.3,
        )
        for _ in range(random.randint(1, 3))
    )  # fmt: skip
    incidents = history.incidents
    stretches = tuple(
        replace(one, per_second=min(one.per_second, _lines_max(history, is_equal=one.is_equal))) for one in stretches
    )
    if random.random() < 0.6:
        at, lasts = random.uniform(0, seconds), random.choice((20.0, 200.0, 600.0))
        incidents += (Incident(len(incidents) + 1, Kind.TOO_LARGE, at, lasts, random.randint(1, 4), 0),)
    return replace(
        history, incidents=incidents, long_lines=stretches, segment_bytes=random.choice((0, 0, 3_000, 8_000, 30_000))
    )


def _lines_max(history: History, *, is_equal: bool) -> int:
    """Lines a second that can be told from a list that does not end, and from a page that came twice."""
    if any(one.kind is Kind.PAGES_REPEAT for one in history.incidents):
        # A page of one second alone may come twice with good reason: three stretches together must not fill one.
        return max(1, history.page_size // 4)
    return 2 * history.page_size if is_equal else 1_000


def _beside(seed: int, minutes: int, count: int) -> tuple[Incident, ...]:
    random = Random(f"beside {seed}")
    found: list[Incident] = []
    while random.random() < BESIDE_SHARE:
        kind, at, number = random.choice(DRAWN_BESIDE), random.uniform(0, minutes * 60), count + len(found) + 1
        found.append(Incident(number, kind, at, _lasts(kind, random), _hits(kind, random), random.randrange(2)))
    return tuple(found)


def _draw_dates(seed: int, minutes: int, count: int) -> tuple[Incident, ...]:
    random = Random(f"dates {seed}")
    if random.random() >= DATES_SHARE:
        return ()
    return tuple(
        Incident(
            count + number, random.choice(sorted(DATES)), random.uniform(0, minutes * 60),
            random.choice((5.0, random.uniform(60, 240), random.uniform(200, 600))), random.randint(1, 4), 0,
        )
        for number in range(1, random.randint(1, 2) + 1)
    )  # fmt: skip


def _lasts(kind: Kind, random: Random) -> float:
    if kind in (Kind.JOURNAL_LOST, Kind.OLD_JOURNAL):
        # Nobody puts a machine in another's place within a second.
        return random.uniform(5, 120)
    if kind in CRASHES or kind in (Kind.RESTART, Kind.SHARDS):
        return random.choice((0.0, 0.3, 5.0, random.uniform(10, 200)))
    return random.choice((2.0, random.uniform(5, 60), random.uniform(60, 240)))


def _hits(kind: Kind, random: Random) -> int:
    match kind:
        case Kind.CRASH_AT_AWAIT:
            return random.randint(1, 400)
        case Kind.CRASH_BEFORE_COMMIT | Kind.CRASH_AFTER_COMMIT | Kind.TORN_TAIL:
            return random.randint(1, 30)
        case Kind.CRASH_AT_START:
            return random.randint(1, 40)
        case Kind.LATE_ROWS:
            return random.randint(1, 12)
        case _:
            return random.randint(1, 4)
