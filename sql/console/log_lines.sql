-- purpose: log lines of a range, newest first; lines of a node within a second in the reverse of the order they came in
-- param: start DateTime('UTC') = 0  first moment of the range, UTC
-- param: end DateTime('UTC') = 4294967295  first moment after the range, UTC
-- param: node_from String = ''  of the last second, lines of this node and of those after it, by id
-- param: skipped UInt32 = 0  lines of that second and node to leave out
-- param: msg_max UInt32 = 4294967295  characters of a message, and of the fields that are not known, that are given
-- param: rows UInt32 = 100  rows at most
-- part: log_lines
    lines.time >= {start:DateTime('UTC')} AND lines.time < {end:DateTime('UTC')}
    AND (lines.time < {end:DateTime('UTC')} - 1 OR lines.node_id >= {node_from:String})
    -- filters
-- end
ORDER BY toStartOfHour(lines.time) DESC, lines.time DESC, lines.node_id, lines._part DESC, lines._part_offset DESC
LIMIT {rows:UInt32} OFFSET {skipped:UInt32}
