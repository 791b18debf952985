"""Each named query gives the answer that was worked out by hand from a few rows, edges included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from collector.cli.commands.query import ENGINE_FORMATS
from collector.pipeline.ship import GAP_COLUMNS, WATERMARK_COLUMNS
from collector.queries import QueryLimits
from collector.sources.normalise import lines
from collector.sources.source import Observed
from collector.sources.tables import TABLES
from collector.store.assets import sql_files, sql_folder
from collector.store.embedded import EmbeddedStore
from collector.store.fault_rules import fault_rules
from collector.store.named import NamedQuery, named_queries, named_query, parsed
from tests.support.effort import one_in

END = 1_760_011_200
"""2025-10-09T12:00:00Z: the end of every range, unless a query looks at the present."""
UNTIL = {"until": "2025-10-09T12:00:00Z"}
DAY = 24 * 60
"""Minutes."""

Rows = list[list[Any]]


@dataclass(frozen=True)
class Case:
    """Rows by table, and for some values of the parameters what the query has to answer."""

    name: str
    rows: Mapping[str, Rows]
    answers: list[tuple[dict[str, str], Rows]]
    without: tuple[str, ...] = field(default=())
    """Columns that depend on the moment of the query."""


def at(end: int, minutes: float) -> int:
    return end - round(minutes * 60)


def shown(seconds: int) -> str:
    """A moment as the engine writes it."""
    return f"{moment(seconds):%Y-%m-%d %H:%M:%S}"


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


XID_79 = "NVRM: Xid (PCI:0000:3b:00): 79, pid=9, GPU has fallen off the bus."
XID_31 = "NVRM: Xid (PCI:0000:5e:00): 31, pid=9"
OOM = "Out of memory: Killed process 9"


def line(
    time: int,
    node: str,
    msg: str = "all is well",
    tag: str = "kernel",
    hostname: str = "",
    region: str = "r",
    delay: int | None = None,
) -> list[Any]:
    """A log line; the host of node n1 is h1. Without a delay the log service did not tell when it received it."""
    received = None if delay is None else time + delay
    return [time, region, node, hostname or node.replace("n", "h"), tag, msg, received]


def usage(
    time: int,
    user: str,
    gpus: int | None,
    rate: float | None,
    *,
    group: str = "g1",
    kind: str = "PyTorch",
    jobs: list[str] | None = None,
    nodes: list[str] | None = None,
    **more: Any,
) -> list[Any]:
    """A row of user_metrics; what is not named is NULL."""
    known = {
        "time": time, "region": "r", "resource_group_id": group, "user_id": user, "job_type": kind,
        "request_gpu": gpus, "gpu_usage_rate": rate, "gpu_job_names": jobs or [], "node_names": nodes or [],
        "cpu_job_names": [], "cpu_node_names": [], "gpu_node_names": [], "extra": "{}", "workspace_id": "", **more,
    }  # fmt: skip
    return [known.get(column) for column in TABLES["user_metrics"].columns]


def summary(time: int, group: str, workspace: str = "") -> list[Any]:
    lists = ("cpu_job_names", "gpu_job_names", "node_names", "cpu_node_names", "gpu_node_names")
    known = {"time": time, "region": "r", "resource_group_id": group, "job_type": "", "user_count": 1, "extra": "{}"}
    known["workspace_id"] = workspace
    known |= {name: [] for name in lists}
    return [known.get(column) for column in TABLES["resource_group_metrics"].columns]


def point(time: int, value: float, entity: str = "n1", metric: str = "m", scope: str = "g1") -> list[Any]:
    return [time, "r", "node_metrics", scope, entity, metric, "", value, "{}", "", 0, "", "{}", "", metric]


def cloud(
    time: int,
    value: float,
    entity: str = "n1",
    measure: str = "m",
    *,
    period: int = 60,
    statistic: str = "Average",
    dimensions: str = '{"nodeId":"n1"}',
) -> list[Any]:
    """A point of CloudMonitor, whose metric has another name than its measure."""
    metric = f"{measure}_OF_IT"
    row: list[Any] = [time, "r", "cloud_metrics", "g1", entity, metric, "", value, "{}", "acs_pai_x", period, statistic]
    return [*row, dimensions, "%", measure]


def event(time: int, scope: str, content: str, reason: str = "", kind: str = "", source: str = "dlc") -> list[Any]:
    return [time, "r", source, scope, scope, "", kind, reason, "", content, "{}"]


def task(
    name: str, state: str, created: int, ended: int | None, *, cluster: str = "c1", extra: str = "{}"
) -> list[Any]:
    seen = Observed(name, (cluster, ["n1", "n2"], "NetDiag", state, created, ended, '[{"Node":"n1"}]', extra))
    return list(seen.row(created, "r"))


def thing(kind: str, name: str, state: str, attributes: str = "{}", observed: int = 1000) -> list[Any]:
    return list(Observed(name, (kind, "c1", f"name-{name}", state, attributes)).row(observed, "r"))


def mark(scope: str, start: int, end: int, operation: str = "ListSyslogs") -> list[Any]:
    return [operation, "r", scope, start, end, 1000]


def gap(scope: str, start: int, end: int, state: str = "open") -> list[Any]:
    return ["ListSyslogs", "r", scope, start, end, "why", state, 1000]


def called(
    time: int, operation: str, calls: int, cost: str, status: int = 200, code: str = "", rows: int = 0
) -> list[Any]:
    return [time, "r", operation, status, code, calls, rows, 0, cost]


# The range of a day begins with its first second and ends before its last.
FAULTS = {
    "syslogs": [
        line(at(END, 10), "n1", XID_79),
        line(at(END, 20), "n1", XID_79, hostname="old"),
        line(at(END, 30), "n1", XID_31, hostname="old"),
        line(at(END, 40), "n1"),
        line(at(END, 5), "n2", XID_79),
        line(at(END, 0), "n2", OOM),
        line(at(END, DAY), "n2", OOM),
        line(at(END, DAY + 1), "n2", OOM),
    ]
}
T5, T10, T20, T30, TDAY = (shown(at(END, minutes)) for minutes in (5, 10, 20, 30, DAY))


FOLDED = [
    line(at(END, 60), "n1", "NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus."),
    line(at(END, 59), "n1", XID_79),
    *(line(at(END, 59) + second, "n1", XID_31) for second in range(12)),
    line(at(END, 30), "n2", "nvidia-nvswitch1: SXid (PCI:0000:c4:00.0): 20034, Fatal, Link 41 LTSSM Fault Up"),
    line(at(END, 30), "n2", "nvidia-nvswitch1: SXid (PCI:0000:c4:00.0): 20034, Severity 1 Engine instance 41"),
    line(at(END, 30), "n2", "nvidia-nvswitch1: SXid (PCI:0000:c4:00.0): 20034, Data {0x50610008}"),
    line(at(END, 20), "n2", "python3 invoked oom-killer: gfp_mask=0xcc0"),
    line(at(END, 20), "n2", "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),task=python3,pid=4711,uid=0"),
    line(at(END, 20), "n2", "Memory cgroup out of memory: Killed process 4711 (python3)"),
    line(at(END, 15), "n2", "{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 4"),
    line(at(END, 15), "n2", "{1}[Hardware Error]: event severity: corrected"),
    *(line(at(END, 15), "n2", f"{{1}}[Hardware Error]:   device_id: 0000:5d:0{part}.0") for part in range(18)),
    # Five minutes apart is one incident, a second more is another.
    *(line(at(END, minutes), "n3", "eth2: Link down") for minutes in (20, 15, 10)),
    line(at(END, 5) + 1, "n3", "eth2: Link down"),
]


def folded() -> Rows:
    """What the lines of FOLDED come to."""
    t60, t59, t15 = (shown(at(END, minutes)) for minutes in (60, 59, 15))
    nobody: Rows = [[], []]
    return [
        ["fatal", *[shown(at(END, 5) + 1)] * 2, 1, "n3", "h3", "eth2", "nic", 0, "", *nobody, *judged("nic")],
        ["fatal", T20, T10, 3, "n3", "h3", "eth2", "nic", 0, "", *nobody, *judged("nic")],
        ["fatal", T30, T30, 3, "n2", "h2", "0000:c4:00", "sxid", 20034, "fatal", *nobody, *judged("sxid", 20034)],
        ["fatal", t60, t59, 2, "n1", "h1", "0000:3b:00", "xid", 79, "", *nobody, *judged("xid", 79)],
        ["application", T20, T20, 3, "n2", "h2", "", "oom", 0, "limit", *nobody, *judged("oom", 0, "limit")],
        ["application", t59, shown(at(END, 59) + 11), 12, "n1", "h1", "0000:5e:00", "xid", 31, "", *nobody,
         *judged("xid", 31)],
        ["corrected", t15, t15, 20, "n2", "h2", "", "mce", 0, "corrected", *nobody, *judged("mce", 0, "corrected")],
    ]  # fmt: skip


def judged(name: str, code: int = 0, case: str = "") -> list[str]:
    """Meaning and action of a class, a number or a case."""
    known = {(one.name, one.code, one.case): one for one in fault_rules().meanings}[name, code, case]
    return [known.meaning, known.action]


def faults(now: int) -> list[Case]:
    """Of log lines."""
    x79, x31, oom = judged("xid", 79), judged("xid", 31), judged("oom")
    first = ["fatal", "xid", 79, "", "0000:3b:00", "n1", "h1", 2, 2, T20, T10, *x79]
    second = ["fatal", "xid", 79, "", "0000:3b:00", "n2", "h2", 1, 1, T5, T5, *x79]
    of_oom = ["degraded", "oom", 0, "", "", "n2", "h2", 1, 1, TDAY, TDAY, *oom]
    xid_31 = ["application", "xid", 31, "", "0000:5e:00", "n1", "old", 1, 1, T30, T30, *x31]
    n1 = ["n1", "h1", "fatal", 2, 0, 1, 1, 1, 3, ["xid"], "xid", 79, "0000:3b:00", *x79, T30, T10]
    n2 = ["n2", "h2", "fatal", 1, 1, 0, 3, 2, 3, ["oom", "xid"], "xid", 79, "0000:3b:00", *x79,
          shown(at(END, DAY + 1)), T5]  # fmt: skip
    xid_79 = ["xid", 79, "0000:3b:00", "", 9, "", "", None, "", "", *x79, XID_79]
    timeline = [
        [T5, "fatal", "n2", "h2", *xid_79],
        [T10, "fatal", "n1", "h1", *xid_79],
        [T20, "fatal", "n1", "old", *xid_79],
        [T30, "application", "n1", "old", "xid", 31, "0000:5e:00", "", 9, "", "", None, "", "", *x31, XID_31],
    ]
    users = [
        usage(at(END, 11), "u1", 8, 90, jobs=["j1"], nodes=["n1"]),
        usage(at(END, 12), "u2", 8, 90, jobs=["j2"], nodes=["h2"]),
        usage(at(END, 50), "u3", 8, 90, jobs=["j3"], nodes=["n1"]),
    ]
    gone = ["0000:3b:00", "xid", 79, ""]
    incidents = [
        ["fatal", T5, T5, 1, "n2", "h2", *gone, ["u2"], ["j2"], *x79],
        ["fatal", T10, T10, 1, "n1", "h1", *gone, ["u1"], ["j1"], *x79],
        ["fatal", T20, T20, 1, "n1", "old", *gone, ["u1"], ["j1"], *x79],
        ["degraded", TDAY, TDAY, 1, "n2", "h2", "", "oom", 0, "", [], [], *oom],
        ["application", T30, T30, 1, "n1", "old", "0000:5e:00", "xid", 31, "", [], [], *x31],
    ]
    storm = [line(at(END, 10), "n1", XID_79, "kernel")] * 3 + [line(at(END, 10), "n1", tag="app")] * 37
    storm += [line(at(END, minute), "n1") for minute in range(20, 29) for _ in range(2)]
    storm += [line(at(END, minute), "n2") for minute in range(1, 4) for _ in range(30)]
    storm += [line(at(END, 9), "n3")] * 19 + [line(at(END, minute), "n3") for minute in range(20, 24)]
    storm += [line(at(END, 8), "n4")] * 20 + [line(at(END, minute), "n4") for minute in (20, 21) for _ in range(2)]
    n1_storm = [T10, "n1", "h1", 40, 2, 20, 3, "app"]
    n4_storm = [shown(at(END, 8)), "n4", "h4", 20, 2, 10, 0, "kernel"]
    return [
        Case(
            "faults",
            FAULTS,
            [
                (UNTIL, [first, second, of_oom, xid_31]),
                (UNTIL | {"node": "n1", "class": "xid"}, [first, xid_31]),
                (UNTIL | {"class": "oom", "node": "n1"}, []),
                (UNTIL | {"rows": "1"}, [first]),
                ({"until": "2020-01-01T00:00:00Z"}, []),
            ],
        ),
        Case(
            "faults_over_time",
            FAULTS,
            [
                (
                    UNTIL,
                    [
                        ["2025-10-09 11:00:00", "n1", "xid", "fatal", 3, 2, T10],
                        ["2025-10-09 11:00:00", "n2", "xid", "fatal", 1, 1, T5],
                        ["2025-10-08 12:00:00", "n2", "oom", "degraded", 1, 1, TDAY],
                    ],
                ),
                (
                    UNTIL | {"minutes": "0", "node": "n1", "rows": "2"},
                    [[T10, "n1", "xid", "fatal", 1, 1, T10], [T20, "n1", "xid", "fatal", 1, 1, T20]],
                ),
            ],
        ),
        Case(
            "worst_nodes",
            FAULTS,
            [(UNTIL, [n1, n2]), (UNTIL | {"days_min": "2"}, [n2]), (UNTIL | {"days_min": "3"}, [])],
        ),
        Case(
            "xids",
            FAULTS,
            [(UNTIL, timeline), (UNTIL | {"code": "31"}, timeline[3:]), (UNTIL | {"node": "n2"}, timeline[:1])],
        ),
        Case(
            "incidents",
            FAULTS | {"user_metrics": users},
            [
                (UNTIL, incidents),
                (UNTIL | {"severity": "degraded"}, incidents[:4]),
                (UNTIL | {"severity": "fatal", "node": "n1"}, incidents[1:3]),
                (UNTIL | {"class": "oom"}, incidents[3:4]),
            ],
        ),
        Case("incidents", {"syslogs": FOLDED}, [(UNTIL, folded())]),
        Case(
            "delays",
            {
                "syslogs": [
                    *(line(at(END, 10), "n1", delay=seconds) for seconds in (9, 1, 2)),
                    line(at(END, 10), "n1"),
                    line(at(END, 10), "n2", delay=20),
                    line(at(END, DAY), "n2", delay=30),
                    line(at(END, 10), "n3", delay=-3),
                    line(at(END, 0), "n4", delay=5),
                    line(at(END, 10), "n5"),
                ]
            },
            [
                (UNTIL, [["n2", 2, 30, 30, 30, 30], ["n1", 3, 2, 9, 9, 9], ["n3", 1, 0, 0, 0, -3]]),
                (UNTIL | {"hours": "1", "rows": "2"}, [["n2", 1, 20, 20, 20, 20], ["n1", 3, 2, 9, 9, 9]]),
            ],
        ),
        Case(
            "log_storms",
            {"syslogs": storm},
            [
                (UNTIL | {"lines_min": "20"}, [n1_storm, n4_storm]),
                (UNTIL | {"lines_min": "20", "factor": "10.5"}, [n1_storm]),
                (UNTIL, []),
            ],
        ),
        Case(
            "nodes",
            FAULTS | {"inventory_states": [thing("node", name, "Using", MACHINE) for name in ("n1", "n2", "n3")]},
            [
                (
                    UNTIL,
                    [
                        [n, f"name-{n}", "c1", "efg1", "Using", "z1", 1, worst, lines, classes, "1970-01-01 00:16:40"]
                        for n, worst, lines, classes in (
                            ("n1", "fatal", 3, ["xid"]),
                            ("n2", "fatal", 2, ["oom", "xid"]),
                            ("n3", "", 0, []),
                        )
                    ],
                )
            ],
        ),
    ]


MACHINE = '{"MachineType":"efg1","ZoneId":"z1"}'


def jobs(now: int) -> list[Case]:
    """Where a job's failure began, from whichever of its ends is known."""
    seen = [
        usage(at(now, 20), "u1", 8, 90, jobs=["j1"], nodes=["n1", "n2"]),
        usage(at(now, 20), "u2", 8, 90, jobs=["j2"], nodes=["n9"]),
        usage(at(now, 10), "u2", 8, 90, jobs=["j2"], nodes=["n9"]),
        usage(at(now, 21), "u1", 0, None, cpu_job_names=["j1"], cpu_node_names=["n4"]),
        usage(at(now, 40 * DAY), "u1", 8, 90, jobs=["j1"], nodes=["n8"]),
    ]
    said = [
        line(at(now, 15), "n1", XID_79),
        line(at(now, 12), "n1", OOM),
        line(at(now, 5), "n1", OOM),
        line(at(now, 7 * 60), "n1", XID_31),
        line(at(now, 15), "n2"),
        line(at(now, 11), "n3", OOM),
        line(at(now, 18), "n9", XID_31),
        line(at(now, 18), "n4"),
    ]
    failed = f'{{"GmtFailedTime":"{moment(at(now, 10)):%Y-%m-%dT%H:%M:%SZ}","Pods":[{{"NodeName":"h3"}}]}}'
    other = failed.replace("h3", "h9").replace(f"{moment(at(now, 10)):%H:%M}", f"{moment(at(now, 1)):%H:%M}")
    told = [
        event(at(now, 14), "j1", "Pod j1-worker-0 failed"),
        event(at(now, 11), "j1", "Restarted: nothing to see"),
        event(at(now, 10), "j2", "failed"),
        event(at(now, 9), "j1", "failed", source="eas"),
    ]
    end = shown(at(now, 10))
    x79, of_oom = judged("xid", 79), judged("oom")
    gone = ["xid", 79, "0000:3b:00"]
    n1 = ["n1", end, "fatal", shown(at(now, 15)), 300, *gone, 2, 2, *x79, XID_79]
    h3 = ["h3", end, "degraded", shown(at(now, 11)), 60, "oom", 0, "", 1, 1, *of_oom, OOM]
    of_event, of_usage = shown(at(now, 14)), shown(at(now, 20))
    quiet = [None, None, None, "", 0, "", 0, 0, "", "", ""]
    usual = {"user_metrics": seen, "syslogs": said}
    return [
        Case(
            "job_faults",
            usual
            | {
                "events": told,
                "inventory_states": [thing("job", "j1", "Failed", failed), thing("job", "j2", "Failed", other)],
            },
            [
                ({"job": "j1"}, [n1, h3, ["n2", end, *quiet], ["n4", end, *quiet]]),
                (
                    {"job": "j1", "hours": "8"},
                    [
                        ["n1", end, "fatal", shown(at(now, 15)), 300, *gone, 3, 3, *x79, XID_79],
                        h3,
                        ["n2", end, *quiet],
                        ["n4", end, *quiet],
                    ],
                ),
                (
                    {"job": "j1", "until": shown(at(now, 13))},
                    [
                        ["n1", shown(at(now, 13)), "fatal", shown(at(now, 15)), 120, *gone, 1, 1, *x79, XID_79],
                        *([node, shown(at(now, 13)), *quiet] for node in ("h3", "n2", "n4")),
                    ],
                ),
                ({"job": "j0"}, []),
            ],
        ),
        Case(
            "job_faults",
            usual | {"events": told},
            [
                (
                    {"job": "j1"},
                    [
                        ["n1", of_event, "fatal", shown(at(now, 15)), 60, *gone, 1, 1, *x79, XID_79],
                        ["n2", of_event, *quiet],
                        ["n4", of_event, *quiet],
                    ],
                )
            ],
        ),
        Case("job_faults", usual, [({"job": "j1"}, [[node, of_usage, *quiet] for node in ("n1", "n2", "n4")])]),
    ]


