"""Grafana's dashboards: their queries run in the engine over the demo's history, and their parts fit together."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from collector.cli.commands.demo import GROUPS, MINUTE, SEED
from collector.owner.instance import Owner
from collector.simulator.clock import SimulatorClock
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from collector.store.base import Store
from contrib.grafana import build
from tests.support import NOW, settings, simulator
from tests.support.effort import one_in
from tests.support.grafana import FOLDER, LOGS, TIME_SERIES, View, dashboards, expand, panels

NODES = 12
MINUTES = 6
END = NOW // MINUTE * MINUTE
START = END - MINUTES * MINUTE
ALL = View(START - 10 * MINUTE, END)
NUMBER = re.compile(r"(Nullable\()?(U?Int\d+|Float\d+)\)?$")
TIME = re.compile(r"DateTime(\('[\w/]+'\))?$")
TEXT = re.compile(r"(LowCardinality\()?String\)?$")

BOARDS = dashboards()
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in panels(board)]
VARIABLES = [
    (name, variable)
    for name, board in BOARDS.items()
    for variable in board["templating"]["list"]
    if variable["type"] == "query"
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    """A store with what the demo collects: the same world, lived through minute by minute."""
    world = World(SEED, NODES, GROUPS)
    clock = SimulatorClock.frozen(START)
    async with simulator(world, clock) as api:
        configuration = settings(
            tmp_path_factory.mktemp("dashboards"), api.base_url,
            targets={"nodes": world.node_ids, "resource_groups": world.group_ids, "discover": ["jobs"]},
            sources={"syslogs": {"initial_lookback": "10m", "recheck": []}, "node_metrics": {"enabled": True}},
        )  # fmt: skip
        async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
            for minute in range(1, MINUTES + 1):
                clock.set(START + minute * MINUTE)
                assert not (await owner.once().run()).failures
            yield owner.store


async def answer(store: Store, sql: str) -> tuple[list[tuple[str, str]], list[list[Any]]]:
    """Names and types of the columns, and the rows, as a reader gets them."""
    async with await store.query(sql, format="JSONCompactEachRow", columns=True) as result:
        body = b"".join([piece async for piece in result])
        columns = [(column.name, column.type) for column in result.columns]
    return columns, [json.loads(line) for line in body.splitlines()]


def labelled(entries: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Each with a name that says which it is."""
    return [
        pytest.param(board, entry, id=f"{board}-{entry.get('title') or entry['name']}".replace(" ", "_"))
        for board, entry in entries
    ]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("board", "panel"), labelled(PANELS))
@pytest.mark.slow("variables of dashboards")
async def test_a_panel_shows_something(store: Store, board: str, panel: dict[str, Any]) -> None:
    """Its query runs as a reader's, has rows and columns of the kind that the panel draws, and not only NULL."""
    columns, rows = await answer(store, expand(panel["targets"][0]["rawSql"], ALL))

    assert rows
    check_columns(panel, columns)
    if panel["targets"][0]["format"] == TIME_SERIES:
        times = [row[0] for row in rows]
        assert times == sorted(times)
        keys = [tuple(v for v, (_, type) in zip(row, columns, strict=True) if not NUMBER.match(type)) for row in rows]
        assert len(keys) == len(set(keys)), "two values for one time and label"
        assert all(value is not None for row in rows for value in row[-1:])
    if panel["type"] == "stat" and panel["title"] != "Missing":
        assert rows[0][0] is not None


def check_columns(panel: dict[str, Any], columns: list[tuple[str, str]]) -> None:
    """What the plugin and the panel make of the columns' types."""
    target = panel["targets"][0]
    if target["format"] == TIME_SERIES:
        assert columns[0][0] == "time"
        assert TIME.match(columns[0][1])
        labels = [name for name, type in columns[1:] if TEXT.match(type)]
        assert all(NUMBER.match(type) for name, type in columns[1:] if name not in labels)
        assert len(columns) > 1 + len(labels)
        shown = panel["fieldConfig"]["defaults"].get("displayName", "")
        assert shown == (f"${{__field.labels.{labels[0]}}}" if labels else "")
    elif target["format"] == LOGS:
        assert [name for name, _ in columns[:3]] == ["timestamp", "body", "level"]
    elif panel["type"] == "stat":
        assert len(columns) == 1
        assert NUMBER.match(columns[0][1])
    else:
        assert all(NUMBER.match(type) or TIME.match(type) or TEXT.match(type) for _, type in columns)
        named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        assert named <= {name for name, _ in columns}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("board", "variable"), one_in(3, labelled(VARIABLES), "variables of dashboards"))
@pytest.mark.slow("variables of dashboards")
async def test_a_variable_offers_values_and_a_choice_holds(store: Store, board: str, variable: dict[str, Any]) -> None:
    """Its values are texts, and with one of them chosen each query of the board runs, those that use it on less."""
    columns, rows = await answer(store, expand(variable["query"], ALL))
    assert len(columns) == 1
    assert TEXT.match(columns[0][1])
    assert rows
    name = variable["name"]
    one = View(ALL.start, ALL.end, 300, {name: [rows[0][0]]})
    odd = View(ALL.start, ALL.end, 300, {name: ["it's \\ nobody", "none"]})

    used = 0
    for panel in panels(BOARDS[board]):
        sql = panel["targets"][0]["rawSql"]
        _, with_one = await answer(store, expand(sql, one))
        if f"${name}" in sql:
            used += 1
            _, with_none = await answer(store, expand(sql, odd))
            assert len(with_none) <= len(with_one)
    assert used


def test_the_files_are_what_the_boards_say() -> None:
    """The dashboards were built anew after their last change (make dashboards), and there are no others."""
    assert build.stale() == []
    assert {path.name for path in build.FOLDER.iterdir()} == {path.name for path, _ in build.files()}


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_a_dashboard_is_whole(name: str) -> None:
    """Panels have a title and a place of their own on the grid, and every link leads to a board and its variable."""
    board = BOARDS[name]
    variables = {n: {v["name"] for v in b["templating"]["list"]} for n, b in BOARDS.items()}
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
    links = re.findall(r"/d/pai-(\w+)\?var-(\w+)=", json.dumps(board))
    assert all(variable in variables[target] for target, variable in links)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert set(re.findall(r"\$\{(\w+):singlequote\}", json.dumps(board["panels"]))) <= variables[name]
    assert board["uid"] == f"pai-{name}"


def test_the_provisioned_data_source_is_the_readers() -> None:
    """It is of the plugin that the panels ask for; compose hands its password and the plugin to Grafana."""
    source = yaml.safe_load((FOLDER / "provisioning/datasources/pai.yml").read_text())["datasources"][0]
    provider = yaml.safe_load((FOLDER / "provisioning/dashboards/pai.yml").read_text())["providers"][0]
    grafana = yaml.safe_load((FOLDER.parents[1] / "docker-compose.yml").read_text())["services"]["grafana"]

    assert {t["datasource"]["type"] for _, panel in PANELS for t in panel["targets"]} == {source["type"]}
    assert source["secureJsonData"] == {"password": "$PAI_READER_PASSWORD"}
    assert "PAI_READER_PASSWORD" in grafana["environment"]
    versions = {target["pluginVersion"] for _, panel in PANELS for target in panel["targets"]}
    assert grafana["environment"]["GF_PLUGINS_PREINSTALL_SYNC"] == f"{source['type']}@{versions.pop()}"
    mounted = dict(mount.split(":")[:2] for mount in grafana["volumes"])
    assert mounted["./contrib/grafana/dashboards"] == provider["options"]["path"]
