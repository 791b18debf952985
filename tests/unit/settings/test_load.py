"""The configuration: what is taken, what is refused, and in which words."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from collector.errors import ConfigError
from collector.settings import Settings, SyslogsSettings, anchored, api_key, example, json_schema, load
from collector.units import format_duration, format_size, parse_duration, parse_size

CONFIG = Path(__file__).parents[2] / "testdata" / "config"

# One file each, `<name>.bad.toml`, and the one line that it gives. `{folder}` stands for the files' folder.
BAD = [
    ("duration_unit", 'sources.syslogs.interval: got "5x"; expected a duration such as 30s, 5m, 6h or 7d'),
    ("duration_number", 'sources.syslogs.settle: got 60; expected a duration such as 30s, 5m, 6h or 7d, or "auto"'),
    ("duration_too_long", 'api.timeout: got "1h"; expected a duration from 1s to 10m'),
    ("duration_too_short", 'sources.syslogs.settle: got "0s"; expected a duration from 1s to 1d, or "auto"'),
    (
        "duration_not_whole",
        'sources.syslogs.interval: got "1500ms"; expected a duration of whole seconds, such as 30s',
    ),
    (
        "duration_not_in_day",
        'sources.user_metrics.interval: got "7s"; expected a duration that divides a day, such as 60s or 5m',
    ),
    ("flush_interval", 'store.flush_interval: got "50ms"; expected a duration from 100ms to 1m'),
    ("size_unit", 'journal.bytes_max: got "2GB"; expected a size such as 512MiB or 2GiB'),
    ("size_too_small", 'journal.bytes_max: got "255MiB"; expected a size from 256MiB to 16TiB'),
    ("whole_too_big", "api.concurrency_max: got 1001; expected a whole number from 1 to 1000"),
    ("whole_text", 'sources.user_metrics.page_size: got "1000"; expected a whole number from 1 to 1000'),
    ("whole_flag", "api.concurrency_max: got true; expected a whole number from 1 to 1000"),
    ("flag_text", 'sources.syslogs.enabled: got "yes"; expected true or false'),
    (
        "choice",
        'api.site: got "internatonal"; expected "china" or "international"; did you mean international?',
    ),
    (
        "cloud_namespace",
        'sources.cloud_metrics.namespaces[0]: got "acs_pai_dlc/GPU"; expected a namespace without spaces, '
        'slashes and brackets; * and ? stand for any letters and for one, such as "acs_pai_*"',
    ),
    (
        "cloud_metric",
        'sources.cloud_metrics.metrics[0]: got "GPU_[CM]*"; expected a metric without spaces, slashes and '
        'brackets; * and ? stand for any letters and for one, such as "*GPU*"',
    ),
    (
        "cloud_metric_none",
        "sources.cloud_metrics.metrics: got []; expected at least one; namespaces = [] asks for nothing",
    ),
    (
        "cloud_metric_twice",
        'sources.cloud_metrics.metrics: got "A" twice; expected each id once',
    ),
    (
        "cloud_statistic",
        'sources.cloud_metrics.statistics[0]: got "average"; expected "Average", "Minimum", "Maximum", "Sum", '
        '"Value", "Count" or "SampleCount"; did you mean Average?',
    ),
    (
        "cloud_period",
        'sources.cloud_metrics.period: got "7s"; expected a duration from 15s to 1d',
    ),
    (
        "cloud_interval",
        'sources.cloud_metrics.interval: got "5m"; expected a duration of at least '
        "sources.cloud_metrics.period, which is 10m: a look between two points costs a call and finds nothing",
    ),
    (
        "cloud_measure",
        'sources.cloud_metrics.measures: got "GPU_UTIL=GpuCoreUsage"; expected NAMESPACE/METRIC=MEASURE, as '
        "acs_pai_dlc/GPU_UTIL=GpuCoreUsage",
    ),
    ("cloud_measure_twice", 'sources.cloud_metrics.measures: got "a/b" twice; expected each id once'),
    ("gateway", 'api.gateway: got "openapis"; expected "bearer" or "openapi"; did you mean openapi?'),
    ("log_level", 'log.level: got "loud"; expected "debug", "info", "warning" or "error"'),
    ("region_blank", 'api.region: got " "; expected a region without spaces'),
    (
        "url_scheme",
        'api.base_url: got "ftp://example.com"; expected nothing, or an address such as http://127.0.0.1:8080',
    ),
    (
        "url_credentials",
        'api.base_url: got "***@example.com/pai"; '
        "expected an address without user name and password; the key comes from DASHSCOPE_API_KEY",
    ),
    ("url_query", 'api.base_url: got "https://example.com/?a=1"; expected an address without ? and #'),
    (
        "url_port",
        'api.base_url: got "http://127.0.0.1:99999"; expected nothing, or an address such as http://127.0.0.1:8080',
    ),
    ("quota_operation", "api.quotas.ListSyslog: no such operation; did you mean ListSyslogs?"),
    ("quota_zero", "api.quotas.ListSyslogs: got 0; expected a whole number of at least 1"),
    ("quota_table", "api.quotas: got 100; expected a table of operations, such as ListSyslogs = ..."),
    ("price_missing", "api.prices.ListSyslogs.free: missing; expected a whole number of at least 0"),
    (
        "price_too_fine",
        "api.prices.ListSyslogs.cny: got 1e-08; "
        "expected CNY a call, from 0 to 1000 with at most 6 decimals, such as 0.0001",
    ),
    (
        "price_nan",
        "api.prices.ListSyslogs.cny: got NaN; "
        "expected CNY a call, from 0 to 1000 with at most 6 decimals, such as 0.0001",
    ),
    ("path_blank", 'store.path: got ""; expected a path, such as "./data"'),
    (
        "store_password",
        'store.url: got "***@db.example.com:8123/pai"; '
        "expected a server without a password; it comes from PAI_COLLECTOR_STORE_PASSWORD",
    ),
    (
        "store_scheme",
        'store.url: got "clickhouse://db.example.com:9000/pai"; '
        'expected nothing, or a server such as "http://user@host:8123/pai"',
    ),
    (
        "store_database",
        'store.url: got "***@db.example.com:8123/metrics"; '
        "expected a server whose database is pai, the name that the tables have",
    ),
    (
        "store_options",
        'store.url: got "***@db.example.com:8123/pai?verify=false"; expected a server without ? and #',
    ),
    (
        "cluster_without_url",
        'store.cluster: got "main"; expected nothing while store.url is empty: a cluster is of servers',
    ),
    (
        "cluster_name",
        'store.cluster: got "main\'; DROP"; '
        'expected nothing, or the name of a cluster in letters, digits and _ . -, such as "main"',
    ),
    (
        "ca_file_plain",
        'store.ca_file: got "{folder}/ca.pem"; expected nothing, or store.url with https://',
    ),
    (
        "path_placeholder",
        'journal.path: got "journal-{node}.db"; expected a path whose only braces are those of {shard}',
    ),
    (
        "journal_in_store",
        'journal.path: got "{folder}/data/journal.db"; expected a path apart from store.path, which the engine owns',
    ),
    ("target_blank", 'targets.nodes[1]: got ""; expected a node id without spaces'),
    (
        "target_text",
        'targets.resource_groups: got "rg1"; expected a list, each item a resource group id without spaces',
    ),
    ("target_twice", 'targets.nodes: got "e01-cn-1" twice; expected each id once'),
    ("workspace_twice", 'sources.user_metrics.workspaces: got "90001" twice; expected each id once'),
    ("user_blank", 'sources.user_metrics.user_ids[0]: got "a user"; expected a user id without spaces'),
    (
        "query_spaces",
        'sources.syslogs.query: got " "; expected nothing, or a search condition on one line, without spaces around it',
    ),
    ("group_three_times", 'targets.resource_groups: got "rg1" 3 times; expected each id once'),
    (
        "recheck_item",
        'sources.syslogs.recheck[1]: got "soon"; expected a duration such as 30s, 5m, 6h or 7d',
    ),
    (
        "recheck_order",
        'sources.syslogs.recheck: got ["6h", "15m"]; expected durations that ascend, each once',
    ),
    (
        "recheck_twice",
        'sources.syslogs.recheck: got ["15m", "15m"]; expected durations that ascend, each once',
    ),
    (
        "recheck_settle",
        'sources.syslogs.recheck: got ["15m", "6h"]; '
        "expected durations longer than sources.syslogs.settle, which is 15m",
    ),
    ("recheck_many", "sources.syslogs.recheck: got a list of 11; expected at most 10"),
    ("unknown_key", "sources.syslogs.intervall: no such key; did you mean interval?"),
    ("unknown_table", "stor: no such key; did you mean store?"),
    (
        "unknown_far",
        "sources.user_metrics.colour: no such key; there are enabled, interval, time_step, page_size, sort_by, order, "
        "workspaces, user_ids",
    ),
    ("misplaced_key", "page_size: no such key; did you mean sources.user_metrics.page_size?"),
    ("not_a_table", 'log: got "debug"; expected a table with level, format'),
    (
        "service_without_cluster",
        'targets.services[0]: got "chat"; expected a service with its cluster, such as "cn-shanghai/chat"',
    ),
    (
        "discover_word",
        'targets.discover[0]: got "job"; expected "clusters", "resource_groups", "jobs", "instances", '
        '"services" or "eas_resources"; did you mean jobs?',
    ),
    (
        "metric_none",
        "sources.node_metrics.metric_types: got []; expected at least one metric; enabled = false "
        "switches node_metrics off",
    ),
    (
        "metric_unknown",
        'sources.job_metrics.metric_types[0]: got "GpuCoreUse"; expected "GpuCoreUsage", '
        '"GpuMemoryUsage", "CpuCoreUsage", "MemoryUsage", "NetworkInputRate", "NetworkOutputRate", '
        '"DiskReadRate" or "DiskWriteRate"; did you mean GpuCoreUsage?',
    ),
    ("metric_twice", 'sources.node_metrics.metric_types: got "CpuUsageRate" twice; expected each id once'),
    ("endpoint_product", "api.endpoints.EAS: no such product; did you mean eas?"),
    ("endpoint_address", 'api.endpoints.eas: got "a.example"; expected an address such as http://127.0.0.1:8080'),
    (
        "recheck_series",
        'sources.events.recheck: got ["30s"]; expected durations longer than sources.events.settle, which is 1m',
    ),
    ("network", 'api.network: got "intranet"; expected "public" or "vpc"'),
    ("sign_with", 'api.sign_with: got "token"; expected "access_key" or "bearer"'),
    ("tracing_endpoint", 'tracing.endpoint: got "http://x"; expected "internet" or "internal"'),
    (
        "later_version",
        "console: no such key; there are shard, api, store, journal, targets, sources, budget, service, tracing, log",
    ),
    ("shard", 'shard: got "3/3"; expected a part such as "0/3" (the first of three) or "auto/3", or ""'),
    ("listen", 'service.listen: got "9600"; expected an address and port such as "127.0.0.1:9600", or ""'),
    (
        "sql_listen",
        'service.sql_listen: got "127.0.0.1"; expected an address and port such as "127.0.0.1:9600", or ""',
    ),
    (
        "interval_max",
        'sources.syslogs.interval_max: got "30s"; '
        "expected a duration of at least sources.syslogs.interval, which is 1m",
    ),
    (
        "budget",
        "budget.monthly_cny: got -5; expected CNY a month, from 0 to 100000000 with at most 6 decimals, such as 4000",
    ),
    (
        "secret_api_key",
        "api.api_key: a secret does not belong here; remove it and set the environment variable DASHSCOPE_API_KEY",
    ),
    (
        "secret_password",
        "store.password: a secret does not belong here; "
        "remove it and set the environment variable PAI_COLLECTOR_STORE_PASSWORD",
    ),
    (
        "secret_token",
        "log.token: a secret does not belong here; "
        "remove it and set the environment variable PAI_COLLECTOR_SERVICE_TOKEN",
    ),
    (
        "secret_store_token",
        "store.token: a secret does not belong here; "
        "remove it and set the environment variable PAI_COLLECTOR_STORE_TOKEN",
    ),
    (
        "secret_access_key",
        "api.access_key_id: a secret does not belong here; "
        "remove it and set the environment variable ALIBABA_CLOUD_ACCESS_KEY_ID",
    ),
    ("syntax", "{folder}/syntax.bad.toml:2: not TOML: illegal character '\\n'"),
    ("repeated_key", "{folder}/repeated_key.bad.toml:3: not TOML: cannot overwrite a value"),
]


def mistakes_of(path: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    """The lines that loading gives."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return caught.value.mistakes


