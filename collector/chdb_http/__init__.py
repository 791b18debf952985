"""ClickHouse's HTTP interface in front of an embedded engine. An `Executor` that is handed in runs the queries."""
