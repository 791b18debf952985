-- purpose: how far behind now every stream is, the worst first, and how much of what it should cover is missing
-- param: rows UInt32 = 10000  rows at most
SELECT
    marks.operation AS operation,
    marks.scope_id AS scope_id,
    marks.watermark AS watermark,
    dateDiff('second', marks.watermark, now('UTC')) AS behind_seconds,
    marks.collected_from AS collected_from,
    missing.ranges AS open_gaps,
    missing.seconds AS gap_seconds,
    round(100 * (1 - gap_seconds / nullIf(dateDiff('second', collected_from, watermark), 0)), 3) AS covered_percent
FROM watermarks AS marks
GLOBAL LEFT JOIN
(
    -- Gaps may overlap: of each only what reaches beyond those before it is added.
    SELECT
        cut.operation AS operation,
        cut.region AS region,
        cut.scope_id AS scope_id,
        count() AS ranges,
        sum(greatest(0, dateDiff('second', greatest(cut.start, cut.reached), cut.end))) AS seconds
    FROM
    (
        SELECT
            holes.operation AS operation,
            holes.region AS region,
            holes.scope_id AS scope_id,
            greatest(holes.start, stands.collected_from) AS start,
            least(holes.end, stands.watermark) AS end,
            max(end) OVER (
                PARTITION BY operation, region, scope_id ORDER BY start, end
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS reached
        FROM gaps AS holes
        GLOBAL INNER JOIN watermarks AS stands
            ON holes.operation = stands.operation AND holes.region = stands.region
                AND holes.scope_id = stands.scope_id
        WHERE holes.state = 'open'
    ) AS cut
    GROUP BY operation, region, scope_id
) AS missing
    ON marks.operation = missing.operation AND marks.region = missing.region AND marks.scope_id = missing.scope_id
ORDER BY behind_seconds DESC, operation, scope_id, marks.region
LIMIT {rows:UInt32}