def written(folder: Path, text: str) -> Path:
    """A configuration file with `text`."""
    path = folder / "collector.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A configuration file that leaves everything at its default."""
    return written(tmp_path, "")


@pytest.mark.parametrize(("name", "line"), BAD, ids=[name for name, _ in BAD])
def test_one_mistake_is_one_line(name: str, line: str) -> None:
    """Every mistake is told with its key, the value seen and what would be right, and nothing else is."""
    assert mistakes_of(CONFIG / f"{name}.bad.toml") == [line.replace("{folder}", str(CONFIG))]


def test_every_bad_file_is_in_the_table() -> None:
    """No file with a mistake lies about untested."""
    files = {path.name.removesuffix(".bad.toml") for path in CONFIG.glob("*.bad.toml")}

    assert files == {name for name, _ in BAD} | {"five_mistakes"}


def test_all_mistakes_are_told_at_once() -> None:
    """Five mistakes of five kinds, one of them between two values, give five lines."""
    assert mistakes_of(CONFIG / "five_mistakes.bad.toml") == [
        'api.site: got "mars"; expected "china" or "international"',
        "api.concurrency_max: got 0; expected a whole number from 1 to 1000",
        "api.api_key: a secret does not belong here; remove it and set the environment variable DASHSCOPE_API_KEY",
        'sources.syslogs.interval: got "5x"; expected a duration such as 30s, 5m, 6h or 7d',
        'targets.nodes: got "e01-cn-1" twice; expected each id once',
    ]


