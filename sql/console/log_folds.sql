-- purpose: log lines folded: those that differ only in numbers, the most frequent first, of the newest lines of a range
-- param: start DateTime('UTC') = 0  first moment of the range, UTC
-- param: end DateTime('UTC') = 4294967295  first moment after the range, UTC
-- param: lines UInt32 = 200000  lines that are read at most, the newest
-- param: rows UInt32 = 200  rows at most
SELECT
    count() AS lines,
    uniqExact(found.node_id) AS nodes,
    min(found.time) AS first,
    max(found.time) AS last,
    max(found.fault_severity) AS fault_severity,
    argMax(found.fault_class, tuple(found.fault_severity, found.fault_code)) AS fault_class,
    argMax(found.fault_code, tuple(found.fault_severity, found.fault_code)) AS fault_code,
    replaceRegexpAll(
        toValidUTF8(substringUTF8(found.msg, 1, 500)),
        '0x[0-9a-fA-F]+|\\b[0-9a-fA-F]*[0-9][0-9a-fA-F]*\\b|[0-9]+', '#'
    ) AS pattern,
    toValidUTF8(substringUTF8(argMax(found.msg, found.time), 1, 500)) AS example,
    sum(count()) OVER () AS lines_read
FROM
(
    SELECT
        lines.time AS time, lines.node_id AS node_id, lines.msg AS msg, lines.fault_severity AS fault_severity,
        lines.fault_class AS fault_class, lines.fault_code AS fault_code
    FROM syslogs AS lines
    WHERE lines.time >= {start:DateTime('UTC')} AND lines.time < {end:DateTime('UTC')}
        -- filters
    ORDER BY toStartOfHour(lines.time) DESC
    LIMIT {lines:UInt32}
) AS found
GROUP BY pattern
ORDER BY lines DESC, last DESC, pattern
LIMIT {rows:UInt32}
