"""Enhanced and virtual command interfaces as registers."""

from __future__ import annotations

from pagetables.bits import RO, RW, Reserved
from pagetables.layouts.registers.register import Register

__all__ = [
    "EnhancedCommand",
    "EnhancedCommandCapability",
    "EnhancedCommandOperand",
    "EnhancedCommandResponse",
    "EnhancedCommandStatus",
    "VirtualCommand",
    "VirtualCommandCapability",
    "VirtualCommandOperand",
    "VirtualCommandResponse",
]


class EnhancedCommand(Register, name="ECMD", width=64, offset=0x400):
    """Enhanced command; a write starts it (ignored while ECRSP.IP=1)."""

    cmd = RW(7, 0, "command")
    rsvd_15_8 = Reserved(15, 8)
    oa = RW(63, 16, "operand A")


class EnhancedCommandOperand(Register, name="ECEO", width=64, offset=0x408):
    """Enhanced command extended operand."""

    ob = RW(63, 0, "operand B; write before ECMD")


class EnhancedCommandResponse(Register, name="ECRSP", width=64, offset=0x410):
    """Enhanced command response."""

    ip = RO(0, about="in progress")
    sc = RO(7, 1, "status code, 0 = success")
    rslt = RO(63, 8, "result")


class EnhancedCommandStatus(Register, name="ECSTS", width=64, offset=0x420):
    """Enhanced command status."""

    sts = RO(63, 0, "content not known from open sources")


class EnhancedCommandCapability(Register, name="ECCAP", width=64, offset=0x430, count=4, stride=0x8, reset=None):
    """Enhanced command capability k=0..3."""

    cmds = RO(63, 0, "bit i of ECCAP[k]: command 64*k+i supported")


class VirtualCommand(Register, name="VCMD", width=64, offset=0xE00):
    """Virtual command (rev >= 3.3; emulators only)."""

    cmd = RW(7, 0, "1 allocate PASID, 2 free PASID")
    op = RW(63, 8, "operand")


class VirtualCommandOperand(Register, name="VCMD_EO", width=64, offset=0xE08):
    """Virtual command extended operand."""

    ob = RW(63, 0, "operand B")


class VirtualCommandResponse(Register, name="VCRSP", width=64, offset=0xE10):
    """Virtual command response."""

    ip = RO(0, about="in progress")
    sc = RO(2, 1, "status code (older Linux read bits 7:1)")
    rsvd_7_3 = Reserved(7, 3)
    rslt = RO(63, 8, "result")


class VirtualCommandCapability(Register, name="VCCAP", width=64, offset=0xE30):
    """Virtual command capability."""

    pas = RO(0, about="PASID allocation supported")
    rsvd_63_1 = Reserved(63, 1)
