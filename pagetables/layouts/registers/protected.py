"""Protected memory regions: ranges that DMA may not touch, for boot."""

from __future__ import annotations

from pagetables.bits import RO, RW, Reserved
from pagetables.layouts.registers.register import Register

__all__ = [
    "ProtectedHighMemoryBase",
    "ProtectedHighMemoryLimit",
    "ProtectedLowMemoryBase",
    "ProtectedLowMemoryLimit",
    "ProtectedMemoryEnable",
]


class ProtectedMemoryEnable(Register, name="PMEN", width=32, offset=0x64):
    """Protected memory enable; reserved if PLMR=PHMR=0."""

    prs = RO(0, about="protected region status")
    rsvd_30_1 = Reserved(30, 1, "reserved, preserved")
    epm = RW(31, about="enable protected memory")


class ProtectedLowMemoryBase(Register, name="PLMBASE", width=32, offset=0x68):
    """Protected low memory base."""

    plmb = RW(31, 0, "base; low N+1 bits read as 0")


class ProtectedLowMemoryLimit(Register, name="PLMLIMIT", width=32, offset=0x6C):
    """Protected low memory limit (inclusive)."""

    plml = RW(31, 0, "last byte address; low N+1 bits read as 0 and count as 1s")


class ProtectedHighMemoryBase(Register, name="PHMBASE", width=64, offset=0x70):
    """Protected high memory base."""

    phmb = RW(63, 0, "base; low N+1 bits read as 0; 63:HAW reserved")


class ProtectedHighMemoryLimit(Register, name="PHMLIMIT", width=64, offset=0x78):
    """Protected high memory limit (inclusive)."""

    phml = RW(63, 0, "last byte address; low N+1 bits read as 0 and count as 1s")