def test_no_mistake_shows_a_secret() -> None:
    """A key, token or password that was written into a file or an address stays out of the lines."""
    names = ["secret_api_key", "secret_password", "secret_token", "secret_access_key", "url_credentials"]
    lines = "\n".join(line for name in names for line in mistakes_of(CONFIG / f"{name}.bad.toml"))

    assert not any(secret in lines for secret in ("hunter2", "0123456789abcdef", "LTAI0000", "ops:"))


def test_a_key_in_a_wrong_place_is_not_shown(tmp_path: Path) -> None:
    """A value that looks like an API key is hidden wherever it stands."""
    (line,) = mistakes_of(written(tmp_path, '[api]\nsite = "sk-0123456789abcdef"\n'))

    assert line == 'api.site: got "sk-***"; expected "china" or "international"'


def test_a_check_between_values_waits_until_each_is_right(tmp_path: Path) -> None:
    """A wrong settle is one mistake, and not a second one of recheck against its default."""
    path = written(tmp_path, '[sources.syslogs]\nsettle = "x"\nrecheck = ["30s"]\n')

    right = 'expected a duration such as 30s, 5m, 6h or 7d, or "auto"'
    assert mistakes_of(path) == [f'sources.syslogs.settle: got "x"; {right}']


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    """A line stays readable however long the wrong value is."""
    (line,) = mistakes_of(written(tmp_path, f'[api]\nsite = "{"x" * 5000}"\n'))

    assert line.startswith('api.site: got "xxx')
    assert len(line) < 160


