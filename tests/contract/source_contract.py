"""What every source has to do, as tests that the author of a new one inherits.

    class TestFaultReports(StateContract):
        source = FaultReportSource()
        scope_id = "account"
        answers = ({"Reports": [{"ReportId": "r-1", ...}], "NextToken": "t"}, {"Reports": [...]})

`answers` are the pages of one listing as the service sends them, in their order. Choose WindowContract,
SnapshotContract or StateContract by how the source is looked at. `docs/how-to/add-a-source.md` uses it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, ClassVar

import pytest

from collector.api.decode import UndecodableAnswerError, decode_answer
from collector.catalogue.answers import Answer
from collector.catalogue.parameters import coerce_parameters
from collector.model import StreamKey, Window
from collector.pipeline.chunking import decode_lines
from collector.sources.normalise import lines
from collector.sources.page import PageRows
from collector.sources.source import Seen
from collector.sources.tables import Row, Table
from collector.store.embedded import EmbeddedStore

CANARY = "canary-5d0c4b"
"""Stands in a field that no answer is known to have, and in those that are secret."""
NOT_RECORDS: Sequence[Any] = (None, "text", 5, True, [])
ODD_VALUES: Sequence[Any] = (None, "", "text", -1, 1.5, True, [], {}, [None], {"a": [1]}, "x" * 300, "9" * 40)
PAGES_MAX = 1_000
RECORDS_CHANGED = 3
MEETINGS = 20
KEEPS_ALL = ("extra", "attributes")
"""A table with such a column keeps what the service adds."""

Rows = dict[Table, list[Row]]


class SourceContract:
    """What all sources have in common. Inherit one of the three below."""

    source: ClassVar[Any]
    scope_id: ClassVar[str]
    """What a call is about: a node, a group ...; `account` where it is about all of it."""
    answers: Sequence[dict[str, Any]] = ()
    """The pages of one listing, as the service sends them."""

    # What a subclass may have in its own way

    def body(self, number: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to the request for page `number`, from 0."""
        return self.answers[number]

    def parameters(self, cursor: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def read(self, cursor: str | None, answer: Answer) -> tuple[Rows, list[tuple[str, object]]]:
        """The rows of a page that would be stored, and its dead letters."""
        raise NotImplementedError

    # Tests

    def test_what_is_asked_fits_the_catalogue(self) -> None:
        """Every page is asked for with parameters that the operation has, of their types, and for the scope."""
        operation = self.source.operation
        for cursor, _ in self.pages():
            asked = self.parameters(cursor)
            assert coerce_parameters(operation, asked) == asked
            if operation.scope:
                assert asked[operation.scope] in self.scope_id.split("/") or asked[operation.scope] == self.scope_id

    def test_its_pages_come_to_an_end(self) -> None:
        """Each has a cursor of its own, which is a text, because it has to survive in the journal."""
        cursors = [cursor for cursor, _ in self.pages()]

        assert len(set(cursors)) == len(cursors)
        assert all(cursor is None or (isinstance(cursor, str) and cursor) for cursor in cursors)
        # What is asked for is told by the cursor alone.
        assert len({json.dumps(self.parameters(cursor), sort_keys=True) for cursor in cursors}) == len(cursors)

    def test_its_rows_are_those_of_its_tables(self) -> None:
        """A value for each column, plain JSON, a whole second in the column of time."""
        found = [self.read(cursor, answer)[0] for cursor, answer in self.pages()]

        assert any(rows for page in found for rows in page.values()), "answers without a record show nothing"
        for page in found:
            self.assert_fits(page)

    def test_what_it_reads_depends_on_nothing_else(self) -> None:
        """The same answer gives the same rows again, and is not changed."""
        for (cursor, answer), (_, again) in zip(self.pages(), self.pages(), strict=True):
            first = self.read(cursor, answer)
            assert self.read(cursor, answer) == first
            assert self.read(cursor, again) == first

    def test_what_is_no_record_is_a_dead_letter(self) -> None:
        """It is kept as it came, and the page's other records are not lost with it."""
        name = self.source.operation.wire_records_field
        # Where the answer is the record, one that is none is no answer.
        for odd in NOT_RECORDS if name else ():
            body = self.few()
            count = self.count_of(self.decoded(body))
            body[str(name)].insert(1, odd)
            answer = self.decoded(body)
            assert self.count_of(answer) == count, odd
            assert len(self.read(None, answer)[1]) == 1, odd

    def test_an_odd_value_is_no_reason_to_fail(self) -> None:
        """Whatever stands in a field, or if it is missing: the record becomes rows that fit, or a dead letter."""
        for damage in self.damages():
            body = self.few()
            damage(self.fields_of(body))
            with self.refused_if_whole():
                self.assert_fits(self.read(None, self.decoded(body))[0])

    def test_what_the_service_adds_is_kept(self) -> None:
        """A field that nobody knows yet is in the row, where its table has a place for it."""
        body = self.few()
        self.fields_of(body)["SurpriseOfTheService"] = CANARY

        keeps = any(column in KEEPS_ALL for table in self.source.tables for column in table.columns)
        if keeps and self.source.operation.wire_records_field and self.fields_of(self.few()):
            assert CANARY in self.all_of(self.decoded(body))

    def test_no_secret_is_stored(self) -> None:
        """What the catalogue calls a secret of the answer reaches neither a row nor a dead letter."""
        body = self.few()
        self.fields_of(body).update(dict.fromkeys(self.source.operation.secret_fields, CANARY))

        assert CANARY not in self.all_of(self.decoded(body))

    @pytest.mark.slow("rows of each source in the store")
    async def test_the_store_takes_its_rows(self, store: EmbeddedStore) -> None:
        """The table of the migration has the columns, and each value is of its column's type."""
        for table in self.source.tables:
            rows = [row for cursor, answer in self.pages() for row in self.read(cursor, answer)[0].get(table, [])]
            if rows:
                await store.insert(table.name, table.columns, lines(rows), token=table.name)
                assert await store.fetch(f"SELECT count() FROM {table.name}") == [[len(rows)]]

    # Helpers

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.source.operation.name, "cn-test", self.scope_id)

    def pages(self) -> list[tuple[str | None, Answer]]:
        """Every page with the cursor that it was asked with."""
        found: list[tuple[str | None, Answer]] = []
        cursor: str | None = None
        for number in range(PAGES_MAX):
            answer = self.decoded(self.body(number, self.parameters(cursor)))
            found.append((cursor, answer))
            cursor = self.source.next_cursor(cursor, answer)
            if cursor is None:
                return found
        raise AssertionError(f"after {PAGES_MAX} pages there is still a next one")

    def decoded(self, body: Mapping[str, Any]) -> Answer:
        """The answer as the client would hand it over."""
        answer = decode_answer(self.source.operation, json.dumps(body).encode())
        assert isinstance(answer, Answer)
        return answer

    def few(self) -> dict[str, Any]:
        """The first answer with few records, to be changed."""
        body = deepcopy(self.body(0, self.parameters(None)))
        if (name := self.source.operation.wire_records_field) is not None:
            body[name] = body[name][:RECORDS_CHANGED]
        return body

    def fields_of(self, body: dict[str, Any]) -> dict[str, Any]:
        """The first record of an answer, or the answer itself where it is the record; a new object if it is a text."""
        name = self.source.operation.wire_records_field
        record = body if name is None else body[name][0]
        return record if isinstance(record, dict) else {}

    def damages(self) -> Iterator[Callable[[dict[str, Any]], object]]:
        """Everything that may be wrong with a field of the first record."""
        for name in self.fields_of(self.few()):
            yield lambda record, name=name: record.pop(name)  # type: ignore[misc]
            for value in ODD_VALUES:
                yield lambda record, name=name, value=value: record.update({name: value})  # type: ignore[misc]

    @contextmanager
    def refused_if_whole(self) -> Iterator[None]:
        """An answer that is the record may be refused as a whole, before the source sees it."""
        try:
            yield
        except UndecodableAnswerError:
            if self.source.operation.wire_records_field is not None:
                raise

    def count_of(self, answer: Answer) -> int:
        return sum(map(len, self.read(None, answer)[0].values()))

    def all_of(self, answer: Answer) -> str:
        """All that would be stored of an answer."""
        rows, dead = self.read(None, answer)
        return json.dumps([list(rows.values()), [str(record) for _, record in dead]])

    def assert_fits(self, rows: Rows) -> None:
        """Rows are as the journal and the store take them."""
        for table, table_rows in rows.items():
            assert table in self.source.tables, table.name
            assert decode_lines(lines(table_rows)) == [json.loads(json.dumps(row)) for row in table_rows]
            for row in table_rows:
                assert len(row) == len(table.columns), table.name
                if table.time_index is not None:
                    assert type(row[table.time_index]) is int, table.name


