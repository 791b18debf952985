"""ClickHouse's HTTP interface in front of the embedded store."""
