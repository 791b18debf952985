-- purpose: tables and views of the history with their columns, and what each holds
SELECT
    tables.name AS table,
    tables.engine = 'View' AS is_view,
    tables.comment AS table_comment,
    columns.name AS column,
    columns.type AS type,
    columns.comment AS comment
FROM system.columns AS columns
INNER JOIN system.tables AS tables ON tables.database = columns.database AND tables.name = columns.table
WHERE columns.database = 'pai'
ORDER BY table, columns.position
