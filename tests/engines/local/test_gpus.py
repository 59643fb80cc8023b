"""What NVML says, by a stand-in for its module (this machine need not have a GPU), and by the real one where it is."""

from __future__ import annotations

import pytest

from engines.local.doubles import an_nvml
from springtide.engines.local import gpus


def test_devices_are_told_with_model_and_memory() -> None:
    assert gpus.devices(an_nvml({0: [], 1: []}))[1] == gpus.Gpu(1, "NVIDIA H100", 80 * 2**30)


def test_without_a_driver_there_are_no_devices() -> None:
    assert gpus.devices(an_nvml({0: []}, present=False)) == ()


def test_use_is_that_of_the_job_s_own_processes() -> None:
    driver = gpus.connect(an_nvml({0: [(11, 50, 1), (11, 70, 2), (12, 20, 2)]}))
    assert driver is not None
    busy = driver.busy()
    assert busy.of([0], 0.5, [11, 99]) == pytest.approx(0.6)
    assert busy.of([0], 0.5, [12]) == pytest.approx(0.2)


def test_nobody_computing_is_no_use() -> None:
    driver = gpus.connect(an_nvml({0: 6}, busy=40))
    assert driver is not None
    assert driver.busy().of([0], 1.0, [11]) == 0.0


def test_where_the_driver_does_not_tell_by_process_a_share_counts_as_part_of_the_device() -> None:
    driver = gpus.connect(an_nvml({0: 3}, busy=40))
    assert driver is not None
    assert driver.busy().of([0], 0.5, [11]) == pytest.approx(0.2)


def test_a_process_is_told_its_devices_in_the_pool_s_order() -> None:
    assert gpus.visible((2, 3)) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2,3"}
    assert gpus.visible(())["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.cuda
def test_the_real_driver_tells_its_devices() -> None:
    found = gpus.devices()
    if not found:
        pytest.skip("no NVIDIA GPU here")
    assert found[0].memory_bytes > 2**30
    driver = gpus.connect()
    assert driver is not None
    assert 0.0 <= driver.busy().whole[0] <= 1.0
    driver.close()