def silence(now: int) -> list[Case]:
    """Nodes that are collected: one that logs, one that stopped, one that never began, one that is behind."""
    soon, hours = at(now, 1), at(now, 180)
    return [
        Case(
            "silent_nodes",
            {
                "watermark_states": [
                    mark("n1", at(now, 600), soon),
                    mark("n2", at(now, 600), soon),
                    mark("n3", at(now, 120), soon),
                    mark("n4", at(now, 600), hours),
                    mark("g1", at(now, 600), soon, "GetUserViewMetrics"),
                    # Collected with several queries, one after the other: what goes on is the newest.
                    mark("n5?Query=a", at(now, 600), hours),
                    mark("n5?Query=oom %26 100%25", at(now, 600), soon),
                    mark("n5?Query=b", at(now, 600), at(now, 200)),
                ],
                "syslogs": [
                    line(at(now, 5), "n1"),
                    line(hours, "n2"),
                    line(at(now, 200), "n2", hostname="old"),
                    line(at(now, 5), "n2", region="other"),
                    line(at(now, 181), "n4"),
                ],
                "inventory_states": [thing("node", "n2", "Using", MACHINE)],
            },
            [
                (
                    {},
                    [
                        ["n5", "", "", None, None, 599, shown(soon), "oom & 100%"],
                        ["n2", "h2", "Using", 1, shown(hours), 179, shown(soon), ""],
                        ["n3", "", "", None, None, 119, shown(soon), ""],
                    ],
                ),
                (
                    {"minutes": "179", "hours": "4"},
                    [
                        ["n5", "", "", None, None, 238, shown(soon), "oom & 100%"],
                        ["n2", "h2", "Using", 1, shown(hours), 179, shown(soon), ""],
                    ],
                ),
            ],
            without=("behind_minutes",),
        ),
        Case(
            "freshness",
            {
                "watermark_states": [
                    mark("n1", at(now, 40), at(now, 20)),
                    mark("n2", at(now, 30), at(now, 10)),
                    mark("n3", at(now, 5), at(now, 5)),
                ],
                # Before the start, over the one before, inside of it, beyond the end; and one that was filled.
                "gap_states": [
                    gap("n1", at(now, 50), at(now, 39)),
                    gap("n1", at(now, 39.5), at(now, 38.5)),
                    gap("n1", at(now, 39.2), at(now, 39.1)),
                    gap("n1", at(now, 38.8), at(now, 38.7)),
                    gap("n1", at(now, 20.5), at(now, 15)),
                    gap("n1", at(now, 30), at(now, 29), "filled"),
                ],
            },
            [
                (
                    {},
                    [
                        ["ListSyslogs", "n1", shown(at(now, 20)), shown(at(now, 40)), 5, 120, 90],
                        ["ListSyslogs", "n2", shown(at(now, 10)), shown(at(now, 30)), 0, 0, 100],
                        ["ListSyslogs", "n3", shown(at(now, 5)), shown(at(now, 5)), 0, 0, None],
                    ],
                )
            ],
            without=("behind_seconds",),
        ),
    ]


