-- purpose: nodes as last discovered, without their faults
-- param: node String = ''  id or host name of a node; empty takes all
-- param: rows UInt32 = 20000  rows at most
SELECT
    known.node_id AS node_id,
    known.hostname AS hostname,
    known.cluster_id AS cluster_id,
    known.machine_type AS machine_type,
    known.operating_state AS operating_state,
    known.zone_id AS zone_id,
    known.is_present AS is_present,
    known.observed_at AS observed_at
FROM nodes AS known
WHERE {node:String} = '' OR known.node_id = {node:String} OR known.hostname = {node:String}
ORDER BY node_id, is_present DESC
LIMIT {rows:UInt32}
