"""Memory type range registers, present only with ECAP.MTS."""

from __future__ import annotations

from pagetables.bits import RO, RW, Reserved
from pagetables.layouts.registers.register import Register

__all__ = [
    "MtrrCapability",
    "MtrrDefault",
    "MtrrFix16K80000",
    "MtrrFix16KA0000",
    "MtrrFix4KC0000",
    "MtrrFix4KC8000",
    "MtrrFix4KD0000",
    "MtrrFix4KD8000",
    "MtrrFix4KE0000",
    "MtrrFix4KE8000",
    "MtrrFix4KF0000",
    "MtrrFix4KF8000",
    "MtrrFix64K00000",
    "MtrrPhysBase",
    "MtrrPhysMask",
]


class MtrrCapability(Register, name="MTRRCAP", width=64, offset=0x100, reset=None):
    """MTRR capability (only if ECAP.MTS)."""

    vcnt = RO(7, 0, "variable range count")
    fix = RO(8, about="fixed ranges supported")
    rsvd_9_9 = Reserved(9)
    wc = RO(10, about="write-combining supported")
    rsvd_63_11 = Reserved(63, 11)


class MtrrDefault(Register, name="MTRRDEF", width=64, offset=0x108):
    """MTRR default type."""

    type = RW(7, 0, "default type")
    rsvd_9_8 = Reserved(9, 8)
    fe = RW(10, about="fixed range enable")
    e = RW(11, about="MTRR enable")
    rsvd_63_12 = Reserved(63, 12)


class MtrrFix64K00000(Register, name="MTRR_FIX64K_00000", width=64, offset=0x120):
    """Fixed-range MTRR."""

    r0 = RW(7, 0, "memory type of sub-range 0")
    r1 = RW(15, 8, "memory type of sub-range 1")
    r2 = RW(23, 16, "memory type of sub-range 2")
    r3 = RW(31, 24, "memory type of sub-range 3")
    r4 = RW(39, 32, "memory type of sub-range 4")
    r5 = RW(47, 40, "memory type of sub-range 5")
    r6 = RW(55, 48, "memory type of sub-range 6")
    r7 = RW(63, 56, "memory type of sub-range 7")


class MtrrFix16K80000(MtrrFix64K00000, name="MTRR_FIX16K_80000", offset=0x128):
    """Fixed-range MTRR."""


class MtrrFix16KA0000(MtrrFix64K00000, name="MTRR_FIX16K_A0000", offset=0x130):
    """Fixed-range MTRR."""


class MtrrFix4KC0000(MtrrFix64K00000, name="MTRR_FIX4K_C0000", offset=0x138):
    """Fixed-range MTRR."""


class MtrrFix4KC8000(MtrrFix64K00000, name="MTRR_FIX4K_C8000", offset=0x140):
    """Fixed-range MTRR."""


class MtrrFix4KD0000(MtrrFix64K00000, name="MTRR_FIX4K_D0000", offset=0x148):
    """Fixed-range MTRR."""


class MtrrFix4KD8000(MtrrFix64K00000, name="MTRR_FIX4K_D8000", offset=0x150):
    """Fixed-range MTRR."""


class MtrrFix4KE0000(MtrrFix64K00000, name="MTRR_FIX4K_E0000", offset=0x158):
    """Fixed-range MTRR."""


class MtrrFix4KE8000(MtrrFix64K00000, name="MTRR_FIX4K_E8000", offset=0x160):
    """Fixed-range MTRR."""


class MtrrFix4KF0000(MtrrFix64K00000, name="MTRR_FIX4K_F0000", offset=0x168):
    """Fixed-range MTRR."""


class MtrrFix4KF8000(MtrrFix64K00000, name="MTRR_FIX4K_F8000", offset=0x170):
    """Fixed-range MTRR."""


class MtrrPhysBase(Register, name="MTRR_PHYSBASE", width=64, offset=0x180, count=10, stride=0x10):
    """Variable MTRR base n (n=0..9)."""

    type = RW(7, 0, "memory type")
    rsvd_11_8 = Reserved(11, 8)
    base = RW(63, 12, "base; 63:HAW reserved", address=True)


class MtrrPhysMask(Register, name="MTRR_PHYSMASK", width=64, offset=0x188, count=10, stride=0x10):
    """Variable MTRR mask n (n=0..9)."""

    rsvd_10_0 = Reserved(10, 0)
    v = RW(11, about="valid")
    mask = RW(63, 12, "mask; 63:HAW reserved", address=True)