def of_usage(now: int) -> list[Case]:
    """Of snapshots."""
    idle = [usage(at(END, minute), "u1", 8, 1) for minute in (*range(20, 61, 5), 10, 5)]
    idle += [usage(at(END, 15), "u1", 8, 50)]
    idle += [usage(at(END, minute), "u2", 8, None) for minute in range(5, 61, 5)]
    idle += [usage(at(END, minute), "u3", 8, 1) for minute in (60, 55, 50, 45, 40, 20, 15, 10, 5)]
    idle += [usage(at(END, minute), "u4", 0, 0) for minute in range(5, 61, 5)]
    idle += [usage(at(END, minute), "u5", 1, 4.99) for minute in range(30, 61, 5)]
    idle += [usage(at(END, minute), "u6", 1, 5) for minute in range(5, 61, 5)]
    idle += [usage(at(END, minute), "u7", 1, 1, workspace_id="w1") for minute in range(30, 61, 5)]
    idle += [usage(at(END, minute), "u7", 1, 90, workspace_id="w2") for minute in range(30, 61, 5)]
    u7 = ["g1", "w1", "u7", "PyTorch", shown(at(END, 60)), T30, 30, 7, 1, 1, 0.5]
    u1 = ["g1", "", "u1", "PyTorch", shown(at(END, 60)), T20, 40, 9, 8, 1, 5.33]
    known = [
        usage(at(END, 10), "u1", 4, 50, request_memory=0, memory_usage_rate=10),
        usage(at(END, 10), "u1", 4, 0, kind="MPI"),
        usage(at(END, 5), "u1", 8, None),
        usage(at(END, 5), "u2", 2, 100, request_cpu=10, cpu_usage_rate=20),
        usage(at(END, 5), "u3", None, None),
        usage(at(END, 5), "u2", 2, 50, workspace_id="w1"),
    ]
    hourly = [
        usage(at(END, 10), "u1", 2, 50),
        usage(at(END, 5), "u1", 1, 20),
        usage(at(END, 5), "u1", 3, 60, kind="MPI"),
        usage(at(END, 5), "u2", None, None, request_cpu=4, cpu_usage_rate=25),
        usage(at(END, 10), "u2", None, None, request_cpu=8, cpu_usage_rate=50),
        usage(at(END, 5), "u3", 10, 0),
        usage(at(END, 70), "u1", 9, 100),
        usage(at(END, 5), "u1", 7, 100, workspace_id="w1"),
    ]
    latest = [usage(at(END, 10), "u1", 8, 50), usage(at(END, 5), "u2", None, None), usage(at(END, 5), "u3", 4, 10)]
    latest += [usage(at(END, 5), "u5", 8, 10), usage(at(END, 10), "u4", 1, 1, group="g2")]
    latest += [usage(at(END, minute), f"u{minute}", 3, 10, workspace_id="w1") for minute in (5, 10)]
    latest += [usage(at(now, 5), "u8", 1, 1, group="g3"), usage(at(now, 9), "u9", 1, 1, group="g3")]
    return [
        Case(
            "idle_gpus",
            {"user_metrics": idle},
            [
                (UNTIL, [u1, ["g1", "", "u5", "PyTorch", shown(at(END, 60)), T30, 30, 7, 1, 4.99, 0.5], u7]),
                (UNTIL | {"workspace": "w1"}, [u7]),
                (UNTIL | {"user": "u1", "minutes": "5"}, [u1, ["g1", "", "u1", "PyTorch", T10, T5, 5, 2, 8, 1, 0.67]]),
                (UNTIL | {"resource_group": "g2"}, []),
            ],
        ),
        Case(
            "utilization",
            {"user_metrics": known},
            [
                (
                    UNTIL,
                    [
                        ["g1", "", "u1", 2, 8, 1, 25, 3, None, None, None, 0, 0, None],
                        ["g1", "w1", "u2", 1, 2, 1, 50, 1, *[None] * 6],
                        ["g1", "", "u2", 1, 2, 2, 100, 0, 10, 2, 20, None, None, None],
                        ["g1", "", "u3", 1, *[None] * 10],
                    ],
                )
            ],
        ),
        Case(
            "usage_over_time",
            {"user_metrics": hourly},
            [
                (
                    UNTIL | {"hours": "2"},
                    [
                        ["2025-10-09 11:00:00", "g1", "", "u3", 1, 10, 10, 0, 0, None, None, None, None],
                        ["2025-10-09 11:00:00", "g1", "", "u1", 2, 3, 3.9, 1.5, 1.95, None, None, None, None],
                        ["2025-10-09 11:00:00", "g1", "", "u2", 2, None, None, None, None, 6, 7.8, 2.5, 3.85],
                        ["2025-10-09 11:00:00", "g1", "w1", "u1", 1, 7, 7, 7, 7, None, None, None, None],
                        ["2025-10-09 10:00:00", "g1", "", "u1", 1, 9, 9, 9, 9, None, None, None, None],
                    ],
                )
            ],
        ),
        Case(
            "usage",
            {
                "user_metrics": latest,
                "resource_group_metrics": [
                    summary(at(END, 5), "g1"),
                    summary(at(END, 5), "g2"),
                    summary(1000, "g1"),
                    summary(at(END, 5), "g1", "w1"),
                ],
            },
            [
                (
                    {},
                    [
                        ["g1", "", "u5", "PyTorch", 8, 10, None, None, None, 0, T5],
                        ["g1", "", "u3", "PyTorch", 4, 10, None, None, None, 0, T5],
                        ["g1", "", "u2", "PyTorch", None, None, None, None, None, 0, T5],
                        ["g1", "w1", "u5", "PyTorch", 3, 10, None, None, None, 0, T5],
                        ["g3", "", "u8", "PyTorch", 1, 1, None, None, None, 0, shown(at(now, 5))],
                    ],
                ),
                ({"workspace": "w1"}, [["g1", "w1", "u5", "PyTorch", 3, 10, None, None, None, 0, T5]]),
                ({"resource_group": "g2"}, []),
            ],
        ),
    ]


