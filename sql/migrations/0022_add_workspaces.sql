-- Usage that was asked for one workspace of a resource group has figures of its own, also of the same user. The hours of a
-- user are those of one workspace too, so the projection that keeps them is made again with it.
ALTER TABLE pai.user_metrics ADD COLUMN IF NOT EXISTS workspace_id LowCardinality(String) COMMENT 'Workspace that was asked for; empty for the whole resource group';

ALTER TABLE pai.resource_group_metrics ADD COLUMN IF NOT EXISTS workspace_id LowCardinality(String) COMMENT 'Workspace that was asked for; empty for the whole resource group';

ALTER TABLE pai.user_metrics DROP PROJECTION IF EXISTS hourly;

ALTER TABLE pai.user_metrics ADD PROJECTION IF NOT EXISTS hourly
(
    SELECT
        resource_group_id, workspace_id, user_id, job_type, region, toStartOfHour(time), count(),
        avg(request_gpu), max(request_gpu), avg(gpu_usage_rate), max(gpu_usage_rate),
        avg(request_cpu), max(request_cpu), avg(cpu_usage_rate), max(cpu_usage_rate),
        avg(request_memory), max(request_memory), avg(memory_usage_rate), max(memory_usage_rate)
    GROUP BY resource_group_id, workspace_id, user_id, job_type, region, toStartOfHour(time)
);

CREATE OR REPLACE VIEW pai.user_metrics_hourly
(
    hour DateTime('UTC') COMMENT 'Start of the hour, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    resource_group_id LowCardinality(String) COMMENT 'Resource group that was asked for',
    workspace_id LowCardinality(String) COMMENT 'Workspace that was asked for; empty for the whole resource group',
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
    usage.workspace_id AS workspace_id,
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
GROUP BY hour, region, resource_group_id, workspace_id, user_id, job_type
COMMENT 'Usage of users by hour; always equal to user_metrics';