def test_control_characters_of_a_value_are_escaped(tmp_path: Path) -> None:
    """What a file holds cannot move the terminal's cursor or start a new line."""
    (line,) = mistakes_of(written(tmp_path, '[log]\nlevel = "\\u001b[2J\\n\\u009b"\n'))

    assert line.isprintable()


def test_a_file_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are told with their line."""
    path = tmp_path / "collector.toml"
    path.write_bytes(b'[api]\nregion = "\xff"\n')

    assert mistakes_of(path) == [f"{path}:2: not UTF-8 text"]


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    """A path that cannot be read is told with the reason."""
    assert mistakes_of(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


def test_deep_nesting_is_one_line(tmp_path: Path) -> None:
    """A hostile file ends in a line, not in a traceback."""
    path = written(tmp_path, "a = " + "[" * 100_000)

    assert len(mistakes_of(path)) == 1


def test_without_a_file_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing ./collector.toml points to `init`, and to the options that name another."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError) as caught:
        load(None, {})

    assert caught.value.mistakes == [
        "collector.toml: no such file here; name another with --config or PAI_COLLECTOR_CONFIG"
    ]
    assert "pai-collector init" in caught.value.hint


def test_a_named_file_that_is_missing_says_who_named_it(tmp_path: Path) -> None:
    """An option and a variable are told apart."""
    gone = tmp_path / "gone.toml"

    assert mistakes_of(gone) == [f"--config: got {gone}; expected an existing file"]
    assert mistakes_of(None, {"PAI_COLLECTOR_CONFIG": str(gone)}) == [
        f"PAI_COLLECTOR_CONFIG: got {gone}; expected an existing file"
    ]


def test_the_option_goes_over_the_variable_over_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config, then $PAI_COLLECTOR_CONFIG, then ./collector.toml."""
    for name in ("option", "variable", "collector"):
        (tmp_path / f"{name}.toml").write_text(f'[api]\nregion = "{name}"\n')
    monkeypatch.chdir(tmp_path)
    environ = {"PAI_COLLECTOR_CONFIG": str(tmp_path / "variable.toml")}

    assert load(tmp_path / "option.toml", environ).api.region == "option"
    assert load(None, environ).api.region == "variable"
    assert load(None, {}).api.region == "collector"


