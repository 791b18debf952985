-- purpose: where the logs of each serving resource group are shipped now, since when, and how often that has changed
SELECT
    region,
    cluster_id,
    resource_id,
    argMax(project_name, states.observed_at) AS project,
    argMax(log_store, states.observed_at) AS store,
    argMax(status, states.observed_at) AS present_status,
    argMax(message, states.observed_at) AS present_message,
    max(states.observed_at) AS since,
    count() - 1 AS changes
FROM resource_logs AS states
GROUP BY region, cluster_id, resource_id
ORDER BY region, cluster_id, resource_id