def series(now: int) -> list[Case]:
    """Of points, events and tasks."""
    swinging = [point(at(END, 60 + i), 10 + 2 * (i % 2)) for i in range(30)] + [point(at(END, 10), 100)]
    steady = [point(at(END, 60 + i), 5, "n2") for i in range(29)] + [point(at(END, 20), 6, "n2")]
    constant = [point(at(END, 60 + i), 7, "n3") for i in range(31)]
    short = [point(at(END, 60 + i), 1 + i % 2, "n4") for i in range(28)] + [point(at(END, 20), 99, "n4")]
    far = ["node_metrics", "g1", "n1", "", "m", T10, 100, 12, 2, 29.7]
    day = [point(at(END, 1), 5), point(at(END, 2), 7), point(at(END, DAY + 1), 99), point(at(END, 3), 1, metric="o")]
    happened = [
        event(at(END, 10), "c/s1", "b", "Back", "Warning", "eas"),
        event(at(END, 10), "c/s2", "a", "Back", "Warning", "eas"),
        event(at(END, 20), "c/s1", "c", "Back", "Warning", "eas"),
        event(at(END, 30), "j1", "Created pod"),
        event(at(END, 8 * DAY), "j1", "Created pod"),
    ]
    tasks = [
        task("d1", "Succeed", at(END, 20), at(END, 18)),
        task("d2", "Fault", at(END, 20), at(END, 19)),
        task("d3", "Running", at(END, 10), None),
        task("d4", "succeed", at(END, 20), at(END, 17), extra='{"DiagResult":"Fault"}'),
        task("d5", "Running", at(END, 5), None, cluster="c2"),
        task("d7", "Succeed", END, END, cluster="c3"),
        task("d8", "Succeed", at(END, 30 * DAY), at(END, 30 * DAY), cluster="c4"),
        task("d6", "Succeed", at(END, 31 * DAY), at(END, 31 * DAY - 1)),
    ]
    m = ["node_metrics", "g1", "n1", "", "m", 5, 6, 7, 2, shown(at(END, 1))]
    return [
        Case(
            "metric_anomalies",
            {"metric_points": swinging + steady + constant + short},
            [
                (UNTIL, [far, ["node_metrics", "g1", "n2", "", "m", T20, 6, 5, 0, 23.9]]),
                (UNTIL | {"z_min": "25"}, [far]),
                (UNTIL | {"metric": "other"}, []),
            ],
        ),
        Case(
            "metrics",
            {"metric_points": day},
            [
                (UNTIL, [m, ["node_metrics", "g1", "n1", "", "o", 1, 1, 1, 1, shown(at(END, 3))]]),
                (UNTIL | {"metric": "m"}, [m]),
            ],
        ),
        Case(
            "events",
            {"events": happened},
            [
                (
                    UNTIL | {"scope": "c/s1"},
                    [[t, "eas", "c/s1", "Warning", "Back", "", text] for t, text in ((T10, "b"), (T20, "c"))],
                ),
                (UNTIL | {"scope": "j1"}, [[T30, "dlc", "j1", "", "", "", "Created pod"]]),
            ],
        ),
        Case(
            "event_reasons",
            {"events": happened},
            [
                (
                    UNTIL,
                    [["eas", "Warning", "Back", 3, 2, T20, T10, "b"], ["dlc", "", "", 1, 1, T30, T30, "Created pod"]],
                )
            ],
        ),
        Case(
            "diagnostics",
            {"diagnostic_states": tasks},
            [
                (
                    {"rows": "3"},
                    [
                        ["d7", "c3", "NetDiag", "Succeed", 2, 1, shown(END), shown(END), 0, shown(END)],
                        ["d5", "c2", "NetDiag", "Running", 2, 1, T5, None, None, T5],
                        ["d3", "c1", "NetDiag", "Running", 2, 1, T10, None, None, T10],
                    ],
                )
            ],
        ),
        Case(
            "diagnostic_rates",
            {"diagnostic_states": tasks},
            [
                (
                    UNTIL,
                    [
                        ["c1", "NetDiag", 4, 3, 1, 33.3, 120, T10],
                        ["c2", "NetDiag", 1, 0, 0, None, None, T5],
                        ["c4", "NetDiag", 1, 1, 1, 100, 0, shown(at(END, 30 * DAY))],
                    ],
                )
            ],
        ),
    ]


