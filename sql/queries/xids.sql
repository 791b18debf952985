-- purpose: Xid and SXid lines with device, process, link, meaning and action, the worst first, then the latest
-- param: hours UInt16 = 24  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: node String = ''  node to look at; empty takes all
-- param: code UInt16 = 0  number of the Xid, such as 79; 0 takes all
-- param: rows UInt32 = 200  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    lines.time AS time,
    lines.fault_severity AS fault_severity,
    lines.node_id AS node_id,
    lines.hostname AS hostname,
    lines.fault_class AS fault_class,
    lines.fault_code AS code,
    lines.device AS device,
    lines.mig AS mig,
    lines.pid AS pid,
    lines.process AS process,
    lines.unit AS unit,
    lines.link AS link,
    lines.stated AS stated,
    lines.recovery AS recovery,
    lines.meaning AS meaning,
    lines.action AS action,
    lines.msg AS msg
FROM faults AS lines
WHERE lines.time >= range_start AND lines.time < range_end
    AND lines.fault_class IN ('xid', 'sxid', 'gpu_fallen_off_bus')
    AND ({node:String} = '' OR lines.node_id = {node:String}) AND ({code:UInt16} = 0 OR lines.fault_code = {code:UInt16})
    -- The messages of these seconds alone are read.
    AND (toStartOfHour(lines.time), lines.node_id, lines.time) GLOBAL IN
    (
        SELECT shown.hour, shown.node_id, shown.time
        FROM
        (
            SELECT seconds.hour AS hour, seconds.node_id AS node_id, seconds.time AS time
            FROM fault_seconds AS seconds
            WHERE seconds.hour >= toStartOfHour(range_start) AND seconds.time >= range_start AND seconds.time < range_end
                AND seconds.fault_class IN ('xid', 'sxid', 'gpu_fallen_off_bus')
                AND ({node:String} = '' OR seconds.node_id = {node:String})
                AND ({code:UInt16} = 0 OR seconds.fault_code = {code:UInt16})
            GROUP BY hour, node_id, time, seconds.fault_severity, seconds.fault_code
            ORDER BY seconds.fault_severity DESC, time DESC, node_id, seconds.fault_code
            LIMIT {rows:UInt32}
        ) AS shown
    )
ORDER BY fault_severity DESC, time DESC, node_id, code, msg
LIMIT {rows:UInt32}
