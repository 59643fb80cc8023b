"""A stand-in for the module pynvml, since a machine of tests need not have a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


def an_nvml(samples: dict[int, Any], busy: int = 40, present: bool = True) -> Any:
    """A module like pynvml with one device per key of `samples`: samples, or the error that asking for them gives."""

    def init() -> None:
        if not present:
            raise NvmlError(12)

    def utilization(handle: int, _: int) -> Any:
        if isinstance(samples[handle], int):
            raise NvmlError(samples[handle])
        return [SimpleNamespace(pid=pid, smUtil=util, timeStamp=at) for pid, util, at in samples[handle]]

    return SimpleNamespace(
        NVMLError=NvmlError, NVML_SUCCESS=0, NVML_ERROR_NOT_FOUND=6,
        nvmlInit=init, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: len(samples),
        nvmlDeviceGetHandleByIndex=lambda index: index, nvmlDeviceGetName=lambda handle: b"NVIDIA H100",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=80 * 2**30),
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=busy),
        nvmlDeviceGetProcessUtilization=utilization,
    )  # fmt: skip