def drawn(now: int) -> list[Case]:
    """Of figures that CloudMonitor and the older operations tell differently: in each hour one of them counts."""
    told = [
        *[cloud(at(END, 10), 20), cloud(at(END, 10), 90, statistic="Maximum"), cloud(at(END, 5), 50, period=300)],
        *[point(at(END, 10), 1), point(at(END, 70), 7), point(at(END, 10), 2, metric="o")],
        *[cloud(at(END, 10), 3, "n2", statistic="Value"), cloud(at(END, 10), 4, "n2"), point(at(END, 10), 5, "n3")],
        cloud(at(END, 10), 6, "n4", statistic="Maximum"),
        point(at(END, 10), 8, "n4"),
    ]
    older = "node_metrics"
    last = [
        ["cloud_metrics", "g1", "n1", "", "m", 20, 20, 20, 1, T10],
        ["cloud_metrics", "g1", "n2", "", "m", 4, 4, 4, 1, T10],
        [older, "g1", "n1", "", "m", 7, 7, 7, 1, shown(at(END, 70))],
        [older, "g1", "n1", "", "o", 2, 2, 2, 1, T10],
        [older, "g1", "n3", "", "m", 5, 5, 5, 1, T10],
        # Its highest values are no means.
        [older, "g1", "n4", "", "m", 8, 8, 8, 1, T10],
    ]
    usual = [point(at(END, 120 + i), 10 + 2 * (i % 2), node) for i in range(30) for node in ("n1", "n2")]
    odd = [point(at(END, 10), 100, node) for node in ("n1", "n2")]
    gpus = {"dimensions": '{"jobType":"PyTorch"}'}
    used = [
        *[cloud(at(END, 20), 8, "u1", "RequestGPU", **gpus), cloud(at(END, 20), 25, "u1", "GpuUsageRate", **gpus)],
        # A rate alone says nothing of what was requested.
        *[cloud(at(END, 70), 99, "u2", "GpuUsageRate", **gpus)],
    ]
    snapshots = [usage(at(END, 10), "u1", 4, 50), usage(at(END, 10), "u2", 4, 50), usage(at(END, 70), "u2", 2, 100)]
    snapshots += [usage(at(END, 10), "u3", 1, 0, group="g2")]
    u2 = ["g1", "", "u2", 1, 2, 2, 100, 0, *[None] * 6]
    idle = [cloud(at(END, minute), 8, "u1", "RequestGPU", **gpus) for minute in range(30, 61, 5)]
    idle += [cloud(at(END, minute), 1, "u1", "GpuUsageRate", **gpus) for minute in range(30, 61, 5)]
    busy = [usage(at(END, minute), "u1", 4, 90) for minute in range(30, 61, 5)]
    busy += [usage(at(END, minute), "u2", 4, 0) for minute in range(5, 61, 5)]
    busy += [usage(at(END, minute), "u2", 4, 0) for minute in range(90, 121, 5)]
    before = ["g1", "", "u2", "PyTorch", shown(at(END, 120)), shown(at(END, 90)), 30, 7, 4, 0, 2]
    return [
        Case("metrics", {"metric_points": told}, [(UNTIL, last), (UNTIL | {"metric": "o"}, last[3:4])]),
        Case(
            "metric_anomalies",
            {"metric_points": [*usual, *odd, cloud(at(END, 20), 11)]},
            [(UNTIL, [["node_metrics", "g1", "n2", "", "m", T10, 100, 12, 2, 29.7]])],
        ),
        Case(
            "utilization",
            {"metric_points": used, "user_metrics": snapshots},
            [
                (
                    UNTIL,
                    [
                        ["g1", "", "u1", 1, 8, 2, 25, 6, *[None] * 6],
                        ["g2", "", "u3", 1, 1, 0, 0, 1, *[None] * 6],
                        u2,
                    ],
                ),
                # Which service is drawn from is not for one user to say.
                (UNTIL | {"user": "u2"}, [u2]),
            ],
        ),
        Case(
            "idle_gpus",
            {"metric_points": idle, "user_metrics": busy},
            [
                (
                    UNTIL,
                    [["g1", "", "u1", "PyTorch", shown(at(END, 60)), T30, 30, 7, 8, 1, 4], before],
                ),
                (UNTIL | {"user": "u2"}, [before]),
            ],
        ),
    ]


