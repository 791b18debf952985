-- purpose: version of the ClickHouse that keeps the store
SELECT version() AS version
