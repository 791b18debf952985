-- purpose: the lines of a node around a moment, oldest first: those of its second, and some before and after it
-- param: node String  id of the node
-- param: moment DateTime('UTC')  the second, UTC
-- param: hours UInt8 = 6  how far before and after it lines are read, hours
-- param: msg_max UInt32 = 4294967295  characters of a message, and of the fields that are not known, that are given
-- param: lines UInt32 = 50  lines before and after that second; of the first and the last second all
-- param: rows UInt32 = 5000  rows at most
WITH
    (
        SELECT coalesce(minOrNull(before.time), {moment:DateTime('UTC')})
        FROM
        (
            SELECT lines.time AS time
            FROM syslogs AS lines
            WHERE lines.node_id = {node:String} AND lines.time < {moment:DateTime('UTC')}
                AND lines.time >= {moment:DateTime('UTC')} - toIntervalHour({hours:UInt8})
            ORDER BY toStartOfHour(lines.time) DESC, lines.time DESC
            LIMIT {lines:UInt32}
        ) AS before
    ) AS first,
    (
        SELECT coalesce(maxOrNull(after.time), {moment:DateTime('UTC')})
        FROM
        (
            SELECT lines.time AS time
            FROM syslogs AS lines
            WHERE lines.node_id = {node:String} AND lines.time > {moment:DateTime('UTC')}
                AND lines.time <= {moment:DateTime('UTC')} + toIntervalHour({hours:UInt8})
            ORDER BY toStartOfHour(lines.time), lines.time
            LIMIT {lines:UInt32}
        ) AS after
    ) AS last
-- part: log_lines
    lines.node_id = {node:String} AND lines.time >= first AND lines.time <= last
-- end
ORDER BY lines.time, lines._part, lines._part_offset
LIMIT {rows:UInt32}
