"""The registers of a remapping unit, and which of them a profile implements (VT-d, register map)."""

from __future__ import annotations

from emulator.profile import Profile
from emulator.unit.register_file import Copies, RegisterFile, Slot
from pagetables.layouts import registers as layouts
from pagetables.layouts.registers import Register

__all__ = ["UnitRegisters"]

_QUEUE = (
    layouts.InvalidationQueueHead,
    layouts.InvalidationQueueTail,
    layouts.InvalidationQueueAddress,
    layouts.InvalidationCompletionStatus,
    layouts.InvalidationEventControl,
    layouts.InvalidationEventData,
    layouts.InvalidationEventAddress,
    layouts.InvalidationEventUpperAddress,
    layouts.InvalidationQueueErrorRecord,
)
_PAGE_REQUESTS = (
    layouts.PageRequestQueueHead,
    layouts.PageRequestQueueTail,
    layouts.PageRequestQueueAddress,
    layouts.PageRequestStatus,
    layouts.PageRequestEventControl,
    layouts.PageRequestEventData,
    layouts.PageRequestEventAddress,
    layouts.PageRequestEventUpperAddress,
)
_COMMANDS = (layouts.ContextCommand, layouts.InvalidateAddress, layouts.IotlbCommand)
_UPPER_ADDRESSES = (
    layouts.FaultEventUpperAddress,
    layouts.InvalidationEventUpperAddress,
    layouts.PageRequestEventUpperAddress,
)
_POINTERS = (
    layouts.RootTableAddress,
    layouts.InvalidationQueueAddress,
    layouts.InterruptRemappingTableAddress,
    layouts.PageRequestQueueAddress,
)


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
    iva = Slot(layouts.InvalidateAddress)
    iotlb_command = Slot(layouts.IotlbCommand)
    frcd = Copies(layouts.FaultRecord)

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        self.capabilities = profile.capabilities
        cap, ecap = self.capabilities.cap, self.capabilities.ecap
        self.place({"iro": ecap.iro * 16, "fro": cap.fro * 16})
        self.power_on()

    def power_on(self, warm: bool = False) -> None:
        """Every register at its reset value, the constants as the profile has them."""
        super().power_on(warm)
        self.ver = self.profile.version
        self.cap = self.capabilities.cap
        self.ecap = self.capabilities.ecap

    def implemented(self, layout: type[Register]) -> int:
        """How many copies there are; 0 where a capability is missing."""
        cap, ecap = self.capabilities.cap, self.capabilities.ecap
        if layout is layouts.FaultRecord:
            return cap.nfr + 1
        if layout in _QUEUE:
            return ecap.qi
        if layout in _PAGE_REQUESTS:
            return ecap.prs
        if layout in _COMMANDS:  # from major version 6 on only the queue invalidates
            return int(self.profile.version.maj < 6)
        if layout is layouts.InterruptRemappingTableAddress:
            return ecap.ir
        return 1

    def unimplemented(self, layout: type[Register]) -> int:
        """Bits of pointers above the host address width, of message addresses without EIM, of errors without DT."""
        ecap = self.capabilities.ecap
        beyond = ((1 << layout.width) - 1) & ~(self.capabilities.address_limit - 1)
        if layout in _UPPER_ADDRESSES and not ecap.eim:
            return (1 << layout.width) - 1
        if layout is layouts.InterruptRemappingTableAddress and not ecap.eim:
            return beyond | layouts.InterruptRemappingTableAddress.eime.mask
        if layout is layouts.FaultStatus:
            status = layouts.FaultStatus
            legacy = status.afo.mask | status.apf.mask
            queue = 0 if ecap.qi else status.iqe.mask
            return legacy | queue | (0 if ecap.dt else status.ice.mask | status.ite.mask)
        return beyond if layout in _POINTERS else 0
