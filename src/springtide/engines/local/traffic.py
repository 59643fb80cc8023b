"""Network bytes of a control group, counted by a program of twelve instructions that the kernel runs for each packet.

The kernel keeps no such count itself. The program is attached to a group of the unified tree, which a machine of v1
usually has mounted too, stays there until the group is removed, and is found there again by whoever comes later.
Source: bpf(2); linux/bpf.h; systemd counts IPAccounting= alike.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from contextlib import suppress
from pathlib import Path

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_ATTRIBUTES_BYTES = 144
_MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD, _PROG_ATTACH = 0, 1, 5, 8
_PROG_BY_ID, _MAP_BY_ID, _INFO_BY_FD, _PROG_QUERY = 13, 14, 15, 16
_ARRAY, _CGROUP_SKB, _INGRESS, _EGRESS, _ALLOW_MULTI = 2, 8, 0, 1, 2
_NAME = b"tide_traffic"
# Of struct bpf_prog_info: where the number of maps, the pointer to their ids, and the program's name are.
_INFO_BYTES, _INFO_MAPS, _INFO_NAME = 232, 52, 64
_MOST_PROGRAMS = 64


def counter(group: Path) -> int | None:
    """The id of the group's count, which begins now if it had none; None: the kernel does not let us count.

    Of the group, and of all below it; what passes between two groups of one machine counts for both.
    """
    try:
        folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _attached(folder) or _attach(folder)
    except (OSError, KeyError, AttributeError):
        return None
    finally:
        os.close(folder)


def network_bytes(count: int) -> int:
    """What was sent and received so far, headers included; 0 once the group is gone."""
    key, value = ctypes.c_uint32(0), ctypes.c_uint64(0)
    try:
        descriptor = _bpf(_MAP_BY_ID, struct.pack("<I", count))
    except OSError:
        return 0
    try:
        _bpf(_MAP_LOOKUP, struct.pack("<IIQQ", descriptor, 0, ctypes.addressof(key), ctypes.addressof(value)))
    finally:
        os.close(descriptor)
    return value.value


def _attach(folder: int) -> int:
    table = _bpf(_MAP_CREATE, struct.pack("<IIIII", _ARRAY, 4, 8, 1, 0))
    program = None
    try:
        program = _load(table)
        for direction in (_INGRESS, _EGRESS):
            _bpf(_PROG_ATTACH, struct.pack("<IIII", folder, program, direction, _ALLOW_MULTI))
        return _map_of(program) or 0
    finally:
        for descriptor in (table, program):
            if descriptor is not None:
                os.close(descriptor)


def _load(table: int) -> int:
    code = b"".join(
        struct.pack("<BBhi", operation, source << 4 | target, offset, value)
        for operation, target, source, offset, value in (
            (0xBF, 6, 1, 0, 0),  # r6 = packet
            (0x62, 10, 0, -4, 0),  # key = 0
            (0xBF, 2, 10, 0, 0),
            (0x07, 2, 0, 0, -4),  # r2 = &key
            (0x18, 1, 1, 0, table),
            (0x00, 0, 0, 0, 0),  # r1 = table
            (0x85, 0, 0, 0, 1),  # r0 = lookup(r1, r2)
            (0x15, 0, 0, 2, 0),  # if there is none, pass
            (0x61, 1, 6, 0, 0),  # r1 = packet->len
            (0xDB, 0, 1, 0, 0),  # atomic *r0 += r1
            (0xB7, 0, 0, 0, 1),
            (0x95, 0, 0, 0, 0),  # let the packet pass
        )
    )
    text, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    return _bpf(
        _PROG_LOAD,
        struct.pack(
            "<IIQQIIQII16s", _CGROUP_SKB, len(code) // 8, ctypes.addressof(text), ctypes.addressof(licence),
            0, 0, 0, 0, 0, _NAME,
        ),
    )  # fmt: skip


def _attached(folder: int) -> int | None:
    """The table of our program that is attached to the group already."""
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    query = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    struct.pack_into("<IIIIQI", query, 0, folder, _INGRESS, 0, 0, ctypes.addressof(ids), _MOST_PROGRAMS)
    _call(_PROG_QUERY, query)
    for number in ids[: struct.unpack_from("<I", query, 24)[0]]:
        with suppress(FileNotFoundError):
            program = _bpf(_PROG_BY_ID, struct.pack("<I", number))
            try:
                if (table := _map_of(program)) is not None:
                    return table
            finally:
                os.close(program)
    return None


def _map_of(program: int) -> int | None:
    """The id of the table that a program of our name counts in; None: it is somebody else's."""
    maps = (ctypes.c_uint32 * 8)()
    info = ctypes.create_string_buffer(_INFO_BYTES)
    struct.pack_into("<IQ", info, _INFO_MAPS, len(maps), ctypes.addressof(maps))
    _bpf(_INFO_BY_FD, struct.pack("<IIQ", program, _INFO_BYTES, ctypes.addressof(info)))
    name = info.raw[_INFO_NAME : _INFO_NAME + 16].rstrip(b"\0")
    return int(maps[0]) if name == _NAME else None


def _bpf(command: int, attributes: bytes) -> int:
    return _call(command, ctypes.create_string_buffer(attributes, _ATTRIBUTES_BYTES))


def _call(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    result: int = _libc.syscall(_SYSCALL[platform.machine()], command, attributes, _ATTRIBUTES_BYTES)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


_libc = ctypes.CDLL(None, use_errno=True)
