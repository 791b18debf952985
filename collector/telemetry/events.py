"""Every event that is logged: what happened, and the fields that go with it.

A line is written for a unit of work or for a change of state, never to say that nothing has changed. Names are in the
past tense. `docs/reference/events.md` is made from this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FIELDS: Final[Mapping[str, str]] = {
    "added": "streams that are new",
    "address": "host and port, or path of a socket",
    "attempt": "number of the try, from 1",
    "bytes_max": "the configured limit, bytes",
    "calls": "number of calls",
    "calls_in_flight": "calls whose answer did not come in time; entered as unknown at the next start",
    "cap_cny": "the budget, or this shard's part of it, CNY",
    "code": "the service's error code",
    "conflicts": "seconds whose stored rows differ from the answer",
    "difference_seconds": "the machine's clock less the service's, s",
    "disk_free_bytes": "what is left on the journal's disk, bytes",
    "dropped": "spans that were given up",
    "elapsed_seconds": "since the call was begun, s",
    "error": "what went wrong, in words",
    "error_type": "kind of the error",
    "exc_info": "the traceback",
    "failed_seconds": "how long it had failed, s",
    "failures": "failures in a row",
    "file": "path of the file",
    "gave_up": "why the call is not tried again, if so",
    "grace_seconds": "time to end in, s",
    "hint": "what to do",
    "http_status": "status of the answer, 0 where none came",
    "interval_possible_seconds": "the shortest interval that the quota allows, s",
    "interval_seconds": "the configured interval, s",
    "journal": "id of the journal",
    "journal_bytes": "what the journal holds, bytes",
    "journals": "ids of journals",
    "keys": "keys of the configuration that have changed",
    "message": "the text that a person would read",
    "mistakes": "one line for each",
    "month": "the billing month, UTC+8",
    "needed_per_second": "calls a second that the interval asks for",
    "new_journal": "the id under which it goes on",
    "next_try_seconds": "until it is tried again, s",
    "operation": "operation of the catalogue",
    "page": "number of the page, from 1",
    "pages": "pages read until then",
    "path": "path of the file, or of the request",
    "provider": "where the credentials come from",
    "quota_per_second": "calls a second that the quota allows",
    "rate_per_second": "calls a second from now on",
    "reading": "number of the reading, from 1",
    "reason": "why, in words",
    "removed": "streams that are not collected any more",
    "request_id": "the service's name of the call",
    "retry_after_seconds": "until the next try, s",
    "retry_seconds": "until the next try, s",
    "rows": "number of rows",
    "rows_added": "rows that the store did not have",
    "rows_waiting": "rows that are in the journal and not in the store",
    "scope_id": "node, resource group or other target",
    "scopes": "the scopes that were refused in a row",
    "seconds": "by how much, or how long, s",
    "segment": "id of the segment",
    "sent": "spans that were sent",
    "server_date": "the service's time, s since the epoch",
    "shares": "shards, such as 0/2",
    "signal": "name of the signal",
    "source": "source of the configuration",
    "sources": "number of sources",
    "spent_cny": "spent this month before the call, CNY",
    "statement": "the SQL statement",
    "stream": "operation, region and scope",
    "streams": "number of streams",
    "table": "table of the store",
    "tick": "the moment of the snapshot, s since the epoch",
    "ticks": "number of looks",
    "what": "account, operation or budget",
    "window_end": "end of the window, s since the epoch",
    "window_seconds": "length of the window from now on, s",
}
"""What a field says, with its unit."""

EVENTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    # Life
    "listener_started": ("The endpoints can be asked.", ("address",)),
    "sql_endpoint_started": ("ClickHouse's clients can connect to the embedded store.", ("address",)),
    "service_started": ("Streams are known, and collecting begins.", ("streams", "sources")),
    "service_stopping": ("A signal asked for the end; nothing is asked any more.", ("signal", "grace_seconds")),
    "service_stopped": ("Everything that could be finished is.", ("streams", "calls_in_flight", "rows_waiting")),
    "ended_at_once": ("A second signal came: the process ended where it was. Nothing is lost.", ("signal",)),
    "configuration_reloaded": ("SIGHUP: the new configuration is in use.", ("keys",)),
    "configuration_refused": ("SIGHUP: the new configuration is wrong, the old one stays.", ("mistakes",)),
    "streams_changed": ("Targets came or went.", ("added", "removed")),
    "source_skipped": ("A source has nothing to do in this run.", ("source", "reason")),
    # Streams
    "stream_failed": (
        "A look failed; the stream is tried again by itself. Once until it recovers; not while its circuit is open.",
        ("stream", "error", "next_try_seconds"),
    ),
    "delays_not_learned": ("The store did not tell how late records arrive; what was known stays.", ("error",)),
    "backfill_failed": ("A backfill has read a part of a stream; the same command goes on there.", ("stream", "error")),
    "stream_recovered": ("A stream that failed works again.", ("stream", "failed_seconds")),
    "look_failed_unexpectedly": ("A fault of this program; the stream counts as failed.", ("stream", "exc_info")),
    "ticks_missed": ("Looks were not made, their time had passed. Once until none was late for two intervals.",
                     ("source", "ticks")),
    "window_overflowed": ("A window has more pages than are read at once; shorter ones follow.",
                          ("stream", "window_seconds")),
    "cursor_died": ("The service does not know the cursor any more; the listing is begun again.",
                    ("stream", "code", "pages")),
    "cursor_repeated": ("The service gave a cursor twice; the window is begun again.", ("stream", "attempt", "page")),
    "list_changed_while_paging": ("The list was not the same on all pages; it is read again.", ("stream", "reading")),
    "snapshot_cut_off": ("A snapshot could not be read to its end in time; a gap is entered.",
                         ("stream", "pages", "tick")),
    "answer_changed": ("The service answers for the past otherwise than it did; what is stored stays.",
                       ("stream", "table", "conflicts")),
    # Calls
    "request_failed": (
        "One attempt failed; most are tried again.",
        ("operation", "scope_id", "error_type", "http_status", "code", "request_id", "attempt", "elapsed_seconds",
         "retry_after_seconds", "gave_up"),
    ),
    "request_throttled": ("The service refused a call for its quota; the rate is halved.",
                          ("operation", "http_status", "code", "retry_after_seconds", "rate_per_second")),
    "quota_fell_short": (
        "The quota does not allow the configured interval; all streams are looked at less often. Once until it does.",
        ("operation", "streams", "interval_seconds", "needed_per_second", "quota_per_second",
         "interval_possible_seconds"),
    ),
    "circuit_opened": ("An operation kept failing; it is probed with one call at a time.",
                       ("operation", "failures", "http_status", "code")),
    "circuit_closed": ("A probe succeeded.", ("operation", "failures")),
    "account_stopped": ("The credentials were refused; nothing is asked with them.", ("http_status", "code", "hint")),
    "account_reopened": ("The credentials are taken again.", ()),
    "operation_stopped": ("Several scopes in a row were refused; the operation is not asked.",
                          ("operation", "scopes", "http_status", "code")),
    "operation_reopened": ("The operation is asked again.", ("operation",)),
    "stop_began": ("The service does without account, operation or budget until the next try.",
                   ("what", "operation", "error", "next_try_seconds")),
    "stop_ended": ("What was stopped works again.", ("what", "operation", "seconds")),
    "calls_unsettled": ("The process before died with calls on their way; they are entered as unknown.", ("calls",)),
    "calls_left_in_journal": ("A command's calls could not be stored; the next process stores them.", ("error",)),
    "sends_forgotten": ("When calls were last sent could not be noted; the next start waits a second.", ("error",)),
    # Credentials
    "key_refused_once": ("A call was refused for its credentials; it is repeated once before the account is stopped.",
                         ("operation", "scope_id", "http_status", "code")),
    "credentials_refused": ("A run ended because the key was refused.", ("operation", "code")),
    "credentials_changed": ("The key file has another key.", ("file",)),
    "credentials_renewed": ("Other credentials were found.", ("provider",)),
    "credentials_refresh_failed": ("Credentials could not be renewed; those in use stay.", ("reason",)),
    "credentials_unreadable": ("Credentials could not be read; those in use stay.", ("reason", "error")),
    # Money
    "budget_reached": ("A call did not fit into the budget and was not made. Once a month and budget.",
                       ("month", "operation", "spent_cny", "cap_cny")),
    "budget_passed": ("A call passed the budget, as on_reached allows. Once a month and budget.",
                      ("month", "operation", "spent_cny", "cap_cny")),
    # Clock
    "clock_difference_noticed": ("The machine's clock differs from the service's, which is used.",
                                 ("difference_seconds",)),
    "clock_stepped": ("The service's clock was found elsewhere than where it was carried on to.", ("seconds",)),
    "server_clock_stepped_back": ("An answer came from before the end of its window; it is asked again later.",
                                  ("stream", "server_date", "window_end")),
    # Journal and store
    "journal_filled_up": ("Journal or disk are full; collecting waits.",
                          ("journal_bytes", "bytes_max", "disk_free_bytes")),
    "journal_room_returned": ("Collecting goes on.", ("journal_bytes",)),
    "journal_replayed": (
        "What another journal held was compared with the store.", ("path", "rows", "rows_added", "calls")
    ),
    "journal_set_aside": ("The journal was damaged; it was moved, and a new one begun.", ("path", "reason")),
    "table_altered": ("A table was brought to what the configuration has changed.", ("statement",)),
    "segment_shipped": ("The store has acknowledged a segment.", ("table", "rows", "segment")),
    "segment_too_old_to_send_again": ("Whether the store has a segment is not known any more; it is compared.",
                                      ("table", "segment")),
    "row_refused": ("The store does not take a row; it is a dead letter now.", ("table", "error")),
    "store_failed": ("The store did not take or answer; rows wait in the journal. Once until it recovers.",
                     ("table", "error", "retry_seconds")),
    "store_missed": ("The server did not answer at the start. Streams that the journal knows are collected into it.",
                     ("error", "streams")),
    "store_recovered": ("The store takes rows again.", ("table",)),
    # Shards
    "streams_held_back": ("Another journal may still hold rows of some streams; they wait for it.",
                          ("streams", "journals")),
    "streams_taken_over": ("No stream waits for another journal any more.", ()),
    "streams_begun_anew": ("Another process had these streams since; they go on from what the store has.",
                           ("streams", "rows_waiting")),
    "shares_drained": ("Nothing is left of shards that this journal worked on before.", ("shares", "streams")),
    "journals_given_up": ("Older journals of this store; should one come back, it is compared.", ("journals",)),
    "journal_returned": ("This journal was given up; what it holds is compared.",
                         ("journal", "new_journal", "rows_waiting")),
    "rows_compared_again": ("Rows of a journal that came back are on their way to a comparison.", ("rows",)),
    "heartbeat_failed": ("The store could not be told that this process is alive. Once until it can.", ("error",)),
    "leave_failed": ("The store could not be told that this process ended.", ("error",)),
    # Tracing
    "tracing_failed": ("Spans are not sent any more; collecting goes on.", ("error_type",)),
    "spans_not_sent": ("Spans could not be sent. Once until they can.", ("reason",)),
    "spans_sent_again": ("Spans are taken again.", ("dropped",)),
    "spans_dropped": ("Spans were given up at the end.", ("dropped", "sent")),
    "xtrace_token_not_renewed": ("The token for spans could not be renewed.", ("reason",)),
    # Commands
    "command_failed": ("A command ended with an error; with --log-format json.", ("message", "error_type")),
    "hint": ("What to do about it; with --log-format json.", ("message",)),
    "traceback": ("Where a fault of this program is; with --debug.", ("exc_info",)),
    "request_of_a_command_failed": ("A command beside this process could not be answered.", ("path", "exc_info")),
}  # fmt: skip
"""Name -> what it says, and its fields."""


def reference() -> str:
    """The page of the documentation."""
    lines = [
        "# Events",
        "",
        "What is logged, on stderr: `--log-format json` makes each line an object with `timestamp`, `level`, `event`",
        "and the fields below. Made from `collector/telemetry/events.py`.",
        "",
        "| event | what has happened | fields |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {text} | {', '.join(f'`{field}`' for field in fields) or '-'} |"
        for name, (text, fields) in sorted(EVENTS.items())
    ]
    lines += ["", "| field | what it says |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in sorted(FIELDS.items())]
    return "\n".join(lines) + "\n"
