"""Every row of the catalogue is sound, and says what the service's documentation says."""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest

from collector.catalogue.operation import (
    Form,
    Numbers,
    Operation,
    Parameter,
    Place,
    Price,
    Product,
    Quota,
    Style,
    Tokens,
    price_text,
    wire_name,
)
from collector.catalogue.operations import CATALOGUE, PRODUCTS, operation
from collector.catalogue.parameters import SECONDS_MAX, coerce_parameters
from collector.sources.tables import TABLES
from tests.support.catalogue import records_key
from tools import operations as reference

ROWS = list(CATALOGUE.values())
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
each_parameter = pytest.mark.parametrize(
    ("row", "parameter"),
    [(row, parameter) for row in ROWS for parameter in row.parameters],
    ids=lambda value: value.name,
)

# What the documentation states: CNY a call, free calls a month, requests a second. None: no figure is given.
DOCUMENTED: dict[str, tuple[str | None, int, int | None]] = {
    "GetUserViewMetrics": ("0.001", 1000, 100),
    "ListSyslogs": ("0.0001", 1000, None),
    "CreateDiagnosticTask": ("0.001", 100, 100),
    "DescribeDiagnosticResult": (None, 1000, 100),
    "ListDiagnosticResults": (None, 0, 100),
    "DeleteResourceLog": ("0.001", 100, 10),
    "DescribeResourceLog": ("0.0001", 1000, 100),
    "CreateResourceLog": (None, 0, None),
    "GetXtraceToken": ("0", 0, None),
    "DescribeMetricList": (None, 1_000_000, 50),
}
RECORDS_MAX = {"GetUserViewMetrics": 1000, "ListSyslogs": 100}


def test_names_are_unique() -> None:
    """No row hides another one, neither of its product nor of another."""
    names = Counter(row.name for product in PRODUCTS for row in product.ROWS)

    assert [name for name, count in names.items() if count > 1] == []
    assert set(names) == set(CATALOGUE)


def test_every_product_has_rows_of_its_own() -> None:
    """A file of a product holds rows of this product only, all of one version and style."""
    seen = []
    for module in PRODUCTS:
        ((product, version, style),) = {(row.product, row.version, row.style) for row in module.ROWS}
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", version)
        assert style is (Style.RPC if product in (Product.EFLO_CONTROLLER, Product.CMS) else Style.ROA)
        seen.append(product)

    assert sorted(seen) == sorted(Product)


def test_an_unknown_operation_is_named_with_those_there_are() -> None:
    """A slip in a name shows the right ones."""
    with pytest.raises(KeyError, match="no operation 'ListSyslog'; the catalogue has ListSyslogs, "):
        operation("ListSyslog")


@each_row
def test_the_path_and_its_parameters_are_the_same(row: Operation) -> None:
    """Each placeholder is a required PATH parameter, and each PATH parameter has its placeholder, once."""
    placeholders = re.findall(r"\{(\w+)\}", row.path)

    assert sorted(placeholders) == sorted(p.name for p in row.parameters if p.place is Place.PATH)
    assert row.path.startswith("/")
    assert re.fullmatch(r"[\w/{}]+", row.path)


@each_row
def test_places_fit_style_and_method(row: Operation) -> None:
    """RPC is a POST to / with forms and queries; only a POST of ROA has a JSON body."""
    places = {p.place for p in row.parameters}

    if row.style is Style.RPC:
        assert (row.method, row.path) == ("POST", "/")
        assert places <= {Place.FORM, Place.QUERY}
    else:
        assert row.method in ("GET", "POST", "DELETE")
        assert Place.FORM not in places
        assert row.method == "POST" or Place.JSON not in places


@each_row
def test_a_call_that_changes_something_is_not_repeated(row: Operation) -> None:
    """Whatever creates or deletes is not sent twice; everything else may be."""
    assert row.repeatable is not row.name.startswith(("Create", "Delete"))


@each_row
def test_parameter_names_are_unique(row: Operation) -> None:
    """Each is spelled as the service spells it, once."""
    assert [name for name, count in Counter(p.name for p in row.parameters).items() if count > 1] == []
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", p.name) for p in row.parameters)


