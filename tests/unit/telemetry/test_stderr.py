"""A stderr that is never waited for: real pipes that nothing reads, or that have gone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from collector.telemetry.stderr import QueuedStderr

LINE = "x" * 1023 + "\n"


@dataclass
class Pipe:
    """Both ends of a pipe."""

    read: int
    write: int

    def take(self) -> bytes:
        """Everything until the other end is closed."""
        found = b""
        while piece := os.read(self.read, 1 << 16):
            found += piece
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = Pipe(*os.pipe())
    yield ends
    for fd in (ends.read, ends.write):
        try:
            os.close(fd)
        except OSError:
            continue


def test_lines_come_out_in_order(pipe: Pipe) -> None:
    """Nothing is dropped while somebody reads."""
    stream = QueuedStderr(pipe.write)
    reading: list[bytes] = []
    reader = threading.Thread(target=lambda: reading.append(pipe.take()))
    reader.start()
    for i in range(5000):
        stream.write(f"line {i}\n")
    stream.drain()
    os.close(pipe.write)
    reader.join()

    assert reading[0].decode().splitlines() == [f"line {i}" for i in range(5000)]
    assert stream.dropped == 0


def test_a_pipe_that_nothing_reads_stops_no_writer(pipe: Pipe) -> None:
    """More than the pipe and the queue hold is dropped and counted; what was queued comes out later."""
    stream = QueuedStderr(pipe.write, bytes_max=1 << 18)
    for _ in range(1000):
        stream.write(LINE)
    stream.drain(0.05)

    dropped = stream.dropped
    assert dropped >= 1000 - (1 << 18) // len(LINE) - (1 << 16) // len(LINE) - 1
    assert stream.dropped_since() == 0, "not while the queue is still full"
    reading: list[bytes] = []
    reader = threading.Thread(target=lambda: reading.append(pipe.take()))
    reader.start()
    stream.drain()
    assert stream.dropped_since() == dropped
    assert stream.dropped_since() == 0
    os.close(pipe.write)
    reader.join()
    assert len(reading[0]) == (1000 - dropped) * len(LINE)


def test_a_reader_that_has_gone_stops_no_writer(pipe: Pipe) -> None:
    """Lines are dropped and counted."""
    os.close(pipe.read)
    stream = QueuedStderr(pipe.write)
    for _ in range(3):
        stream.write(LINE)
    stream.drain()

    assert stream.dropped == 3


def test_a_full_disk_stops_no_writer() -> None:
    """What a redirected log cannot take is counted."""
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        stream = QueuedStderr(fd)
        stream.write(LINE)
        stream.drain()
    finally:
        os.close(fd)

    assert stream.dropped == 1


def test_a_pipe_that_another_process_has_made_non_blocking_is_written_to(pipe: Pipe) -> None:
    """A line that meets a full pipe is written whole once there is room."""
    os.set_blocking(pipe.write, False)
    stream = QueuedStderr(pipe.write)
    for _ in range(200):
        stream.write(LINE)
    reading: list[bytes] = []
    reader = threading.Thread(target=lambda: reading.append(pipe.take()))
    reader.start()
    stream.drain()
    os.close(pipe.write)
    reader.join()

    assert reading[0] == LINE.encode() * 200
    assert stream.dropped == 0


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "节点 ✓"), ("gbk", "节点 \\u2713"), ("ascii", "\\u8282\\u70b9 \\u2713")]
)
def test_any_text_is_shown_in_any_encoding(encoding: str, shown: str, pipe: Pipe) -> None:
    """What the encoding lacks is spelled out."""
    stream = QueuedStderr(pipe.write, encoding)
    stream.write("节点 ✓")
    stream.drain()
    os.close(pipe.write)

    assert pipe.take().decode(encoding) == shown