def test_the_example_is_the_defaults(tmp_path: Path) -> None:
    """What `init` writes loads, and says exactly what leaving it out says."""
    assert load(written(tmp_path, example()), {}) == anchored(Settings(), tmp_path)


def test_every_commented_sample_of_the_example_works(tmp_path: Path) -> None:
    """The quotas and prices that the example shows are the catalogue's, and may be uncommented."""
    lines = [
        line.removeprefix("# ") if line.startswith(("# ListSyslogs =", "# GetUserViewMetrics =")) else line
        for line in example().splitlines()
    ]

    api = load(written(tmp_path, "\n".join(lines)), {}).api

    assert api.quotas == {"ListSyslogs": 100, "GetUserViewMetrics": 100}
    assert api.prices["ListSyslogs"].cny == Decimal("0.0001")
    assert api.prices["GetUserViewMetrics"].free_calls_per_month == 1000


def leaves(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the configuration and its field."""
    for name, field in model.model_fields.items():
        key = f"{path}{field.alias or name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{key}.")
        else:
            yield key, field


def test_every_key_is_described() -> None:
    """The example explains each key that it shows."""
    assert [key for key, field in leaves(Settings) if not (field.description or "").endswith(".")] == []


def test_the_schema_takes_the_example_and_its_defaults() -> None:
    """The JSON Schema is of the file, durations spelled as in it."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    jsonschema.validate(tomllib.loads(example()), schema)
    assert schema["$defs"]["SyslogsSettings"]["properties"]["interval"]["default"] == "30s"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"sources": {"syslogs": {"interval": 30}}}, schema)


@pytest.mark.parametrize("address", ["https://example.com", "https://example.com/pai", "http://127.0.0.1:8080"])
def test_the_schema_takes_addresses_with_and_without_a_port(tmp_path: Path, address: str) -> None:
    """An editor that checks by the schema accepts what the program reads."""
    text = f'[api]\nbase_url = "{address}"\nendpoints.eas = "{address}"\n'

    assert load(written(tmp_path, text), {}).api.base_url == address
    jsonschema.validate(tomllib.loads(text), json_schema())


