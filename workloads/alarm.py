"""Wakes an event loop at an instant of `time.perf_counter_ns`. Loop timers are a millisecond coarse; this one is not.

On Linux a timerfd (CLOCK_MONOTONIC is what perf_counter_ns reads there) wakes the loop within some 50 µs and costs
nothing meanwhile. Elsewhere the loop sleeps until a millisecond before and then spins, which costs that time in CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

_CLOCK_MONOTONIC, _TFD_FLAGS, _TFD_TIMER_ABSTIME = 1, os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0), 1
_COARSE_NS = 1_500_000


class Alarm(Protocol):
    """One instant at a time: setting another replaces it."""

    def set(self, at_ns: int) -> None: ...

    def close(self) -> None: ...


class Readers(Protocol):
    """What watches files, as a loop does."""

    def add_reader(self, fd: int, ready: Callable[[], None], /) -> None: ...

    def remove_reader(self, fd: int, /) -> object: ...


def alarm(loop: asyncio.AbstractEventLoop, ring: Callable[[], None], readers: Readers | None = None) -> Alarm:
    """Returns an alarm that calls `ring` in the loop's thread, never early; `readers` watch its file (default: the
    loop)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            return _TimerFd(readers or loop, ring)
    return _Spinner(loop, ring)


def ticker(readers: Readers, tick: Callable[[], None], period_ns: int) -> Alarm:
    """Returns what calls `tick` once a period, until it is closed. Linux only."""
    timer = _TimerFd(readers, tick)
    timer.set(time.perf_counter_ns(), period_ns)
    return timer


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class _TimerFd:
    def __init__(self, readers: Readers, ring: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._readers, self._ring = readers, ring
        self._fd = int(libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        readers.add_reader(self._fd, self._expired)

    def set(self, at_ns: int, period_ns: int = 0) -> None:
        first = _Timespec(*divmod(max(at_ns, 1), 1_000_000_000))  # 0 would disarm it
        when = _Itimerspec(_Timespec(0, period_ns), first)
        self._settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(when), None)

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set anew meanwhile
            return
        self._ring()

    def close(self) -> None:
        self._readers.remove_reader(self._fd)
        os.close(self._fd)


class _Spinner:
    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring = loop, ring
        self._handle: asyncio.Handle | None = None

    def set(self, at_ns: int) -> None:
        if self._handle:
            self._handle.cancel()
        left_ns = at_ns - time.perf_counter_ns()
        if left_ns > _COARSE_NS:
            self._handle = self._loop.call_later((left_ns - _COARSE_NS) / 1e9, self.set, at_ns)
        elif left_ns > 0:
            self._handle = self._loop.call_soon(self.set, at_ns)
        else:
            self._handle = self._loop.call_soon(self._ring)

    def close(self) -> None:
        if self._handle:
            self._handle.cancel()
