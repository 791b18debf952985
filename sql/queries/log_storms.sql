-- purpose: minutes in which a node logged far more than in its usual minute, the worst first
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: factor Float64 = 10  so many times the node's median minute (of those with lines) is a storm
-- param: lines_min UInt32 = 100  a minute with fewer lines is none
-- param: node String = ''  node to look at; empty takes all
-- param: rows UInt32 = 100  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start,
    (
        SELECT groupArray(tuple(toStartOfHour(worst.minute), worst.node_id, worst.minute, worst.usual))
        FROM
        (
            SELECT names.node_id AS node_id, loud.found.1 AS minute, loud.usual AS usual
            FROM
            (
                SELECT
                    minutes.node AS node,
                    quantileExactInclusive(0.5)(minutes.lines) AS usual,
                    arrayJoin(
                        groupArrayIf(tuple(minutes.minute, minutes.lines), minutes.lines >= {lines_min:UInt32})
                    ) AS found
                FROM
                (
                    -- Numbers are grouped in a third of the time of names.
                    SELECT sipHash128(lines.node_id) AS node, toStartOfMinute(lines.time) AS minute, count() AS lines
                    FROM syslogs AS lines
                    WHERE lines.time >= range_start AND lines.time < range_end AND ({node:String} = '' OR lines.node_id = {node:String})
                    GROUP BY node, minute
                ) AS minutes
                GROUP BY node
            ) AS loud
            GLOBAL INNER JOIN
            (
                SELECT lines.node_id AS node_id, sipHash128(lines.node_id) AS node
                FROM syslogs AS lines
                WHERE toStartOfHour(lines.time) >= toStartOfHour(range_start)
                GROUP BY node_id
            ) AS names ON loud.node = names.node
            WHERE loud.found.2 >= loud.usual * {factor:Float64}
            ORDER BY round(loud.found.2 / loud.usual, 1) DESC, minute DESC, node_id
            LIMIT {rows:UInt32}
        ) AS worst
    ) AS storms
SELECT
    counted.minute AS minute,
    counted.node_id AS node_id,
    counted.hostname AS hostname,
    counted.lines AS lines,
    arrayFirst(storm -> storm.2 = counted.node_id AND storm.3 = counted.minute, storms).4 AS usual_lines,
    round(counted.lines / usual_lines, 1) AS times_usual,
    counted.fault_lines AS fault_lines,
    counted.program AS loudest_program
FROM
(
    -- The lines of these minutes alone are looked at more closely.
    SELECT
        toStartOfMinute(lines.time) AS minute,
        lines.node_id AS node_id,
        argMax(lines.hostname, lines.time) AS hostname,
        count() AS lines,
        countIf(lines.fault_class != '') AS fault_lines,
        topK(1)(toString(lines.syslogtag))[1] AS program
    FROM syslogs AS lines
    WHERE lines.time >= range_start AND lines.time < range_end
        AND (toStartOfHour(lines.time), lines.node_id, toStartOfMinute(lines.time))
            GLOBAL IN (SELECT found.1, found.2, found.3 FROM (SELECT arrayJoin(storms) AS found))
    GROUP BY minute, node_id
) AS counted
ORDER BY times_usual DESC, minute DESC, node_id
