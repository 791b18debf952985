-- What a fault asks of a person, which lines of a class mean something else, and what they are about. The expressions
-- are those of the rules (faults.toml and the user's own), set at every start where they differ. The severity is computed
-- from the other columns when it is read, so a change of it holds for all lines. The others are stored; those of a part
-- from before this file are computed when it is read, until it is merged or classified again.
ALTER TABLE pai.syslogs ADD COLUMN IF NOT EXISTS fault_case LowCardinality(String) DEFAULT '' COMMENT 'Case of the class or number that the message is, such as corrected; empty if it is of none',
    ADD COLUMN IF NOT EXISTS fault_device LowCardinality(String) DEFAULT '' COMMENT 'What the fault is about: a PCI address as dddd:bb:dd, else a disk, an interface or the like; empty if the message names none',
    ADD COLUMN IF NOT EXISTS fault_severity Enum8('' = 0, 'info' = 1, 'corrected' = 2, 'application' = 3, 'degraded' = 4, 'fatal' = 5) ALIAS '' COMMENT 'What a person has to do, worst last: info, corrected, application (a program was stopped), degraded, fatal (take it out); empty when no fault';

ALTER TABLE pai.fault_code_states ADD COLUMN IF NOT EXISTS fault_case LowCardinality(String) COMMENT 'Case of the class or number, as in syslogs; empty for all others',
    MODIFY ORDER BY (fault_class, fault_code, fault_case);

ALTER TABLE pai.fault_code_states ADD COLUMN IF NOT EXISTS fault_severity LowCardinality(String) COMMENT 'What a person has to do, as in syslogs',
    ADD COLUMN IF NOT EXISTS source String COMMENT 'Where the judgement comes from, text';

CREATE OR REPLACE VIEW pai.fault_codes
(
    fault_class LowCardinality(String) COMMENT 'Kind of fault, as in syslogs',
    fault_code UInt16 COMMENT 'Number, such as that of an Xid; 0 for all others of the class',
    fault_case LowCardinality(String) COMMENT 'Case of the class or number; empty for all others',
    fault_severity LowCardinality(String) COMMENT 'What a person has to do: info, corrected, application, degraded or fatal',
    meaning String COMMENT 'What it means, text',
    action String COMMENT 'What to do about it, text; empty where nothing general can be said',
    source String COMMENT 'Where the judgement comes from, text'
)
AS SELECT
    known.fault_class AS fault_class,
    known.fault_code AS fault_code,
    known.fault_case AS fault_case,
    known.latest.4 AS fault_severity,
    known.latest.1 AS meaning,
    known.latest.2 AS action,
    known.latest.5 AS source
FROM
(
    SELECT
        states.fault_class AS fault_class,
        states.fault_code AS fault_code,
        states.fault_case AS fault_case,
        argMax(
            tuple(states.meaning, states.action, states.is_known, states.fault_severity, states.source),
            states.updated_at
        ) AS latest
    FROM pai.fault_code_states AS states
    GROUP BY fault_class, fault_code, fault_case
) AS known
WHERE known.latest.3 = 1
COMMENT 'Meaning of fault classes, of their numbers and of the cases of both, one row each';

-- Meanings are looked up among constants. A number that is not known means what its class, or its case of it, means.
CREATE OR REPLACE VIEW pai.faults
(
    time DateTime('UTC') COMMENT 'When the line was logged, seconds, UTC',
    region LowCardinality(String) COMMENT 'Region that the collector was configured with',
    cluster_id LowCardinality(String) COMMENT 'Cluster of the node',
    node_id LowCardinality(String) COMMENT 'Node that logged the line',
    hostname LowCardinality(String) COMMENT 'Host name in the line',
    severity LowCardinality(String) COMMENT 'Syslog severity, such as err or info',
    fault_class LowCardinality(String) COMMENT 'Kind of fault that the message reports: a class of fault_codes',
    fault_code UInt16 COMMENT 'Number in the message, such as that of an Xid; 0 where there is none',
    fault_case LowCardinality(String) COMMENT 'Case of the class or number that the message is; empty if it is of none',
    fault_severity Enum8('' = 0, 'info' = 1, 'corrected' = 2, 'application' = 3, 'degraded' = 4, 'fatal' = 5) COMMENT 'What a person has to do, worst last: info, corrected, application, degraded, fatal',
    device LowCardinality(String) COMMENT 'What the fault is about: a PCI address as dddd:bb:dd, else a disk, an interface or the like; empty if the message names none',
    mig String COMMENT 'MIG instance of the GPU in an Xid line, such as 05; empty if none',
    pid UInt32 COMMENT 'Process that the message names; 0 if none',
    process String COMMENT 'Name of the process, text; empty if none',
    unit String COMMENT 'Unit of NVLink in an Xid line, or NVSwitch in an SXid line; empty if none',
    link Nullable(Int16) COMMENT 'Link of NVLink, or port of the NVSwitch; NULL if the message names none',
    stated LowCardinality(String) COMMENT 'What the message itself calls it, such as fatal, nonfatal or corrected; empty if nothing',
    recovery String COMMENT 'What brings the GPU back, as an Xid 154 names it; empty if none',
    meaning String COMMENT 'What the number means, or the class where the number is not known, text',
    action String COMMENT 'What to do about it, text; empty where nothing general can be said',
    msg String COMMENT 'The message, text'
)
AS WITH
    (
        SELECT tuple(
            groupArray(concat(codes.fault_class, ' ', toString(codes.fault_code), ' ', codes.fault_case)),
            groupArray(codes.meaning),
            groupArray(codes.action)
        )
        FROM pai.fault_codes AS codes
    ) AS known,
    concat(logs.fault_class, ' ', toString(logs.fault_code), ' ', logs.fault_case) AS number,
    concat(logs.fault_class, ' 0 ', logs.fault_case) AS class
SELECT
    logs.time AS time,
    logs.region AS region,
    logs.cluster_id AS cluster_id,
    logs.node_id AS node_id,
    logs.hostname AS hostname,
    logs.severity AS severity,
    logs.fault_class AS fault_class,
    logs.fault_code AS fault_code,
    logs.fault_case AS fault_case,
    logs.fault_severity AS fault_severity,
    logs.fault_device AS device,
    extract(logs.msg, 'GPU-I:(\\w+)\\)') AS mig,
    toUInt32OrZero(arrayStringConcat(extractGroups(logs.msg,
        '\\bpid=(\\d+)|Kill(?:ed)? process (\\d+) \\(|: task .+:(\\d+) blocked|! \\[.+:(\\d+)\\]|\\w\\[(\\d+)\\]: segfault|(?:Killing|SIGBUS to) \\S+:(\\d+) due'
    ))) AS pid,
    arrayStringConcat(extractGroups(logs.msg,
        '\\bname=([^,<]+),|\\btask=([^,]+),pid=|Kill(?:ed)? process \\d+ \\(([^)]+)\\)|: task (.+):\\d+ blocked|! \\[(.+):\\d+\\]|([\\w.+/-]+)\\[\\d+\\]: segfault|(?:Killing|SIGBUS to) (\\S+):\\d+ due'
    )) AS process,
    arrayStringConcat(extractGroups(logs.msg,
        'nvidia-(nvswitch\\d+): SXid|, ([A-Z][A-Z0-9_]+(?:/[A-Z0-9_]+)?) (?:Non-?)?[Ff]atal '
    )) AS unit,
    if(
        logs.fault_class IN ('xid', 'sxid', 'nvlink'),
        toInt16OrNull(arrayStringConcat(extractGroups(logs.msg, '\\b[Ll]ink (\\d+)|\\bport (\\d+)'))),
        NULL
    ) AS link,
    replaceAll(lower(extract(logs.msg,
        '\\b((?:[Nn]on-?)?[Ff]atal|(?:[Uu]n)?[Cc]orrect(?:ed|able)|[Rr]ecoverable)\\b'
    )), '-', '') AS stated,
    extract(logs.msg, 'recovery action changed from .* to 0x[0-9a-fA-F]+ \\(([^)]+)\\)') AS recovery,
    transform(number, known.1, known.2, transform(class, known.1, known.2, '')) AS meaning,
    transform(number, known.1, known.3, transform(class, known.1, known.3, '')) AS action,
    logs.msg AS msg
FROM pai.syslogs AS logs
WHERE logs.fault_class != ''
COMMENT 'Log lines that report a fault, with what it means; one row a line';
