"""What can have happened: one verdict a fault, and what to look at next."""

from __future__ import annotations

import enum

__all__ = ["Verdict"]

_TRACE = "record a trace of iommu:* and dma:* from the boot on, and give it with --trace"
_DRIVER = "the driver of the device: where the address of this descriptor or ring entry comes from"


class Verdict(enum.Enum):
    """The verdicts. `explained` is False for those that leave open what happened; `next` are steps to take."""

    explained: bool
    next: tuple[str, ...]

    def __new__(cls, name: str, explained: bool, *steps: str) -> Verdict:
        member = object.__new__(cls)
        member._value_ = name
        member.explained = explained
        member.next = steps
        return member

    ALIAS_MISSING = (
        "alias-missing",
        True,
        "the operating system must give the alias a context entry that leads to the same tables as the device's "
        "(Linux 6.12 and 7.2 leave it out in scalable mode; booting with intel_iommu=on,sm_off sets it)",
        "lspci -t: which bridge the bus is behind, and whether it takes ownership of requests",
    )
    NOT_ATTACHED = (
        "not-attached",
        True,
        "whether a driver was bound to the device, and whether the operating system attached it to a domain",
        "lspci: whether the device exists, or is an alias or a phantom function of another one",
    )
    ATTACHED_NOW = (
        "attached-now",
        True,
        "what the device did before it was attached: it may still run what firmware or an earlier kernel set up",
        "whether the context-cache was invalidated when the entry was written (needed where CAP.CM=1)",
    )
    BEYOND_WIDTH = (
        "beyond-width",
        True,
        "the DMA mask of the driver, and whether the device extends addresses by their sign",
        _DRIVER,
    )
    ERROR_VALUE = (
        "error-value",
        True,
        "every dma_map_* of the driver: the result must be checked with dma_mapping_error before it is used",
        "why a mapping failed: the address space of the device, swiotlb, memory",
    )
    NULL_ADDRESS = (
        "null-address",
        True,
        "descriptors that were handed to the device before their address was filled in",
        "the device's state after a reset, and mappings whose failure was not checked",
    )
    STALE_CACHE = (
        "stale-cache",
        True,
        "the invalidation that should have followed the last change near this address: `vtd replay` names what misses",
        "paging-structure caches: a large page that replaced a table, or the other way round",
        "whether the device asked while the tables were being changed",
    )
    PERMISSION = (
        "permission",
        True,
        "the direction that the driver gave when it mapped: what a device writes is FROM_DEVICE or BIDIRECTIONAL",
        _DRIVER,
    )
    FREED = (
        "freed",
        True,
        "how the driver stops the device before it unmaps: a transfer still ran, or a ring entry was not cleared",
        "whether the mapping was freed too early, after a time-out or an error",
    )
    MAPPED_LATER = (
        "mapped-later",
        True,
        "the order in the driver: the device was told of the buffer before it was mapped",
    )
    PAST_END = (
        "past-end",
        True,
        "the length that the driver gives the device against the length that it mapped",
        "prefetching: devices that read ahead need a page more than their last buffer",
    )
    BEFORE_START = ("before-start", True, "the offset that the driver adds to the address it mapped, and its sign")
    TRUNCATED = (
        "truncated",
        True,
        "descriptor fields of 32 bits, and the DMA mask of the driver: the upper half of the address was lost",
    )
    PHYSICAL_ADDRESS = (
        "physical-address",
        True,
        "virt_to_phys and page_to_phys in the driver: a device must be given what dma_map_* returned",
    )
    OTHER_DEVICE = (
        "other-device",
        True,
        "whether the driver maps with the struct device that does the transfer: a parent, or another function",
        "functions that share a buffer: each must map it",
    )
    NEVER_MAPPED = (
        "never-mapped",
        True,
        _DRIVER,
        "whether the device still runs what firmware or an earlier kernel set up",
        "memory corruption in descriptors: whether the address is any known value",
    )
    NOT_MAPPED = ("not-mapped", True, _TRACE, _DRIVER)
    MAPPED_NOW = (
        "mapped-now",
        False,
        "whether the image was taken after the address was mapped anew: " + _TRACE,
        "the invalidation that should have followed the last change near this address",
    )
    BROKEN_TABLES = (
        "broken-tables",
        True,
        "what wrote the entry that decided: memory corruption, or software's mistake",
    )
    TABLES_DIFFER = (
        "tables-differ",
        False,
        "whether the image, the registers and the log are of the same machine and the same moment",
        "what changed the tables after the fault",
    )
    INTERRUPT_REFUSED = (
        "interrupt-refused",
        True,
        "/proc/interrupts, and whether the device still sends interrupts of a driver that is gone",
    )
    UNKNOWN = ("unknown", False, "give an image, or a trace that covers the time of the fault")
