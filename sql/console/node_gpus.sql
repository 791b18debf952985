-- purpose: GPU utilization of machines in steps
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
-- param: step UInt32 = 3600  length of a step, seconds
-- param: nodes String = ''  ids and host names of nodes to look at, one a line; empty takes all
SELECT
    steps.entity_id AS entity_id,
    groupArray(tuple(steps.place, steps.mean)) AS steps
FROM
(
    SELECT
        points.entity_id AS entity_id,
        intDiv(toUnixTimestamp(points.time) - {start:UInt32}, {step:UInt32}) AS place,
        round(avg(points.value), 1) AS mean
    FROM
    (
        -- part: drawn_points
        points.time >= toDateTime({start:UInt32}, 'UTC') AND points.time < toDateTime({end:UInt32}, 'UTC')
        AND points.measure = 'GpuUsageRate'
        AND (points.source = 'node_metrics' OR position(points.dimensions, '"nodeId"') > 0)
        AND ({nodes:String} = '' OR points.entity_id GLOBAL IN (SELECT arrayJoin(splitByChar('\n', {nodes:String}))))
        -- end
    ) AS points
    WHERE points.is_drawn
    GROUP BY entity_id, place
) AS steps
GROUP BY entity_id
