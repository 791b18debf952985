"""The store: history in ClickHouse, embedded in this process or on a server."""
