"""The streams that a configuration asks for: its targets, named and discovered, with each source's settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from collector.catalogue.operation import Operation
from collector.catalogue.products.pai_llm_trace import GET_XTRACE_TOKEN
from collector.journal.entries import KnownObject, StreamState
from collector.journal.journal import JournalReads
from collector.model import StreamKey, filtered_scope
from collector.owner.cloud_targets import (
    CLOUD_KINDS,
    Listed,
    add_cloud_metrics,
    is_pattern,
    matches,
    told,
    watches_cloud_metrics,
)
from collector.pipeline.lateness import SETTLE_FIRST_SECONDS, Lateness
from collector.pipeline.streams import ACCOUNT_SCOPE, SnapshotStreams, StateStreams, Streams, WindowStreams
from collector.settings import Settings
from collector.sources.cloud_metrics import CloudMetricsSource, Series
from collector.sources.inventory import KINDS, InventorySource
from collector.sources.registry import SPECS, Look, Spec, step_seconds

if TYPE_CHECKING:
    from collector.pipeline.run import Stage

JOB_TAIL_SECONDS = 600
"""What a job says of itself may come this long after its end."""

STATE_OPERATIONS = frozenset(
    spec.make(getattr(Settings().sources, spec.name)).operation.name for spec in SPECS if spec.look is Look.STATE
)
"""Operations that show only the present: nothing of what has ended is left to be collected."""

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
    begins: dict[str, int] = field(default_factory=dict)
    """Metric of CloudMonitor -> where it begins, since it was collected with another period before."""
    units: dict[str, str] = field(default_factory=dict)
    """`NAMESPACE/METRIC` -> unit."""
    listed: Listed = field(default_factory=lambda: Listed((), {}))
    """What CloudMonitor's lists have shown."""

    def of(self, kind: str) -> list[str]:
        return self.ids.get(kind, [])

    def add(self, kind: str, objects: Iterable[str]) -> None:
        self.ids[kind] = list(dict.fromkeys([*self.of(kind), *objects]))


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
    """The named targets and those that the lists have shown.

    What has left stays a target until all of it is collected.
    """
    named = settings.targets
    targets = Targets()
    for word, kind in KIND_OF.items():
        targets.add(kind, getattr(named, word))
    targets.add("node", named.nodes)
    streams = await journal.streams()
    rest = _Rest(settings, streams.values())
    found: dict[str, list[KnownObject]] = {}
    wanted = {KIND_OF[word] for word in named.discover}
    kinds = (*wanted, "node", *CLOUD_KINDS)
    for key, state in streams.items():
        shown = next((k for k in kinds if InventorySource(k).operation.name == key.operation), None)
        if shown is None or key.region != settings.api.region:
            continue
        found.setdefault(f"{shown} {key.scope_id}", []).extend((await journal.known_objects(state.id)).values())

    async def listed(kind: str, scope_id: str) -> list[KnownObject]:
        source = InventorySource(kind)
        theirs = await elsewhere(source, StreamKey(source.operation.name, settings.api.region, scope_id))
        if theirs is None:
            return found.get(f"{kind} {scope_id}", [])
        return [replace(known, ended_at=known.seen_at) if source.is_over(known.state) else known for known in theirs]

    def watch(kind: str, objects: Sequence[KnownObject], until: int | None = None) -> None:
        """Watch objects of a list, to their ends; all of them end at `until` if that is given."""
        newest = max((known.seen_at for known in objects), default=0)
        ids = set(targets.of(kind))
        for known in objects:
            end = min((moment for moment in (end_of(known), until) if moment is not None), default=None)
            is_gone = not known.is_present or until is not None
            if is_gone and (end is None or known.object_id in ids or not rest.is_left(known.object_id, end, newest)):
                continue
            targets.add(kind, [known.object_id])
            if end is not None:
                targets.ends[known.object_id] = end
            else:
                # It has moved here from another list, which says that it left.
                targets.ends.pop(known.object_id, None)

    gone: list[KnownObject] = []
    for kind in sorted(wanted):
        objects = await listed(kind, ACCOUNT_SCOPE)
        if kind == "cluster":
            # Its nodes are still to be collected, but nothing of itself.
            gone = [known for known in objects if not known.is_present and known.object_id not in named.clusters]
            objects = [known for known in objects if known.is_present]
        watch(kind, objects)
    for cluster_id in targets.of("cluster"):
        watch("node", await listed("node", cluster_id))
    for cluster in gone:
        watch("node", await listed("node", cluster.object_id), end_of(cluster))
    if watches_cloud_metrics(settings):
        asked = settings.sources.cloud_metrics.namespaces
        present = [known.object_id for known in await listed("cloud_namespace", ACCOUNT_SCOPE) if known.is_present]
        targets.add("cloud_namespace", [each for each in asked if not is_pattern(each)])
        targets.add("cloud_namespace", [each for each in present if matches(each, asked)])
        metrics = {name: await listed("cloud_metric", name) for name in targets.of("cloud_namespace")}
        add_cloud_metrics(
            settings, targets, [known for each in metrics.values() for known in each], streams, rest.is_left
        )
        operation = InventorySource("cloud_metric").operation.name
        read = {key.scope_id for key, state in streams.items() if key.operation == operation and state.sealed_to}
        targets.listed = Listed(
            present, {name: told(known) for name, known in metrics.items() if known or name in read}
        )
    return targets


