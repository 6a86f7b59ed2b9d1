"""Performance monitoring, present only with ECAP.PMS.

Filters, counters and the two status words lie where offset registers say, so a register map cannot list them.
"""

from __future__ import annotations

from pagetables.bits import RO, RW, RW1C, RW1CS, Reserved
from pagetables.layouts.registers.faults import FaultEventAddress, FaultEventControl, FaultEventUpperAddress
from pagetables.layouts.registers.register import Register

__all__ = [
    "PerformanceCapability",
    "PerformanceConfigOffset",
    "PerformanceCounter",
    "PerformanceCounterCapability",
    "PerformanceCounterConfig",
    "PerformanceCounterEventCapability",
    "PerformanceCounterOffset",
    "PerformanceDomainFilter",
    "PerformanceEventCapability",
    "PerformanceFreezeOffset",
    "PerformanceFreezeStatus",
    "PerformanceInterruptAddress",
    "PerformanceInterruptControl",
    "PerformanceInterruptData",
    "PerformanceInterruptStatus",
    "PerformanceInterruptUpperAddress",
    "PerformanceOverflowOffset",
    "PerformanceOverflowStatus",
    "PerformancePasidFilter",
    "PerformanceRequesterFilter",
]


class PerformanceCapability(Register, name="PERFCAP", width=64, offset=0x300, reset=None):
    """Performance monitoring capability (rev >= 4.0)."""

    ncntr = RO(15, 0, "number of counters")
    cntrw = RO(22, 16, "counter width in bits")
    rsvd_23_23 = Reserved(23)
    neg = RO(28, 24, "number of event groups")
    rsvd_31_29 = Reserved(31, 29)
    filters = RO(36, 32, "b0 requester id, b1 domain, b2 PASID, b3 ATS, b4 page table")
    rsvd_49_37 = Reserved(49, 37)
    ios = RO(50, about="interrupt on overflow")
    rsvd_51_51 = Reserved(51)
    stride = RO(54, 52, "counter stride 2^(X+10) bytes")
    rsvd_63_55 = Reserved(63, 55)


class PerformanceConfigOffset(Register, name="PERFCFGOFF", width=32, offset=0x310, reset=None):
    """Offset of configuration blocks."""

    offset = RO(31, 0, "byte offset from the register base")


class PerformanceFreezeOffset(PerformanceConfigOffset, name="PERFFRZOFF", offset=0x314, reset=None):
    """Offset of freeze status."""


class PerformanceOverflowOffset(PerformanceConfigOffset, name="PERFOVFOFF", offset=0x318, reset=None):
    """Offset of overflow status."""


class PerformanceCounterOffset(PerformanceConfigOffset, name="PERFCNTROFF", offset=0x31C, reset=None):
    """Offset of counters."""


class PerformanceInterruptStatus(Register, name="PERFINTRSTS", width=32, offset=0x324):
    """Performance interrupt status."""

    pis = RW1CS(0, about="performance interrupt status")
    rsvd_31_1 = Reserved(31, 1)


class PerformanceInterruptControl(FaultEventControl, name="PERFINTRCTL", offset=0x328, reset=0x80000000):
    """Performance interrupt control."""


class PerformanceInterruptData(Register, name="PERFINTRDATA", width=32, offset=0x32C):
    """Performance interrupt data."""

    imd = RW(15, 0, "message data")
    rsvd_31_16 = Reserved(31, 16)


class PerformanceInterruptAddress(FaultEventAddress, name="PERFINTRADDR", offset=0x330):
    """Performance interrupt address."""


class PerformanceInterruptUpperAddress(FaultEventUpperAddress, name="PERFINTRUADDR", offset=0x334):
    """Performance interrupt upper address."""


class PerformanceEventCapability(
    Register, name="PERFEVNTCAP", width=64, offset=0x380, count=16, stride=0x8, reset=None
):
    """Event capability of group n."""

    es = RO(27, 0, "event bitmap of group n")
    rsvd_63_28 = Reserved(63, 28)


class PerformanceCounterConfig(
    Register, name="PERFCNTRCFG", width=64, offset=0x0, base="perfcfgoff", count=65535, stride=0x100
):
    """Counter n configuration; filters follow at +8+4*i (bit 31 enable)."""

    rsvd_0_0 = Reserved(0)
    int = RW(1, about="interrupt on overflow")
    rsvd_7_2 = Reserved(7, 2)
    egi = RW(11, 8, "event group index (field may be wider)")
    rsvd_31_12 = Reserved(31, 12)
    es = RW(59, 32, "event select bitmap")
    rsvd_63_60 = Reserved(63, 60)


class PerformanceCounterCapability(
    Register, name="PERFCNTRCAP", width=32, offset=0x80, base="perfcfgoff", count=65535, stride=0x100, reset=None
):
    """Counter n capability."""

    pcc = RO(0, about="counter has its own capability list")
    rsvd_7_1 = Reserved(7, 1)
    cw = RO(15, 8, "counter width")
    ios = RO(16, about="interrupt on overflow")
    rsvd_27_17 = Reserved(27, 17)
    egcnt = RO(31, 28, "number of PERFCNTREVCAP dwords")


class PerformanceCounterEventCapability(
    Register, name="PERFCNTREVCAP", width=32, offset=0x84, base="perfcfgoff", count=15, stride=0x4, reset=None
):
    """Counter n event capability j at +4*j."""

    es = RO(27, 0, "events")
    eg = RO(31, 28, "event group")


class PerformanceRequesterFilter(
    Register, name="PERFCNTRFILT0", width=32, offset=0x8, base="perfcfgoff", count=65535, stride=0x100
):
    """Counter n counts requests of one source-id only."""

    value = RW(15, 0, "source-id")
    rsvd_30_16 = Reserved(30, 16)
    en = RW(31, about="filter enabled")


class PerformanceDomainFilter(
    Register, name="PERFCNTRFILT1", width=32, offset=0xC, base="perfcfgoff", count=65535, stride=0x100
):
    """Counter n counts requests of one domain only."""

    value = RW(15, 0, "domain-id")
    rsvd_30_16 = Reserved(30, 16)
    en = RW(31, about="filter enabled")


class PerformancePasidFilter(
    Register, name="PERFCNTRFILT2", width=32, offset=0x10, base="perfcfgoff", count=65535, stride=0x100
):
    """Counter n counts requests with one PASID only."""

    value = RW(21, 0, "PASID")
    rsvd_30_22 = Reserved(30, 22)
    en = RW(31, about="filter enabled")


class PerformanceFreezeStatus(Register, name="PERFFRZSTS", width=64, base="perffrzoff"):
    """Which counters stand still."""

    frz = RO(63, 0, "bit n: counter n is frozen")


class PerformanceOverflowStatus(Register, name="PERFOVFSTS", width=64, base="perfovfoff"):
    """Which counters went past their width."""

    ovf = RW1C(63, 0, "bit n: counter n overflowed")


class PerformanceCounter(Register, name="PERFCNTR", width=64, base="perfcntroff", count=65535, stride=0x400):
    """Counter n."""

    value = RO(63, 0, "events counted, in the counter's width")