@each_parameter
def test_a_parameters_fields_fit_together(row: Operation, parameter: Parameter) -> None:
    """Forms and choices are of text, bounds of numbers, the path of needed text; only lists and texts go inside."""
    del row
    assert parameter.type in (str, int, bool, list, dict)
    assert parameter.form is Form.ANY or parameter.type is str
    assert not parameter.choices or (parameter.type is str and parameter.form is Form.ANY)
    has_bounds = parameter.least is not None or parameter.most is not None
    assert not has_bounds or parameter.type is int or parameter.form is Form.COUNT
    assert parameter.least is None or parameter.most is None or parameter.least <= parameter.most
    if parameter.place is Place.PATH:
        assert (parameter.required, parameter.type) == (True, str)
    if parameter.inside:
        assert parameter.place is Place.FORM
    if parameter.bearer_only:
        assert not parameter.required


@each_row
def test_paging_names_what_exists(row: Operation) -> None:
    """Cursor and size parameters are the row's; the total and the next cursor are the answer's."""
    if row.paging is None:
        return
    assert row.records_field
    assert row.records_max
    if isinstance(row.paging, Tokens):
        assert row.parameter("NextToken") is not None
        assert "NextToken" in row.answer.__struct_encode_fields__
        size = row.paging.size
        assert not size or row.parameter(size) is not None
        return
    assert isinstance(row.paging, Numbers)
    number, size_parameter = row.parameter(row.paging.number), row.parameter(row.paging.size)
    assert number is not None
    assert size_parameter is not None
    kind = str if row.paging.as_text else int
    assert (number.type, size_parameter.type) == (kind, kind)
    assert row.paging.total in row.answer.__struct_fields__


@each_row
def test_a_page_may_be_as_large_as_an_answer(row: Operation) -> None:
    """The size of a page goes as far as the records an answer holds at most."""
    size = row.parameter(row.paging.size) if row.paging and row.paging.size else None
    if size is None or size.most is None:
        return
    value = str(row.records_max) if size.type is str else row.records_max
    rest = {name: value for name, value in placeholders(row).items() if name != size.name}

    assert row.records_max is not None
    assert row.records_max <= size.most
    assert coerce_parameters(row, rest | {size.name: value})


def placeholders(row: Operation) -> dict[str, str]:
    """A value for each parameter that the operation needs."""
    values = {Form.ANY: "x", Form.COUNT: "1", Form.SECONDS: str(SECONDS_MAX)}
    return {p.name: p.choices[0] if p.choices else values[p.form] for p in row.parameters if p.required}


@each_row
def test_records_are_a_list_of_the_answer(row: Operation) -> None:
    """`records_field` is an attribute that holds a list, under the key that the service uses."""
    if row.records_field is None:
        assert (row.records_max, records_key(row)) == (None, None)
        return
    hint = get_type_hints(row.answer)[row.records_field]

    assert any(get_origin(part) is list for part in (hint, *get_args(hint)))
    assert records_key(row) == wire_name(row.answer, row.records_field)
    assert re.fullmatch(r"[A-Z]\w+", records_key(row) or "")


@each_row
def test_the_scope_is_a_parameter(row: Operation) -> None:
    """What a call is about can be read off its parameters."""
    if row.scope:
        assert row.parameter(row.scope) is not None
    assert row.scope_id({row.scope: "x"}) == ("x" if row.scope else "")
    assert row.scope_id({}) == ""


@each_row
def test_identity_lies_in_its_tables(row: Operation) -> None:
    """Identity columns are columns of the table they name, and never what is derived or unknown."""
    for table, columns in row.identity.items():
        assert set(columns) <= set(TABLES[table].columns)
        assert columns == TABLES[table].identity
        assert "extra" not in columns
        assert len(set(columns)) == len(columns)


def test_every_table_of_an_operation_is_its_operations() -> None:
    """A table that an operation fills is one that the operation has an identity in."""
    for table in TABLES.values():
        for name in table.sources or ([table.operation] if table.name in ("syslogs", "user_metrics") else []):
            assert table.name in CATALOGUE[name].identity


