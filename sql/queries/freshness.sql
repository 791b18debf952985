-- purpose: how far behind now every stream is, the worst first, with what is missing in it
SELECT
    marks.operation AS operation,
    marks.scope_id AS scope_id,
    marks.watermark AS watermark,
    dateDiff('second', marks.watermark, now()) AS behind_seconds,
    marks.collected_from AS collected_from,
    missing.ranges AS open_gaps,
    missing.seconds AS gap_seconds
FROM watermarks AS marks
LEFT JOIN
(
    SELECT operation, region, scope_id, count() AS ranges, sum(dateDiff('second', start, end)) AS seconds
    FROM gaps
    WHERE state = 'open'
    GROUP BY operation, region, scope_id
) AS missing USING (operation, region, scope_id)
ORDER BY behind_seconds DESC, operation, scope_id
