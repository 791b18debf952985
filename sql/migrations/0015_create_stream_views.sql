-- What is covered: from the start of a stream to its watermark, less its gaps. A start and a watermark stand among the
-- gaps as two more of them; in the order of their starts, a covered range lies where one begins after all before it
-- have ended.
CREATE OR REPLACE VIEW pai.coverage
(
    operation LowCardinality(String) COMMENT 'Operation that fills the stream',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    scope_id LowCardinality(String) COMMENT 'What the stream is asked for: a node, a resource group',
    start DateTime('UTC') COMMENT 'First second that is covered, UTC',
    end DateTime('UTC') COMMENT 'First second after the range, UTC',
    seconds Int64 COMMENT 'Length of the range, seconds'
)
AS SELECT
    ranges.operation AS operation,
    ranges.region AS region,
    ranges.scope_id AS scope_id,
    ranges.covered_from AS start,
    ranges.covered_to AS end,
    dateDiff('second', ranges.covered_from, ranges.covered_to) AS seconds
FROM
(
    SELECT
        edges.operation AS operation,
        edges.region AS region,
        edges.scope_id AS scope_id,
        max(edges.hole_end) OVER (
            PARTITION BY edges.operation, edges.region, edges.scope_id ORDER BY edges.hole_start, edges.hole_end
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS covered_from,
        least(
            leadInFrame(edges.hole_start, 1, edges.watermark) OVER (
                PARTITION BY edges.operation, edges.region, edges.scope_id ORDER BY edges.hole_start, edges.hole_end
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
            ),
            edges.watermark
        ) AS covered_to
    FROM
    (
        SELECT
            marks.operation AS operation,
            marks.region AS region,
            marks.scope_id AS scope_id,
            toDateTime(0, 'UTC') AS hole_start,
            marks.collected_from AS hole_end,
            marks.watermark AS watermark
        FROM pai.watermarks AS marks
        UNION ALL
        SELECT
            marks.operation AS operation,
            marks.region AS region,
            marks.scope_id AS scope_id,
            holes.start AS hole_start,
            holes.end AS hole_end,
            marks.watermark AS watermark
        FROM pai.gaps AS holes
        INNER JOIN pai.watermarks AS marks
            ON holes.operation = marks.operation AND holes.region = marks.region AND holes.scope_id = marks.scope_id
        WHERE holes.state = 'open'
    ) AS edges
) AS ranges
WHERE ranges.covered_from < ranges.covered_to
COMMENT 'Ranges of streams that are covered completely, one row a range';

CREATE OR REPLACE VIEW pai.freshness
(
    operation LowCardinality(String) COMMENT 'Operation that fills the stream',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    scope_id LowCardinality(String) COMMENT 'What the stream is asked for: a node, a resource group',
    watermark DateTime('UTC') COMMENT 'Event time before which everything is stored, seconds, UTC',
    behind_seconds Int64 COMMENT 'Now less the watermark, seconds',
    collected_from DateTime('UTC') COMMENT 'Start of the first window collected, seconds, UTC',
    open_gaps UInt64 COMMENT 'Ranges before the watermark that are not covered, count',
    gap_seconds Int64 COMMENT 'Length of those ranges together, seconds; where they overlap, counted twice',
    updated_at DateTime64(3, 'UTC') COMMENT 'When the watermark was last written, milliseconds, UTC'
)
AS SELECT
    marks.operation AS operation,
    marks.region AS region,
    marks.scope_id AS scope_id,
    marks.watermark AS watermark,
    dateDiff('second', marks.watermark, now('UTC')) AS behind_seconds,
    marks.collected_from AS collected_from,
    holes.ranges AS open_gaps,
    holes.seconds AS gap_seconds,
    marks.updated_at AS updated_at
FROM pai.watermarks AS marks
LEFT JOIN
(
    SELECT
        operation, region, scope_id, count() AS ranges, sum(dateDiff('second', start, end)) AS seconds
    FROM pai.gaps
    WHERE state = 'open'
    GROUP BY operation, region, scope_id
) AS holes
    ON marks.operation = holes.operation AND marks.region = holes.region AND marks.scope_id = holes.scope_id
COMMENT 'How far behind now every stream is, and what is missing in it; one row a stream';

CREATE OR REPLACE VIEW pai.spend_daily
(
    day Date COMMENT 'Day in UTC+8, in which the services bill',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    operation LowCardinality(String) COMMENT 'Operation called',
    calls UInt64 COMMENT 'Calls sent, count',
    failed_calls UInt64 COMMENT 'Calls among them without a good answer, count; they cost the same',
    rows UInt64 COMMENT 'Records in the answers, count',
    bytes UInt64 COMMENT 'Bodies of the answers, bytes',
    cost_cny Decimal(38, 6) COMMENT 'Price of the calls after the free tier, CNY'
)
AS SELECT
    toDate(meter.minute, 'Asia/Shanghai') AS day,
    meter.region AS region,
    meter.operation AS operation,
    sum(meter.calls) AS calls,
    sumIf(meter.calls, meter.http_status != 200 OR meter.code != '') AS failed_calls,
    sum(meter.rows) AS rows,
    sum(meter.bytes) AS bytes,
    sum(meter.cost_cny) AS cost_cny
FROM pai.api_call_parts AS meter
GROUP BY day, region, operation
COMMENT 'Calls and spend by day and operation';
