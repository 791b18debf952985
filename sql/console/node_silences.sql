-- purpose: times without a line of one node between two of its lines, those longer than some minutes, and its first and last line
-- param: node String  id of the node
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: minutes UInt32 = 60  a shorter time is none, minutes
SELECT
    min(minutes.minute) AS first,
    max(minutes.last) AS last,
    arrayFilter(
        (pair) -> pair.2 - pair.1 >= {minutes:UInt32} * 60,
        arrayMap(
            (before, after) -> tuple(before.2, after.1),
            arrayPopBack(arraySort(groupArray(tuple(minutes.minute, minutes.last))) AS seen),
            arrayPopFront(seen)
        )
    ) AS silences
FROM
(
    SELECT
        toUnixTimestamp(min(lines.time)) AS minute,
        toUnixTimestamp(max(lines.time)) AS last
    FROM syslogs AS lines
    WHERE lines.node_id = {node:String}
        AND lines.time >= toDateTime({start:UInt32}, 'UTC') AND lines.time < toDateTime({end:UInt32}, 'UTC')
    GROUP BY toStartOfMinute(lines.time)
) AS minutes
HAVING count() > 0
