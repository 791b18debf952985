-- purpose: metrics of one node in steps: means, of each measure from the finest that there is
-- param: node String  id of the node
-- param: host String = ''  another name that the node is measured by
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: step UInt32 = 300  length of a step, seconds
SELECT
    series.measure AS measure,
    series.gpu_type AS gpu_type,
    intDiv(toUnixTimestamp(series.time) - {start:UInt32}, {step:UInt32}) AS place,
    round(avg(series.value), 3) AS value
FROM
(
    -- part: drawn_points
    points.entity_id IN ({node:String}, {host:String}) AND points.entity_id != ''
    AND points.time >= toDateTime({start:UInt32}, 'UTC') AND points.time < toDateTime({end:UInt32}, 'UTC')
    -- end
) AS series
WHERE series.is_drawn
GROUP BY measure, gpu_type, place
ORDER BY measure, gpu_type, place
LIMIT 50000