class WindowContract(SourceContract):
    """A source whose records have a time of their own."""

    window: ClassVar[Window]
    """Holds every record of the answers."""

    def parameters(self, cursor: str | None) -> dict[str, Any]:
        asked: dict[str, Any] = self.source.parameters(self.key, self.window, cursor)
        return asked

    def read(self, cursor: str | None, answer: Answer) -> tuple[Rows, list[tuple[str, object]]]:
        page = self.source.page(self.key, self.window, cursor, answer)
        return self.rows_of(page), page.dead

    def rows_of(self, page: PageRows) -> Rows:
        """The rows that the last look at a window takes."""
        return {table: [*page.rows.get(table, []), *page.unsure.get(table, [])] for table in self.source.tables}

    def test_a_row_is_in_one_window(self) -> None:
        """Of two windows side by side one has it, wherever they meet; of one far away, it is a stray."""
        start, end = self.window.start, self.window.end
        far = Window(end + 864_000, end + 864_060)
        for cursor, answer in self.pages():
            page = self.source.page(self.key, self.window, cursor, answer)
            whole = self.counted(page)
            # Where two windows meet at the very second of a record, it shows whether both take it.
            times: list[Any] = [
                row[table.time_index or 0] for table, rows in self.rows_of(page).items() for row in rows
            ]
            for middle in {start + 1, end - 1, *(time for time in times[:MEETINGS] if start < time < end)}:
                parts = (Window(start, middle), Window(middle, end))
                halves = [self.counted(self.source.page(self.key, part, cursor, answer)) for part in parts]
                assert halves[0] + halves[1] == whole, middle
            page = self.source.page(self.key, far, cursor, answer)
            assert not self.counted(page)
            assert sum(map(len, page.strays.values())) == whole.total()

    def counted(self, page: PageRows) -> Counter[str]:
        return Counter(json.dumps([table.name, row]) for table, rows in self.rows_of(page).items() for row in rows)