def end_of(known: KnownObject) -> int | None:
    """Return when there is nothing of an object any more; None while it lasts."""
    if known.ended_at is not None:
        return known.ended_at + JOB_TAIL_SECONDS
    return None if known.is_present else known.seen_at


class _Rest:
    """What is left to be collected of objects that have left."""

    def __init__(self, settings: Settings, states: Iterable[StreamState]) -> None:
        sections = [getattr(settings.sources, name) for name in type(settings.sources).model_fields]
        windowed = [section for section in sections if hasattr(section, "initial_lookback_seconds")]
        self._reach: int = max(
            section.initial_lookback_seconds + max(section.recheck_seconds, default=0) for section in windowed
        )
        self._begun: dict[str, list[StreamState]] = {}
        # What was asked with other filters before is not collected to its end.
        asked = {
            (spec.make(section).operation.name, filtered_scope("", each))
            for spec in SPECS
            for section in [getattr(settings.sources, spec.name)]
            for each in spec.filters(section)
        }
        for state in states:
            if state.sealed_to is None or state.key.operation in STATE_OPERATIONS:
                continue
            if (state.key.operation, state.key.scope_id.removeprefix(state.key.target_id)) in asked:
                self._begun.setdefault(state.key.target_id, []).append(state)

    def is_left(self, object_id: str, end: int, newest: int) -> bool:
        """Whether streams of an object that ended at `end` are not collected to it.

        If none of them began here, they may have elsewhere: what left shortly before `newest` is taken for unfinished.
        """
        if begun := self._begun.get(object_id):
            marks = [mark for state in begun for mark in (state.sealed_to or 0, *state.rechecks.values())]
            return any(mark < end for mark in marks)
        return end > newest - self._reach


def _lists(settings: Settings, only: Sequence[str]) -> list[Streams]:
    inventory = settings.sources.inventory
    if not inventory.enabled:
        return []
    # Without the lists the other sources do not know their targets.
    kinds = [KIND_OF[word] for word in settings.targets.discover]
    if _asks_cloud(settings, only) and any(map(is_pattern, settings.sources.cloud_metrics.namespaces)):
        kinds.append("cloud_namespace")
    return [
        StateStreams("inventory", InventorySource(kind), [ACCOUNT_SCOPE], interval=inventory.interval_seconds)
        for kind in kinds
    ]


def _asks_cloud(settings: Settings, only: Sequence[str]) -> bool:
    return watches_cloud_metrics(settings) and (not only or bool({"inventory", "cloud_metrics"} & set(only)))


def _cluster_nodes(settings: Settings, targets: Targets, only: Sequence[str]) -> list[Streams]:
    inventory = settings.sources.inventory
    if not inventory.enabled:
        return []
    found: list[Streams] = []
    clusters, namespaces = targets.of("cluster"), targets.of("cloud_namespace")
    if clusters and (not only or {"inventory", "syslogs"} & set(only)):
        found.append(StateStreams("inventory", InventorySource("node"), clusters, interval=inventory.interval_seconds))
    if namespaces and _asks_cloud(settings, only):
        source = InventorySource("cloud_metric")
        found.append(StateStreams("inventory", source, namespaces, interval=inventory.interval_seconds))
    return found


def sources(settings: Settings, targets: Targets) -> list[Streams]:
    """The streams of all enabled sources but the inventory, for these targets."""
    found: list[Streams] = []
    for spec in SPECS:
        section = getattr(settings.sources, spec.name)
        scope_ids = spec.scopes(section, targets.of(spec.target)) if spec.target else [ACCOUNT_SCOPE]
        if section.enabled and scope_ids and (not spec.needs or targets.of(spec.needs)):
            found.append(_streams(spec, section, scope_ids, targets))
    return found


