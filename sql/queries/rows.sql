-- purpose: rows, range of time and size on disk of every table
SELECT
    parts.table AS table,
    sum(parts.rows) AS rows,
    formatReadableSize(sum(parts.bytes_on_disk)) AS size,
    round(sum(parts.bytes_on_disk) / greatest(sum(parts.rows), 1), 1) AS bytes_per_row,
    nullIf(minIf(parts.min_time, parts.min_time > toDateTime(0)), toDateTime(0)) AS first,
    nullIf(max(parts.max_time), toDateTime(0)) AS last,
    count() AS parts
FROM system.parts AS parts
WHERE parts.database = 'pai' AND parts.active
GROUP BY table
ORDER BY rows DESC, table
