#!/bin/bash
# Makes the accounts of sql/grants. The image runs it at every start, before the server listens to others, so a
# password that has changed in the environment is changed here too. The server is given digests only.
set -euo pipefail

: "${PAI_WRITER_PASSWORD:?is empty}" "${PAI_READER_PASSWORD:?is empty}"

digest() {
    printf '%s' "$1" | sha256sum | cut -d ' ' -f 1
}

apply() {
    clickhouse-client --host 127.0.0.1 --queries-file "/grants/$1.sql" --param_password_sha256 "$2"
}

apply writer "$(digest "$PAI_WRITER_PASSWORD")"
apply reader "$(digest "$PAI_READER_PASSWORD")"
if [[ -n "${PAI_SHARD:-}" ]]; then
    : "${PAI_CLUSTER_SECRET:?is empty, and the nodes of a cluster need one}"
    clickhouse-client --host 127.0.0.1 --queries-file /grants/cluster.sql
fi
