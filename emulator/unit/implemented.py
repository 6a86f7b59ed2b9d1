"""Which registers of the map a profile implements, and which of their bits (VT-d, register map).

AFLOG (advanced fault logging, gone since revision 4.0) and the virtual command registers (no physical unit has them)
are never implemented: their offsets read 0.
"""

from __future__ import annotations

from collections.abc import Callable

from emulator.profile import Profile
from pagetables.layouts import registers as layouts
from pagetables.layouts.registers import Register, performance

__all__ = [
    "COUNTER_WIDTH",
    "ENHANCED_COMMANDS",
    "EVENT_GROUPS",
    "PERFORMANCE_OFFSETS",
    "PROTECTED_GRANULE",
    "copies_in",
    "missing_bits",
    "surplus_bits",
]

EVENT_GROUPS = (1 << 1, 1 << 6, 0xF, 0x3, 0x7)
"""Per event group, the events counted: requests; page requests; lookups and hits of context-cache and PASID-cache, of
the IOTLB, of the interrupt-entry cache."""

ENHANCED_COMMANDS = (0xF0, 0xF1, 0xF4, 0xF5)
"""Enable and disable a counter, freeze and unfreeze all: what a unit with performance monitoring accepts."""

COUNTER_WIDTH = 48
"""Bits of a performance counter."""

PERFORMANCE_OFFSETS = {"perfcfgoff": 0x500, "perffrzoff": 0x480, "perfovfoff": 0x488, "perfcntroff": 0x800}
"""Where the movable parts of performance monitoring lie, in bytes from the register base: two counters fit the page."""

PROTECTED_GRANULE = 2 << 20
"""Protected regions begin and end at multiples of this: software finds it by writing all ones."""

_Count = Callable[[Profile], int]


def _for(count: _Count, *registers: type[Register]) -> dict[type[Register], _Count]:
    return dict.fromkeys(registers, count)