def test_a_full_file_is_read(tmp_path: Path) -> None:
    """Every kind of value arrives in its unit."""
    settings = load(
        written(
            tmp_path,
            """
            [api]
            region = "cn-beijing"
            base_url = "http://127.0.0.1:8080/"
            timeout = "1500ms"
            quotas = { ListSyslogs = 50 }
            prices.ListSyslogs = { cny = 0.0003, free = 0 }
            [store]
            flush_interval = "100ms"
            [journal]
            bytes_max = "256MiB"
            [targets]
            nodes = ["e01-cn-1"]
            [sources.syslogs]
            initial_lookback = "7d"
            recheck = []
            """,
        ),
        {},
    )

    assert settings.api.region == "cn-beijing"
    assert settings.api.base_url == "http://127.0.0.1:8080"
    assert settings.api.timeout_seconds == 1.5
    assert settings.api.quotas == {"ListSyslogs": 50}
    assert settings.api.prices["ListSyslogs"].cny == Decimal("0.0003")
    assert settings.store.flush_interval_seconds == 0.1
    assert settings.journal.bytes_max == 256 << 20
    assert settings.targets.nodes == ("e01-cn-1",)
    assert settings.sources.syslogs.initial_lookback_seconds == 604_800
    assert settings.sources.syslogs.recheck_seconds == ()


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Where the command is started does not decide where the data lies."""
    folder = tmp_path / "etc"
    folder.mkdir()
    settings = load(written(folder, '[store]\npath = "../var/store"\n[journal]\npath = "/srv/journal.db"\n'), {})

    assert settings.store.path == folder / "../var/store"
    assert settings.journal.path == Path("/srv/journal.db")


def test_a_byte_order_mark_is_taken(tmp_path: Path) -> None:
    """Files from editors that write one are read."""
    assert load(written(tmp_path, '\ufeff[api]\nregion = "cn-beijing"\n'), {}).api.region == "cn-beijing"


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("API__REGION", "cn-shanghai", lambda s: s.api.region == "cn-shanghai"),
        ("API__TIMEOUT", "5s", lambda s: s.api.timeout_seconds == 5),
        ("API__CONCURRENCY_MAX", "8", lambda s: s.api.concurrency_max == 8),
        ("API__BASE_URL", "", lambda s: s.api.base_url == ""),
        ("API__QUOTAS__LISTSYSLOGS", "7", lambda s: s.api.quotas == {"ListSyslogs": 7}),
        ("API__QUOTAS", '{"GetUserViewMetrics": 9}', lambda s: s.api.quotas["GetUserViewMetrics"] == 9),
        (
            "API__PRICES__LISTSYSLOGS",
            '{"cny": 0.0002, "free": 5}',
            lambda s: s.api.prices["ListSyslogs"].cny == Decimal("0.0002"),
        ),
        ("STORE__FLUSH_INTERVAL", "1s", lambda s: s.store.flush_interval_seconds == 1),
        ("TARGETS__NODES", "n1, n2", lambda s: s.targets.nodes == ("n1", "n2")),
        ("TARGETS__NODES", '["n1", "n2"]', lambda s: s.targets.nodes == ("n1", "n2")),
        ("TARGETS__NODES", "", lambda s: s.targets.nodes == ()),
        ("SOURCES__SYSLOGS__ENABLED", "false", lambda s: s.sources.syslogs.enabled is False),
        ("SOURCES__SYSLOGS__RECHECK", "20m,1d", lambda s: s.sources.syslogs.recheck_seconds == (1200, 86_400)),
        ("LOG__LEVEL", "debug", lambda s: s.log.level == "debug"),
    ],
)
def test_the_environment_goes_over_the_file(tmp_path: Path, variable: str, text: str, read: Any) -> None:
    """Each kind of key can be set by its variable, whatever the file says."""
    path = written(
        tmp_path,
        """
        [api]
        region = "cn-beijing"
        base_url = "http://127.0.0.1:1"
        concurrency_max = 3
        quotas.ListSyslogs = 1
        [targets]
        nodes = ["from-the-file"]
        """
        if variable != "API__QUOTAS__LISTSYSLOGS"
        else "api.quotas.ListSyslogs = 1",
    )

    assert read(load(path, {f"PAI_COLLECTOR__{variable}": text, "API": "x", "LOG": "y"}))


def test_a_table_and_its_keys_from_the_environment_are_merged(empty: Path) -> None:
    """A single operation's variable goes over the variable of the whole table."""
    environ = {
        "PAI_COLLECTOR__API__QUOTAS__LISTSYSLOGS": "2",
        "PAI_COLLECTOR__API__QUOTAS": '{"ListSyslogs": 1, "GetUserViewMetrics": 3}',
    }

    assert load(empty, environ).api.quotas == {"ListSyslogs": 2, "GetUserViewMetrics": 3}


