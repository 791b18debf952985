"""The streams that a configuration asks for: its targets, named and discovered, with each source's settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.api.operation import Operation
from collector.api.products.pai_llm_trace import GET_XTRACE_TOKEN
from collector.journal.entries import KnownObject
from collector.journal.journal import JournalReads
from collector.model import StreamKey
from collector.pipeline.lateness import SETTLE_FIRST_SECONDS, Lateness
from collector.pipeline.run import Stage
from collector.pipeline.streams import ACCOUNT_SCOPE, SnapshotStreams, StateStreams, Streams, WindowStreams
from collector.settings import Settings
from collector.sources.inventory import InventorySource
from collector.sources.registry import SPECS, Look, Spec

JOB_TAIL_SECONDS = 600
"""What a job says of itself may come this long after its end."""

KIND_OF = {
    "clusters": "cluster", "resource_groups": "resource_group", "jobs": "job", "instances": "instance",
    "services": "service", "eas_resources": "eas_resource",
}  # fmt: skip
"""The kind of object that each word of `targets.discover` stands for."""


@dataclass(slots=True)
class Targets:
    """What is watched: ids by kind, named ones first, and when each of them ended, where that is known."""

    ids: dict[str, list[str]] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    settles: Mapping[str, int] = field(default_factory=dict)
    """Node -> how far behind now its windows end, where that is learned."""
    settle_first: int = SETTLE_FIRST_SECONDS
    """Of a node that is not known yet."""

    def of(self, kind: str) -> list[str]:
        return self.ids.get(kind, [])

    def add(self, kind: str, objects: Iterable[str]) -> None:
        known = self.ids.setdefault(kind, [])
        known += [each for each in dict.fromkeys(objects) if each not in set(known)]


Elsewhere = Callable[[InventorySource, StreamKey], Awaitable[list[KnownObject] | None]]
"""The objects of a list that another process looks at, as the store has them; None for a list of our own."""


async def nowhere_else(source: InventorySource, key: StreamKey) -> list[KnownObject] | None:
    """Every list is our own."""
    return None


def stages(
    settings: Settings,
    journal: JournalReads,
    only: Sequence[str] = (),
    elsewhere: Elsewhere = nowhere_else,
    lateness: Lateness | None = None,
) -> list[Stage]:
    """The parts of a run over every stream: lists, nodes of the clusters they name, then all other sources.

    `only` narrows the sources by name; lists that name their targets are asked all the same. `lateness` is what
    nodes settle by where that is learned.
    """

    async def lists() -> list[Streams]:
        return _lists(settings, only)

    async def nodes() -> list[Streams]:
        return _cluster_nodes(settings, await discovered(settings, journal, elsewhere), only)

    async def rest() -> list[Streams]:
        targets = await discovered(settings, journal, elsewhere)
        await _settled(settings, targets, lateness)
        streams = sources(settings, targets)
        return [source for source in streams if not only or source.name in only]

    return [lists, nodes, rest]


async def everything(
    settings: Settings,
    journal: JournalReads,
    elsewhere: Elsewhere = nowhere_else,
    lateness: Lateness | None = None,
) -> list[Streams]:
    """All streams of the configuration, with what is discovered so far."""
    targets = await discovered(settings, journal, elsewhere)
    await _settled(settings, targets, lateness)
    return [*_lists(settings, ()), *_cluster_nodes(settings, targets, ()), *sources(settings, targets)]


async def _settled(settings: Settings, targets: Targets, lateness: Lateness | None) -> None:
    if lateness is not None and not settings.sources.syslogs.settle_seconds:
        await lateness.learn()
        targets.settles, targets.settle_first = lateness.settles, lateness.first


async def discovered(settings: Settings, journal: JournalReads, elsewhere: Elsewhere = nowhere_else) -> Targets:
    """The named targets and those that the lists have shown."""
    named = settings.targets
    targets = Targets()
    for word, kind in KIND_OF.items():
        targets.add(kind, getattr(named, word))
    targets.add("node", named.nodes)
    streams = await journal.streams()
    found: dict[str, list[KnownObject]] = {}
    wanted = {KIND_OF[word] for word in named.discover}
    for key, state in streams.items():
        shown = next((k for k in (*wanted, "node") if InventorySource(k).operation.name == key.operation), None)
        if shown is None or key.region != settings.api.region:
            continue
        found.setdefault(f"{shown} {key.scope_id}", []).extend((await journal.known_objects(state.id)).values())

    async def listed(kind: str, scope_id: str) -> list[KnownObject]:
        source = InventorySource(kind)
        theirs = await elsewhere(source, StreamKey(source.operation.name, settings.api.region, scope_id))
        return [
            known for known in (found.get(f"{kind} {scope_id}", []) if theirs is None else theirs) if known.is_present
        ]

    for kind in sorted(wanted):
        present = await listed(kind, ACCOUNT_SCOPE)
        targets.add(kind, [known.object_id for known in present])
        targets.ends |= {
            known.object_id: known.ended_at + JOB_TAIL_SECONDS for known in present if known.ended_at is not None
        }
    for cluster_id in targets.of("cluster"):
        targets.add("node", [known.object_id for known in await listed("node", cluster_id)])
    return targets


def _lists(settings: Settings, only: Sequence[str]) -> list[Streams]:
    inventory = settings.sources.inventory
    # Without the lists the other sources do not know their targets.
    if not inventory.enabled or (only and not settings.targets.discover):
        return []
    return [
        StateStreams("inventory", InventorySource(KIND_OF[word]), [ACCOUNT_SCOPE], interval=inventory.interval_seconds)
        for word in settings.targets.discover
    ]


def _cluster_nodes(settings: Settings, targets: Targets, only: Sequence[str]) -> list[Streams]:
    inventory = settings.sources.inventory
    clusters = targets.of("cluster")
    if not inventory.enabled or not clusters or (only and not {"inventory", "syslogs"} & set(only)):
        return []
    return [StateStreams("inventory", InventorySource("node"), clusters, interval=inventory.interval_seconds)]


def sources(settings: Settings, targets: Targets) -> list[Streams]:
    """The streams of all enabled sources but the inventory, for these targets."""
    found: list[Streams] = []
    for spec in SPECS:
        section = getattr(settings.sources, spec.name)
        scope_ids = targets.of(spec.target) if spec.target else [ACCOUNT_SCOPE]
        if section.enabled and scope_ids and (not spec.needs or targets.of(spec.needs)):
            found.append(_streams(spec, section, scope_ids, targets))
    return found


def _streams(spec: Spec, section: Any, scope_ids: Sequence[str], targets: Targets) -> Streams:
    source = spec.make(section)
    match spec.look:
        case Look.SNAPSHOT:
            return SnapshotStreams(spec.name, source, scope_ids, interval=section.interval_seconds)
        case Look.STATE:
            return StateStreams(spec.name, source, scope_ids, interval=section.interval_seconds)
    # A step that is still being filled would be stored with a value that it does not keep.
    step = getattr(section, "time_step_seconds", 0)
    is_learned = not section.settle_seconds
    settle = (targets.settle_first if is_learned else section.settle_seconds) + step
    return WindowStreams(
        spec.name,
        source,
        scope_ids,
        settle=settle,
        # The first window must hold a second, or a stream would never begin.
        initial_lookback=max(section.initial_lookback_seconds, settle + 1),
        rechecks=[delay + step for delay in section.recheck_seconds],
        interval=section.interval_seconds,
        interval_max=max(section.interval_seconds, getattr(section, "interval_max_seconds", 0)),
        ends=targets.ends,
        settles=targets.settles if is_learned else None,
    )


def operations_of(settings: Settings) -> list[Operation]:
    """Every operation that the configuration may call by itself."""
    watched, chosen = watched_kinds(settings), settings.sources
    found = [
        spec.make(getattr(chosen, spec.name)).operation
        for spec in SPECS
        if getattr(chosen, spec.name).enabled and (spec.target or spec.needs) in watched
    ]
    if chosen.inventory.enabled:
        listed = [KIND_OF[word] for word in settings.targets.discover]
        listed += ["node"] if "cluster" in watched else []
        found += [InventorySource(kind).operation for kind in listed]
    return [*found, *([GET_XTRACE_TOKEN] if settings.tracing.enabled else [])]


def watched_kinds(settings: Settings) -> set[str]:
    """The kinds of targets that are named or discovered."""
    targets = settings.targets
    kinds = {kind for word, kind in KIND_OF.items() if getattr(targets, word) or word in targets.discover}
    if targets.nodes or "cluster" in kinds:
        kinds.add("node")
    return kinds


def described(settings: Settings) -> list[tuple[str, str]]:
    """Each source with what it watches, for people."""
    watched, targets = watched_kinds(settings), settings.targets
    lines = []
    for name in type(settings.sources).model_fields:
        if not getattr(settings.sources, name).enabled:
            lines.append((name, "switched off"))
            continue
        if name == "inventory":
            text = ", ".join(targets.discover) + (" and the nodes of each cluster" if "cluster" in watched else "")
            lines.append((name, text.removeprefix(" and ") or f"nothing: it needs {needs(name)}"))
            continue
        kinds = [spec.target or spec.needs for spec in SPECS if spec.name == name]
        words = [
            f"{word}: {_counted(len(getattr(targets, word)), word in targets.discover)}"
            for word, kind in (*KIND_OF.items(), ("nodes", "node"))
            if kind in kinds and (getattr(targets, word) or word in targets.discover)
        ]
        if "node" in kinds and "cluster" in watched:
            words.append("all nodes of each cluster")
        lines.append((name, ", ".join(words) or f"nothing: it needs {needs(name)}"))
    return lines


def _counted(named: int, is_discovered: bool) -> str:
    return " and ".join([str(named)] * bool(named) + ["all that are discovered"] * is_discovered)


def needs(name: str) -> str:
    """What gives a source something to do, in the words of the configuration."""
    if name == "inventory":
        return "targets.discover or targets.clusters"
    kinds = [spec.target or spec.needs for spec in SPECS if spec.name == name]
    words = [word for word, kind in (*KIND_OF.items(), ("nodes", "node")) if kind in kinds]
    named = [f"targets.{word}" for word in words]
    return f"{' or '.join(named)}, named or discovered" if words != ["nodes"] else "targets.nodes or targets.clusters"
