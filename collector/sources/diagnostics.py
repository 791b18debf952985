"""Diagnostics: eflo-controller `ListDiagnosticResults`, and `DescribeDiagnosticResult` for each task that changed.

The list tells that a task changed, under other names than the answer about one task, which holds the
nodes and the findings. A field of the list that the task's own answer lacks goes to its `extra`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from collector.catalogue.answers import Answer
from collector.catalogue.products.eflo_controller import (
    DESCRIBE_DIAGNOSTIC_RESULT,
    LIST_DIAGNOSTIC_RESULTS,
    DescribeDiagnosticResultAnswer,
    ListDiagnosticResultsAnswer,
)
from collector.model import StreamKey
from collector.sources.fields import Fields, ordered_json, text_of
from collector.sources.moments import read_moment
from collector.sources.normalise import EXTRA_NONE, unusable
from collector.sources.source import Observed, Seen
from collector.sources.tables import DIAGNOSTIC_STATES

_PAGE_SIZE = 100
_TASK_FIELDS = tuple(
    name
    for name in DescribeDiagnosticResultAnswer.__struct_encode_fields__
    if name not in Answer.__struct_encode_fields__
)
_FIRST = DIAGNOSTIC_STATES.columns.index("fingerprint") + 1
_STATE = DIAGNOSTIC_STATES.columns.index("state") - _FIRST

UNFINISHED_STATES = frozenset(
    {
        "", "created", "creating", "init", "initial", "initialized", "initializing", "pending", "waiting", "queued",
        "queueing", "queuing", "accepted", "submitted", "submitting", "scheduled", "scheduling", "starting", "started",
        "running", "processing", "inprogress", "executing", "doing", "diagnosing", "checking", "collecting",
        "analyzing", "retrying", "stopping",
    }
)  # fmt: skip
"""States, in small letters without separators, in which a task still works. The service publishes none, so
that any other word, such as `Fault` or `succeed`, is taken for an end."""

_APART_SECONDS = 60
"""Two spellings of one moment differ by less: one of them may be cut to the minute."""


class DiagnosticsSource:
    """The account's diagnoses, each stored in every state that it was seen in."""

    name = "diagnostics"
    operation = LIST_DIAGNOSTIC_RESULTS
    detail_operation = DESCRIBE_DIAGNOSTIC_RESULT
    tables = (DIAGNOSTIC_STATES,)
    lists_all = False
    """Nothing says how long a task stays in the list."""
    page_size = _PAGE_SIZE

    def parameters(self, key: StreamKey, cursor: str | None) -> dict[str, Any]:
        """Parameters of the page at `cursor`."""
        asked: dict[str, Any] = {"MaxResults": self.page_size}
        return asked if cursor is None else asked | {"NextToken": cursor}

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """Cursor of the next page, None after the last one."""
        assert isinstance(answer, ListDiagnosticResultsAnswer)
        return answer.next_token or None

    def held(self, key: StreamKey) -> dict[str, str]:
        """Nothing: the whole table is of this stream."""
        return {}

    def page(self, key: StreamKey, cursor: str | None, answer: Answer) -> Seen:
        """The tasks of one page, as the list tells them."""
        assert isinstance(answer, ListDiagnosticResultsAnswer)
        records = answer.diagnostic_results or ()
        seen = Seen(record_count=len(records))
        for record in records:
            raw = msgspec.to_builtins(record) if isinstance(record, msgspec.Struct) else record
            if not isinstance(raw, dict):
                seen.dead.append(unusable(raw))
            elif (observed := _observed(raw)) is None:
                seen.dead.append(("DiagId is missing", record))
            else:
                seen.objects.append(observed)
        return seen

    def detail_parameters(self, object_id: str) -> dict[str, Any]:
        """Parameters that ask for one task."""
        return {"DiagnosticId": object_id}

    def detailed(self, listed: Observed | None, answer: Answer) -> Observed | None:
        """The task out of its own answer and what the list said of it; None where neither names it."""
        assert isinstance(answer, DescribeDiagnosticResultAnswer)
        answered = msgspec.to_builtins(answer)
        # The others belong to the call and not to the task.
        raw = {name: answered[name] for name in _TASK_FIELDS}
        if not raw.get("DiagnosticId") and listed is not None:
            raw["DiagnosticId"] = listed.object_id
        told = _observed(raw)
        return told if told is None or listed is None else _joined(told, listed)


def ended(observed: Observed) -> bool:
    """Whether the task will not change any more: it has an end, or a state that is none of those at work."""
    return observed.ended_at is not None or _letters(str(observed.values[_STATE])) not in UNFINISHED_STATES


def _letters(state: str) -> str:
    return "".join(letter for letter in state.casefold() if letter.isalnum())


def _observed(raw: dict[str, Any]) -> Observed | None:
    """A task under the names of the list or of its own answer; None where it has no id."""
    fields = Fields(raw)
    object_id = fields.text("DiagnosticId", "DiagId")
    if not object_id:
        return None
    cluster_id = fields.text("ClusterId")
    node_ids = fields.take("NodeIds")
    if node_ids is not None and not isinstance(node_ids, list):
        fields.put("NodeIds", node_ids)
        node_ids = None
    diagnostic_type = fields.text("DiagnosticType", "DiagType")
    state = fields.text("DiagnosticState", "Status")
    created_at = _moment(fields, "CreatedTime", "CreationTime")
    ended_at = _moment(fields, "EndTime", "FinishedTime")
    results = fields.take("DiagnosticResults")
    values = (
        cluster_id,
        [text_of(node_id) for node_id in node_ids or ()],
        diagnostic_type,
        state,
        created_at,
        ended_at,
        ordered_json([] if results is None else results),
        fields.extra(),
    )
    return Observed(object_id, values, ended_at)


def _moment(fields: Fields, *names: str) -> int | None:
    """The moment under one of `names`; what of it no column can hold stays for `extra`."""
    for name in names:
        given = fields.take(name)
        if given is None:
            continue
        try:
            moment, exact = read_moment(given)
        except ValueError:
            fields.put(name, given)
            continue
        if not exact:
            fields.put(name, given)
        return moment
    return None


def _joined(told: Observed, listed: Observed) -> Observed:
    """A task as its own answer tells it, with what only the list tells of it."""
    cluster_id, node_ids, diagnostic_type, state, created_at, ended_at, results, extra = told.values
    listed_cluster_id, _, listed_type, listed_state, listed_created_at, listed_ended_at, _, listed_extra = listed.values
    told_extra, more = _decoded(extra), _decoded(listed_extra)
    if state and listed_state and _letters(str(listed_state)) != _letters(str(state)):
        # The two do not speak of the same thing: `succeed` in the list is a task that ran, `Fault` is what it found.
        more["Status"] = listed_state
    joined = {**more, **told_extra}
    ended_at = _likelier(ended_at, listed_ended_at)
    values = (
        cluster_id or listed_cluster_id,
        node_ids,
        diagnostic_type or listed_type,
        state or listed_state,
        _likelier(created_at, listed_created_at),
        ended_at,
        results,
        ordered_json(joined) if joined else EXTRA_NONE,
    )
    return Observed(told.object_id, values, ended_at)


def _likelier(told: Any, listed: Any) -> int | None:
    """One moment out of two spellings of it.

    The task's own answer names no zone, and its description says that it is not UTC; the list names
    one, but may leave the seconds out. So the own one counts where they agree, else the list's.
    """
    if told is None or listed is None:
        found: int | None = told if listed is None else listed
        return found
    return int(told if abs(told - listed) < _APART_SECONDS else listed)


def _decoded(extra: object) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(str(extra))
    return decoded
