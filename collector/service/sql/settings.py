"""Settings that clients send, and what becomes of each. Pure: limits may be lowered, what shapes the result passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from collector.service.sql.exceptions import BAD_ARGUMENTS, READONLY, failure
from collector.store.base import QueryLimits

WITHOUT_EFFECT = frozenset(
    {
        "send_progress_in_http_headers", "http_headers_progress_interval_ms", "wait_end_of_query",
        "cancel_http_readonly_queries_on_client_close", "log_queries", "log_comment", "readonly",
        "http_wait_end_of_query", "http_make_head_request", "use_query_cache", "connect_timeout", "receive_timeout",
        "send_timeout", "http_receive_timeout", "http_send_timeout", "max_query_size", "workload", "priority",
        # Of inserts, which some clients send with every request.
        "async_insert", "wait_for_async_insert", "insert_deduplication_token", "insert_deduplicate",
        "input_format_null_as_default",
    }
)  # fmt: skip
"""Taken and left: clients send them with every request, and nothing here depends on them."""

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
        "use_skip_indexes", "query_plan_optimize_lazy_materialization",
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
VALUE_CHARACTERS_MAX = 256


def judged(settings: Mapping[str, str], limits: QueryLimits) -> tuple[QueryLimits, dict[str, str]]:
    """The limits, lowered where the client asks for less, and the settings to pass on.

    Raises QueryError with READONLY for every other setting.
    """
    passed: dict[str, str] = {}
    for name, value in settings.items():
        if name in _LIMITS:
            limits = _lowered(limits, name, value)
        elif name in PASSED:
            if len(value) > VALUE_CHARACTERS_MAX or not value.isprintable():
                raise failure(BAD_ARGUMENTS, f"{name}: expected at most {VALUE_CHARACTERS_MAX} printable characters")
            passed[name] = value
        elif name not in WITHOUT_EFFECT:
            raise failure(READONLY, f"Cannot modify '{name[:64]}' setting in readonly mode")
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