def money(now: int) -> list[Case]:
    """Of the meter; the days and months of the bill are those of UTC+8."""
    month = 1_759_248_000
    days = [
        called(at(END, 20 * 60 + 1), "A", 5, "0.05", rows=10),
        called(at(END, 20 * 60), "A", 3, "0.03", rows=10),
        called(at(END, 20 * 60), "A", 1, "0.01", 429, "Throttling.User"),
        called(at(END, 10), "B", 1, "0.00", 500, "InternalError"),
        called(at(END, 10), "B", 1, "0.02", 200, "cut"),
    ]
    refused = [
        called(at(END, 10), "A", 80, "0.8", rows=10),
        called(at(END, 10), "A", 8, "0.08", 429, "Throttling"),
        called(at(END, 20), "A", 9, "0.09", 400, "Throttling.User"),
        called(at(END, 10), "A", 2, "0.02", 0, "timeout"),
        called(at(END, 10), "A", 1, "0.01", 200, "cut"),
        called(at(END, 10), "B", 1, "0", 403, "Forbidden"),
        called(at(END, 8 * DAY), "B", 9, "0", 403, "Forbidden"),
    ]
    return [
        Case(
            "spend",
            {
                "api_call_parts": [
                    called(month - 60, "A", 1, "1"),
                    called(month, "A", 2, "3", rows=4),
                    called(month, "A", 1, "1", 500),
                    called(month, "B", 1, "9"),
                ]
            },
            [
                (
                    {},
                    [
                        ["2025-10", "B", 1, 0, 0, 9, None],
                        ["2025-10", "A", 3, 1, 4, 4, 1_000_000],
                        ["2025-09", "A", 1, 0, 0, 1, None],
                    ],
                )
            ],
        ),
        Case(
            "spend_by_day",
            {"api_call_parts": days},
            [
                (
                    UNTIL,
                    [
                        ["2025-10-09", "A", 4, 1, 10, 0.04, 0.01],
                        ["2025-10-09", "B", 2, 2, 0, 0.02, 0.02],
                        ["2025-10-08", "A", 5, 0, 10, 0.05, 0],
                    ],
                )
            ],
        ),
        Case(
            "refused_calls",
            {"api_call_parts": refused},
            [
                (
                    UNTIL,
                    [
                        ["A", "throttled", 400, "Throttling.User", 9, 9, 0.09, T20],
                        ["A", "throttled", 429, "Throttling", 8, 8, 0.08, T10],
                        ["A", "lost", 0, "timeout", 2, 2, 0.02, T10],
                        ["A", "failed", 200, "cut", 1, 1, 0.01, T10],
                        ["B", "refused", 403, "Forbidden", 1, 100, 0, T10],
                    ],
                )
            ],
        ),
        Case(
            "rows_by_source",
            {
                "syslogs": [
                    line(at(END, 1), "n1"),
                    line(at(END, 3), "n1"),
                    line(at(END, 2), "n2"),
                    line(at(END, 61), "n2"),
                ],
                "user_metrics": [usage(at(END, 5), "u1", 1, 1), usage(at(END, 4), "u1", 1, 1)],
                "metric_points": [point(at(END, 5), 1), point(at(END, 5), 1, "n2")],
                "events": [
                    event(at(END, 5), "j1", "x"),
                    event(at(END, 6), "j1", "x"),
                    event(at(END, DAY + 1), "j1", "x"),
                ],
            },
            [
                (
                    UNTIL,
                    [
                        ["events", "2025-10-09 11:00:00", 2, 1],
                        ["node_metrics", "2025-10-09 11:00:00", 2, 1],
                        ["syslogs", "2025-10-09 11:00:00", 3, 2],
                        ["user_metrics", "2025-10-09 11:00:00", 2, 1],
                        ["syslogs", "2025-10-09 10:00:00", 1, 1],
                    ],
                )
            ],
        ),
    ]


