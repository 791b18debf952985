-- purpose: lines and fault lines of nodes, in steps of whole hours, with the last line and the last fault of each
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: step UInt32 = 3600  length of a step, seconds
-- param: nodes String = ''  nodes to look at, one a line; empty takes all
SELECT
    steps.node_id AS node_id,
    argMax(steps.hostname, steps.last) AS hostname,
    toDateTime(max(steps.last), 'UTC') AS last_line,
    sum(steps.lines) AS lines,
    sum(steps.fault_lines) AS fault_lines,
    max(steps.last_fault) AS last_fault,
    groupArray(tuple(steps.place, steps.fault_lines)) AS steps
FROM
(
    SELECT
        hours.node_id AS node_id,
        intDiv(toUnixTimestamp(hours.hour) - {start:UInt32}, {step:UInt32}) AS place,
        argMax(hours.hostname, hours.last) AS hostname,
        max(hours.last) AS last,
        sum(hours.lines) AS lines,
        sumIf(hours.lines, hours.fault_class != '') AS fault_lines,
        max(tuple(if(hours.fault_class = '', 0, hours.last), toString(hours.fault_class), hours.fault_code)) AS last_fault
    FROM
    (
        -- As the table's hours hold it, so that they are read and no lines.
        SELECT
            toStartOfHour(logs.time) AS hour,
            logs.node_id AS node_id,
            logs.hostname AS hostname,
            logs.fault_class AS fault_class,
            logs.fault_code AS fault_code,
            count() AS lines,
            toUnixTimestamp(max(logs.time)) AS last
        FROM syslogs AS logs
        WHERE toStartOfHour(logs.time) >= toDateTime({start:UInt32}, 'UTC')
            AND toStartOfHour(logs.time) < toDateTime({end:UInt32}, 'UTC')
            AND ({nodes:String} = '' OR logs.node_id GLOBAL IN (SELECT arrayJoin(splitByChar('\n', {nodes:String}))))
        GROUP BY hour, node_id, hostname, fault_class, fault_code
    ) AS hours
    GROUP BY node_id, place
) AS steps
GROUP BY node_id
