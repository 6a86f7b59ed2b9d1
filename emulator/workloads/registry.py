"""The workloads by name."""

from __future__ import annotations

from typing import Final

from emulator.workloads import coherent, nic_rx, nic_tx, nvme, pressure, usb_storage
from emulator.workloads.workload import Workload

__all__ = ["WORKLOADS"]

WORKLOADS: Final[dict[str, Workload]] = {
    workload.name: workload
    for module in (nic_rx, nic_tx, nvme, usb_storage, coherent, pressure)
    for workload in module.WORKLOADS
}
