"""What a hostile reader may try at the SQL endpoint. None of it gets through.

What counts as a leak: the content or the name of a file of the machine outside the store, an answer from the network,
other readers' queries, the engine's configuration, users and named collections. Not secret are the names of this
machine and of the store's own folder, the engine's version, tables and their sizes.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.effort import one_in

ROOT = Path(__file__).parents[2]
KIND = "hostile queries"
FAST_ONE_IN = 6
CANARY = "canary-in-the-coal-mine"
SECONDS_MAX = 2
ANSWER_BYTES_MAX = 700 << 20
MEMORY_BYTES_MAX = 2 << 30

# {secret} is a file with the canary, {out} one that must not come to be, {url} and {port} are the trap's.
REACHES_OUT = [
    # Scalar file(), in every disguise
    "SELECT file('{secret}')",
    "SELECT FILE('{secret}')",
    "SELECT `file`('{secret}')",
    "SELECT \"File\"('{secret}')",
    "SELECT /* file */ file /* ( */ ('{secret}')",
    "SELECT file\n('{secret}') -- \n",
    "SELECT file('{secret}', 'default')",
    "SELECT arrayMap(file, ['{secret}'])",
    "SELECT arrayMap(x -> file(x), ['{secret}'])",
    "SELECT arrayMap(`file`, ['{secret}'])",
    "SELECT mapApply((k, v) -> (k, file(v)), map('a', '{secret}'))",
    "SELECT arrayFold((a, x) -> file(x), ['{secret}'], '')",
    "WITH file AS f SELECT f('{secret}')",
    "WITH x -> file(x) AS f SELECT f('{secret}')",
    "WITH (SELECT file('{secret}')) AS s SELECT s",
    "WITH t AS (SELECT file('{secret}') AS s) SELECT s FROM t",
    "WITH RECURSIVE t AS (SELECT file('{secret}') AS s UNION ALL SELECT s FROM t WHERE s != s) SELECT * FROM t",
    "SELECT * APPLY file FROM (SELECT '{secret}' AS x)",
    "SELECT * APPLY(x -> file(x)) FROM (SELECT '{secret}' AS x)",
    "SELECT COLUMNS('.*') APPLY(file) FROM (SELECT '{secret}' AS x)",
    "SELECT * REPLACE(file(x) AS x) FROM (SELECT '{secret}' AS x)",
    "SELECT * FROM view(SELECT file('{secret}'))",
    "SELECT * FROM (SELECT * FROM (SELECT file('{secret}')))",
    "SELECT 1 UNION ALL SELECT length(file('{secret}'))",
    "SELECT 1 LIMIT length(file('{secret}'))",
    "SELECT 1 WHERE file('{secret}') LIKE 'c%'",
    "SELECT throwIf(1, file('{secret}'))",
    "SELECT if(1, file('{secret}'), '')",
    "SELECT CAST(file('{secret}') AS Int32)",
    "SELECT toInt32(file('{secret}'))",
    "SELECT count() FROM numbers(3) GROUP BY file('{secret}')",
    "SELECT number FROM numbers(3) ORDER BY file('{secret}')",
    "SELECT sum(number) OVER (PARTITION BY file('{secret}')) FROM numbers(3)",
    "SELECT * FROM numbers(3) AS n JOIN (SELECT file('{secret}') AS s) AS s ON 1",
    "SELECT arrayJoin([file('{secret}')])",
    "SELECT * FROM values('x String', file('{secret}'))",
    "EXPLAIN SELECT file('{secret}')",
    "EXPLAIN SYNTAX SELECT file('{secret}')",
    "EXPLAIN QUERY TREE run_passes = 1 SELECT file('{secret}')",
    "DESCRIBE (SELECT file('{secret}') AS x)",
    "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT file('{secret}')))",
    "SELECT * FROM eval('SELECT file(''{secret}'')')",
    # Table functions
    "SELECT * FROM file('{secret}', 'LineAsString')",
    "SELECT * FROM FILE('{secret}', 'LineAsString', 'x String')",
    "DESCRIBE TABLE file('{secret}', 'CSV')",
    "SELECT * FROM fileCluster('default', '{secret}', 'LineAsString')",
    "SELECT * FROM filesystem('/')",
    "SELECT 1 IN file('{secret}', 'LineAsString', 'x String')",
    "SELECT * FROM executable('cat {secret}', 'LineAsString', 'x String')",
    "SELECT * FROM python('os')",
    "SELECT * FROM sqlite('{secret}', 't')",
    "SELECT * FROM input('x String')",
    "SELECT * FROM icebergLocal('{secret}')",
    "SELECT * FROM deltaLakeLocal('{secret}')",
    "SELECT * FROM hudi('{url}')",
    "SELECT * FROM url('{url}', 'CSV', 'x String')",
    "SELECT * FROM URL('{url}')",
    "DESCRIBE TABLE url('{url}', 'CSV')",
    "SELECT * FROM urlCluster('default', '{url}', 'CSV', 'x String')",
    "SELECT * FROM s3('{url}', 'CSV', 'x String')",
    "DESCRIBE TABLE s3('{url}', 'CSV')",
    "SELECT * FROM gcs('{url}', 'CSV', 'x String')",
    "SELECT * FROM oss('{url}', 'CSV', 'x String')",
    "SELECT * FROM azureBlobStorage('{url}', 'c', 'b', 'a', 'k', 'CSV')",
    "SELECT * FROM hdfs('{url}', 'CSV', 'x String')",
    "SELECT * FROM iceberg('{url}', 'a', 'b')",
    "SELECT * FROM deltaLake('{url}', 'a', 'b')",
    "SELECT * FROM remote('127.0.0.1:{port}', system.one)",
    "DESCRIBE TABLE remote('127.0.0.1:{port}', system.one)",
    "SELECT * FROM remoteSecure('127.0.0.1:{port}', system.one)",
    "SELECT * FROM cluster('default', system.one)",
    "SELECT * FROM clusterAllReplicas('default', system.one)",
    "SELECT * FROM mysql('127.0.0.1:{port}', 'd', 't', 'u', 'p')",
    "DESCRIBE TABLE mysql('127.0.0.1:{port}', 'd', 't', 'u', 'p')",
    "SELECT * FROM postgresql('127.0.0.1:{port}', 'd', 't', 'u', 'p')",
    "SELECT * FROM mongodb('127.0.0.1:{port}', 'd', 't', 'u', 'p', 'x String')",
    "SELECT * FROM redis('127.0.0.1:{port}', 'k', 'k String')",
    "SELECT * FROM odbc('DSN=x', 'd', 't')",
    "SELECT * FROM jdbc('jdbc:x://127.0.0.1:{port}', 't')",
    "SELECT * FROM bigquery('p', 'd', 't')",
    "SELECT * FROM arrowstream('{url}')",
    "SELECT * FROM prometheusQuery('t', 'up', 0)",
    "SELECT * FROM ytsaurus('{url}', '/', 't', 'x String')",
    "EXPLAIN TABLE OVERRIDE mysql('127.0.0.1:{port}', 'd', 't', 'u', 'p') PARTITION BY x",
    "SELECT * FROM merge('system', 'processes')",
    "SELECT * FROM merge(REGEXP('.*'), '.*')",
    "SELECT * FROM loop(system.processes)",
    "SELECT * FROM dictionary('evil')",
    "SELECT * FROM mergeTreeIndex(pai, probe)",
    "SELECT hasColumnInTable('127.0.0.1:{port}', 'default', 'one', 'x', 'y', 'z')",
    "SELECT hasColumnInTable('127.0.0.1:{port}', 'u', 'p', 'system', 'one', 'dummy')",
    "SELECT reverseDNSQuery('127.0.0.1')",
    "SELECT aiEmbed('x', '{url}')",
    "SELECT aiGenerate('{url}', 'x')",
    "SELECT catboostEvaluate('{secret}', 1.0)",
    "SELECT joinGet('system.processes', 'query', 1)",
    # Files that are tables of the engine's default database
    "SELECT * FROM `{secret}`",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM default.`{secret}`",
    "SELECT 1 IN default.`{secret}`",
    "DESCRIBE TABLE default.`{secret}`",
    "EXISTS TABLE default.`{secret}`",
    "EXISTS default.`{secret}`",
    "EXISTS VIEW default.`{secret}`",
    "EXISTS DICTIONARY default.`{secret}`",
    "SHOW CREATE TABLE default.`{secret}`",
    "CHECK TABLE default.`{secret}`",
    "EXPLAIN SELECT * FROM default.`{secret}`",
    "SELECT * FROM `_temporary_and_external_tables`.`x`",
    # Files by the statement
    "SELECT 1 INTO OUTFILE '{out}'",
    "SELECT 1 INTO OUTFILE '{out}' TRUNCATE FORMAT CSV",
    "EXPLAIN AST SELECT 1 INTO OUTFILE '{out}'",
    "SHOW TABLES INTO OUTFILE '{out}'",
    "INSERT INTO probe FROM INFILE '{secret}' FORMAT LineAsString",
    "INSERT INTO FUNCTION file('{out}', 'CSV', 'x UInt8') SELECT 1",
    "INSERT INTO FUNCTION url('{url}', 'CSV', 'x UInt8') SELECT 1",
    "SELECT * FROM format(CSV, file('{secret}'))",
]
CHANGES = [
    "INSERT INTO probe VALUES ('1')",
    "INSERT INTO probe SELECT 'x'",
    "CREATE TABLE pai.evil (x UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE evil (x UInt8)",
    "CREATE TABLE pai.evil ENGINE = File(CSV, '{secret}')",
    "CREATE VIEW pai.evil AS SELECT file('{secret}')",
    "CREATE DATABASE evil ENGINE = MySQL('127.0.0.1:{port}', 'd', 'u', 'p')",
    "CREATE DICTIONARY evil (x UInt8) PRIMARY KEY x SOURCE(HTTP(url '{url}' format 'CSV')) LAYOUT(FLAT()) LIFETIME(1)",
    "CREATE FUNCTION evil AS (x) -> file(x)",
    "CREATE USER evil",
    "CREATE NAMED COLLECTION evil AS x = 1",
    "ALTER TABLE probe DELETE WHERE 1",
    "ALTER TABLE probe UPDATE s = 'x' WHERE 1",
    "ALTER TABLE probe ADD COLUMN evil UInt8",
    "DELETE FROM probe WHERE 1",
    "UPDATE probe SET s = 'x' WHERE 1",
    "TRUNCATE TABLE probe",
    "DROP TABLE probe",
    "DROP DATABASE pai",
    "DETACH TABLE probe",
    "ATTACH TABLE probe",
    "RENAME TABLE probe TO evil",
    "EXCHANGE TABLES probe AND probe",
    "UNDROP TABLE probe",
    "OPTIMIZE TABLE probe FINAL",
    "BACKUP TABLE probe TO Disk('default', 'x')",
    "RESTORE TABLE probe FROM Disk('default', 'x')",
    "GRANT ALL ON *.* TO default",
    "REVOKE ALL ON *.* FROM default",
    "SET readonly = 0",
    "SET ROLE ALL",
    "USE system",
    "KILL QUERY WHERE 1",
    "KILL MUTATION WHERE 1",
    "SYSTEM STOP MERGES",
    "SYSTEM SHUTDOWN",
    "SYSTEM DROP MARK CACHE",
    "SYSTEM RELOAD CONFIG",
    "BEGIN TRANSACTION",
    "COMMIT",
    "EXECUTE AS default SELECT 1",
    "CHECK TABLE probe",
    "SELECT 1; DROP TABLE probe",
    "SELECT 1;; SELECT 2",
    "SELECT 1 PARALLEL WITH SELECT 2",
    "DROP TABLE probe PARALLEL WITH DROP TABLE probe",
    "EXPLAIN INSERT INTO probe VALUES ('1')",
    "EXPLAIN AST DROP TABLE probe",
    "EXPLAIN SYNTAX CREATE TABLE evil (x UInt8) ENGINE = Memory",
    "EXPLAIN CURRENT TRANSACTION",
    "WITH t AS (SELECT 1) INSERT INTO probe SELECT 'x'",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "SELECT 1 FORMAT CSV SETTINGS max_memory_usage = 0",
    "SELECT * FROM (SELECT 1 SETTINGS max_threads = 64)",
]
TELLS_ON_OTHERS = [
    "SELECT * FROM system.processes",
    "SELECT * FROM `system`.`processes`",
    "SELECT * FROM SYSTEM.processes",
    "SELECT 1 IN (SELECT query FROM system.processes)",
    "SELECT * FROM probe WHERE s IN system.processes",
    "SHOW PROCESSLIST",
    "DESCRIBE TABLE system.processes",
    "SELECT * FROM system.user_processes",
    "SELECT * FROM system.user_query_log",
    "SELECT * FROM system.query_cache",
    "SELECT * FROM system.session_query_ids",
    "SELECT * FROM system.statements",
    "SELECT * FROM system.server_settings",
    "SELECT * FROM system.macros",
    "SELECT * FROM system.named_collections",
    "SHOW NAMED COLLECTIONS",
    "SELECT * FROM system.user_directories",
    "SELECT * FROM system.grants",
    "SELECT * FROM system.settings_profiles",
    "SHOW GRANTS",
    "SHOW USERS",
    "SHOW ACCESS",
    "SHOW CREATE USER default",
    "SHOW CREATE SETTINGS PROFILE default",
    "SHOW POLICIES",
    "SELECT * FROM system.stack_trace",
    "SELECT * FROM system.symbols",
    "SELECT * FROM system.certificates",
    "SELECT * FROM system.remote_data_paths",
    "SELECT * FROM system.backups",
    "SELECT * FROM system.errors",
    "SELECT * FROM system.warnings",
    "SELECT * FROM system.dns_cache",
    "SELECT * FROM system.filesystem_cache",
    "SELECT * FROM system.jemalloc_profile_text",
    "SELECT addressToSymbol(1)",
    "SELECT addressToLine(1)",
    "SELECT demangle('_Z1fv')",
    "SELECT getServerSetting('max_server_memory_usage')",
    "SELECT getMacro('shard')",
    "SELECT getOSKernelVersion()",
    "SELECT getClientHTTPHeader('Authorization')",
    "SELECT showCertificate()",
    "SELECT filesystemAvailable()",
    "SELECT zookeeperSessionUptime()",
    "SELECT logTrace('x')",
    "SELECT __getScalar('x')",
]
PARAMETERS = [
    ("SELECT {f:Identifier}('{secret}')", {"param_f": "file"}),
    ("SELECT arrayMap({f:Identifier}, ['{secret}'])", {"param_f": "file"}),
    ("SELECT * FROM {d:Identifier}.{t:Identifier}", {"param_d": "system", "param_t": "processes"}),
    ("SELECT * FROM {t:Identifier}", {"param_t": "system.processes"}),
    ("SELECT * FROM processes", {"database": "system"}),
    ("SELECT * FROM processes", {"database": "SYSTEM"}),
    ("SELECT * FROM {d:Identifier}.{t:Identifier}", {"param_d": "default", "param_t": "{secret}"}),
    ("EXISTS TABLE `{secret}`", {"database": "_temporary_and_external_tables"}),
    ("SELECT * FROM `{secret}`", {"database": "default"}),
    ("SELECT 1", {"database": "pai`; DROP TABLE probe; --"}),
    ("SELECT 1 FORMAT Template", {"format_template_resultset": "{secret}"}),
    ("SELECT 1", {"default_format": "CSV INTO OUTFILE '{out}'"}),
    ("SELECT 1 FORMAT Protobuf", {"format_schema": "{secret}:x"}),
    ("SELECT 1 FORMAT Protobuf", {"output_format_schema": "{out}"}),
    ("SELECT 1", {"readonly": "0", "max_execution_time": "0", "allow_introspection_functions": "1"}),
    ("SELECT 1", {"additional_table_filters": "{'probe': 'file(''{secret}'')'}"}),
    ("SELECT 1", {"join_use_nulls": "1', readonly = '0"}),
    ("SELECT 1", {"log_queries_probability', readonly='0": "1"}),
    ("SELECT 1", {"user": "writer", "password": "x"}),
    ("SELECT 1", {"role": "admin"}),
    ("SELECT demangle('_Z1f')", {"allow_introspection_functions": "1"}),
    ("CREATE TABLE pai.mine (x UInt8) ENGINE = Memory", {"allow_ddl": "1", "readonly": "0", "mutations_sync": "2"}),
    ("INSERT INTO pai.probe VALUES ('x')", {"readonly": "0", "async_insert": "1", "insert_quorum": "0"}),
    ("SELECT 1", {"implicit_select": "1"}),
    ("SELECT 1", {"dialect": "prql"}),
    ("SELECT 1", {"profile": "default"}),
    ("SELECT 1", {"max_parser_depth": "100000"}),
    ("SELECT 1", {"max_query_size'": "1"}),
    ("SELECT * FROM system.settings s, url('{url}', 'LineAsString', 'x String')", {"max_threads": "1"}),
    ("SELECT * FROM system.settings, system.processes", {}),
    ("SELECT (SELECT 1 FROM system.settings LIMIT 1), file('{secret}')", {}),
    ("SELECT 'FROM system.settings', ' FROM system.settings' FROM file('{secret}', 'LineAsString')", {}),
    ("KILL QUERY WHERE 1", {"query_id": "mine"}),
    ("KILL QUERY WHERE query_id = 'x' OR 1", {}),
    ("KILL QUERY WHERE query_id = 'x'; DROP TABLE probe", {}),
    ("KILL QUERY WHERE query_id = 'x' FORMAT Nope", {}),
]
RAISED = {
    "max_memory_usage": "100000000000", "max_execution_time": "100000", "max_result_rows": "0",
    "max_result_bytes": "0", "max_threads": "64", "max_block_size": "1000000000", "max_query_size": "1000000000",
    "log_comment": "reader 1", "query_id": "same", "session_id": "same", "readonly": "2", "max_rows_to_read": "0",
}  # fmt: skip
GREEDY = [
    "SELECT sleep(3)",
    "SELECT sleepEachRow(1) FROM numbers(100)",
    "SELECT count() FROM numbers(1000000000000000) WHERE sipHash64(number) = 1",
    "SELECT groupArray(number) FROM numbers(1000000000000)",
    "SELECT uniqExact(number) FROM numbers(1000000000000)",
    "SELECT number FROM numbers(1000000000000) ORDER BY sipHash64(number)",
    "SELECT 1 FROM numbers(1000000000) a CROSS JOIN numbers(1000000000) b WHERE sipHash64(a.number, b.number) = 1",
    "SELECT * FROM numbers(1000000000) a JOIN numbers(1000000000) b USING number",
    "SELECT repeat('x', 100000000000)",
    "SELECT repeat(repeat('x', 1000000), 1000000)",
    "SELECT range(1000000000000)",
    "SELECT arrayMap(x -> range(x), range(1000000))",
    "SELECT arrayJoin(range(10000000)) AS a, arrayJoin(range(10000000)) AS b, sipHash64(a, b)",
    "SELECT number, repeat('x', 10000) FROM numbers(1000000000)",
    "SELECT * FROM generateRandom('a Array(Array(String))', 1, 1000000, 1000000)",
    "SELECT * FROM generateRandom() LIMIT 1000000000",
    "SELECT randomString(10000000000)",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT sum(n) FROM t",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n FROM t UNION ALL SELECT n FROM t) SELECT count() FROM t",
    "SELECT match(repeat('a', 1000000), '(a+)+(a+)+(a+)+$b')",
    "SELECT extractAll(repeat('a', 1000000), '(((a{1,100}){1,100}){1,100})')",
    "SELECT multiMatchAny(repeat('a', 100000), ['(a{1,1000}){1,1000}b'])",
    "SELECT replaceRegexpAll(repeat('a', 100000000), '', 'xxxxxxxxxxxxxxxxxxxx')",
    "SELECT intDiv(1, number - number) FROM numbers(1)",
    "SELECT toFixedString('x', 1000000000000)",
    "SELECT arrayProduct(arrayMap(x -> arrayReduce('sum', range(x)), range(100000)))",
    "SELECT bitmapCardinality(bitmapBuild(range(1000000000)))",
    "SELECT toDecimal256('9', 76) * toDecimal256('9', 76)",
    "SELECT count() FROM zeros(10000000000000) WHERE NOT ignore(rand())",
    "SELECT * FROM primes(1000000000000) WHERE sipHash64(prime) = 1",
    "SELECT groupBitmap(number), topK(1000000)(number) FROM numbers(1000000000000)",
    "SELECT windowFunnel(1000000)(number, number % 2 = 0, number % 3 = 0) FROM numbers(1000000000000)",
    "SELECT number FROM numbers(1, 1000000000000, 1) FORMAT JSON",
]
DEEP = {
    "parentheses": "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
    "arrays": "SELECT " + "[" * 100_000 + "]" * 100_000,
    "minus": "SELECT " + "- " * 100_000 + "1",
    "not": "SELECT " + "NOT " * 60_000 + "1",
    "plus": "SELECT 1" + " + 1" * 60_000,
    "subqueries": "SELECT * FROM " + "(SELECT * FROM " * 15_000 + "numbers(1)" + ")" * 15_000,
    "functions": "SELECT " + "abs(" * 50_000 + "1" + ")" * 50_000,
    "unions": "SELECT 1" + " UNION ALL SELECT 1" * 13_000,
    "lambdas": "SELECT " + "x -> " * 50_000 + "1",
    "cast": "SELECT 1" + "::UInt8" * 35_000,
    "types": "SELECT CAST([], '" + "Array(" * 40_000 + "UInt8" + ")" * 40_000 + "')",
    "case": "SELECT " + "CASE WHEN 1 THEN " * 14_000 + "1" + " END" * 14_000,
    "comments": "SELECT 1 " + "/*" * 125_000,
    "quotes": "SELECT " + "'" * 250_001,
    "aliases": "WITH 1 AS x0" + "".join(f", x{i} + x{i} AS x{i + 1}" for i in range(60)) + " SELECT x60",
    "views": "WITH t0 AS (SELECT 1 AS a)"
    + "".join(f", t{i + 1} AS (SELECT * FROM t{i} UNION ALL SELECT * FROM t{i})" for i in range(40))
    + " SELECT count() FROM t40",
    "columns": "SELECT " + "*, " * 80_000 + "1 FROM numbers(1)",
    "nul": "SELECT '\0\0\0' \0",
    "binary": "SELECT \x01\x02\x7f",
}


@dataclass
class Trap:
    """A port on loopback that notes whether anybody knocks, and answers with the canary."""

    url: str
    port: int
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            # The connection alone is one too many.
            caught.requests.append("connection")
            super().handle()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CANARY.encode())

        do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = server.server_address[1]
    caught = Trap(f"http://127.0.0.1:{port}/x", port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield caught
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Endpoint:
    """The endpoint in a process of its own, as a reader with the password reaches it."""

    process: subprocess.Popen[str]
    host: str
    secret: Path
    out: Path
    trap: Trap

    def ask(self, sql: str, *, password: str = "read-it", user: str = "", **arguments: str) -> tuple[int, bytes]:
        """Status and body, which may break off."""
        connection = http.client.HTTPConnection(self.host, timeout=120)
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {} if "user" in arguments else {"Authorization": f"Basic {credentials}"}
        connection.request("POST", f"/?{urlencode(arguments)}", sql.encode(), headers)
        answer = connection.getresponse()
        body = b""
        try:
            while piece := answer.read(1 << 20):
                # The end is what counts; the middle of a result without end is not kept.
                body = (body + piece)[-(4 << 20) :]
        finally:
            connection.close()
        return answer.status, body

    def filled(self, text: str) -> str:
        names = {"secret": self.secret, "out": self.out, "url": self.trap.url, "port": self.trap.port}
        for name, value in names.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    def check_unharmed(self) -> None:
        """Nothing came out, nothing was written, nothing changed, and the next query is answered."""
        assert self.trap.requests == []
        assert not self.out.exists()
        tables = "SELECT name FROM system.tables WHERE database = 'pai'"
        asked = f"SELECT count(), min(s), ({tables}) FROM probe"
        assert self.process.poll() is None
        assert self.ask(asked) == (200, b"3\trow\tprobe\n")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, trap: Trap) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("hostile")
    secret = folder / "secret.txt"
    secret.write_text(CANARY)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.sql_server", str(folder / "store"), "0", str(SECONDS_MAX)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    host = process.stdout.readline().strip().removeprefix("http://")
    there = Endpoint(process, host, secret, folder / "out.txt", trap)
    write = {"user": "writer", "password": "write-it"}
    assert there.ask("CREATE TABLE pai.probe (s String) ENGINE = MergeTree ORDER BY s", **write)[0] == 200
    assert there.ask("INSERT INTO pai.probe VALUES ('row'), ('row'), ('row')", **write)[0] == 200
    yield there
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


def leaks(body: bytes) -> bool:
    canary = CANARY.encode()
    return any(spelling in body for spelling in (canary, canary.hex().encode(), base64.b64encode(canary)))


def test_the_traps_work(endpoint: Endpoint) -> None:
    """The writer, whom nothing holds back, reads the file and reaches the port: so would a reader who got through."""
    write = {"user": "writer", "password": "write-it"}
    assert leaks(endpoint.ask(endpoint.filled("SELECT file('{secret}')"), **write)[1])
    assert leaks(endpoint.ask(endpoint.filled("SELECT * FROM url('{url}', 'LineAsString', 'x String')"), **write)[1])
    assert endpoint.trap.requests
    endpoint.trap.requests.clear()
    endpoint.check_unharmed()


@pytest.mark.parametrize("sql", one_in(FAST_ONE_IN, [*REACHES_OUT, *CHANGES, *TELLS_ON_OTHERS], KIND))
def test_a_hostile_query_is_refused(endpoint: Endpoint, sql: str) -> None:
    """With an error of a code, without the content of any file, a knock at the trap, a new file or a changed row."""
    status, body = endpoint.ask(endpoint.filled(sql))
    assert status >= 400, body
    assert re.match(rb"Code: \d+\. DB::Exception: .+\)\n$", body)
    assert not leaks(body)
    endpoint.check_unharmed()


@pytest.mark.parametrize(("sql", "arguments"), one_in(FAST_ONE_IN, PARAMETERS, KIND))
def test_nothing_comes_in_beside_the_sql(endpoint: Endpoint, sql: str, arguments: dict[str, str]) -> None:
    """Parameters, settings, database and format are no way around what SQL may not say."""
    given = {name: endpoint.filled(value) for name, value in arguments.items()}
    status, body = endpoint.ask(endpoint.filled(sql), **given)
    assert status >= 400, body
    assert not leaks(body)
    endpoint.check_unharmed()


def test_limits_cannot_be_raised_beside_the_sql(endpoint: Endpoint) -> None:
    """Accepted for the sake of clients, none of these settings has any effect on what a reader may do."""
    names = (
        "max_memory_usage", "max_execution_time", "max_result_rows", "max_result_bytes", "max_threads",
        "max_block_size", "max_query_size", "readonly", "allow_introspection_functions", "implicit_select",
    )  # fmt: skip
    sql = "SELECT " + ", ".join(f"getSetting('{name}')" for name in names)
    plain = endpoint.ask(sql)
    assert plain[0] == 200
    assert endpoint.ask(sql, **RAISED) == plain
    assert b"reader" in endpoint.ask("SELECT getSetting('log_comment')", **RAISED)[1]
    assert endpoint.ask("SELECT groupArray(number) FROM numbers(1000000000000)", **RAISED)[0] >= 400
    endpoint.check_unharmed()


@pytest.mark.parametrize("sql", one_in(FAST_ONE_IN, GREEDY, KIND))
def test_a_greedy_query_ends(endpoint: Endpoint, sql: str) -> None:
    """It fails, or is finished within the limits; the service keeps its memory, and answers the next one."""
    endpoint.ask(sql)
    endpoint.check_unharmed()
    assert resident_bytes(endpoint.process.pid) < MEMORY_BYTES_MAX


@pytest.mark.parametrize("name", one_in(FAST_ONE_IN, DEEP, KIND))
def test_an_odd_text_does_no_harm(endpoint: Endpoint, name: str) -> None:
    """However deep, long or odd, the parser says no or the query runs; the process lives."""
    assert len(DEEP[name]) > 3
    endpoint.ask(DEEP[name])
    endpoint.check_unharmed()


@pytest.mark.slow("hostile queries")
def test_no_list_of_tables_tells_which_files_there_are(endpoint: Endpoint) -> None:
    """The engine's default database holds every file as a table; what lists tables does not look there."""
    for sql in (
        "SELECT count() FROM system.tables WHERE database = 'default' AND name = '{secret}'",
        "SELECT count() FROM system.columns WHERE database = 'default' AND table = '{secret}'",
        "SELECT count() FROM information_schema.tables WHERE table_name = '{secret}'",
    ):
        assert endpoint.ask(endpoint.filled(sql)) == (200, b"0\n")
    # With the database that clients name when they were told none, a path is the name of no table of pai.
    assert endpoint.ask(endpoint.filled("EXISTS TABLE `{secret}`"), database="default") == (200, b"0\n")
    assert endpoint.ask(endpoint.filled("SHOW COLUMNS FROM `{secret}` FROM default")) == (200, b"")


@pytest.mark.slow("hostile queries")
def test_a_reader_does_not_see_the_next_one(endpoint: Endpoint) -> None:
    """Neither the text of another's query nor its parameters stand anywhere that a reader can look."""
    endpoint.ask("SELECT {secret_parameter:String} AS remembered", param_secret_parameter="whisper")
    for table in ("tables", "settings", "events", "metrics", "merges", "mutations", "view_refreshes"):
        _, body = endpoint.ask(f"SELECT * FROM system.{table} FORMAT JSONEachRow")
        assert b"whisper" not in body
        assert b"remembered" not in body


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