class SnapshotContract(SourceContract):
    """A source that tells what is used right now."""

    tick: ClassVar[int] = 1_760_000_000

    @property
    def window(self) -> Window:
        return Window(self.tick, self.tick + 1)

    def parameters(self, cursor: str | None) -> dict[str, Any]:
        asked: dict[str, Any] = self.source.parameters(self.key, self.window, cursor)
        return asked

    def read(self, cursor: str | None, answer: Answer) -> tuple[Rows, list[tuple[str, object]]]:
        page = self.source.page(self.key, self.window, cursor, answer)
        return dict(page.rows), page.dead

    def test_every_row_is_of_the_tick(self) -> None:
        """And all pages together have each key once, however the list shifted meanwhile."""
        together: dict[Table, list[Any]] = {}
        for cursor, answer in (*self.pages(), *self.pages()):
            for table, rows in self.read(cursor, answer)[0].items():
                assert {row[table.time_index or 0] for row in rows} <= {self.tick}
                together.setdefault(table, []).extend(rows)
        for table, rows in self.source.whole(together).items():
            keys = [tuple(row[index] for index in table.identity_indexes) for row in rows]
            assert len(set(keys)) == len(keys), table.name


class StateContract(SourceContract):
    """A source of things that exist and change."""

    seen_at: ClassVar[int] = 1_760_000_000

    def parameters(self, cursor: str | None) -> dict[str, Any]:
        asked: dict[str, Any] = self.source.parameters(self.key, cursor)
        return asked

    def read(self, cursor: str | None, answer: Answer) -> tuple[Rows, list[tuple[str, object]]]:
        seen = self.seen(cursor, answer)
        (table,) = self.source.tables
        return {table: [each.row(self.seen_at, self.key.region) for each in seen.objects]}, seen.dead

    def seen(self, cursor: str | None, answer: Answer) -> Seen:
        seen = self.source.page(self.key, cursor, answer)
        assert isinstance(seen, Seen)
        return seen

    def test_an_object_that_did_not_change_is_the_same(self) -> None:
        """Its state is told by its values: the order of the answer's fields has no part in it."""
        for number, (cursor, answer) in enumerate(self.pages()):
            body = self.body(number, self.parameters(cursor))
            turned = self.seen(cursor, self.decoded(_turned(body)))
            states = [(each.object_id, each.fingerprint) for each in self.seen(cursor, answer).objects]
            assert [(each.object_id, each.fingerprint) for each in turned.objects] == states
            assert all(object_id for object_id, _ in states)

    def test_what_tells_its_rows_apart_are_columns(self) -> None:
        """`held` names columns of the table, and every row has those values."""
        (table,) = self.source.tables
        for cursor, answer in self.pages():
            for row in self.read(cursor, answer)[0][table]:
                told = dict(zip(table.columns, row, strict=True))
                assert {name: told[name] for name in self.source.held(self.key)} == self.source.held(self.key)


def _turned(value: Any) -> Any:
    """The same JSON with the fields of each object in the opposite order."""
    match value:
        case dict():
            return {name: _turned(value[name]) for name in reversed(value)}
        case list():
            return [_turned(part) for part in value]
        case _:
            return value
