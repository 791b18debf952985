-- purpose: Xid and SXid lines with code and device, the latest first
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
    lines.node_id AS node_id,
    lines.hostname AS hostname,
    lines.fault_class AS fault_class,
    lines.fault_code AS code,
    extract(lines.msg, 'S?Xid \\(([^)]*)\\)') AS device,
    lines.msg AS msg
FROM syslogs AS lines
WHERE lines.time >= range_start AND lines.time < range_end AND lines.fault_class IN ('xid', 'sxid')
    AND ({node:String} = '' OR lines.node_id = {node:String}) AND ({code:UInt16} = 0 OR lines.fault_code = {code:UInt16})
ORDER BY time DESC, node_id, code, msg
LIMIT {rows:UInt32}
