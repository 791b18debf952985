"""The collector itself: is the history fresh and whole, and what does it cost."""

from __future__ import annotations

from contrib.grafana.panels import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Board,
    Heading,
    Variable,
    chosen,
    number,
    series,
    steps,
    table,
)

OPERATION = Variable("operation", "Operation", "SELECT DISTINCT marks.operation FROM watermarks AS marks LIMIT 1000")
CALLS = f"$__timeFilter(calls.minute) AND {chosen('calls.operation', 'operation')}"
MARKS = chosen("marks.operation", "operation")
HOLES = f"holes.state = 'open' AND {chosen('holes.operation', 'operation')}"
REFUSED = "(calls.http_status != 200 OR calls.code != '')"
"""A call without an answer has the status 0."""

BOARD = Board(
    name="collector",
    title="PAI collector",
    description="Freshness and gaps of the history, calls and what they cost, records that could not be placed.",
    variables=(OPERATION,),
    panels=(
        number(
            "Behind now",
            f"SELECT max(dateDiff('second', marks.watermark, now())) AS behind FROM watermarks AS marks WHERE {MARKS}",
            unit="s",
            colors=steps(GREEN, (600, YELLOW), (3600, RED)),
            description="Of the stream that is furthest behind.",
        ),
        number(
            "Open gaps",
            f"SELECT count() AS ranges FROM gaps AS holes WHERE {HOLES}",
            colors=steps(GREEN, (1, ORANGE)),
            description="Ranges that are not covered, of all time.",
        ),
        number(
            "Missing",
            f"SELECT sum(dateDiff('second', holes.start, holes.end)) AS missing FROM gaps AS holes WHERE {HOLES}",
            unit="s",
            colors=steps(GREEN, (1, ORANGE)),
            description="Length of the open gaps of all streams together.",
        ),
        number(
            "Dead letters",
            """
            SELECT count() AS records FROM dead_letters AS letters WHERE $__timeFilter(letters.observed_at)
            """,
            colors=steps(GREEN, (1, RED)),
            description="Records that could not be placed; the table dead_letters has each with its reason.",
        ),
        number(
            "Failed calls",
            f"""
            SELECT sumIf(calls.calls, {REFUSED}) / nullIf(sum(calls.calls), 0) AS share
            FROM api_calls AS calls WHERE {CALLS}
            """,
            unit="percentunit",
            decimals=2,
            colors=steps(GREEN, (0.01, YELLOW), (0.1, RED)),
            description="Of all calls in the time range. They are billed too.",
        ),
        number(
            "Spend in the time range",
            f"SELECT toFloat64(sum(calls.cost_cny)) AS spend FROM api_calls AS calls WHERE {CALLS}",
            unit="currencyCNY",
            decimals=2,
            description="Price of the calls after the free tier.",
        ),
        Heading("History"),
        table(
            "Streams, the furthest behind first",
            f"""
            SELECT
                toString(marks.operation) AS stream,
                toString(marks.scope_id) AS scope,
                toDateTime(marks.watermark, 'UTC') AS watermark,
                dateDiff('second', marks.watermark, now()) AS behind,
                toDateTime(marks.collected_from, 'UTC') AS collected_from,
                missing.ranges AS open_gaps,
                missing.seconds AS missing
            FROM watermarks AS marks
            LEFT JOIN
            (
                SELECT holes.operation AS operation, holes.region AS region, holes.scope_id AS scope_id,
                    count() AS ranges, sum(dateDiff('second', holes.start, holes.end)) AS seconds
                FROM gaps AS holes
                WHERE {HOLES}
                GROUP BY operation, region, scope_id
            ) AS missing USING (operation, region, scope_id)
            WHERE {MARKS}
            ORDER BY behind DESC, stream, scope
            LIMIT 200
            """,
            units={"behind": "s", "missing": "s"},
            colors={
                "behind": steps(GREEN, (600, YELLOW), (3600, RED)),
                "open_gaps": steps(GREEN, (1, ORANGE)),
            },
            width=24,
            height=10,
        ),
        series(
            "Records by operation",
            f"""
            SELECT
                $__timeInterval(calls.minute) AS time,
                toString(calls.operation) AS operation,
                sum(calls.rows) AS records
            FROM api_calls AS calls
            WHERE {CALLS}
            GROUP BY time, operation
            ORDER BY time, operation
            """,
            by="operation",
            stacked=True,
            bars=True,
        ),
        series(
            "Dead letters",
            """
            SELECT $__timeInterval(letters.observed_at) AS time, count() AS records
            FROM dead_letters AS letters
            WHERE $__timeFilter(letters.observed_at)
            GROUP BY time
            ORDER BY time WITH FILL
                FROM toTimeZone($__timeInterval($__fromTime), 'UTC') TO toTimeZone($__toTime, 'UTC') STEP $__interval_s
            """,
            bars=True,
        ),
        Heading("Calls and money"),
        series(
            "Calls a second by operation",
            f"""
            SELECT
                $__timeInterval(calls.minute) AS time,
                toString(calls.operation) AS operation,
                sum(calls.calls) / greatest($__interval_s, 60) AS rate
            FROM api_calls AS calls
            WHERE {CALLS}
            GROUP BY time, operation
            ORDER BY time, operation
            """,
            by="operation",
            unit="reqps",
            description="Calls are counted by the minute.",
        ),
        series(
            "Failed calls by operation",
            f"""
            SELECT
                $__timeInterval(calls.minute) AS time,
                toString(calls.operation) AS operation,
                sumIf(calls.calls, {REFUSED}) AS failed
            FROM api_calls AS calls
            WHERE {CALLS}
            GROUP BY time, operation
            ORDER BY time, operation
            """,
            by="operation",
            stacked=True,
            bars=True,
        ),
        table(
            "Calls by outcome",
            f"""
            SELECT
                toString(calls.operation) AS operation,
                toUInt32(calls.http_status) AS status,
                toString(calls.code) AS code,
                sum(calls.calls) AS calls_sent,
                sum(calls.rows) AS records,
                sum(calls.bytes) AS received,
                toFloat64(sum(calls.cost_cny)) AS spend
            FROM api_calls AS calls
            WHERE {CALLS}
            GROUP BY operation, status, code
            ORDER BY calls_sent DESC, operation, status, code
            LIMIT 200
            """,
            units={"received": "bytes", "spend": "currencyCNY"},
            description="Status 0: no answer came.",
        ),
        series(
            "Spend by operation",
            f"""
            SELECT
                $__timeInterval(calls.minute) AS time,
                toString(calls.operation) AS operation,
                toFloat64(sum(calls.cost_cny)) AS spend
            FROM api_calls AS calls
            WHERE {CALLS}
            GROUP BY time, operation
            ORDER BY time, operation
            """,
            by="operation",
            unit="currencyCNY",
            stacked=True,
            bars=True,
        ),
    ),
)
