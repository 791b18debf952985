-- What there is. An object has a row for each state that it was seen in, and one when it was gone.
CREATE TABLE IF NOT EXISTS pai.inventory_states
(
    observed_at DateTime('UTC') COMMENT 'When the state was first seen, seconds, UTC' CODEC(Delta, ZSTD(1)),
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    object_id LowCardinality(String) COMMENT 'Object, as a target names it',
    is_present UInt8 COMMENT '1, or 0 once a complete list did not hold the object any more',
    fingerprint UInt64 COMMENT 'Digest of the columns after it: equal for equal states',
    kind LowCardinality(String) COMMENT 'Kind of the object: cluster, node, resource_group, job, instance, eas_resource, service',
    parent_id LowCardinality(String) COMMENT 'What it belongs to: the cluster of a node, resource group or service of serving, else the workspace; empty for a cluster',
    name String COMMENT 'Name for people, such as the host name of a node',
    state LowCardinality(String) COMMENT 'State in the words of the service, such as Running',
    attributes String COMMENT 'All fields of the record that last, a JSON object; secrets are left out'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(observed_at)
ORDER BY (kind, object_id, observed_at)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'States of objects as they were seen; read inventory or nodes instead';

-- Nodes are listed cluster by cluster: one that has moved is gone from its old cluster, and there in the new one,
-- whichever was looked at last. So its last state is taken for each cluster, and one where it is there goes first.
CREATE OR REPLACE VIEW pai.inventory
(
    kind LowCardinality(String) COMMENT 'Kind of the object: cluster, node, resource_group, job, instance, eas_resource, service',
    object_id LowCardinality(String) COMMENT 'Object, as a target names it',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    parent_id LowCardinality(String) COMMENT 'What it belongs to: the cluster of a node, resource group or service of serving, else the workspace; empty for a cluster',
    name String COMMENT 'Name for people, such as the host name of a node',
    state LowCardinality(String) COMMENT 'State in the words of the service, such as Running',
    is_present UInt8 COMMENT '1, or 0 once a complete list did not hold the object any more',
    observed_at DateTime('UTC') COMMENT 'When this state was first seen, seconds, UTC',
    attributes String COMMENT 'All fields of the record that last, a JSON object; secrets are left out'
)
AS SELECT
    things.kind AS kind,
    things.object_id AS object_id,
    things.region AS region,
    things.latest.1 AS parent_id,
    things.latest.2 AS name,
    things.latest.3 AS state,
    things.latest.5 AS is_present,
    things.latest.6 AS observed_at,
    things.latest.4 AS attributes
FROM
(
    SELECT
        places.kind AS kind,
        places.object_id AS object_id,
        places.region AS region,
        argMax(places.latest, tuple(places.latest.5, places.latest.6, places.latest.7)) AS latest
    FROM
    (
        SELECT
            states.kind AS kind,
            states.object_id AS object_id,
            states.region AS region,
            if(states.kind = 'node', toString(states.parent_id), '') AS place,
            argMax(
                tuple(
                    states.parent_id, states.name, states.state, states.attributes,
                    states.is_present, states.observed_at, states.fingerprint
                ),
                tuple(states.observed_at, states.fingerprint)
            ) AS latest
        FROM pai.inventory_states AS states
        GROUP BY kind, object_id, region, place
    ) AS places
    GROUP BY kind, object_id, region
) AS things
COMMENT 'Objects as last seen, one row each';

CREATE OR REPLACE VIEW pai.nodes
(
    node_id LowCardinality(String) COMMENT 'Node',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    cluster_id LowCardinality(String) COMMENT 'Cluster of the node',
    hostname String COMMENT 'Host name',
    machine_type LowCardinality(String) COMMENT 'Type of the machine, such as efg1.nvga1',
    operating_state LowCardinality(String) COMMENT 'State in the words of the service, such as Using',
    zone_id LowCardinality(String) COMMENT 'Zone that the node stands in',
    observed_at DateTime('UTC') COMMENT 'When this state was first seen, seconds, UTC',
    is_present UInt8 COMMENT '1, or 0 once the list of the cluster did not hold the node any more',
    extra String COMMENT 'All fields of the record that last, a JSON object'
)
AS SELECT
    known.object_id AS node_id,
    known.region AS region,
    known.parent_id AS cluster_id,
    known.name AS hostname,
    JSONExtractString(known.attributes, 'MachineType') AS machine_type,
    known.state AS operating_state,
    JSONExtractString(known.attributes, 'ZoneId') AS zone_id,
    known.observed_at AS observed_at,
    known.is_present AS is_present,
    known.attributes AS extra
FROM pai.inventory AS known
WHERE known.kind = 'node'
COMMENT 'Nodes as last discovered, one row each';
