"""The configuration: every key with its effective value and where it is from, and no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collector.settings import SECRETS, Settings, effective, load
from tests.support.console_pages import Console, served
from tests.support.store_template import copy_template

SECRET = "sk-0123456789abcdefghij"
FILE = """
[api]
base_url = "http://127.0.0.1:1"
[targets]
nodes = ["node-<b>1</b>"]
[sources.syslogs]
interval = "20s"
recheck = ["10m"]
"""
ENVIRONMENT = {
    "PAI_COLLECTOR__SOURCES__SYSLOGS__INTERVAL": "10s",
    "PAI_COLLECTOR__API__QUOTAS": '{"ListSyslogs": 7}',
}


@pytest.fixture
def loaded(tmp_path: Path) -> Settings:
    path = tmp_path / "collector.toml"
    path.write_text(FILE, encoding="utf-8")
    made = load(path, ENVIRONMENT)
    copy_template(made.store.path)
    return made


async def rows_of(console: Console, query: str = "") -> dict[str, Any]:
    told = await console.json(f"/configuration{query}")
    return {row["key"]: row for row in told["keys"]["rows"]}


async def test_every_key_says_its_value_where_it_is_from_and_when_a_change_applies(loaded: Settings) -> None:
    """The environment goes over the file, the file over the default; what a reload applies is what it does apply."""
    async with served(loaded) as console:
        rows = await rows_of(console)
        assert set(rows) == {one.key for one in effective(loaded)}
        interval = rows["sources.syslogs.interval"]
        assert (interval["value"], interval["default"]) == ('"10s"', '"30s"')
        assert interval["origin"] == "PAI_COLLECTOR__SOURCES__SYSLOGS__INTERVAL"
        assert (interval["unit"], interval["applies"]) == ("duration", "with a reload")
        assert interval["meaning"].startswith("Time between two looks")
        assert (rows["sources.syslogs.recheck"]["origin"], rows["sources.syslogs.settle"]["origin"]) == (
            "file",
            "default",
        )
        assert rows["api.quotas.ListSyslogs"]["origin"] == "PAI_COLLECTOR__API__QUOTAS"
        assert rows["store.path"]["applies"] == rows["service.listen"]["applies"] == "after a restart"
        assert rows["service.grace"]["applies"] == "with a reload"
        assert (await console.json("/configuration"))["file"] == loaded.origins.file


async def test_keys_are_searched_and_chosen_by_where_they_are_from(loaded: Settings) -> None:
    """Words are looked for in key, value and meaning; the choices have counts of what the words leave."""
    async with served(loaded) as console:
        assert set(await rows_of(console, "?q=syslogs+recheck")) == {"sources.syslogs.recheck"}
        assert set(await rows_of(console, "?from=environment")) == {
            "sources.syslogs.interval",
            "api.quotas.ListSyslogs",
        }
        assert set(await rows_of(console, "?from=file")) == {"api.base_url", "targets.nodes", "sources.syslogs.recheck"}
        told = await console.json("/configuration?q=sources.syslogs")
        counts = {choice["title"]: choice["count"] for choice in told["origins"]}
        assert (counts["set"], counts["in the file"], counts["in the environment"]) == (2, 1, 1)
        assert "no key matches" in (await console.html("/configuration?q=nothing-like-this")).to_text()
        assert "expected one of" in (await console.json("/configuration?from=x", status=400))["error"]
        document = await console.html("/configuration")
        assert "node-<b>1</b>" in document.to_text()
        assert not document.query("main b:not(figcaption b)")


async def test_no_secret_and_no_credential_of_an_address_is_shown(
    loaded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables with secrets only say that they are set; users of addresses and what looks like a key are hidden."""
    for name in SECRETS:
        monkeypatch.setenv(name, f"{SECRET}-of-{name}")
    store = loaded.store.model_copy(update={"url": "https://the-user@host:8443/pai"})
    api = loaded.api.model_copy(update={"base_url": f"http://127.0.0.1:1/{SECRET}"})
    async with served(loaded) as console:
        console.owner.settings = loaded.model_copy(update={"store": store, "api": api})
        told = await console.json("/configuration")
        assert {row["variable"] for row in told["variables"]["rows"] if row["is_set"]} == set(SECRETS)
        rows = {row["key"]: row["value"] for row in told["keys"]["rows"]}
        assert rows["store.url"] == '"https://***@host:8443/pai"'
        assert rows["api.base_url"] == '"http://127.0.0.1:1/sk-***"'
        for body in (
            str(told),
            (await console.html("/configuration")).to_html(),
            await console.csv("/configuration"),
            await console.csv("/configuration?table=variables"),
        ):
            assert SECRET not in body
            assert "the-user" not in body
