"""What Python lacks of Linux for shared memory: futexes, memory barriers, populating pages, process relations."""

from __future__ import annotations

import ctypes
import mmap
import platform
import signal
import sys

_NUMBERS = {"x86_64": (202, 324), "aarch64": (98, 283)}  # futex, membarrier
_WAIT, _WAKE = 0, 1
_MADV_POPULATE_READ, _MADV_POPULATE_WRITE = 22, 23
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_MEMBARRIER_GLOBAL_EXPEDITED, _MEMBARRIER_REGISTER_GLOBAL_EXPEDITED = 2, 4

MACHINE = platform.machine()
SUPPORTED = sys.platform == "linux" and MACHINE in _NUMBERS
_FUTEX, _MEMBARRIER = _NUMBERS.get(MACHINE, (202, 324))

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def wait(address: int, expected: int, timeout_seconds: float | None = None) -> None:
    """Sleep until `wake(address)`, unless the 32-bit word there is no longer `expected`. May wake for no reason."""
    limit = None
    if timeout_seconds is not None:
        limit = ctypes.byref(_Timespec(int(timeout_seconds), int(timeout_seconds % 1 * 1e9)))
    _syscall(_FUTEX, ctypes.c_void_p(address), _WAIT, ctypes.c_uint32(expected), limit, None, 0)


def wake(address: int, count: int = 2**31 - 1) -> None:
    """Wake those who wait at `address`, in every process that maps the page."""
    _syscall(_FUTEX, ctypes.c_void_p(address), _WAKE, count, None, None, 0)


if MACHINE == "x86_64":

    def fence() -> None:
        """Order data before its flag. x86-64 keeps stores in order by itself."""

else:
    _syscall(_MEMBARRIER, _MEMBARRIER_REGISTER_GLOBAL_EXPEDITED, 0, 0)

    def fence() -> None:
        """Order data before its flag: a store from Python has no release order here, so every core passes a barrier."""
        _syscall(_MEMBARRIER, _MEMBARRIER_GLOBAL_EXPEDITED, 0, 0)


def address_of(memory: mmap.mmap) -> int:
    """Where a writable map lies in this process."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def populate(address: int, size_bytes: int, *, write: bool = True) -> bool:
    """Map the pages now, so that no first access is slow later. False where the kernel (before 5.14) cannot."""
    page = mmap.PAGESIZE
    begin = address // page * page
    advice = _MADV_POPULATE_WRITE if write else _MADV_POPULATE_READ
    length = ctypes.c_size_t(address + size_bytes - begin)
    return int(_libc.madvise(ctypes.c_void_p(begin), length, advice)) == 0


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that its exit status is not lost."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def die_with_parent() -> None:
    """Be killed when the thread that made this process ends. Whoever calls it looks whether it has ended before."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def keep_freed_memory() -> None:
    """Let malloc keep what is freed: gradients are freed and made anew each step, and fresh pages cost more than
    sums.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(m_mmap_threshold, 32 << 20)
        _libc.mallopt(m_trim_threshold, 2**31 - 1)
