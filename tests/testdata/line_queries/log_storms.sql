-- purpose: minutes in which a node logged far more than in its usual minute, the worst first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: factor Float64 = 10  so many times the node's median minute (of those with lines) is a storm
-- param: lines_min UInt32 = 100  a minute with fewer lines is none
-- param: node String = ''  node to look at; empty takes all
-- param: rows UInt32 = 100  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    counted.minute AS minute,
    counted.node_id AS node_id,
    counted.hostname AS hostname,
    counted.lines AS lines,
    counted.usual AS usual_lines,
    round(counted.lines / counted.usual, 1) AS times_usual,
    counted.fault_lines AS fault_lines,
    counted.program AS loudest_program
FROM
(
    SELECT
        minutes.minute AS minute,
        minutes.node_id AS node_id,
        minutes.hostname AS hostname,
        minutes.lines AS lines,
        minutes.fault_lines AS fault_lines,
        minutes.program AS program,
        quantileExactInclusive(0.5)(minutes.lines) OVER (PARTITION BY minutes.node_id) AS usual
    FROM
    (
        SELECT
            toStartOfMinute(lines.time) AS minute,
            lines.node_id AS node_id,
            argMax(lines.hostname, lines.time) AS hostname,
            count() AS lines,
            countIf(lines.fault_class != '') AS fault_lines,
            topK(1)(toString(lines.syslogtag))[1] AS program
        FROM syslogs AS lines
        WHERE lines.time >= range_start AND lines.time < range_end AND ({node:String} = '' OR lines.node_id = {node:String})
        GROUP BY minute, node_id
    ) AS minutes
) AS counted
WHERE counted.lines >= {lines_min:UInt32} AND counted.lines >= counted.usual * {factor:Float64}
ORDER BY times_usual DESC, minute DESC, node_id
LIMIT {rows:UInt32}