@each_row
def test_sentences_end_with_a_full_stop(row: Operation) -> None:
    """Summary and help are one line each, and end with one full stop or an ellipsis."""
    for text in (row.summary, *(p.help for p in row.parameters)):
        assert re.fullmatch(r"\S[^\n]*\.", text), text
        assert not text.endswith("..") or text.endswith("...")


@each_row
def test_limits_are_positive(row: Operation) -> None:
    """Quota, size and price make sense on their own."""
    assert row.quota.per_second > 0
    assert row.answer_bytes_max > 0
    assert row.records_max is None or row.records_max > 0
    assert row.price is None or (row.price.counted_cny >= 0 and row.price.free_calls_per_month >= 0)


def test_figures_are_the_documented_ones() -> None:
    """Prices, free calls and quotas are those of the documentation, and no figure stands where it gives none."""
    for name, (cny, free, per_second) in DOCUMENTED.items():
        row = CATALOGUE[name]
        pot = "CloudMonitor queries" if name == "DescribeMetricList" else ""
        expected = Price(None if cny is None else Decimal(cny), free, pot)
        assert row.price == (None if expected == Price(None) else expected)
        assert row.quota == (Quota(per_second) if per_second else Quota(100, documented=False))
    for name in CATALOGUE.keys() - DOCUMENTED.keys():
        assert (CATALOGUE[name].price, CATALOGUE[name].quota.documented) == (None, False)
    assert {name: CATALOGUE[name].records_max for name in RECORDS_MAX} == RECORDS_MAX


def test_an_absent_price_is_not_shown_as_nothing() -> None:
    """Unpriced and free are different things."""
    assert price_text(CATALOGUE["CreateResourceLog"].price) == "unpriced"
    assert price_text(CATALOGUE["DescribeDiagnosticResult"].price) == "unpriced"
    assert price_text(CATALOGUE["GetXtraceToken"].price) == "0 CNY"


def test_secrets_of_answers_are_named() -> None:
    """Fields that open doors are marked, and exist; a token that is shown by mistake cannot be taken back."""
    token = CATALOGUE["GetXtraceToken"]

    assert token.secret_fields >= {"Token", "HttpEndpoint", "HttpInternalEndpoint"}
    assert token.secret_fields <= set(token.answer.__struct_encode_fields__)


def test_the_reference_is_made_from_the_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The committed file equals what the rows give; one that differs is named with the way to renew it."""
    assert reference.main(["--check"]) == 0

    copy = tmp_path / "docs" / "operations.md"
    assert reference.main([str(copy)]) == 0
    assert reference.main(["--check", str(copy)]) == 0
    copy.write_text(copy.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    assert reference.main(["--check", str(copy)]) == 1
    assert capsys.readouterr().err == f"{copy}: differs from the catalogue; {reference.COMMAND} writes it anew\n"


@each_row
def test_the_reference_tells_all_of_an_operation(row: Operation) -> None:
    """Both wire forms, every parameter and, where there is one, the price stand in its section."""
    section = reference.document().split(f"### {row.name}\n")[1].split("\n### ")[0].split("\n## ")[0]

    assert f"`{row.method} {row.path}`" in section
    assert f"`{row.method} /api/{row.product}/{row.version}/{row.action}`" in section
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == [p.name for p in row.parameters]
    assert all(p.help in section for p in row.parameters)


def test_links_in_the_documents_lead_somewhere() -> None:
    """Every link to another document, and to a heading of one, is good."""
    root = Path(reference.__file__).parents[1]
    broken = []
    for path in (root / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if target.startswith("http"):
                continue
            name, _, heading = target.partition("#")
            other = (path.parent / name) if name else path
            text = other.read_text(encoding="utf-8") if other.suffix == ".md" and other.is_file() else ""
            anchors = {re.sub(r"[^\w -]", "", line.lower()).strip().replace(" ", "-")
                       for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}  # fmt: skip
            if not other.exists() or (heading and heading not in anchors):
                broken.append(f"{path.relative_to(root)}: {target}")

    assert broken == []