# How many copies of a register a profile has; one of any that is not named here.
_COPIES: dict[type[Register], _Count] = {
    **_for(lambda profile: profile.capabilities.fault_records, layouts.FaultRecord),
    **_for(
        lambda profile: profile.capabilities.ecap.qi,
        layouts.InvalidationQueueHead,
        layouts.InvalidationQueueTail,
        layouts.InvalidationQueueAddress,
        layouts.InvalidationCompletionStatus,
        layouts.InvalidationEventControl,
        layouts.InvalidationEventData,
        layouts.InvalidationEventAddress,
        layouts.InvalidationEventUpperAddress,
        layouts.InvalidationQueueErrorRecord,
    ),
    **_for(
        lambda profile: profile.capabilities.ecap.prs,
        layouts.PageRequestQueueHead,
        layouts.PageRequestQueueTail,
        layouts.PageRequestQueueAddress,
        layouts.PageRequestStatus,
        layouts.PageRequestEventControl,
        layouts.PageRequestEventData,
        layouts.PageRequestEventAddress,
        layouts.PageRequestEventUpperAddress,
    ),
    **_for(  # from major version 6 on only the queue invalidates
        lambda profile: int(profile.version.maj < 6),
        layouts.ContextCommand,
        layouts.InvalidateAddress,
        layouts.IotlbCommand,
    ),
    **_for(
        lambda profile: int(bool(profile.capabilities.ecap.ir) or profile.behaves("latch_without_remapping")),
        layouts.InterruptRemappingTableAddress,
    ),
    **_for(
        lambda profile: profile.capabilities.cap.plmr | profile.capabilities.cap.phmr, layouts.ProtectedMemoryEnable
    ),
    **_for(
        lambda profile: profile.capabilities.cap.plmr, layouts.ProtectedLowMemoryBase, layouts.ProtectedLowMemoryLimit
    ),
    **_for(
        lambda profile: profile.capabilities.cap.phmr, layouts.ProtectedHighMemoryBase, layouts.ProtectedHighMemoryLimit
    ),
    **_for(
        lambda profile: profile.capabilities.ecap.mts,
        layouts.MtrrCapability,
        layouts.MtrrDefault,
        layouts.MtrrFix64K00000,
        layouts.MtrrFix16K80000,
        layouts.MtrrFix16KA0000,
        layouts.MtrrFix4KC0000,
        layouts.MtrrFix4KC8000,
        layouts.MtrrFix4KD0000,
        layouts.MtrrFix4KD8000,
        layouts.MtrrFix4KE0000,
        layouts.MtrrFix4KE8000,
        layouts.MtrrFix4KF0000,
        layouts.MtrrFix4KF8000,
    ),
    **_for(
        lambda profile: profile.capabilities.ecap.mts * layouts.MtrrPhysBase.copies,
        layouts.MtrrPhysBase,
        layouts.MtrrPhysMask,
    ),
    **_for(
        lambda profile: profile.capabilities.ecap.pms,
        layouts.PerformanceCapability,
        layouts.PerformanceConfigOffset,
        layouts.PerformanceFreezeOffset,
        layouts.PerformanceOverflowOffset,
        layouts.PerformanceCounterOffset,
        layouts.PerformanceInterruptStatus,
        layouts.PerformanceInterruptControl,
        layouts.PerformanceInterruptData,
        layouts.PerformanceInterruptAddress,
        layouts.PerformanceInterruptUpperAddress,
        performance.PerformanceFreezeStatus,
        performance.PerformanceOverflowStatus,
    ),
    **_for(lambda profile: profile.capabilities.ecap.pms * len(EVENT_GROUPS), layouts.PerformanceEventCapability),
    **_for(
        lambda profile: profile.capabilities.ecap.pms * profile.performance_counters,
        layouts.PerformanceCounterConfig,
        layouts.PerformanceCounterCapability,
        performance.PerformanceRequesterFilter,
        performance.PerformanceDomainFilter,
        performance.PerformancePasidFilter,
        performance.PerformanceCounter,
    ),
    **_for(
        lambda profile: profile.capabilities.cap.ecmds,
        layouts.EnhancedCommand,
        layouts.EnhancedCommandOperand,
        layouts.EnhancedCommandResponse,
        layouts.EnhancedCommandStatus,
    ),
    **_for(
        lambda profile: profile.capabilities.cap.ecmds * layouts.EnhancedCommandCapability.copies,
        layouts.EnhancedCommandCapability,
    ),
}
_UPPER_ADDRESSES = (
    layouts.FaultEventUpperAddress,
    layouts.InvalidationEventUpperAddress,
    layouts.PageRequestEventUpperAddress,
    layouts.PerformanceInterruptUpperAddress,
)
_POINTERS = (
    layouts.RootTableAddress,
    layouts.InvalidationQueueAddress,
    layouts.InterruptRemappingTableAddress,
    layouts.PageRequestQueueAddress,
    layouts.MtrrPhysBase,
    layouts.MtrrPhysMask,
)
_LATCHED = _POINTERS[:3]
_REGIONS = (
    layouts.ProtectedLowMemoryBase,
    layouts.ProtectedLowMemoryLimit,
    layouts.ProtectedHighMemoryBase,
    layouts.ProtectedHighMemoryLimit,
)


def copies_in(profile: Profile, layout: type[Register]) -> int:
    """How many copies of a register there are; 0 where a capability is missing."""
    count = _COPIES.get(layout)
    return 1 if count is None else count(profile)


def missing_bits(profile: Profile, layout: type[Register]) -> int:
    """Bits of pointers above the host address width, of message addresses without EIM, of errors without DT, and those
    below the granule of protected regions."""
    ecap = profile.capabilities.ecap
    beyond = ((1 << layout.width) - 1) & ~(profile.capabilities.address_limit - 1)
    if layout in _LATCHED and profile.behaves("wide_pointers"):
        beyond = 0
    if layout in _UPPER_ADDRESSES and (not ecap.eim or profile.behaves("no_upper_event_address")):
        return (1 << layout.width) - 1
    if layout is layouts.InterruptRemappingTableAddress and not (ecap.eim or profile.behaves("writable_eime")):
        return beyond | layouts.InterruptRemappingTableAddress.eime.mask
    if layout in _REGIONS:
        return beyond | PROTECTED_GRANULE - 1
    if layout is layouts.FaultStatus:
        status = layouts.FaultStatus
        legacy = status.afo.mask | status.apf.mask
        queue = 0 if ecap.qi else status.iqe.mask
        return legacy | queue | (0 if ecap.dt else status.ice.mask | status.ite.mask)
    return beyond if layout in _POINTERS else 0


def surplus_bits(profile: Profile, layout: type[Register]) -> int:
    """Reserved bits that a profile lets software write."""
    if layout is layouts.InvalidationEventData and profile.behaves("wide_completion_data"):
        return layout.reserved_mask
    return 0