def shippers(now: int) -> list[Case]:
    """The last state of a log shipper counts, and how many there were before."""
    states = [(100, "old", "Failed"), (200, "sls", "Creating"), (300, "", "Ready")]
    rows = [
        list(Observed("c/e1", ("c", "e1", project, f"{project} log", status, f"m {time}", "{}")).row(time, "r"))
        for time, project, status in states
    ]
    last = ["r", "c", "e1", "", " log", "Ready", "m 300", "1970-01-01 00:05:00", 2]
    return [Case("resource_logs", {"resource_log_states": rows}, [({}, [last])])]


TABLES_OF_A_NEW_STORE = ("fault_code_states", "migrations")
"""Those that have rows in a store without history."""


def sizes(now: int) -> list[Case]:
    """Every table with rows; what its parts take on disk is left out."""
    tables: Rows = [*([name, None, None] for name in TABLES_OF_A_NEW_STORE), ["syslogs", TDAY, T5]]
    said = {"syslogs": [line(at(END, minutes), "n1") for minutes in (DAY, 5)]}
    return [Case("rows", said, [({}, tables)], without=("rows", "size", "bytes_per_row", "parts"))]


FAMILIES: tuple[Callable[[int], list[Case]], ...] = (
    faults,
    jobs,
    silence,
    of_usage,
    series,
    drawn,
    money,
    shippers,
    sizes,
)
COLUMNS = {
    "syslogs": ("time", "region", "node_id", "hostname", "syslogtag", "msg", "receive_time"),
    "watermark_states": WATERMARK_COLUMNS,
    "gap_states": GAP_COLUMNS,
}
"""Where they are not those of the sources' tables."""


async def put(store: EmbeddedStore, case: Case, token: str) -> None:
    for table, rows in case.rows.items():
        await store.insert(table, columns(table), lines([tuple(row) for row in rows]), token=f"{token} {table}")


def columns(table: str) -> tuple[str, ...]:
    return COLUMNS.get(table) or TABLES[table].columns


async def asked(store: EmbeddedStore, sql: str, parameters: Mapping[str, str], format: str) -> bytes:
    # A machine that stands still for half a minute changes no answer.
    limits = QueryLimits(seconds_max=300.0)
    async with await store.query(sql, format=format, parameters=parameters, limits=limits) as answer:
        return b"".join([piece async for piece in answer])


async def answered(store: EmbeddedStore, query: NamedQuery, given: Mapping[str, str], without: tuple[str, ...]) -> Rows:
    body = await asked(store, query.sql, query.bind(given), "JSONCompactEachRowWithNames")
    names, *rows = [msgspec.json.decode(text) for text in body.splitlines()]
    kept = [place for place, name in enumerate(names) if name not in without]
    return [[row[place] for place in kept] for row in rows]


