"""Whoever reads late still knows when it had arrived, where the kernel says so."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from workloads.reads import PlainReads, Reads, compiled, reads

LATE_S = 0.05
SO_TIMESTAMPNS = 35
needs_c = pytest.mark.skipif(not compiled(), reason="the receive loop was not compiled")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs, _ = server.accept()
        with theirs:
            awake(ours, theirs)
            ours.setblocking(False)
            yield ours, theirs


def awake(ours: socket.socket, theirs: socket.socket) -> None:
    """Waits until the kernel stamps what arrives: it begins to some time after the first socket has asked for it."""
    ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    for _ in range(100):
        theirs.sendall(b".")
        time.sleep(0.01)
        if ours.recvmsg(1, 64)[1]:
            break


def late(reader: Reads, theirs: socket.socket, data: bytes) -> tuple[int, int, list[tuple[object, int, int]]]:
    """Sends, and looks only after a while. Returns the instants around the sending, and what `wait` said."""
    before = time.perf_counter_ns()
    theirs.sendall(data)
    after = time.perf_counter_ns()
    time.sleep(LATE_S)
    return before, after, reader.wait(True)


@needs_c
def test_what_was_read_late_is_stamped_when_it_arrived(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reader = reads()
    reader.add(ours.fileno(), "target")
    before, after, ((target, _, seen),) = late(reader, theirs, b"hello")
    data, at = reader.receive(ours.fileno(), seen)
    assert (target, data, reader.stamped) == ("target", b"hello", 1)
    assert before <= at <= after + LATE_S * 0.5e9 < seen
    reader.close()


@needs_c
def test_so_are_the_chunks_that_it_decodes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reader = reads()
    reader.add(ours.fileno(), "target")
    body, rows = bytearray(), bytearray()
    began = time.perf_counter_ns()
    assert reader.decode(ours.fileno(), body, rows, b"3\r\nabc\r\n", began) == 0  # type: ignore[attr-defined]
    before, after, told = late(reader, theirs, b"2\r\nde\r\n")
    instants, lengths = np.frombuffer(bytes(rows), np.int64).reshape(-1, 2).T
    assert told == [] and body == b"abcde" and list(lengths) == [3, 5]
    assert instants[0] == began and before <= instants[1] <= after + LATE_S * 0.5e9
    _, _, ((_, code, at),) = late(reader, theirs, b"0\r\n\r\n")
    assert code == -1 and at == np.frombuffer(bytes(rows), np.int64)[-2]
    reader.close()


def test_without_it_what_was_read_is_stamped_when_it_was_seen(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reader = PlainReads()
    reader.add(ours.fileno(), "target")
    _, _, ((target, _, seen),) = late(reader, theirs, b"hello")
    assert target == "target" and reader.receive(ours.fileno(), seen) == (b"hello", seen)
    with pytest.raises(BlockingIOError):
        reader.receive(ours.fileno(), seen)
    reader.close()
