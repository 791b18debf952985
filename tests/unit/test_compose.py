"""The compose file, the images and the servers' configuration: what can be known of them without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.settings import load
from collector.settings.layers import environment_layer
from collector.store.embedded import EmbeddedStore

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE = shutil.which("docker-compose")
SECRETS = (
    "DASHSCOPE_API_KEY", "PAI_WRITER_PASSWORD", "PAI_READER_PASSWORD", "PAI_GRAFANA_PASSWORD",
    "PAI_COLLECTOR_SERVICE_TOKEN",
)  # fmt: skip
PROFILES = ("single", "cluster")

with_compose = pytest.mark.skipif(COMPOSE is None, reason="docker-compose is not installed (Debian's docker-compose)")


def services(profile: str | None = None) -> dict[str, Any]:
    """The services of a profile as the file has them, anchors resolved; those of all profiles without one."""
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return {name: service for name, service in found.items() if profile in (*service.get("profiles", [profile]), None)}


def read_xml(name: str) -> ET.Element:
    return ET.parse(ROOT / "contrib/clickhouse" / name).getroot()


def config(folder: Path, given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What docker-compose makes of the file."""
    assert COMPOSE is not None
    nothing = folder / "empty.env"
    nothing.touch()
    environ = {name: value for name, value in os.environ.items() if name not in SECRETS} | given
    return subprocess.run(
        [COMPOSE, "--env-file", str(nothing), "--file", str(FILE), "config"],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@with_compose
@pytest.mark.slow("commands as processes")
def test_compose_takes_the_file_with_its_secrets_only(tmp_path: Path) -> None:
    """With all of them the file is whole; without one of them, or with an empty one, the reason names it."""
    given = {name: "s3cret" for name in SECRETS}

    whole = config(tmp_path, given)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert set(yaml.safe_load(whole.stdout)["services"]) == set(services())
    for name in SECRETS:
        refused = config(tmp_path, given | {name: ""})
        assert refused.returncode != 0
        assert name in refused.stderr


def test_no_secret_has_a_value_in_the_repository() -> None:
    """The example leaves them empty, names all that the file asks for, and .env itself is not taken along."""
    example = dict(line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line[:40])
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", FILE.read_text()))

    assert {name for name, value in example.items() if not name.startswith("#") and value == ""} >= set(SECRETS)
    assert asked == set(example) - {"COMPOSE_PROFILES"}
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


@pytest.mark.parametrize("name", sorted(services()))
def test_every_service_is_kept_within_bounds(name: str) -> None:
    """It is open to this machine only, has limits, rotates its log, comes back, and says whether it is well."""
    service = services()[name]

    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service.keys() >= {"mem_limit", "cpus", "security_opt"}
    assert "healthcheck" in service or ("build" in service and "HEALTHCHECK" in (ROOT / "Dockerfile").read_text())
    assert re.search(r":\d+\.\d+(\.\d+)?(-alpine)?$", service["image"]) or "build" in service


async def test_the_servers_are_of_the_version_that_the_tests_run(tmp_path: Path) -> None:
    """Images of server and Keeper carry the version of the embedded engine."""
    store = await EmbeddedStore.open(tmp_path / "store")
    version = (await store.fetch("SELECT version()"))[0][0]
    await store.close()
    tags = {
        service["image"].split(":")[1].removesuffix("-alpine")
        for service in services().values()
        if service["image"].startswith("clickhouse/")
    }

    assert tags == {".".join(version.split(".")[:2])}


@pytest.mark.parametrize("profile", PROFILES)
def test_everything_that_a_service_mounts_or_waits_for_is_there(profile: str) -> None:
    """Folders and files are in the repository, volumes are declared, and what is waited for is in the same profile."""
    volumes = yaml.safe_load(FILE.read_text())["volumes"]
    chosen = services(profile)
    for service in chosen.values():
        for source in (mount.split(":")[0] for mount in service["volumes"]):
            assert (ROOT / source).exists() if source.startswith("./") else source in volumes
        assert set(service.get("depends_on", {})) <= set(chosen)
    aliases = [service.get("networks", {}).get("default", {}).get("aliases", []) for service in chosen.values()]
    assert "clickhouse" in set(chosen).union(*aliases)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_collector_knows_every_setting_that_it_is_given(profile: str) -> None:
    """No variable of the compose file is misspelt or has a value that the collector refuses."""
    collector = services(profile)["collector" if profile == "single" else "collector-cluster"]
    environ = {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for name, value in collector["environment"].items()
    }

    layer = environment_layer(environ)

    assert layer.lines == []
    assert layer.values["store"].get("cluster", "") == ("pai" if profile == "cluster" else "")


def test_the_image_has_all_that_it_is_built_from_and_a_configuration() -> None:
    """What the Dockerfile takes is let through by .dockerignore, and its paths lie in the volume."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [name for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for name in line.split()[:-1]]
    bound = re.findall(r"source=(requirements/\S+?),", dockerfile)
    settings = load(ROOT / "contrib/docker/collector.toml", {})

    assert {*copied, *bound} == let_through
    assert all((ROOT / name).exists() for name in let_through)
    volume = Path(re.findall(r"^VOLUME (\S+)$", dockerfile, re.MULTILINE)[0])
    assert settings.journal.path.parent == settings.store.path.parent == volume
    assert "PAI_COLLECTOR_CONFIG=/etc/pai-collector/collector.toml" in dockerfile
    assert services()["collector"]["volumes"] == [f"journal:{volume}"]
    # As PID 1 a program gets no signal that it has no handler for yet, and inherits orphans.
    assert 'ENTRYPOINT ["tini", "--", "pai-collector"]' in dockerfile


def test_the_cluster_is_the_same_in_all_files() -> None:
    """Hosts, shards and replicas of the nodes are those of the server's configuration, and so are names and ports."""
    chosen = services("cluster")
    nodes = {
        name: (service["environment"]["PAI_SHARD"], service["environment"]["PAI_REPLICA"])
        for name, service in chosen.items()
        if name.startswith("clickhouse-")
    }
    server = read_xml("cluster.xml")
    shards = server.findall("remote_servers/pai/shard")
    configured = {
        replica.findtext("host"): (f"{shard_number:02d}", f"{replica_number:02d}")
        for shard_number, shard in enumerate(shards, 1)
        for replica_number, replica in enumerate(shard.findall("replica"), 1)
    }

    assert configured == nodes
    assert {len(shard.findall("replica")) for shard in shards} == {2}
    assert all(chosen[name]["hostname"] == name for name in nodes)
    assert (
        server.findtext("macros/cluster") == chosen["collector-cluster"]["environment"]["PAI_COLLECTOR__STORE__CLUSTER"]
    )
    assert [shard.findtext("internal_replication") for shard in shards] == ["true", "true"]
    keeper = read_xml("keeper.xml")
    assert server.findtext("zookeeper/node/host") == "keeper" == keeper.findtext(".//server/hostname")
    assert server.findtext("zookeeper/node/port") == keeper.findtext("keeper_server/tcp_port")
    from_env = {element.get("from_env") for element in server.iter() if element.get("from_env")}
    assert from_env <= set(chosen["clickhouse-01-01"]["environment"])


def test_the_account_that_needs_no_password_is_reached_from_within_only() -> None:
    """The default user of the servers answers on loopback, whatever the image does."""
    default = read_xml("users.xml").find("users/default")

    assert default is not None
    networks = default.find("networks")
    assert networks is not None
    assert networks.get("replace") == "replace"
    assert [ip.text for ip in networks] == ["127.0.0.1", "::1"]


def test_the_accounts_are_made_with_digests_of_the_passwords(tmp_path: Path) -> None:
    """Each file is applied with the SHA-256 of its password; an empty password or cluster secret is refused."""
    client = tmp_path / "clickhouse-client"
    client.write_text(f"#!{sys.executable}\nimport sys\nprint(*sys.argv[1:])\n")
    client.chmod(0o755)

    def run(**given: str) -> subprocess.CompletedProcess[str]:
        script = ROOT / "contrib/clickhouse/users.sh"
        assert os.access(script, os.X_OK)
        environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | given
        return subprocess.run([script], env=environ, capture_output=True, text=True, timeout=30, check=False)

    passwords = {"PAI_WRITER_PASSWORD": "wri'ter", "PAI_READER_PASSWORD": "reader"}
    node = passwords | {"PAI_SHARD": "01", "PAI_CLUSTER_SECRET": "s"}
    accounts = [
        f"--host 127.0.0.1 --queries-file /grants/{account}.sql --param_password_sha256 "
        + sha256(passwords[f"PAI_{account.upper()}_PASSWORD"].encode()).hexdigest()
        for account in ("writer", "reader")
    ]
    assert run(**passwords).stdout.splitlines() == accounts
    assert run(**node).stdout.splitlines() == [*accounts, "--host 127.0.0.1 --queries-file /grants/cluster.sql"]
    for missing in ("PAI_WRITER_PASSWORD", "PAI_READER_PASSWORD", "PAI_CLUSTER_SECRET"):
        refused = run(**(node | {missing: ""}))
        assert refused.returncode != 0
        assert missing in refused.stderr
