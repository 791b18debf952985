"""`gaps`: what is not covered, as the journal and the store know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from collector.errors import UsageError
from collector.journal.coverage import Gap
from collector.model import StreamKey, Window
from collector.owner.answers import Gaps, MissingRange
from collector.owner.reader import Reader
from collector.owner.watched import expected
from collector.pipeline.coverage import Coverage, missing
from collector.sources.inventory import KINDS, InventorySource
from collector.sources.registry import SPECS
from collector.store.missing import MissingStore
from collector.units import iso


async def gaps(
    owner: Reader, source: str | None = None, start: int | None = None, end: int | None = None,
    scopes: Sequence[str] = (),
) -> Gaps:  # fmt: skip
    """Return what is missing of the streams of a source (None: of all), of a range or of all that was begun.

    Times are seconds since the epoch; 0 or below counts back from now. Raises UsageError.
    """
    now = owner.server_clock.now()
    start, end = (None if t is None else (t if t > 0 else now + t) for t in (start, end))
    if start is not None and end is not None and start >= end:
        raise UsageError(f"--from {iso(start)} is not before --to {iso(end)}")
    names = list(type(owner.settings.sources).model_fields)
    if source is not None and source not in names:
        raise UsageError(f"got source {source!r}; expected one of {', '.join(names)}")
    streams = await _coverages(owner)
    source_of = sources_of(owner)
    lasting = await expected(owner)
    for key in lasting:
        if owner.settings.share.owns(key):
            streams.setdefault(key, Coverage(key, None, None))
    streams = {key: replace(each, has_ended=key not in lasting) for key, each in streams.items()}
    if strange := sorted(scope for scope in set(scopes) if not any(key.is_about(scope) for key in streams)):
        raise UsageError(f"--scope: no stream is about {strange[0]}", hint="pai-collector status lists the streams")
    earliest: dict[str, int] = {}
    for each in streams.values():
        if each.collected_from is not None:
            name = each.key.operation
            earliest[name] = min(earliest.get(name, each.collected_from), each.collected_from)
    chosen = [
        each
        for key, each in sorted(streams.items())
        if (source is None or source_of.get(key.operation) == source)
        and (not scopes or any(map(key.is_about, scopes)))
        # Of what has ended, only what was begun and missed is told.
        and (not each.has_ended or each.gaps)
    ]
    found = [one for each in chosen for one in missing(each, start, end, earliest.get(each.key.operation))]
    return Gaps(
        streams=len(chosen),
        notes=owner.notes,
        has_history=not isinstance(owner.store, MissingStore),
        gaps=[
            MissingRange(
                source=source_of.get(one.key.operation, ""),
                operation=one.key.operation,
                scope_id=one.key.scope_id,
                start=None if one.window is None else iso(one.window.start),
                end=None if one.window is None else iso(one.window.end),
                seconds=None if one.window is None else one.window.seconds,
                reason=one.reason,
            )
            for one in found
        ],
    )


async def _coverages(owner: Reader) -> dict[StreamKey, Coverage]:
    """Every stream, as the journal has it, else as the store shows it."""
    region = {"region": owner.settings.api.region}
    found: dict[StreamKey, Coverage] = {}
    marks = await owner.store.fetch(
        "SELECT operation, region, scope_id, toUnixTimestamp(collected_from), toUnixTimestamp(watermark)"
        " FROM watermarks WHERE region = {region:String}",
        region,
    )
    shown: dict[StreamKey, list[Gap]] = {}
    for *names, start, end, reason in await owner.store.fetch(
        "SELECT operation, region, scope_id, toUnixTimestamp(start), toUnixTimestamp(end), reason FROM gaps"
        " WHERE region = {region:String} AND state = 'open' ORDER BY start, end",
        region,
    ):
        shown.setdefault(StreamKey(*names), []).append(Gap(Window(start, end), reason))
    for *names, collected_from, watermark in marks:
        key = StreamKey(*names)
        found[key] = Coverage(key, collected_from, watermark, tuple(shown.get(key, ())))
    known = await owner.journal.open_gaps()
    for key, state in (await owner.journal.streams()).items():
        found[key] = Coverage(key, state.collected_from, state.watermark, tuple(known.get(key, ())))
    return found


def sources_of(owner: Reader) -> dict[str, str]:
    """Return the source that requests each operation."""
    found = {spec.make(getattr(owner.settings.sources, spec.name)).operation.name: spec.name for spec in SPECS}
    return {InventorySource(kind).operation.name: "inventory" for kind in KINDS} | found
