-- purpose: faults by severity, class, number, device and node, the worst first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: node String = ''  node to look at; empty takes all
-- param: class String = ''  fault class, such as xid; empty takes all
-- param: rows UInt32 = 100  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start,
    (
        SELECT tuple(
            groupArray(concat(codes.fault_class, ' ', toString(codes.fault_code), ' ', codes.fault_case)),
            groupArray(codes.meaning),
            groupArray(codes.action)
        )
        FROM fault_codes AS codes
    ) AS known
SELECT
    lines.fault_severity AS fault_severity,
    lines.fault_class AS fault_class,
    lines.fault_code AS fault_code,
    lines.fault_case AS fault_case,
    lines.device AS device,
    lines.node_id AS node_id,
    argMax(lines.hostname, tuple(lines.time, lines.hostname)) AS hostname,
    1 + arrayCount(
        gap -> gap > 300, arrayDifference(arraySort(groupUniqArray(toUnixTimestamp(lines.time))))
    ) AS incidents,
    sum(lines.lines) AS lines,
    min(lines.time) AS first,
    max(lines.time) AS last,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', fault_case), known.1, known.2,
        transform(concat(fault_class, ' 0 ', fault_case), known.1, known.2, '')
    ) AS meaning,
    transform(
        concat(fault_class, ' ', toString(fault_code), ' ', fault_case), known.1, known.3,
        transform(concat(fault_class, ' 0 ', fault_case), known.1, known.3, '')
    ) AS action
FROM fault_seconds AS lines
WHERE lines.hour >= toStartOfHour(range_start) AND lines.time >= range_start AND lines.time < range_end
    AND ({node:String} = '' OR lines.node_id = {node:String}) AND ({class:String} = '' OR lines.fault_class = {class:String})
GROUP BY fault_severity, fault_class, fault_code, fault_case, device, node_id
ORDER BY fault_severity DESC, lines DESC, fault_class, fault_code, fault_case, device, node_id
LIMIT {rows:UInt32}
