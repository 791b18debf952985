"""Limits of the embedded engine. Its own defaults take 90 % of the machine's memory and gigabytes of caches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from xml.sax.saxutils import escape

from collector.memory import MemoryBounds

_MIB = 1 << 20
_NO_MERGES = {"max_bytes_to_merge_at_max_space_in_pool": 1, "max_number_of_merges_with_ttl_in_pool": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What the embedded engine may take of the machine."""

    memory_bytes_max: int = 1536 * _MIB
    """Of the whole process as the engine counts it; beyond, queries and inserts fail with code 241."""
    query_bytes_max: int = 512 * _MIB
    """Of one query or one insert."""
    fetch_bytes_max: int = 256 * _MIB
    """Of the result of one of the program's own reads."""
    cache_bytes_max: int = 64 * _MIB
    """Of each cache that reads of MergeTree tables fill."""
    merge_threads: int = 2
    is_merging: bool = True
    """Whether parts are merged and expired rows dropped; not where tables are only read."""

    @classmethod
    def of(cls, bounds: MemoryBounds) -> Self:
        """Return the limits that follow from the memory of the process."""
        return cls(
            memory_bytes_max=bounds.engine,
            query_bytes_max=bounds.query,
            fetch_bytes_max=bounds.fetch,
            cache_bytes_max=min(64 * _MIB, bounds.engine // 16),
        )

    def server_settings(self) -> dict[str, int]:
        """Name and value of every server setting that is fixed."""
        cache = self.cache_bytes_max
        return {
            "max_server_memory_usage": self.memory_bytes_max,
            "mark_cache_size": cache,
            "primary_index_cache_size": cache,
            "index_mark_cache_size": cache // 4,
            "query_condition_cache_size": cache // 4,
            "compiled_expression_cache_size": cache // 4,
            "text_index_tokens_cache_size": cache // 4,
            "text_index_header_cache_size": cache // 4,
            "text_index_postings_cache_size": cache // 4,
            "vector_similarity_index_cache_size": cache // 4,
            "parquet_metadata_cache_size": cache // 4,
            "unique_key_index_cache_size_bytes": cache // 4,
            "iceberg_metadata_files_cache_size": cache // 4,
            "background_pool_size": self.merge_threads,
            "background_common_pool_size": 1,
            "background_schedule_pool_size": 2,
            "background_move_pool_size": 1,
            "background_fetches_pool_size": 1,
            "max_thread_pool_size": 256,
        }

    def merge_tree_settings(self) -> dict[str, int]:
        """Defaults of every MergeTree table."""
        return {
            # Left at their defaults of 8 and more, a small pool always counts as nearly full, and large
            # parts would never be merged.
            "number_of_free_entries_in_pool_to_lower_max_size_of_merge": 1,
            "number_of_free_entries_in_pool_to_execute_mutation": 1,
            "number_of_free_entries_in_pool_to_execute_optimize_entire_partition": 1,
            **({} if self.is_merging else _NO_MERGES),
        }

    def xml(self) -> str:
        """The engine's configuration file."""
        server = "".join(f"  <{name}>{escape(str(value))}</{name}>\n" for name, value in self.server_settings().items())
        tables = "".join(f"    <{name}>{value}</{name}>\n" for name, value in self.merge_tree_settings().items())
        return f"<clickhouse>\n{server}  <merge_tree>\n{tables}  </merge_tree>\n</clickhouse>\n"
