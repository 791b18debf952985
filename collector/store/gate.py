"""What a reader's SQL may be. Pure: it judges the engine's own syntax tree of the very text that will run.

`readonly=1` forbids writing, but some reads reach outside the store all the same: the function `file`,
`DESCRIBE TABLE url(...)`, `KILL QUERY`. So what may stand in a statement is listed, and a new version's new
statements, table functions, system tables and functions that are not pure are refused until they are listed too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STATEMENTS_ALLOWED = frozenset(
    {
        "SelectWithUnionQuery", "DescribeQuery", "Explain", "ExistsTableQuery", "ExistsViewQuery",
        "ExistsDatabaseQuery", "ExistsDictionaryQuery", "ShowTables", "ShowColumns", "ShowIndexes", "ShowFunctions",
        "ShowSetting", "ShowEngineQuery", "ShowCreateTableQuery", "ShowCreateViewQuery", "ShowCreateDatabaseQuery",
    }
)  # fmt: skip
"""What the root of a tree is called."""

TABLE_FUNCTIONS_ALLOWED = frozenset(
    {
        "numbers", "numbers_mt", "zeros", "zeros_mt", "generateseries", "generate_series", "primes",
        "values", "sqlstandardvalues", "view", "null", "generaterandom", "format",
    }
)  # fmt: skip
"""Table functions that make rows out of nothing or out of the query itself."""

IMPURE_FUNCTIONS_ALLOWED = frozenset(
    {
        # The time, and this engine
        "now", "now64", "nowinblock", "nowinblock64", "today", "yesterday", "curdate", "current_date",
        "current_timestamp", "localtime", "localtimestamp", "utctimestamp", "utc_timestamp", "timezone",
        "servertimezone", "version", "revision", "buildid", "uptime", "hostname", "fullhostname", "fqdn",
        "displayname", "serveruuid", "tcpport", "connectionid", "connection_id", "getsetting",
        "getsettingordefault", "shardnum", "shardcount",
        # Who asks, and where
        "currentdatabase", "current_database", "database", "schema", "currentschemas", "current_schemas",
        "currentuser", "current_user", "user", "session_user", "authuser", "authenticateduser", "currentroles",
        "enabledroles", "defaultroles", "currentprofiles", "enabledprofiles", "defaultprofiles", "queryid",
        "query_id", "currentqueryid", "current_query_id", "initialqueryid", "initial_query_id",
        "initialquerystarttime", "initial_query_start_time", "pggetuserbyid", "pg_get_userbyid",
        # Chance
        "rand", "rand32", "rand64", "randconstant", "randcanonical", "randuniform", "randnormal", "randlognormal",
        "randexponential", "randchisquared", "randstudentt", "randfisherf", "randbernoulli", "randbinomial",
        "randnegativebinomial", "randpoisson", "randomstring", "randomstringutf8", "randomfixedstring",
        "randomprintableascii", "fuzzbits", "arrayshuffle", "arraypartialshuffle", "arrayrandomsample",
        "generateuuidv4", "generateuuidv7", "generatesnowflakeid", "datetimetouuidv7", "generaterandomstructure",
        # Rows and blocks as they come
        "arrayjoin", "unnest", "arraypartialsort", "arraypartialreversesort", "blocknumber", "blocksize",
        "blockserializedsize", "rownumberinblock", "rownumberinallblocks", "runningdifference",
        "runningdifferencestartingwithfirstvalue", "runningaccumulate", "runningconcurrency", "neighbor",
        "isconstant", "dumpcolumnstructure", "tocolumntypename", "lowcardinalityindices", "lowcardinalitykeys",
        "financialnetpresentvalueextended", "assigncentroid", "fuzzquery", "obfuscatequery",
        # Dictionaries, which only the operator can make
        "dictget", "dictgetall", "dictgetordefault", "dictgetornull", "dicthas", "dictisin", "dictgethierarchy",
        "dictgetchildren", "dictgetdescendants", "dictgetroot", "dictgetkeys",
    }
)  # fmt: skip
"""Of the functions that depend on more than their arguments, those that stay within the engine."""

PURE_FUNCTIONS_REFUSED = frozenset(
    {
        # These call models in the network, run models of the machine, or stand idle on purpose.
        "aiembed", "aisimilarity", "catboostevaluate", "evalmlmethod", "sleep", "sleepeachrow", "logtrace",
        "demangle", "tid", "getoskernelversion",
        # Some builds have them, and may call them pure.
        "file", "reversednsquery", "showcertificate", "getclienthttpheader",
    }
)  # fmt: skip

SYSTEM_TABLES_ALLOWED = frozenset(
    {
        "aggregate_function_combinators", "asynchronous_metrics", "build_options", "clusters", "codecs", "collations",
        "columns", "completions", "constraints", "contributors", "data_skipping_indices", "data_skipping_index_types",
        "data_type_families", "database_engines", "databases", "detached_parts", "dictionaries", "disks",
        "documentation", "events", "formats", "functions", "keywords", "licenses", "merge_tree_settings", "merges",
        "metrics", "mutations", "numbers", "numbers_mt", "one", "parts", "parts_columns", "primes", "projection_parts",
        "projection_parts_columns", "projections", "replicas", "roles", "settings", "storage_policies",
        "table_engines", "table_functions", "tables", "time_zones", "tokenizers", "unicode", "users",
        "view_refreshes", "zeros", "zeros_mt",
    }
)  # fmt: skip
"""What clients ask to find their way, and what tells about tables. Not: what other readers run, and how the machine
is set up (`processes`, `server_settings`, `named_collections`, `stack_trace` ...)."""

_NODE = re.compile(r"^(?P<indent> *)(?P<kind>[A-Za-z]\w*)(?: (?P<name>.*?))?(?: \(children \d+\))?$")
_ALIAS = re.compile(r" \(alias .*$")


_SELECT = "SelectWithUnionQuery"
_TAIL_DEPTHS = {_SELECT: 1, "Explain": 2}
"""Where in a tree the format and the file of a SELECT stand."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names that this engine knows and readers may not use, in lower case."""

    table_functions: frozenset[str] = frozenset()
    functions: frozenset[str] = PURE_FUNCTIONS_REFUSED
    databases: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, table_functions: Iterable[str], impure_functions: Iterable[str], databases: Iterable[str] = ()
    ) -> Vocabulary:
        """From the names of all its table functions, and of its functions that are not known to be pure.

        `databases` are those whose tables are not for readers.
        """
        impure = {name.lower() for name in impure_functions} - IMPURE_FUNCTIONS_ALLOWED
        return cls(
            table_functions=frozenset(name.lower() for name in table_functions) - TABLE_FUNCTIONS_ALLOWED,
            # A typed dictGetString is dictGet.
            functions=frozenset(name for name in impure if not name.startswith("dictget")) | PURE_FUNCTIONS_REFUSED,
            databases=frozenset(databases),
        )


