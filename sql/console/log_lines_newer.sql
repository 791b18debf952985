-- purpose: log lines of a range, oldest first: the reverse of log_lines, to page towards the newest
-- param: start DateTime('UTC') = 0  first moment of the range, UTC
-- param: end DateTime('UTC') = 4294967295  first moment after the range, UTC
-- param: node_before Nullable(String) = NULL  of the first second, lines of the nodes before this one, by id; NULL takes all
-- param: msg_max UInt32 = 4294967295  characters of a message, and of the fields that are not known, that are given
-- param: rows UInt32 = 100  rows at most
-- part: log_lines
    lines.time >= {start:DateTime('UTC')} AND lines.time < {end:DateTime('UTC')}
    AND (lines.time > {start:DateTime('UTC')} OR ifNull(lines.node_id < {node_before:Nullable(String)}, 1))
    -- filters
-- end
ORDER BY toStartOfHour(lines.time), lines.time, lines.node_id DESC, lines._part, lines._part_offset
LIMIT {rows:UInt32}