def _streams(spec: Spec, section: Any, scope_ids: Sequence[str], targets: Targets) -> Streams:
    source = spec.make(section)
    match spec.look:
        case Look.SNAPSHOT:
            return SnapshotStreams(spec.name, source, scope_ids, interval=section.interval_seconds, ends=targets.ends)
        case Look.STATE:
            return StateStreams(spec.name, source, scope_ids, interval=section.interval_seconds, ends=targets.ends)
    # A step that is still being filled would be stored with a value that it does not keep.
    step = step_seconds(section)
    is_learned = not section.settle_seconds
    settles = targets.settles if is_learned else None
    if isinstance(source, CloudMetricsSource):
        source = source.with_units(targets.units)
        settles = {scope_id: section.settle_seconds + Series.of(scope_id).period_seconds for scope_id in scope_ids}
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
        settles=settles,
        begins=targets.begins,
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
        listed += ["cloud_metric"] if "cloud_metric" in watched else []
        listed += ["cloud_namespace"] if any(map(is_pattern, chosen.cloud_metrics.namespaces)) else []
        found += [InventorySource(kind).operation for kind in listed]
    return [*found, *([GET_XTRACE_TOKEN] if settings.tracing.enabled else [])]


def expects_targets(settings: Settings) -> bool:
    """Whether more than lists is to be asked for."""
    lists = {InventorySource(kind).operation.name for kind in KINDS}
    return any(operation.name not in lists for operation in operations_of(settings) if operation != GET_XTRACE_TOKEN)


def watched_kinds(settings: Settings) -> set[str]:
    """The kinds of targets that are named or discovered."""
    targets = settings.targets
    kinds = {kind for word, kind in KIND_OF.items() if getattr(targets, word) or word in targets.discover}
    if targets.nodes or "cluster" in kinds:
        kinds.add("node")
    if watches_cloud_metrics(settings):
        kinds.add("cloud_metric")
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
            text += " and the metrics of CloudMonitor" if "cloud_metric" in watched else ""
            lines.append((name, text.removeprefix(" and ") or f"nothing: it needs {needs(name)}"))
            continue
        if name == "cloud_metrics" and "cloud_metric" in watched:
            lines.append((name, _patterns(settings)))
            continue
        kinds = [spec.target or spec.needs for spec in SPECS if spec.name == name]
        words = [
            f"{word}: {_counted(len(getattr(targets, word)), word in targets.discover)}"
            for word, kind in (*KIND_OF.items(), ("nodes", "node"))
            if kind in kinds and (getattr(targets, word) or word in targets.discover)
        ]
        if "node" in kinds and "cluster" in watched:
            words.append("all nodes of each cluster")
        filters = _told_filters(next(spec for spec in SPECS if spec.name == name), getattr(settings.sources, name))
        lines.append((name, ", ".join(words) + filters if words else f"nothing: it needs {needs(name)}"))
    return lines


def _patterns(settings: Settings) -> str:
    cloud = settings.sources.cloud_metrics
    return f"metrics {', '.join(cloud.metrics)} of {', '.join(cloud.namespaces)}"


def _told_filters(spec: Spec, section: Any) -> str:
    """What the targets of a source are asked with, for people; empty if all of them is asked for."""
    told = [" and ".join(f"{name} {value}" for name, value in each.items()) for each in spec.filters(section) if each]
    return f"; asked with {', '.join(told)}" if told else ""


def _counted(named: int, is_discovered: bool) -> str:
    return " and ".join([str(named)] * bool(named) + ["all that are discovered"] * is_discovered)


def lacks(settings: Settings, name: str) -> str:
    """Why a source that is switched on has nothing to do, in the words of the configuration."""
    if name == "cloud_metrics" and watches_cloud_metrics(settings):
        return "the lists of CloudMonitor have not been read, or have no metric that fits"
    return f"it needs {needs(name)}"


def needs(name: str) -> str:
    """What gives a source something to do, in the words of the configuration."""
    if name == "inventory":
        return "targets.discover or targets.clusters"
    if name == "cloud_metrics":
        return "sources.cloud_metrics.namespaces, and sources.inventory switched on"
    kinds = [spec.target or spec.needs for spec in SPECS if spec.name == name]
    words = [word for word, kind in (*KIND_OF.items(), ("nodes", "node")) if kind in kinds]
    named = [f"targets.{word}" for word in words]
    return f"{' or '.join(named)}, named or discovered" if words != ["nodes"] else "targets.nodes or targets.clusters"
