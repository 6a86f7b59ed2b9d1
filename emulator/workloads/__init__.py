"""Synthetic traces with the shapes of real drivers: ring sizes, buffer sizes, lifetimes, batches, CPUs and classes.

stream      one queue of one device: maps and unmaps in time, without a loop over events
workload    several streams merged, attached devices and coherent rings before them, as columns in pieces
nic_rx, nic_tx, nvme, usb_storage, coherent, pressure    one workload a file, with where its numbers come from
"""

from emulator.workloads.registry import WORKLOADS
from emulator.workloads.workload import Workload, generate

__all__ = ["WORKLOADS", "Workload", "generate"]
