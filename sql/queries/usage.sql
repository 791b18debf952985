-- purpose: users of each resource group in its latest snapshot, by GPUs asked for, with how busy they are
SELECT
    resource_group_id,
    user_id,
    job_type,
    request_gpu,
    gpu_usage_rate,
    request_cpu,
    cpu_usage_rate,
    memory_usage_rate,
    length(node_names) AS nodes,
    time
FROM user_metrics
WHERE (resource_group_id, time) IN (SELECT resource_group_id, max(time) FROM user_metrics GROUP BY resource_group_id)
ORDER BY resource_group_id, request_gpu DESC, user_id, job_type
