-- Hours of log lines and of usage, kept as projections: a part of a table holds its own sums, so they come and go with its
-- rows in one step, whatever dies between. The views ask for exactly what a projection holds, and the engine then
-- reads that instead of the rows; parts older than this file are read themselves, with the same answer.
ALTER TABLE pai.syslogs ADD PROJECTION IF NOT EXISTS hourly
(
    SELECT
        toStartOfHour(time), region, cluster_id, node_id, hostname, severity, fault_class, fault_code,
        count(), min(time), max(time)
    GROUP BY toStartOfHour(time), region, cluster_id, node_id, hostname, severity, fault_class, fault_code
);

CREATE OR REPLACE VIEW pai.syslogs_hourly
(
    hour DateTime('UTC') COMMENT 'Start of the hour, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    cluster_id LowCardinality(String) COMMENT 'Cluster of the node',
    node_id LowCardinality(String) COMMENT 'Node that logged the lines',
    hostname LowCardinality(String) COMMENT 'Host name in the lines',
    severity LowCardinality(String) COMMENT 'Syslog severity, such as err or info',
    fault_class LowCardinality(String) COMMENT 'Kind of fault that the messages report, empty when none',
    fault_code UInt16 COMMENT 'Number in the messages, such as that of an Xid; 0 for everything else',
    lines UInt64 COMMENT 'Lines, count',
    first DateTime('UTC') COMMENT 'When the first of them was logged, seconds, UTC',
    last DateTime('UTC') COMMENT 'When the last of them was logged, seconds, UTC'
)
AS SELECT
    toStartOfHour(logs.time) AS hour,
    logs.region AS region,
    logs.cluster_id AS cluster_id,
    logs.node_id AS node_id,
    logs.hostname AS hostname,
    logs.severity AS severity,
    logs.fault_class AS fault_class,
    logs.fault_code AS fault_code,
    count() AS lines,
    min(logs.time) AS first,
    max(logs.time) AS last
FROM pai.syslogs AS logs
GROUP BY hour, region, cluster_id, node_id, hostname, severity, fault_class, fault_code
COMMENT 'Log lines counted by hour, node, severity and fault; always equal to syslogs';

-- An hour of a series has a dozen points: a projection of them was no faster to read than the points, and a fifth of
-- their size.
CREATE OR REPLACE VIEW pai.metric_points_hourly
(
    hour DateTime('UTC') COMMENT 'Start of the hour, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    source LowCardinality(String) COMMENT 'What measured: node_metrics, job_metrics, dsw_metrics',
    scope_id LowCardinality(String) COMMENT 'What was asked for: a resource group, a job, a notebook',
    entity_id LowCardinality(String) COMMENT 'What was measured: a node, a pod',
    metric LowCardinality(String) COMMENT 'Metric type that was asked for, such as GpuUsageRate',
    gpu_type LowCardinality(String) COMMENT 'GPU that was measured, such as A100; empty where the service tells none',
    points UInt64 COMMENT 'Points, count',
    value_sum Float64 COMMENT 'Sum of the values, in the unit of the metric; over several hours, the mean is sum(value_sum) / sum(points)',
    value_avg Float64 COMMENT 'Mean of the values, in the unit of the metric',
    value_min Float64 COMMENT 'Lowest value, in the unit of the metric',
    value_max Float64 COMMENT 'Highest value, in the unit of the metric'
)
AS SELECT
    toStartOfHour(series.time) AS hour,
    series.region AS region,
    series.source AS source,
    series.scope_id AS scope_id,
    series.entity_id AS entity_id,
    series.metric AS metric,
    series.gpu_type AS gpu_type,
    count() AS points,
    sum(series.value) AS value_sum,
    sum(series.value) / count() AS value_avg,
    min(series.value) AS value_min,
    max(series.value) AS value_max
FROM pai.metric_points AS series
GROUP BY hour, region, source, scope_id, entity_id, metric, gpu_type
COMMENT 'Points of metric series by hour; always equal to metric_points';

