"""Which value of each key counts, and where it came from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from collector.settings import EffectiveKey, Settings, effective, load
from collector.settings.reading import keys

FILE = """
[api.quotas]
ListSyslogs = 5
GetNodeMetrics = 6
[api.prices.ListSyslogs]
cny = 0.0001
free = 10
[sources.syslogs]
interval = "20s"
settle = "30s"
"""


def effective_of(
    tmp_path: Path, text: str = "", *, shard: str | None = None, **environ: str
) -> dict[str, EffectiveKey]:
    path = tmp_path / "collector.toml"
    path.write_text(text, encoding="utf-8")
    environment = {f"PAI_COLLECTOR__{name}": value for name, value in environ.items()}
    return {one.key: one for one in effective(load(path, environment, shard=shard))}


def leaves(model: type[BaseModel], path: str = "") -> list[str]:
    found = []
    for key, name in keys(model).items():
        annotation = model.model_fields[name].annotation
        is_table = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        found += leaves(annotation, f"{path}{key}.") if is_table else [f"{path}{key}"]
    return found


def test_every_key_is_there_with_its_default(tmp_path: Path) -> None:
    """Without a file's or a variable's value each key has its default, said as such."""
    found = effective_of(tmp_path)
    assert list(found) == leaves(Settings)
    assert {one.origin for one in found.values()} == {"default"}
    # Relative paths are made absolute.
    assert {key for key, one in found.items() if one.value != one.default} == {"store.path", "journal.path"}
    assert all(one.meaning for one in found.values())


def test_a_value_names_the_last_place_that_gave_it(tmp_path: Path) -> None:
    """The environment goes over the file key by key, even if one variable has a whole table; an option over both."""
    found = effective_of(
        tmp_path,
        FILE,
        shard="1/3",
        API__QUOTAS='{"ListSyslogs": 7, "ListClusterNodes": 2}',
        SOURCES__SYSLOGS__INTERVAL="10s",
        SHARD="0/3",
    )
    origins = {key: (one.value, one.origin) for key, one in found.items() if one.origin != "default"}
    assert origins == {
        "shard": ('"1/3"', "--shard"),
        "api.quotas.ListSyslogs": ("7", "PAI_COLLECTOR__API__QUOTAS"),
        "api.quotas.ListClusterNodes": ("2", "PAI_COLLECTOR__API__QUOTAS"),
        "api.quotas.GetNodeMetrics": ("6", "file"),
        "api.prices.ListSyslogs": ('{"cny": 0.0001, "free": 10}', "file"),
        "sources.syslogs.interval": ('"10s"', "PAI_COLLECTOR__SOURCES__SYSLOGS__INTERVAL"),
        "sources.syslogs.settle": ('"30s"', "file"),
    }


def test_units_are_said_where_a_value_has_one(tmp_path: Path) -> None:
    """Also of lists; words and flags have none."""
    found = effective_of(tmp_path)
    units = {
        key: found[key].unit for key in ("api.timeout", "journal.bytes_max", "sources.events.recheck", "log.level")
    }
    assert units == {
        "api.timeout": "duration",
        "journal.bytes_max": "size",
        "sources.events.recheck": "duration",
        "log.level": "",
    }
    assert found["budget.monthly_cny"].unit == "CNY a month"


def test_credentials_in_values_are_hidden(tmp_path: Path) -> None:
    """The user of an address, and what looks like a key of the service."""
    found = effective_of(
        tmp_path, '[store]\nurl = "https://someone@host:8443/pai"\n[sources.syslogs]\nquery = "sk-abcdef"\n'
    )
    assert found["store.url"].value == '"https://***@host:8443/pai"'
    assert found["sources.syslogs.query"].value == '"sk-***"'


def test_where_values_came_from_is_no_part_of_what_they_are(tmp_path: Path) -> None:
    """Two configurations with equal values are equal, and a copy with another value still knows its file."""
    path = tmp_path / "collector.toml"
    path.write_text('[log]\nlevel = "debug"\n', encoding="utf-8")
    from_file = load(path, {})
    path.write_text("", encoding="utf-8")
    from_environment = load(path, {"PAI_COLLECTOR__LOG__LEVEL": "debug"})
    assert from_file == from_environment
    assert from_file.origins.file == str(path)
    assert from_file.model_copy(update={"shard": "0/2"}).origins.of(("log", "level")) == "file"
