-- purpose: nodes whose logs are collected
SELECT uniqExact(splitByString('?Query=', toString(streams.scope_id))[1], streams.region) AS nodes
FROM watermarks AS streams
WHERE streams.operation = 'ListSyslogs'
