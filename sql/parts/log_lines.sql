-- Columns of log lines as the page of lines shows them. Messages and fields that are not known are given up to a number of
-- characters, with what is no UTF-8 replaced.
SELECT
    lines.time AS time,
    lines.receive_time AS receive_time,
    lines.region AS region,
    lines.cluster_id AS cluster_id,
    lines.node_id AS node_id,
    lines.hostname AS hostname,
    lines.ip AS ip,
    lines.sn AS sn,
    lines.facility AS facility,
    lines.severity AS severity,
    lines.syslogtag AS syslogtag,
    lines.source AS source,
    lines.domain AS domain,
    lines.topic AS topic,
    lines.tag_hostname AS tag_hostname,
    lines.tag_pack_id AS tag_pack_id,
    lines.tag_path AS tag_path,
    lines.tag_user_defined_id AS tag_user_defined_id,
    lines.fault_severity AS fault_severity,
    lines.fault_class AS fault_class,
    lines.fault_code AS fault_code,
    lines.fault_case AS fault_case,
    lines.fault_device AS fault_device,
    toValidUTF8(substringUTF8(lines.extra, 1, {msg_max:UInt32})) AS extra,
    toValidUTF8(substringUTF8(lines.msg, 1, {msg_max:UInt32})) AS msg,
    length(lines.msg) AS msg_bytes,
    hex(cityHash64(lines.msg)) AS msg_hash
FROM syslogs AS lines
WHERE
    {condition}
