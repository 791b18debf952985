-- One row is one log line of one node, as ListSyslogs gave it, and what the line says about faults.
--
-- fault_class: one expression a class, all of them looked for in one pass; of several that a line
-- matches, the first in the list decides. They are the fixed words of the kernel's and the libraries'
-- own formats, so a line that merely talks about "oom" is none. An Xid line is an xid whatever it goes
-- on to say: its number says which. That number is read only where there is one.
CREATE TABLE IF NOT EXISTS pai.syslogs
(
    time DateTime('UTC') COMMENT 'When the line was logged, seconds, UTC' CODEC(Delta, ZSTD(1)),
    receive_time Nullable(DateTime('UTC')) COMMENT 'When the log service received the line, seconds, UTC; NULL when it does not say' CODEC(Delta, ZSTD(1)),
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    cluster_id LowCardinality(String) COMMENT 'Cluster of the node',
    node_id LowCardinality(String) COMMENT 'Node that logged the line',
    hostname LowCardinality(String) COMMENT 'Host name in the line',
    ip LowCardinality(String) COMMENT 'Address of the node, text',
    sn LowCardinality(String) COMMENT 'Serial number of the machine',
    facility LowCardinality(String) COMMENT 'Syslog facility, such as kern or daemon',
    severity LowCardinality(String) COMMENT 'Syslog severity, such as err or info',
    syslogtag LowCardinality(String) COMMENT 'Program that logged the line, such as kernel or sshd',
    source LowCardinality(String) COMMENT 'Host that sent the line',
    domain LowCardinality(String) COMMENT 'Domain that the service files the line under',
    topic LowCardinality(String) COMMENT 'Way the line took: logserver is TCP, log2sls is UDP',
    tag_hostname LowCardinality(String) COMMENT 'Host name in the tag of the log shipper',
    tag_pack_id String COMMENT 'Pack of lines that the log shipper sent together; no identity of a line',
    tag_path LowCardinality(String) COMMENT 'File that the log shipper read',
    tag_user_defined_id LowCardinality(String) COMMENT 'Group of machines, as set in the log shipper',
    msg String COMMENT 'The message, text',
    extra String DEFAULT '{}' COMMENT 'Fields that the catalogue does not know, and values that their columns cannot hold: a JSON object',
    fault_class LowCardinality(String) DEFAULT
        CAST(['', 'sxid', 'xid', 'gpu_fallen_off_bus', 'ecc', 'nvlink', 'nic', 'nccl', 'oom', 'mce', 'filesystem', 'soft_lockup'], 'Array(LowCardinality(String))')
        [1 + arrayMin(multiMatchAllIndices(msg, [
            'SXid \\(',
            'Xid \\(',
            'fallen off the bus',
            'ECC [Ee]rror|EDAC MC\\d|double bit error|ow [Rr]emapp(er:|ing pending)',
            'NVLink (\\d+ )?([Ee]rror|[Ff]atal)|NVLink: ([Ee]rror|[Ff]atal)',
            'link status definitely down|: [Ll]ink (is )?[Dd]own|NIC Link is Down|Lost carrier|NETDEV WATCHDOG',
            'NCCL WARN|NCCL [Ee]rror|nccl(System|Remote|Internal|UnhandledCuda)Error|Watchdog caught collective operation timeout',
            'Out of memory: Kill|emory cgroup out of memory|invoked oom-killer|oom-kill:',
            '\\[Hardware Error\\]|Machine check events logged|Machine Check Exception',
            'EXT4-fs error|BTRFS error|Corruption of in-memory data|Metadata corruption detected|Remounting filesystem read-only|I/O error, dev |Buffer I/O error|Stale file handle|nfs: server [^ ]+ not responding',
            'BUG: soft lockup|hard LOCKUP|blocked for more than \\d+ seconds|self-detected stall'
        ]))]
        COMMENT 'Kind of fault that the message reports, empty when none: sxid, xid, gpu_fallen_off_bus, ecc, nvlink, nic, nccl, oom, mce, filesystem, soft_lockup',
    fault_code UInt16 DEFAULT if(fault_class IN ('xid', 'sxid'), toUInt16OrZero(extract(msg, 'S?Xid \\([^)]*\\): (\\d+)')), 0) COMMENT 'Number of the Xid or SXid, 0 for everything else'
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(time)
ORDER BY (toStartOfHour(time), node_id, time)
SETTINGS
    default_compression_codec = 'ZSTD(1)',
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Log lines of nodes, one row a line; equal lines of one second are separate rows';