@pytest.mark.parametrize(
    ("variable", "text", "line"),
    [
        (
            "SOURCES__SYSLOGS__INTERVAL",
            "5x",
            'sources.syslogs.interval (from {name}): got "5x"; expected a duration such as 30s, 5m, 6h or 7d',
        ),
        (
            "API__CONCURRENCY_MAX",
            "many",
            'api.concurrency_max (from {name}): got "many"; expected a whole number from 1 to 1000',
        ),
        ("SOURCES__SYSLOGS__ENABLED", "1", 'sources.syslogs.enabled (from {name}): got "1"; expected true or false'),
        (
            "TARGETS__NODES",
            '["n1',
            'targets.nodes (from {name}): got "[\\"n1"; expected a list, each item a node id without spaces',
        ),
        ("TARGETS__NODES", "n1,,n2", 'targets.nodes[1] (from {name}): got ""; expected a node id without spaces'),
        ("TARGETS__NODES", "n1,n1", 'targets.nodes (from {name}): got "n1" twice; expected each id once'),
        (
            "API__QUOTAS",
            "100",
            "api.quotas (from {name}): got 100; expected a table of operations, such as ListSyslogs = ...",
        ),
        ("API__TIMEOT", "5s", "{name}: no such setting; did you mean PAI_COLLECTOR__API__TIMEOUT?"),
        ("QUITE__ANOTHER", "1", "{name}: no such setting"),
        ("", "1", "{name}: no such setting"),
        (
            "API__API_KEY",
            "sk-0123456789abcdef",
            "{name}: a secret does not belong here; remove it and set the environment variable DASHSCOPE_API_KEY",
        ),
    ],
)
def test_a_mistake_names_the_variable_it_came_from(empty: Path, variable: str, text: str, line: str) -> None:
    """Whoever set the value finds it: the key, the variable, what is right."""
    name = f"PAI_COLLECTOR__{variable}"

    assert mistakes_of(empty, {name: text}) == [line.format(name=name)]


def test_mistakes_of_file_and_environment_come_together() -> None:
    """Neither hides the other, not even a file that is no TOML."""
    environ = {"PAI_COLLECTOR__LOG__LEVEL": "loud"}

    assert len(mistakes_of(CONFIG / "five_mistakes.bad.toml", environ)) == 6
    assert len(mistakes_of(CONFIG / "syntax.bad.toml", environ)) == 2


def test_settings_cannot_be_changed() -> None:
    """Nothing in a running program moves the configuration under another part of it."""
    settings = Settings()

    with pytest.raises(ValidationError):
        settings.sources.syslogs.interval_seconds = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.api.quotas["ListSyslogs"] = 1


def test_settings_are_made_in_python_with_units_in_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are taken as seconds, limits hold all the same, and the machine's environment does not leak in."""
    monkeypatch.setenv("API", "x")
    monkeypatch.setenv("LOG", "x")

    assert Settings() == Settings()
    assert SyslogsSettings(interval_seconds=10).interval_seconds == 10
    with pytest.raises(ValidationError, match="from 1s to 1d"):
        SyslogsSettings(interval_seconds=0)


