-- purpose: points of metrics of a node
-- param: node String  id of the node
-- param: start UInt32  start of the range, seconds since the epoch
-- param: end UInt32  end of the range, seconds since the epoch
SELECT count() AS points
FROM metric_points AS points
WHERE points.entity_id = {node:String}
    AND points.time >= toDateTime({start:UInt32}, 'UTC') AND points.time < toDateTime({end:UInt32}, 'UTC')