async def cases_of(store: EmbeddedStore, family: Callable[[int], list[Case]]) -> list[Case]:
    """The cases, those of the present around the engine's last whole minute."""
    ((now,),) = await store.fetch("SELECT toUnixTimestamp(now())")
    return family(now // 60 * 60)


async def emptied(store: EmbeddedStore, case: Case) -> None:
    for table in case.rows:
        await store.execute(f"TRUNCATE TABLE pai.{table}")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
async def test_a_query_answers_what_was_worked_out_by_hand(
    store: EmbeddedStore, family: Callable[[int], list[Case]]
) -> None:
    """Ranges end before their end, what is unknown counts as nothing else, and the order never changes."""
    for number, case in enumerate(await cases_of(store, family)):
        await put(store, case, str(number))
        query = named_query(case.name)
        for given, expected in case.answers:
            assert await answered(store, query, given, case.without) == expected, (case.name, given)
        await emptied(store, case)


async def test_pages_draw_the_metrics_of_a_node_from_one_service(store: EmbeddedStore) -> None:
    """In an hour of which CloudMonitor has points the older operation does not count, in any page."""
    points = [point(at(END, 70), 7, metric="GpuUsageRate"), point(at(END, 10), 1, metric="GpuUsageRate")]
    points += [cloud(at(END, 10), 20, measure="GpuUsageRate"), cloud(at(END, 10), 99, "n1", "GpuUsageRate", period=300)]
    await put(store, Case("", {"metric_points": points}, []), "pages")
    own = {name: parsed(name, text) for name, text in sql_files(sql_folder("console"))}
    given = {"start": str(END - 7200), "end": str(END), "step": "3600"}

    ((node, steps),) = await answered(store, own["node_gpus"], given, ())
    assert (node, sorted(steps)) == ("n1", [[0, 7], [1, 20]])
    known = await answered(store, own["node_metrics"], given | {"node": "n1"}, ())
    assert known == [["GpuUsageRate", "", 0, 7], ["GpuUsageRate", "", 1, 20]]


@pytest.mark.slow("borders of named queries")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
async def test_filters_limits_and_borders_hold(store: EmbeddedStore, family: Callable[[int], list[Case]]) -> None:
    """A name that nobody has finds nothing, `rows` cuts, and a range has its first second and not its last."""
    for number, case in enumerate(await cases_of(store, family)):
        await put(store, case, str(number))
        query = named_query(case.name)
        given, expected = case.answers[0]
        defaults = {known.name: known.default for known in query.parameters}
        if "rows" in defaults:
            assert await answered(store, query, given | {"rows": "1"}, case.without) == expected[:1], case.name
        for name in (name for name, default in defaults.items() if default == ""):
            assert await answered(store, query, given | {name: "nobody"}, case.without) == [], (case.name, name)
        if "hours" in defaults and "until" in given:
            start = END - int(given.get("hours", defaults["hours"] or 0)) * 3600
            await put(store, moved(case, END), f"{number} end")
            await put(store, moved(case, start - 1), f"{number} before")
            assert await answered(store, query, given, case.without) == expected, case.name
            await put(store, moved(case, start), f"{number} start")
            is_seen = await answered(store, query, given, case.without) != expected
            assert is_seen or case.name in ("idle_gpus", "diagnostic_rates"), case.name
        await emptied(store, case)


def moved(case: Case, time: int) -> Case:
    """The records of a case, all at another moment; states of things stay out."""
    records = ("syslogs", "user_metrics", "metric_points", "events", "api_call_parts")
    rows = {table: [[time, *row[1:]] for row in case.rows[table]] for table in records if table in case.rows}
    return Case(case.name, rows, [])


async def test_every_query_has_a_known_answer() -> None:
    """A new one is refused until somebody has worked out what it says."""
    known = {case.name for family in FAMILIES for case in family(END)}
    assert known == {query.name for query in named_queries()}


@pytest.mark.slow("formats of named queries")
async def test_an_empty_store_gives_no_rows_and_no_error(store: EmbeddedStore) -> None:
    """Also where the SQL divides, takes medians or looks a job up."""
    for query in named_queries():
        rows = await answered(store, query, required(query), ())
        assert [row for row in rows if row[0] not in TABLES_OF_A_NEW_STORE] == [], query.name


@pytest.mark.slow("orders of rows")
async def test_an_answer_does_not_depend_on_how_the_rows_came(store: EmbeddedStore) -> None:
    """The same names in two regions, the rows in one order and then in the other: nothing moves, nothing differs."""
    cases = [case for family in FAMILIES for case in await cases_of(store, family)]
    cases = [*cases, *(in_region(case, "cn-elsewhere") for case in cases)]
    answers: list[dict[str, bytes]] = []
    for turned in (False, True):
        for place, case in enumerate(reversed(cases) if turned else cases):
            await put(store, turned_round(case) if turned else case, f"{turned} {place}")
        answers.append(
            {
                query.name: await asked(store, query.sql, query.bind(all_of(query)), "JSONCompactEachRowWithNames")
                for query in named_queries()
                if query.name not in ("rows", "freshness", "silent_nodes")  # of the parts, of the moment
            }
        )
        for case in cases:
            await emptied(store, case)

    one, other = answers
    assert [name for name in one if one[name] != other[name]] == []


def in_region(case: Case, region: str) -> Case:
    rows = {
        table: [
            [region if name == "region" else value for name, value in zip(columns(table), row, strict=True)]
            for row in case.rows[table]
        ]
        for table in case.rows
    }
    return Case(case.name, rows, [])


def turned_round(case: Case) -> Case:
    return Case(case.name, {table: rows[::-1] for table, rows in case.rows.items()}, [])


def all_of(query: NamedQuery) -> dict[str, str]:
    """What takes the most rows in: the days up to the end of every range, the least of a storm."""
    names = {known.name for known in query.parameters}
    return required(query) | (UNTIL if "until" in names else {}) | ({"lines_min": "9"} if "lines_min" in names else {})


@pytest.mark.parametrize("format", one_in(len(ENGINE_FORMATS), ENGINE_FORMATS.values(), "formats of named queries"))
@pytest.mark.slow("formats of named queries")
async def test_every_query_runs_in_every_format_and_pasted_elsewhere(store: EmbeddedStore, format: str) -> None:
    """The readers' gate takes it with bound values and with the values in it, and both say the same."""
    for number, family in enumerate((faults, of_usage, series, money)):
        for place, case in enumerate(await cases_of(store, family)):
            await put(store, case, f"{number} {place}")

    for query in named_queries():
        given = all_of(query)
        bound = await asked(store, query.sql, query.bind(given), format)
        pasted = await asked(store, query.standing_alone(given), {}, format)
        if query.name not in ("freshness", "silent_nodes"):
            assert pasted == bound, query.name
        if query.name not in ("freshness", "silent_nodes", "job_faults", "resource_logs"):
            assert bound, query.name


def required(query: NamedQuery) -> dict[str, str]:
    return {known.name: "j1" for known in query.parameters if known.default is None}
