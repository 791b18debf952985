-- purpose: calls that were throttled, refused or lost, by operation and code, with what they cost
-- param: hours UInt16 = 168  length of the range, hours
-- param: until Nullable(DateTime('UTC')) = NULL  end of the range, UTC; NULL is now
-- param: rows UInt32 = 100  rows at most
WITH
    coalesce({until:Nullable(DateTime('UTC'))}, now('UTC')) AS range_end,
    range_end - toIntervalHour({hours:UInt16}) AS range_start
SELECT
    made.operation AS operation,
    made.kind AS kind,
    made.http_status AS http_status,
    made.code AS code,
    made.calls AS calls,
    round(100 * made.calls / made.calls_of_operation, 2) AS percent_of_calls,
    made.cost_cny AS cost_cny,
    made.last AS last
FROM
(
    SELECT
        meter.operation AS operation,
        meter.http_status AS http_status,
        meter.code AS code,
        multiIf(
            meter.http_status = 200 AND meter.code = '', 'answered',
            meter.http_status = 429 OR startsWith(meter.code, 'Throttling'), 'throttled',
            meter.http_status IN (401, 403), 'refused',
            meter.http_status = 0, 'lost',
            'failed'
        ) AS kind,
        sum(meter.calls) AS calls,
        sum(calls) OVER (PARTITION BY operation) AS calls_of_operation,
        sum(meter.cost_cny) AS cost_cny,
        max(meter.minute) AS last
    FROM api_calls AS meter
    WHERE meter.minute >= range_start AND meter.minute < range_end
    GROUP BY operation, http_status, code
) AS made
WHERE made.kind != 'answered'
ORDER BY calls DESC, operation, http_status, code
LIMIT {rows:UInt32}
