-- Points of CloudMonitor's metrics stand beside those of the older operations. A series of theirs is told by a namespace, a
-- period, a statistic and any dimensions; rows from before this file, and those of the older operations, have none of these.
ALTER TABLE pai.metric_points ADD COLUMN IF NOT EXISTS namespace LowCardinality(String) COMMENT 'Namespace of the metric in CloudMonitor, such as acs_pai_dlc; empty for the older operations',
    ADD COLUMN IF NOT EXISTS period_seconds UInt32 COMMENT 'Span that the point covers, seconds; 0 where the configuration of the older operations tells it',
    ADD COLUMN IF NOT EXISTS statistic LowCardinality(String) COMMENT 'What of the span the value is: Average, Minimum, Maximum ...; empty for the older operations, which give means',
    ADD COLUMN IF NOT EXISTS dimensions String DEFAULT '{}' COMMENT 'All dimensions of the series as CloudMonitor names them: a JSON object of texts; {} for the older operations' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS unit LowCardinality(String) COMMENT 'Unit of the value as CloudMonitor lists it, such as %; empty where nothing tells it',
    ADD COLUMN IF NOT EXISTS measure LowCardinality(String) DEFAULT metric COMMENT 'What is measured, the same word whichever service tells it: a metric type of the older operations, else the metric itself',
    COMMENT COLUMN source 'What measured: node_metrics, job_metrics, dsw_metrics, cloud_metrics',
    COMMENT COLUMN scope_id 'What was asked for: a resource group, a job, a notebook; of CloudMonitor what its dimensions name: job, service, quota or instance',
    COMMENT COLUMN entity_id 'What was measured: a node, a pod; of CloudMonitor what its dimensions name: pod, node, user or instance',
    COMMENT COLUMN metric 'Metric type that was asked for, such as GpuUsageRate; of CloudMonitor its metric';

CREATE OR REPLACE VIEW pai.metric_points_hourly
(
    hour DateTime('UTC') COMMENT 'Start of the hour, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    source LowCardinality(String) COMMENT 'What measured: node_metrics, job_metrics, dsw_metrics, cloud_metrics',
    scope_id LowCardinality(String) COMMENT 'What was asked for: a resource group, a job, a notebook; of CloudMonitor what its dimensions name',
    entity_id LowCardinality(String) COMMENT 'What was measured: a node, a pod; of CloudMonitor what its dimensions name',
    metric LowCardinality(String) COMMENT 'Metric type that was asked for, such as GpuUsageRate',
    gpu_type LowCardinality(String) COMMENT 'GPU that was measured, such as A100; empty where the service tells none',
    namespace LowCardinality(String) COMMENT 'Namespace of the metric in CloudMonitor; empty for the older operations',
    period_seconds UInt32 COMMENT 'Span that each point covers, seconds; 0 for the older operations',
    statistic LowCardinality(String) COMMENT 'What of its span a value is: Average, Minimum, Maximum ...; empty for the older operations',
    dimensions String COMMENT 'All dimensions of the series as CloudMonitor names them: a JSON object; {} for the older operations',
    unit LowCardinality(String) COMMENT 'Unit of the values as CloudMonitor lists it; empty where nothing tells it',
    measure LowCardinality(String) COMMENT 'What is measured, the same word whichever service tells it',
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
    series.namespace AS namespace,
    series.period_seconds AS period_seconds,
    series.statistic AS statistic,
    series.dimensions AS dimensions,
    series.unit AS unit,
    series.measure AS measure,
    count() AS points,
    sum(series.value) AS value_sum,
    sum(series.value) / count() AS value_avg,
    min(series.value) AS value_min,
    max(series.value) AS value_max
FROM pai.metric_points AS series
GROUP BY
    hour, region, source, scope_id, entity_id, metric, gpu_type, namespace, period_seconds, statistic, dimensions, unit,
    measure
COMMENT 'Points of metric series by hour; always equal to metric_points';