class Refused(ValueError):
    """The SQL may not run; the text says why, for the reader."""


def check_kind(query_class: str, statement_count: int) -> None:
    """Judge the engine's classification of the whole text. Raises Refused."""
    if statement_count > 1:
        raise Refused(f"one statement at a time, got {statement_count}")
    if query_class == "UNKNOWN" or statement_count < 1:
        return  # The engine's parser says better what is wrong with it.
    if query_class != "READ_ONLY":
        raise Refused(
            "only statements that read are accepted, such as SELECT, SHOW, DESCRIBE and EXPLAIN;"
            " write the query as a subquery or with WITH instead of a view or a temporary table"
        )


def check_tree(lines: Sequence[str], vocabulary: Vocabulary) -> bool:
    """Judge the lines of `EXPLAIN AST` of a statement without FORMAT; whether it is a SELECT. Raises Refused."""
    root, explained = "", ""
    for line in lines:
        node = _NODE.match(line)
        if node is None:
            continue
        kind, name, depth = node["kind"], _ALIAS.sub("", node["name"] or ""), len(node["indent"])
        if not root:
            root = kind
            if root not in STATEMENTS_ALLOWED:
                raise Refused("only SELECT, SHOW, DESCRIBE, EXISTS and EXPLAIN of tables are taken")
        elif kind == "Set":
            if (root, depth) != ("Explain", 1):
                raise Refused("queries are read-only and take no SETTINGS")
        elif root == "Explain" and depth == 1:
            explained = kind
            if kind not in STATEMENTS_ALLOWED:
                raise Refused("only a statement that reads can be explained")
        elif kind in ("Identifier", "Literal") and depth == _TAIL_DEPTHS.get(root):
            raise Refused("FORMAT stands at the end, and INTO OUTFILE nowhere")
        _check_node(kind, name, vocabulary)
    if not root or (root == "Explain" and not explained):
        raise Refused("there is no statement")
    return root == _SELECT


def _check_node(kind: str, name: str, vocabulary: Vocabulary) -> None:
    if kind == "ColumnsApplyTransformer":
        # The tree does not say which function is applied, so `file` could hide here.
        raise Refused("APPLY is not taken; call the function on each column")
    lowered = name.strip('`"').lower()
    if kind == "Function" and (
        lowered in vocabulary.table_functions
        or lowered in vocabulary.functions
        # What the engine puts into its own plans.
        or lowered.startswith("__")
    ):
        raise Refused(f"the function {name} reaches outside the store")
    if kind in ("Identifier", "TableIdentifier"):
        # The name of a function may be an argument: `arrayMap(file, ...)`.
        if lowered in vocabulary.functions:
            raise Refused(f"the name {name} belongs to a function that reaches outside the store; use another name")
        _check_table(name, vocabulary)
    elif kind.startswith(("Show", "Exists", "Describe")):
        # These write database and table beside their kind.
        _check_table(name.replace(" ", ".", 1), vocabulary)


def _check_table(name: str, vocabulary: Vocabulary) -> None:
    database, _, rest = name.lower().partition(".")
    database, table = database.strip('`"'), rest.split(".")[0].strip('`"')
    if table and (database in vocabulary.databases or (database == "system" and table not in SYSTEM_TABLES_ALLOWED)):
        raise Refused(f"the table {name} is not for readers")
