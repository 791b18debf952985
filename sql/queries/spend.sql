-- purpose: calls and spend of each operation in each billing month (UTC+8), with how many failed
SELECT
    formatDateTime(meter.minute, '%Y-%m', 'Asia/Shanghai') AS month,
    meter.operation AS operation,
    sum(meter.calls) AS calls,
    sumIf(meter.calls, meter.http_status != 200 OR meter.code != '') AS failed,
    sum(meter.rows) AS records,
    sum(meter.cost_cny) AS cost_cny,
    round(toFloat64(sum(meter.cost_cny)) / nullIf(sum(meter.rows), 0) * 1000000, 2) AS cny_per_million_records
FROM api_calls AS meter
GROUP BY month, operation
ORDER BY month DESC, cost_cny DESC, operation
