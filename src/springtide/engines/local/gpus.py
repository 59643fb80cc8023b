"""GPUs of this machine as NVML tells of them; none where its library is not there."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from springtide.train import hardware


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device; `index` counts in the order of the bus."""

    index: int
    model: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Busy:
    """How much of late each device computed, 0 to 1, and for whom, where the driver tells it by process."""

    whole: Mapping[int, float] = field(default_factory=dict)  # device -> share of the time
    processes: Mapping[int, Mapping[int, float]] = field(default_factory=dict)  # device -> pid -> share of the time

    def of(self, devices: Iterable[int], share: float, pids: Iterable[int]) -> float:
        """The devices' worth that one job used: by its processes where that is known, else its share of each."""
        mine = set(pids)
        used = 0.0
        for device in devices:
            if device in self.processes:
                used += sum(busy for pid, busy in self.processes[device].items() if pid in mine)
            else:
                used += share * self.whole.get(device, 0.0)
        return used


class Nvml:
    """An open connection to the driver."""

    def __init__(self, module: ModuleType | Any, handles: Sequence[Any]) -> None:
        self._module, self._handles = module, handles
        self._seen_us: dict[int, int] = defaultdict(int)

    def devices(self) -> tuple[Gpu, ...]:
        """By index."""
        found = []
        for index, handle in enumerate(self._handles):
            name = self._module.nvmlDeviceGetName(handle)
            memory = int(self._module.nvmlDeviceGetMemoryInfo(handle).total)
            found.append(Gpu(index, name.decode() if isinstance(name, bytes) else str(name), memory))
        return tuple(found)

    def busy(self) -> Busy:
        """Since the last call, as far as the driver keeps samples (some seconds)."""
        whole, processes = {}, {}
        for index, handle in enumerate(self._handles):
            try:
                whole[index] = self._module.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            except self._module.NVMLError:
                whole[index] = 0.0
            by_process = self._by_process(index, handle)
            if by_process is not None:
                processes[index] = by_process
        return Busy(whole, processes)

    def _by_process(self, index: int, handle: Any) -> Mapping[int, float] | None:
        try:
            samples = self._module.nvmlDeviceGetProcessUtilization(handle, self._seen_us[index])
        except self._module.NVMLError as error:
            # No samples means that nobody computed; anything else, that this driver does not tell it by process.
            nobody = (self._module.NVML_SUCCESS, self._module.NVML_ERROR_NOT_FOUND)
            return {} if error.value in nobody else None
        found: dict[int, list[float]] = defaultdict(list)
        for sample in samples:
            found[int(sample.pid)].append(min(100, int(sample.smUtil)) / 100)
            self._seen_us[index] = max(self._seen_us[index], int(sample.timeStamp))
        return {pid: sum(shares) / len(shares) for pid, shares in found.items()}

    def close(self) -> None:
        """The driver is let go."""
        self._module.nvmlShutdown()


def connect(module: ModuleType | Any | None = None) -> Nvml | None:
    """The driver; None: no NVIDIA driver or no library here."""
    nvml = module or _library()
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
        return Nvml(nvml, [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)])
    except nvml.NVMLError:
        return None


def _library() -> Any | None:
    # Loading it costs 30 ms, which a machine without GPUs need not pay.
    if not hardware.gpus():
        return None
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def devices(module: ModuleType | Any | None = None) -> tuple[Gpu, ...]:
    """What there is, by index."""
    driver = connect(module)
    if driver is None:
        return ()
    try:
        return driver.devices()
    finally:
        driver.close()


def visible(indices: Sequence[int]) -> dict[str, str]:
    """What a process is told of the devices that it may use; none at all where `indices` is empty."""
    # CUDA by itself counts the fastest first; NVML, and so the pool, by the bus.
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, indices))}
