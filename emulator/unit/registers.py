"""The registers of a remapping unit, and which of them a profile implements (VT-d, register map)."""

from __future__ import annotations

from emulator.profile import Profile
from emulator.unit.implemented import (
    COUNTER_WIDTH,
    ENHANCED_COMMANDS,
    EVENT_GROUPS,
    PERFORMANCE_OFFSETS,
    copies_in,
    missing_bits,
    surplus_bits,
)
from emulator.unit.register_file import Copies, RegisterFile, Slot
from pagetables.layouts import registers as layouts
from pagetables.layouts.registers import Register, performance

__all__ = ["UnitRegisters"]


class UnitRegisters(RegisterFile):
    """The register page of a unit of this profile, at its power-on values."""

    ver = Slot(layouts.Version)
    cap = Slot(layouts.Capability)
    ecap = Slot(layouts.ExtendedCapability)
    gcmd = Slot(layouts.GlobalCommand)
    gsts = Slot(layouts.GlobalStatus)
    rtaddr = Slot(layouts.RootTableAddress)
    ccmd = Slot(layouts.ContextCommand)
    fsts = Slot(layouts.FaultStatus)
    fectl = Slot(layouts.FaultEventControl)
    fedata = Slot(layouts.FaultEventData)
    feaddr = Slot(layouts.FaultEventAddress)
    feuaddr = Slot(layouts.FaultEventUpperAddress)
    pmen = Slot(layouts.ProtectedMemoryEnable)
    plmbase = Slot(layouts.ProtectedLowMemoryBase)
    plmlimit = Slot(layouts.ProtectedLowMemoryLimit)
    phmbase = Slot(layouts.ProtectedHighMemoryBase)
    phmlimit = Slot(layouts.ProtectedHighMemoryLimit)
    iqh = Slot(layouts.InvalidationQueueHead)
    iqt = Slot(layouts.InvalidationQueueTail)
    iqa = Slot(layouts.InvalidationQueueAddress)
    ics = Slot(layouts.InvalidationCompletionStatus)
    iectl = Slot(layouts.InvalidationEventControl)
    iedata = Slot(layouts.InvalidationEventData)
    ieaddr = Slot(layouts.InvalidationEventAddress)
    ieuaddr = Slot(layouts.InvalidationEventUpperAddress)
    iqercd = Slot(layouts.InvalidationQueueErrorRecord)
    irta = Slot(layouts.InterruptRemappingTableAddress)
    pqh = Slot(layouts.PageRequestQueueHead)
    pqt = Slot(layouts.PageRequestQueueTail)
    pqa = Slot(layouts.PageRequestQueueAddress)
    prs = Slot(layouts.PageRequestStatus)
    pectl = Slot(layouts.PageRequestEventControl)
    pedata = Slot(layouts.PageRequestEventData)
    peaddr = Slot(layouts.PageRequestEventAddress)
    peuaddr = Slot(layouts.PageRequestEventUpperAddress)
    mtrrcap = Slot(layouts.MtrrCapability)
    mtrrdef = Slot(layouts.MtrrDefault)
    mtrr_fix64k_00000 = Slot(layouts.MtrrFix64K00000)
    mtrr_fix16k_80000 = Slot(layouts.MtrrFix16K80000)
    mtrr_fix16k_a0000 = Slot(layouts.MtrrFix16KA0000)
    mtrr_fix4k_c0000 = Slot(layouts.MtrrFix4KC0000)
    mtrr_fix4k_c8000 = Slot(layouts.MtrrFix4KC8000)
    mtrr_fix4k_d0000 = Slot(layouts.MtrrFix4KD0000)
    mtrr_fix4k_d8000 = Slot(layouts.MtrrFix4KD8000)
    mtrr_fix4k_e0000 = Slot(layouts.MtrrFix4KE0000)
    mtrr_fix4k_e8000 = Slot(layouts.MtrrFix4KE8000)
    mtrr_fix4k_f0000 = Slot(layouts.MtrrFix4KF0000)
    mtrr_fix4k_f8000 = Slot(layouts.MtrrFix4KF8000)
    mtrr_physbase = Copies(layouts.MtrrPhysBase)
    mtrr_physmask = Copies(layouts.MtrrPhysMask)
    perfcap = Slot(layouts.PerformanceCapability)
    perfcfgoff = Slot(layouts.PerformanceConfigOffset)
    perffrzoff = Slot(layouts.PerformanceFreezeOffset)
    perfovfoff = Slot(layouts.PerformanceOverflowOffset)
    perfcntroff = Slot(layouts.PerformanceCounterOffset)
    perfintrsts = Slot(layouts.PerformanceInterruptStatus)
    perfintrctl = Slot(layouts.PerformanceInterruptControl)
    perfintrdata = Slot(layouts.PerformanceInterruptData)
    perfintraddr = Slot(layouts.PerformanceInterruptAddress)
    perfintruaddr = Slot(layouts.PerformanceInterruptUpperAddress)
    perfevntcap = Copies(layouts.PerformanceEventCapability)
    perfcntrcfg = Copies(layouts.PerformanceCounterConfig)
    perfcntrcap = Copies(layouts.PerformanceCounterCapability)
    perfcntrfilt0 = Copies(performance.PerformanceRequesterFilter)
    perfcntrfilt1 = Copies(performance.PerformanceDomainFilter)
    perfcntrfilt2 = Copies(performance.PerformancePasidFilter)
    perffrzsts = Slot(performance.PerformanceFreezeStatus)
    perfovfsts = Slot(performance.PerformanceOverflowStatus)
    perfcntr = Copies(performance.PerformanceCounter)
    ecmd = Slot(layouts.EnhancedCommand)
    eceo = Slot(layouts.EnhancedCommandOperand)
    ecrsp = Slot(layouts.EnhancedCommandResponse)
    ecsts = Slot(layouts.EnhancedCommandStatus)
    eccap = Copies(layouts.EnhancedCommandCapability)
    iva = Slot(layouts.InvalidateAddress)
    iotlb_command = Slot(layouts.IotlbCommand)
    frcd = Copies(layouts.FaultRecord)

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        self.capabilities = profile.capabilities
        cap, ecap = self.capabilities.cap, self.capabilities.ecap
        self.place({"iro": ecap.iro * 16, "fro": cap.fro * 16, **PERFORMANCE_OFFSETS})
        self.power_on()

    def power_on(self, warm: bool = False) -> None:
        """Every register at its reset value, the constants as the profile has them."""
        super().power_on(warm)
        self.ver = self.profile.version
        self.cap = self.capabilities.cap
        self.ecap = self.capabilities.ecap
        if self.profile.behaves("unmasked_page_request_event"):
            self.pectl = layouts.PageRequestEventControl(0)
        self.mtrrcap = layouts.MtrrCapability.of(vcnt=layouts.MtrrPhysBase.copies, fix=1, wc=1)
        self._describe_performance()

    def _describe_performance(self) -> None:
        self.perfcap = layouts.PerformanceCapability.of(
            ncntr=self.profile.performance_counters,
            cntrw=COUNTER_WIDTH,
            neg=len(EVENT_GROUPS),
            filters=0b111,  # requester, domain, PASID
            ios=1,
        )
        self.perfcfgoff = layouts.PerformanceConfigOffset(PERFORMANCE_OFFSETS["perfcfgoff"])
        self.perffrzoff = layouts.PerformanceFreezeOffset(PERFORMANCE_OFFSETS["perffrzoff"])
        self.perfovfoff = layouts.PerformanceOverflowOffset(PERFORMANCE_OFFSETS["perfovfoff"])
        self.perfcntroff = layouts.PerformanceCounterOffset(PERFORMANCE_OFFSETS["perfcntroff"])
        for command in ENHANCED_COMMANDS if self.ecap.pms else ():
            bits = self.eccap[command // 64]
            self.eccap[command // 64] = bits.replace(cmds=bits.cmds | 1 << command % 64)
        for group in range(len(self.perfevntcap)):
            self.perfevntcap[group] = layouts.PerformanceEventCapability(EVENT_GROUPS[group])
        for counter in range(len(self.perfcntrcap)):
            self.perfcntrcap[counter] = layouts.PerformanceCounterCapability.of(cw=COUNTER_WIDTH, ios=1)

    def implemented(self, layout: type[Register]) -> int:
        """How many copies there are; 0 where a capability is missing."""
        return copies_in(self.profile, layout)

    def unimplemented(self, layout: type[Register]) -> int:
        """Bits that read 0 and ignore writes in this profile."""
        return missing_bits(self.profile, layout)

    def surplus(self, layout: type[Register]) -> int:
        """Reserved bits that can be written in this profile."""
        return surplus_bits(self.profile, layout)