def test_settings_are_written_as_a_file_spells_them() -> None:
    """The dump of a configuration can be loaded again."""
    dumped = json.loads(Settings(api={"quotas": {"ListSyslogs": 5}}).model_dump_json(by_alias=True))

    assert dumped["sources"]["syslogs"]["recheck"] == ["15m", "6h"]
    assert dumped["journal"]["bytes_max"] == "2GiB"
    assert Settings(**dumped) == Settings(api={"quotas": {"ListSyslogs": 5}})


def test_the_api_key_comes_from_the_environment_and_is_not_shown() -> None:
    """Its value is there for who asks for it, and for nobody who prints it."""
    key = api_key({"DASHSCOPE_API_KEY": " sk-canary\n"})

    assert key.get_secret_value() == "sk-canary"
    assert "canary" not in f"{key!r} {key}"


@pytest.mark.parametrize("value", ["", "  ", "sk-canary\r\nX-Other: 1", "sk-canary\u00e9"])
def test_a_key_that_cannot_be_sent_is_refused(value: str) -> None:
    """A missing or unusable key names its variable and is not repeated."""
    with pytest.raises(ConfigError) as caught:
        api_key({"DASHSCOPE_API_KEY": value})

    (line,) = caught.value.mistakes
    assert line.startswith("DASHSCOPE_API_KEY: ")
    assert "canary" not in line


@given(st.integers(0, 10**12))
def test_durations_survive_being_written(thousandths: int) -> None:
    """Every formatted duration is read back as the same number of seconds."""
    text = format_duration(thousandths / 1000)

    assert round(parse_duration(text) * 1000) == thousandths


@given(st.integers(0, 1 << 50))
def test_sizes_survive_being_written(size_bytes: int) -> None:
    """Every formatted size is read back as the same number of bytes."""
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("seconds", "largest", "text"),
    [
        (0, "d", "0s"),
        (0.25, "d", "250ms"),
        (90, "d", "90s"),
        (300, "d", "5m"),
        (86_400, "d", "1d"),
        (86_400, "h", "24h"),
    ],
)
def test_durations_are_written_in_their_largest_whole_unit(seconds: float, largest: str, text: str) -> None:
    """A service that knows no days gets hours."""
    assert format_duration(seconds, largest=largest) == text


@pytest.mark.parametrize("text", ["", "5", "5x", "-5s", "1.5h", "5 s", "5S", "s", "\u0665s", "1h30m"])
def test_what_is_no_duration_is_told_with_an_example(text: str) -> None:
    """The message is a sentence that a user can act on."""
    with pytest.raises(ValueError, match="is not a duration: write a number and s, m, h or d, such as 30s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "2GB", "2gib", "-1MiB", "1.5GiB"])
def test_what_is_no_size_is_told_with_an_example(text: str) -> None:
    """Units are the binary ones, spelled as such."""
    with pytest.raises(ValueError, match="is not a size: write a number and B, KiB, MiB, GiB or TiB, such as 64MiB"):
        parse_size(text)


def test_a_settle_may_be_learned(tmp_path: Path) -> None:
    """`auto` is a settle of its own, its rechecks are later than its upper bound, and it is written as it was read."""
    path = written(tmp_path, '[sources.syslogs]\nsettle = "auto"\n')
    found = load(path, {})
    assert found.sources.syslogs.settle_seconds == 0
    assert found.model_dump(mode="json", by_alias=True)["sources"]["syslogs"]["settle"] == "auto"
    path = written(tmp_path, '[sources.syslogs]\nsettle = "auto"\nrecheck = ["5m"]\n')
    assert mistakes_of(path) == [
        'sources.syslogs.recheck: got ["5m"]; expected durations longer than sources.syslogs.settle, '
        "which is at most 5m"
    ]
    path = written(tmp_path, '[sources.events]\nsettle = "auto"\n')
    assert len(mistakes_of(path)) == 1
