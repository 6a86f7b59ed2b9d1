"""Invalidation queue, interrupt remapping table and page request queue (facts: 1.2, 7.4, 9, 10)."""

from __future__ import annotations

from pagetables.bits import RO, ROS, RW, RW1CS, Reserved
from pagetables.layouts.registers.faults import FaultEventAddress, FaultEventControl, FaultEventData, FaultEventUpperAddress
from pagetables.layouts.registers.register import Register

__all__ = ["InterruptRemappingTableAddress", "InvalidationCompletionStatus", "InvalidationEventAddress", "InvalidationEventControl", "InvalidationEventData", "InvalidationEventUpperAddress", "InvalidationQueueAddress", "InvalidationQueueErrorRecord", "InvalidationQueueHead", "InvalidationQueueTail", "PageRequestEventAddress", "PageRequestEventControl", "PageRequestEventData", "PageRequestEventUpperAddress", "PageRequestQueueAddress", "PageRequestQueueHead", "PageRequestQueueTail", "PageRequestStatus"]


class InvalidationQueueHead(Register, name="IQH", width=64, offset=0x80):
    """Invalidation queue head; 0 whenever QIES=0."""

    rsvd_3_0 = Reserved(3, 0)
    qh = RO(18, 4, "byte offset/16 of next descriptor to fetch; bit 4 is 0 when IQA.DW=1")
    rsvd_63_19 = Reserved(63, 19)


class InvalidationQueueTail(Register, name="IQT", width=64, offset=0x88):
    """Invalidation queue tail."""

    rsvd_3_0 = Reserved(3, 0)
    qt = RW(18, 4, "byte offset/16 of next free slot; bit 4 must be 0 when IQA.DW=1")
    rsvd_63_19 = Reserved(63, 19)


class InvalidationQueueAddress(Register, name="IQA", width=64, offset=0x90):
    """Invalidation queue address."""

    qs = RW(2, 0, "queue is 2^QS pages of 4 KiB")
    rsvd_10_3 = Reserved(10, 3)
    dw = RW(11, 11, "0: 128-bit, 1: 256-bit descriptors")
    iqa = RW(63, 12, "queue page; 63:HAW reserved")


class InvalidationCompletionStatus(Register, name="ICS", width=32, offset=0x9c):
    """Invalidation completion status."""

    iwc = RW1CS(0, 0, "wait descriptor with IF=1 completed")
    rsvd_31_1 = Reserved(31, 1)


class InvalidationEventControl(FaultEventControl, name="IECTL", width=32, offset=0xa0, reset=0x80000000):
    """Invalidation completion event control; bits 29:0 are read-modify-write preserved."""


class InvalidationEventData(FaultEventData, name="IEDATA", width=32, offset=0xa4):
    """Invalidation completion event data."""


class InvalidationEventAddress(FaultEventAddress, name="IEADDR", width=32, offset=0xa8):
    """Invalidation completion event address."""


class InvalidationEventUpperAddress(FaultEventUpperAddress, name="IEUADDR", width=32, offset=0xac):
    """Invalidation completion event upper address."""


class InvalidationQueueErrorRecord(Register, name="IQERCD", width=64, offset=0xb0):
    """Invalidation queue error record."""

    iqei = ROS(3, 0, "reason of IQE (see queue errors)")
    rsvd_31_4 = Reserved(31, 4)
    itesid = ROS(47, 32, "source id of the timed-out device-TLB invalidation")
    icesid = ROS(63, 48, "source id of the bad invalidation completion")


class InterruptRemappingTableAddress(Register, name="IRTA", width=64, offset=0xb8):
    """Interrupt remapping table address; latched by GCMD.SIRTP."""

    s = RW(3, 0, "table has 2^(S+1) entries")
    rsvd_10_4 = Reserved(10, 4)
    eime = RW(11, 11, "x2APIC destinations; reserved-zero if ECAP.EIM=0")
    irta = RW(63, 12, "table page; 63:HAW reserved")


class PageRequestQueueHead(Register, name="PQH", width=64, offset=0xc0):
    """Page request queue head."""

    rsvd_4_0 = Reserved(4, 0)
    pqh = RW(18, 5, "offset/32 of next descriptor software reads")
    rsvd_63_19 = Reserved(63, 19)


class PageRequestQueueTail(Register, name="PQT", width=64, offset=0xc8):
    """Page request queue tail."""

    rsvd_4_0 = Reserved(4, 0)
    pqt = RW(18, 5, "offset/32 of next descriptor hardware writes")
    rsvd_63_19 = Reserved(63, 19)


class PageRequestQueueAddress(Register, name="PQA", width=64, offset=0xd0):
    """Page request queue address."""

    pqs = RW(2, 0, "queue is 2^PQS pages = 2^(PQS+7) descriptors")
    rsvd_11_3 = Reserved(11, 3)
    pqa = RW(63, 12, "queue page; 63:HAW reserved")


class PageRequestStatus(Register, name="PRS", width=32, offset=0xdc):
    """Page request status."""

    ppr = RW1CS(0, 0, "pending page request")
    pro = RW1CS(1, 1, "page request overflow")
    rsvd_31_2 = Reserved(31, 2)


class PageRequestEventControl(FaultEventControl, name="PECTL", width=32, offset=0xe0, reset=0x80000000):
    """Page request event control; bits 29:0 are read-modify-write preserved."""


class PageRequestEventData(FaultEventData, name="PEDATA", width=32, offset=0xe4):
    """Page request event data."""


class PageRequestEventAddress(FaultEventAddress, name="PEADDR", width=32, offset=0xe8):
    """Page request event address."""


class PageRequestEventUpperAddress(FaultEventUpperAddress, name="PEUADDR", width=32, offset=0xec):
    """Page request event upper address."""
