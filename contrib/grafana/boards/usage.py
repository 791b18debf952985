"""Use: who asked for how much, and how much of it was used."""

from __future__ import annotations

from contrib.grafana.boards.variables import GROUP, GROUPS, USAGE, USER, WORKSPACE
from contrib.grafana.panels import GREEN, RED, YELLOW, Board, Heading, number, series, steps, table

IDLE_PERCENT = 10

BUSIEST = f"""
            usage.user_id IN
            (
                SELECT usage.user_id FROM user_metrics AS usage
                WHERE {USAGE}
                GROUP BY usage.user_id ORDER BY sum(usage.request_gpu) DESC, usage.user_id LIMIT 10
            )
"""

BOARD = Board(
    name="usage",
    title="PAI usage",
    description="GPUs, CPUs and memory of resource groups and their users: asked for, and used.",
    variables=(GROUP, WORKSPACE, USER),
    panels=(
        number("Users", f"SELECT uniqExact(usage.user_id) AS users FROM user_metrics AS usage WHERE {USAGE}"),
        number(
            "GPUs",
            f"""
            SELECT sum(latest.total) AS gpus
            FROM
            (
                SELECT argMax(groups.total_gpu, groups.time) AS total FROM resource_group_metrics AS groups
                WHERE {GROUPS}
                GROUP BY groups.resource_group_id
            ) AS latest
            """,
            description="Cards of the resource groups, in the latest snapshot of each.",
        ),
        number(
            "GPUs asked for",
            f"""
            SELECT sum(usage.request_gpu) AS gpus FROM user_metrics AS usage
            WHERE {USAGE} AND (usage.resource_group_id, usage.time) IN
            (
                SELECT groups.resource_group_id, max(groups.time) FROM resource_group_metrics AS groups
                WHERE {GROUPS}
                GROUP BY groups.resource_group_id
            )
            """,
            description="By jobs of the users chosen, in the latest snapshot of each resource group.",
        ),
        number(
            "GPU use",
            f"""
            SELECT sum(usage.gpu_usage_rate * usage.request_gpu) / nullIf(sum(usage.request_gpu), 0) AS used
            FROM user_metrics AS usage
            WHERE {USAGE} AND usage.request_gpu > 0
            """,
            unit="percent",
            decimals=1,
            colors=steps(RED, (30, YELLOW), (60, GREEN)),
            description="Mean over the time range, each user and job type weighted by the GPUs asked for.",
        ),
        number(
            "GPU hours asked for",
            f"""
            SELECT sum(per_tick.gpus * per_tick.seconds) / 3600 AS hours
            FROM
            (
                SELECT
                    ticks.gpus AS gpus,
                    least(dateDiff('second', lagInFrame(ticks.time, 1, ticks.time) OVER w, ticks.time), 3600) AS seconds
                FROM
                (
                    SELECT usage.resource_group_id AS group_id, usage.time AS time, sum(usage.request_gpu) AS gpus
                    FROM user_metrics AS usage
                    WHERE {USAGE}
                    GROUP BY group_id, time
                ) AS ticks
                WINDOW w AS (PARTITION BY ticks.group_id ORDER BY ticks.time)
            ) AS per_tick
            """,
            decimals=1,
            description="GPUs asked for, times the time since the snapshot before; at most an hour is taken for a gap.",
        ),
        number(
            "Hardly used",
            f"""
            SELECT sum(held.gpus) AS gpus
            FROM
            (
                SELECT max(usage.request_gpu) AS gpus FROM user_metrics AS usage
                WHERE {USAGE} AND usage.request_gpu > 0
                GROUP BY usage.resource_group_id, usage.user_id, usage.job_type
                HAVING avg(usage.gpu_usage_rate) < {IDLE_PERCENT}
            ) AS held
            """,
            colors=steps(GREEN, (1, YELLOW), (8, RED)),
            description=f"GPUs whose mean use in the time range is under {IDLE_PERCENT} %.",
        ),
        Heading("Resource groups"),
        series(
            "GPUs asked for and there",
            f"""
            SELECT
                ticks.time AS time,
                sum(ticks.requested) AS asked_for,
                sum(ticks.total) AS there
            FROM
            (
                SELECT
                    $__timeInterval(groups.time) AS time,
                    groups.resource_group_id AS group_id,
                    max(groups.request_gpu) AS requested,
                    max(groups.total_gpu) AS total
                FROM resource_group_metrics AS groups
                WHERE {GROUPS}
                GROUP BY time, group_id
            ) AS ticks
            GROUP BY time
            ORDER BY time
            """,
        ),
        series(
            "Use of GPU, CPU and memory",
            f"""
            SELECT
                $__timeInterval(groups.time) AS time,
                avg(groups.gpu_usage_rate) AS gpu,
                avg(groups.cpu_usage_rate) AS cpu,
                avg(groups.memory_usage_rate) AS memory
            FROM resource_group_metrics AS groups
            WHERE {GROUPS}
            GROUP BY time
            ORDER BY time
            """,
            unit="percent",
            most=100,
            description="Mean of the resource groups that are chosen.",
        ),
        Heading("Users"),
        series(
            "GPUs asked for by user, the ten with most",
            f"""
            SELECT ticks.time AS time, ticks.user AS user, max(ticks.gpus) AS gpus
            FROM
            (
                SELECT $__timeInterval(usage.time) AS time, usage.time AS tick, toString(usage.user_id) AS user,
                    sum(usage.request_gpu) AS gpus
                FROM user_metrics AS usage
                WHERE {USAGE} AND {BUSIEST}
                GROUP BY time, tick, user
            ) AS ticks
            GROUP BY time, user
            ORDER BY time, user
            """,
            by="user",
            stacked=True,
        ),
        series(
            "GPU use by user, the ten that ask for most",
            f"""
            SELECT
                $__timeInterval(usage.time) AS time,
                toString(usage.user_id) AS user,
                sum(usage.gpu_usage_rate * usage.request_gpu) / sum(usage.request_gpu) AS used
            FROM user_metrics AS usage
            WHERE {USAGE} AND usage.request_gpu > 0 AND {BUSIEST}
            GROUP BY time, user
            ORDER BY time, user
            """,
            by="user",
            unit="percent",
            most=100,
        ),
        table(
            "Asked for and used",
            f"""
            SELECT
                toString(usage.resource_group_id) AS resource_group,
                toString(usage.user_id) AS user,
                toString(usage.job_type) AS job_type,
                max(usage.request_gpu) AS gpus,
                round(avg(usage.gpu_usage_rate), 1) AS gpu_use,
                max(usage.request_cpu) AS cpus,
                round(avg(usage.cpu_usage_rate), 1) AS cpu_use,
                round(avg(usage.memory_usage_rate), 1) AS memory_use,
                max(usage.time) AS last
            FROM user_metrics AS usage
            WHERE {USAGE}
            GROUP BY resource_group, user, job_type
            ORDER BY gpus DESC, gpu_use, resource_group, user, job_type
            LIMIT 200
            """,
            units={"gpu_use": "percent", "cpu_use": "percent", "memory_use": "percent"},
            colors={"gpu_use": steps(RED, (IDLE_PERCENT, YELLOW), (50, GREEN))},
            links={"user": ("usage", "user"), "resource_group": ("usage", "group")},
            description="Most that was asked for, and mean use, of each user and job type in the time range.",
            width=24,
            height=10,
        ),
        series(
            "Network, mean of users",
            f"""
            SELECT
                $__timeInterval(usage.time) AS time,
                avg(usage.network_input_rate) AS input,
                avg(usage.network_output_rate) AS output
            FROM user_metrics AS usage
            WHERE {USAGE}
            GROUP BY time
            ORDER BY time
            """,
            description="In the unit of the service.",
        ),
        series(
            "Disk, mean of users",
            f"""
            SELECT
                $__timeInterval(usage.time) AS time,
                avg(usage.disk_read_rate) AS read,
                avg(usage.disk_write_rate) AS written
            FROM user_metrics AS usage
            WHERE {USAGE}
            GROUP BY time
            ORDER BY time
            """,
            description="In the unit of the service.",
        ),
    ),
)
