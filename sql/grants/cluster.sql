-- What the collector's account needs on each node of a cluster beside writer.sql: statements ON CLUSTER, and
-- distributed tables, which the engine counts among the sources that reach other servers.
GRANT CLUSTER ON *.* TO pai_writer;
GRANT REMOTE ON *.* TO pai_writer;
