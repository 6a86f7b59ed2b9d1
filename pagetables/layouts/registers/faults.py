"""Fault status, fault event, advanced fault log and fault recording registers."""

from __future__ import annotations

from pagetables.bits import RO, ROS, RW, RW1CS, Reserved
from pagetables.fault import FaultReason
from pagetables.layouts.registers.register import Register

__all__ = [
    "AdvancedFaultLog",
    "FaultEventAddress",
    "FaultEventControl",
    "FaultEventData",
    "FaultEventUpperAddress",
    "FaultRecord",
    "FaultStatus",
]


class FaultStatus(Register, name="FSTS", width=32, offset=0x34):
    """Fault status."""

    pfo = RW1CS(0, about="primary fault overflow")
    ppf = ROS(1, about="OR of all FRCD[n].F")
    afo = RW1CS(2, about="legacy, reserved in rev 4.x")
    apf = RW1CS(3, about="legacy, reserved in rev 4.x")
    iqe = RW1CS(4, about="invalidation queue error (reserved without ECAP.QI)")
    ice = RW1CS(5, about="invalidation completion error (reserved without ECAP.DT)")
    ite = RW1CS(6, about="device-TLB invalidation time-out (reserved without ECAP.DT)")
    dep7 = RO(7, about="deprecated (was PRO; moved to PRS)")
    fri = ROS(15, 8, "index of the record that set PPF; valid while PPF=1, not advanced when that record is cleared")
    rsvd_31_16 = Reserved(31, 16)


class FaultEventControl(Register, name="FECTL", width=32, offset=0x38, reset=0x80000000):
    """Fault event control; bits 29:0 read 0 whatever software writes there."""

    rsvd_29_0 = Reserved(29, 0)
    ip = RO(30, about="interrupt pending while masked")
    im = RW(31, about="mask; resets to 1")


class FaultEventData(Register, name="FEDATA", width=32, offset=0x3C):
    """Fault event data."""

    vec = RW(7, 0, "message data bits 7:0 (vector)")
    dlm = RW(8, about="message data bit 8 (delivery mode: 0 fixed, 1 lowest priority)")
    imd_hi = RW(15, 9, "message data bits 15:9; should be 0")
    rsvd_31_16 = Reserved(31, 16, "reserved (was EIMD)")


class FaultEventAddress(Register, name="FEADDR", width=32, offset=0x40):
    """Fault event address."""

    rsvd_1_0 = Reserved(1, 0)
    ma = RW(31, 2, "message address 31:2", address=True)


class FaultEventUpperAddress(Register, name="FEUADDR", width=32, offset=0x44):
    """Fault event upper address."""

    mua = RW(31, 0, "message address 63:32 (bits 31:8 carry APIC id 31:8); reserved-zero if ECAP.EIM=0")


class AdvancedFaultLog(Register, name="AFLOG", width=64, offset=0x58):
    """Advanced fault log; reads 0 when absent."""

    rsvd_8_0 = Reserved(8, 0)
    fls = RW(11, 9, "fault log size = 2^X pages")
    fla = RW(63, 12, "fault log page", address=True)


class FaultRecord(Register, name="FRCD", width=128, offset=0x0, base="fro", count=256, stride=0x10):
    """Fault recording register n (n=0..NFR). Type and address type mean something for DMA faults only."""

    rsvd_11_0 = Reserved(11, 0)
    fi = ROS(63, 12, "fault info: address bits 63:12 (63:MGAW read 0), or interrupt index in 63:48", address=True)
    sid = ROS(79, 64, "source id")
    rsvd_91_80 = Reserved(91, 80)
    t2 = ROS(92, about="type bit 2")
    priv = ROS(93, about="privileged mode requested")
    exe = ROS(94, about="execute requested")
    pp = ROS(95, about="PASID present")
    fr = ROS(103, 96, "fault reason", values=FaultReason)
    pv = ROS(123, 104, "PASID value")
    at = ROS(125, 124, "address type of the request (0 without ECAP.DT)")
    t1 = ROS(126, about="type bit 1")
    f = RW1CS(127, about="record valid")