ALTER TABLE pai.user_metrics ADD PROJECTION IF NOT EXISTS hourly
(
    SELECT
        resource_group_id, user_id, job_type, region, toStartOfHour(time), count(),
        avg(request_gpu), max(request_gpu), avg(gpu_usage_rate), max(gpu_usage_rate),
        avg(request_cpu), max(request_cpu), avg(cpu_usage_rate), max(cpu_usage_rate),
        avg(request_memory), max(request_memory), avg(memory_usage_rate), max(memory_usage_rate)
    GROUP BY resource_group_id, user_id, job_type, region, toStartOfHour(time)
);

CREATE OR REPLACE VIEW pai.user_metrics_hourly
(
    hour DateTime('UTC') COMMENT 'Start of the hour, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    resource_group_id LowCardinality(String) COMMENT 'Resource group that was asked for',
    user_id LowCardinality(String) COMMENT 'User account',
    job_type LowCardinality(String) COMMENT 'Framework of the jobs, such as PyTorch',
    snapshots UInt64 COMMENT 'Snapshots of the hour that hold the user, count; to weigh means over several hours with',
    request_gpu_avg Nullable(Float64) COMMENT 'GPUs asked for by jobs, cards, mean of the snapshots',
    request_gpu_max Nullable(Int64) COMMENT 'GPUs asked for by jobs, cards, most in a snapshot',
    gpu_usage_rate_avg Nullable(Float64) COMMENT 'GPU in use, percent, mean of the snapshots',
    gpu_usage_rate_max Nullable(Float64) COMMENT 'GPU in use, percent, most in a snapshot',
    request_cpu_avg Nullable(Float64) COMMENT 'CPUs asked for by jobs, cores, mean of the snapshots',
    request_cpu_max Nullable(Int64) COMMENT 'CPUs asked for by jobs, cores, most in a snapshot',
    cpu_usage_rate_avg Nullable(Float64) COMMENT 'CPU in use, percent, mean of the snapshots',
    cpu_usage_rate_max Nullable(Float64) COMMENT 'CPU in use, percent, most in a snapshot',
    request_memory_avg Nullable(Float64) COMMENT 'Memory asked for by jobs, in the unit of the service, mean of the snapshots',
    request_memory_max Nullable(Int64) COMMENT 'Memory asked for by jobs, in the unit of the service, most in a snapshot',
    memory_usage_rate_avg Nullable(Float64) COMMENT 'Memory in use, percent, mean of the snapshots',
    memory_usage_rate_max Nullable(Float64) COMMENT 'Memory in use, percent, most in a snapshot'
)
AS SELECT
    toStartOfHour(usage.time) AS hour,
    usage.region AS region,
    usage.resource_group_id AS resource_group_id,
    usage.user_id AS user_id,
    usage.job_type AS job_type,
    count() AS snapshots,
    avg(usage.request_gpu) AS request_gpu_avg,
    max(usage.request_gpu) AS request_gpu_max,
    avg(usage.gpu_usage_rate) AS gpu_usage_rate_avg,
    max(usage.gpu_usage_rate) AS gpu_usage_rate_max,
    avg(usage.request_cpu) AS request_cpu_avg,
    max(usage.request_cpu) AS request_cpu_max,
    avg(usage.cpu_usage_rate) AS cpu_usage_rate_avg,
    max(usage.cpu_usage_rate) AS cpu_usage_rate_max,
    avg(usage.request_memory) AS request_memory_avg,
    max(usage.request_memory) AS request_memory_max,
    avg(usage.memory_usage_rate) AS memory_usage_rate_avg,
    max(usage.memory_usage_rate) AS memory_usage_rate_max
FROM pai.user_metrics AS usage
GROUP BY hour, region, resource_group_id, user_id, job_type
COMMENT 'Usage of users by hour; always equal to user_metrics';
