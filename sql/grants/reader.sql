-- An account for dashboards, notebooks and BI tools on a ClickHouse server: reads the database pai, and nothing that
-- reaches outside it (no files, no addresses, no other databases). Run like writer.sql.
CREATE ROLE IF NOT EXISTS pai_reader;

GRANT SELECT ON pai.* TO pai_reader;
-- Sizes of tables; the server shows the rows of tables that the account may see.
GRANT SELECT ON system.parts TO pai_reader;

-- readonly = 2, not 1: the drivers of BI tools send settings with their queries and fail where none may be changed.
-- They change nothing that matters, because the account has no right to write, and every limit below has a bound.
CREATE SETTINGS PROFILE OR REPLACE pai_reader SETTINGS
    readonly = 2,
    max_execution_time = 60 MIN 1 MAX 300,
    timeout_overflow_mode = 'throw' CONST,
    max_memory_usage = 2000000000 MIN 1 MAX 2000000000,
    max_memory_usage_for_user = 3000000000 CONST,
    max_threads = 4 MIN 1 MAX 8,
    max_result_rows = 10000000 MIN 1 MAX 10000000,
    max_result_bytes = 1000000000 MIN 1 MAX 1000000000,
    result_overflow_mode = 'throw',
    max_concurrent_queries_for_user = 32 CONST
TO pai_reader;

-- The profile is the user's too: SET ROLE NONE takes away the role's rights, and must not take away the limits.
CREATE USER IF NOT EXISTS reader IDENTIFIED WITH sha256_hash BY {password_sha256:String}
    DEFAULT ROLE pai_reader DEFAULT DATABASE pai SETTINGS PROFILE pai_reader;
ALTER USER reader IDENTIFIED WITH sha256_hash BY {password_sha256:String};
GRANT pai_reader TO reader;
