"""Settings that clients send: limits may be lowered, what shapes the result is passed on, the rest is refused. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

from collector.chdb_http.exceptions import BAD_ARGUMENTS, READONLY, UNKNOWN_SETTING, failure
from collector.queries import QueryLimits

WITHOUT_EFFECT = frozenset(
    {
        # Of the connection, and of logs that are not written for readers.
        "send_progress_in_http_headers", "http_headers_progress_interval_ms", "wait_end_of_query",
        "cancel_http_readonly_queries_on_client_close", "log_queries", "log_comment", "readonly",
        "http_wait_end_of_query", "http_make_head_request", "http_max_tries", "use_query_cache", "connect_timeout",
        "receive_timeout", "send_timeout", "http_receive_timeout", "http_send_timeout", "max_query_size", "workload",
        "priority", "send_logs_level", "log_query_threads", "log_profile_events", "log_query_settings",
        "opentelemetry_start_trace_probability",
        # Of replicas and shards: there is one copy of each table, and every read sees all that is stored.
        "select_sequential_consistency", "load_balancing", "prefer_localhost_replica", "max_parallel_replicas",
        "skip_unavailable_shards", "distributed_product_mode", "optimize_skip_unused_shards",
        # Of how a query is run: the endpoint chooses, because memory depends on it. Results are the same.
        "max_block_size", "preferred_block_size_bytes", "max_read_buffer_size", "use_uncompressed_cache",
        "compile_expressions", "max_final_threads", "output_format_parallel_formatting",
        # Of writing, which some clients send with every request: there is none.
        "async_insert", "wait_for_async_insert", "wait_for_async_insert_timeout", "async_insert_busy_timeout_ms",
        "async_insert_max_data_size", "insert_deduplication_token", "insert_deduplicate", "insert_quorum",
        "insert_quorum_timeout", "insert_quorum_parallel", "insert_distributed_sync", "distributed_foreground_insert",
        "max_insert_block_size", "min_insert_block_size_rows", "min_insert_block_size_bytes", "max_insert_threads",
        "max_partitions_per_insert_block", "input_format_null_as_default", "mutations_sync", "alter_sync",
        "replication_alter_partitions_sync", "lightweight_deletes_sync", "allow_nondeterministic_mutations",
        "distributed_ddl_task_timeout", "distributed_ddl_output_mode",
        "database_replicated_enforce_synchronous_settings",
        "allow_experimental_lightweight_delete", "enable_lightweight_delete", "lightweight_delete_mode",
        "allow_experimental_json_type", "enable_json_type", "allow_experimental_object_type",
        "allow_experimental_variant_type", "enable_variant_type", "allow_experimental_dynamic_type",
        "enable_dynamic_type", "allow_suspicious_low_cardinality_types",
    }
)  # fmt: skip
"""Accepted and ignored: clients send them with every request, and no result depends on them."""

PASSED = frozenset(
    {
        # How values are written
        "date_time_output_format", "bool_true_representation", "bool_false_representation", "format_csv_delimiter",
        "format_csv_null_representation", "format_tsv_null_representation", "format_binary_max_string_size",
        "output_format_json_quote_64bit_integers", "output_format_json_quote_64bit_floats",
        "output_format_json_quote_denormals", "output_format_json_quote_decimals",
        "output_format_json_escape_forward_slashes", "output_format_json_named_tuples_as_objects",
        "output_format_json_array_of_rows", "output_format_json_validate_utf8",
        "output_format_json_skip_null_value_in_named_tuples", "output_format_native_encode_types_in_binary_format",
        "output_format_native_write_json_as_string",
        "output_format_native_use_flattened_dynamic_and_json_serialization",
        "output_format_binary_encode_types_in_binary_format", "output_format_binary_write_json_as_string",
        "output_format_arrow_string_as_string", "output_format_arrow_fixed_string_as_fixed_byte_array",
        "output_format_arrow_low_cardinality_as_dictionary", "output_format_arrow_compression_method",
        "output_format_arrow_use_signed_indexes_for_dictionary",
        "output_format_arrow_use_64_bit_indexes_for_dictionary", "output_format_parquet_string_as_string",
        "output_format_parquet_fixed_string_as_fixed_byte_array", "output_format_parquet_compression_method",
        "output_format_parquet_version", "output_format_parquet_row_group_size", "output_format_pretty_max_rows",
        "output_format_pretty_color", "output_format_csv_crlf_end_of_line", "output_format_tsv_crlf_end_of_line",
        "output_format_write_statistics", "output_format_decimal_trailing_zeros", "output_format_enable_streaming",
        # What a query means
        "date_time_input_format", "session_timezone", "join_use_nulls", "group_by_use_nulls", "extremes", "final",
        "aggregate_functions_null_for_empty", "prefer_column_name_to_alias", "union_default_mode",
        "any_join_distinct_right_table_keys", "asterisk_include_alias_columns", "limit", "offset",
        "cast_keep_nullable", "cast_string_to_dynamic_use_inference", "transform_null_in",
        "enable_named_columns_in_function_tuple", "result_overflow_mode", "optimize_read_in_order",
        "use_skip_indexes", "query_plan_optimize_lazy_materialization", "totals_mode", "count_distinct_implementation",
        "joined_subquery_requires_alias",
        # Limits of the reader's own, beside those that are lowered
        "max_rows_to_read", "max_bytes_to_read", "read_overflow_mode", "max_rows_to_group_by",
        "group_by_overflow_mode", "max_rows_to_sort", "max_bytes_to_sort", "sort_overflow_mode", "max_rows_in_set",
        "set_overflow_mode", "max_rows_in_join", "max_bytes_in_join", "join_overflow_mode", "max_rows_in_distinct",
        "distinct_overflow_mode", "max_columns_to_read", "force_index_by_date", "force_primary_key",
    }
)  # fmt: skip
"""Settings of the engine that change what a result looks like, and nothing outside it."""

_LIMITS = {
    "max_execution_time": "seconds_max",
    "max_result_rows": "rows_max",
    "max_result_bytes": "bytes_max",
    "max_memory_usage": "memory_bytes_max",
    "max_threads": "threads_max",
}
ACCEPTED = WITHOUT_EFFECT | PASSED | _LIMITS.keys()
VALUE_CHARACTERS_MAX = 256


def check_names(names: Iterable[str], known: Container[str]) -> None:
    """Raise QueryError for a name that is not accepted: READONLY if the engine knows it, else UNKNOWN_SETTING."""
    for name in names:
        if name in ACCEPTED:
            continue
        shown = name[:64]
        if name in known:
            raise failure(READONLY, f"Cannot modify '{shown}' setting in readonly mode")
        raise failure(UNKNOWN_SETTING, f"Unknown setting '{shown}': neither the engine nor the interface has it")


def apply_settings(settings: Mapping[str, str], limits: QueryLimits) -> tuple[QueryLimits, dict[str, str]]:
    """Return the limits, lowered where the client asks for less, and the settings to pass on.

    All names are of ACCEPTED. Raises QueryError for a value that cannot be passed on.
    """
    passed: dict[str, str] = {}
    for name, value in settings.items():
        if name in _LIMITS:
            limits = _lowered(limits, name, value)
        elif name in PASSED:
            if len(value) > VALUE_CHARACTERS_MAX or not value.isprintable():
                raise failure(BAD_ARGUMENTS, f"{name}: expected at most {VALUE_CHARACTERS_MAX} printable characters")
            passed[name] = value
    return limits, passed


def _lowered(limits: QueryLimits, name: str, value: str) -> QueryLimits:
    attribute = _LIMITS[name]
    allowed = getattr(limits, attribute)
    try:
        asked = float(value)
    except ValueError:
        asked = -1
    if not 0 <= asked < float("inf"):
        raise failure(BAD_ARGUMENTS, f"{name}: got {value[:64]!r}; expected a number from 0 up")
    # 0 is "no limit" to ClickHouse, and more than is allowed is cut down to it: clients ask for it by habit.
    if asked == 0 or asked >= allowed:
        return limits
    lowered: dict[str, Any] = {attribute: asked if attribute == "seconds_max" else max(1, int(asked))}
    return replace(limits, **lowered)
