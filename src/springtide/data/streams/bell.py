"""Sleeping on a word of shared memory until another process changes it (a futex), and ordering stores before it."""

from __future__ import annotations

import ctypes
import platform

_NUMBERS = {"x86_64": (202, 324), "aarch64": (98, 283)}  # futex, membarrier
_WAIT, _WAKE, _EVERYBODY = 0, 1, 2**31 - 1
_GLOBAL_EXPEDITED, _REGISTER_GLOBAL_EXPEDITED = 2, 4
_MACHINE = platform.machine()
_FUTEX, _MEMBARRIER = _NUMBERS.get(_MACHINE, (0, 0))
SUPPORTED = _FUTEX > 0

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def wait(address: int, expected: int, timeout_s: float) -> None:
    """Sleep until `wake(address)`, unless the 32-bit word there is no longer `expected`. May wake for no reason."""
    limit = _Timespec(int(timeout_s), int(timeout_s % 1 * 1e9))
    _syscall(_FUTEX, ctypes.c_void_p(address), _WAIT, ctypes.c_uint32(expected), ctypes.byref(limit), None, 0)


def wake(address: int) -> None:
    """Wake all who wait at `address`, in every process that maps the page."""
    _syscall(_FUTEX, ctypes.c_void_p(address), _WAKE, _EVERYBODY, None, None, 0)


if _MACHINE == "x86_64":

    def fence() -> None:
        """Order what was stored before against what is stored next. x86-64 keeps stores in order by itself."""

else:
    _syscall(_MEMBARRIER, _REGISTER_GLOBAL_EXPEDITED, 0, 0)

    def fence() -> None:
        """Order what was stored before against what is stored next: every core passes a barrier."""
        _syscall(_MEMBARRIER, _GLOBAL_EXPEDITED, 0, 0)
