-- Snapshots of GetUserViewMetrics: its UserMetrics, and its Summary. A month of one-minute snapshots is small,
-- so a partition is a month; a dashboard asks for one group over time, so the group leads the key.
CREATE TABLE IF NOT EXISTS pai.user_metrics
(
    time DateTime('UTC') COMMENT 'Tick of the snapshot, a multiple of its interval, seconds, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    resource_group_id LowCardinality(String) COMMENT 'Resource group that was asked for',
    user_id LowCardinality(String) COMMENT 'User account',
    job_type LowCardinality(String) COMMENT 'Framework of the jobs, such as PyTorch',
    total_cpu Nullable(Int64) COMMENT 'CPUs that the user may use, cores',
    total_gpu Nullable(Int64) COMMENT 'GPUs that the user may use, cards',
    total_memory Nullable(Int64) COMMENT 'Memory that the user may use, in the unit of the service',
    request_cpu Nullable(Int64) COMMENT 'CPUs asked for by jobs, cores',
    request_gpu Nullable(Int64) COMMENT 'GPUs asked for by jobs, cards',
    request_memory Nullable(Int64) COMMENT 'Memory asked for by jobs, in the unit of the service',
    cpu_usage_rate Nullable(Float64) COMMENT 'CPU in use, percent',
    gpu_usage_rate Nullable(Float64) COMMENT 'GPU in use, percent',
    memory_usage_rate Nullable(Float64) COMMENT 'Memory in use, percent',
    network_input_rate Nullable(Float64) COMMENT 'Network input, in the unit of the service',
    network_output_rate Nullable(Float64) COMMENT 'Network output, in the unit of the service',
    disk_read_rate Nullable(Float64) COMMENT 'Disk reads, in the unit of the service',
    disk_write_rate Nullable(Float64) COMMENT 'Disk writes, in the unit of the service',
    cpu_node_number Nullable(Int64) COMMENT 'CPU nodes in use, count',
    gpu_node_number Nullable(Int64) COMMENT 'GPU nodes in use, count',
    cpu_job_names Array(String) COMMENT 'Jobs on CPU nodes, by name',
    gpu_job_names Array(String) COMMENT 'Jobs on GPU nodes, by name',
    node_names Array(String) COMMENT 'Nodes in use, by name',
    cpu_node_names Array(String) COMMENT 'CPU nodes in use, by name',
    gpu_node_names Array(String) COMMENT 'GPU nodes in use, by name',
    extra String DEFAULT '{}' COMMENT 'Fields that the catalogue does not know, and values that their columns cannot hold: a JSON object'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (resource_group_id, time, user_id, job_type)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Usage of users, one row for a user and job type in one snapshot of a resource group';

CREATE TABLE IF NOT EXISTS pai.resource_group_metrics
(
    time DateTime('UTC') COMMENT 'Tick of the snapshot, a multiple of its interval, seconds, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    resource_group_id LowCardinality(String) COMMENT 'Resource group that was asked for',
    job_type LowCardinality(String) COMMENT 'Framework of the jobs, as the service gives it for the whole group',
    user_count UInt32 COMMENT 'Users in the snapshot, count',
    total_cpu Nullable(Int64) COMMENT 'CPUs that the resource group may use, cores',
    total_gpu Nullable(Int64) COMMENT 'GPUs that the resource group may use, cards',
    total_memory Nullable(Int64) COMMENT 'Memory that the resource group may use, in the unit of the service',
    request_cpu Nullable(Int64) COMMENT 'CPUs asked for by jobs, cores',
    request_gpu Nullable(Int64) COMMENT 'GPUs asked for by jobs, cards',
    request_memory Nullable(Int64) COMMENT 'Memory asked for by jobs, in the unit of the service',
    cpu_usage_rate Nullable(Float64) COMMENT 'CPU in use, percent',
    gpu_usage_rate Nullable(Float64) COMMENT 'GPU in use, percent',
    memory_usage_rate Nullable(Float64) COMMENT 'Memory in use, percent',
    network_input_rate Nullable(Float64) COMMENT 'Network input, in the unit of the service',
    network_output_rate Nullable(Float64) COMMENT 'Network output, in the unit of the service',
    disk_read_rate Nullable(Float64) COMMENT 'Disk reads, in the unit of the service',
    disk_write_rate Nullable(Float64) COMMENT 'Disk writes, in the unit of the service',
    cpu_node_number Nullable(Int64) COMMENT 'CPU nodes in use, count',
    gpu_node_number Nullable(Int64) COMMENT 'GPU nodes in use, count',
    cpu_job_names Array(String) COMMENT 'Jobs on CPU nodes, by name',
    gpu_job_names Array(String) COMMENT 'Jobs on GPU nodes, by name',
    node_names Array(String) COMMENT 'Nodes in use, by name',
    cpu_node_names Array(String) COMMENT 'CPU nodes in use, by name',
    gpu_node_names Array(String) COMMENT 'GPU nodes in use, by name',
    extra String DEFAULT '{}' COMMENT 'Fields that the catalogue does not know, and values that their columns cannot hold: a JSON object'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (resource_group_id, time)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Usage of resource groups, one row a snapshot';
