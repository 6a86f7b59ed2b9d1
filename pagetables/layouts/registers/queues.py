"""Invalidation queue, interrupt remapping table and page request queue."""

from __future__ import annotations

from pagetables.bits import RO, ROS, RW, RW1CS, Reserved
from pagetables.layouts.registers.faults import (
    FaultEventAddress,
    FaultEventControl,
    FaultEventData,
    FaultEventUpperAddress,
)
from pagetables.layouts.registers.register import Register

__all__ = [
    "InterruptRemappingTableAddress",
    "InvalidationCompletionStatus",
    "InvalidationEventAddress",
    "InvalidationEventControl",
    "InvalidationEventData",
    "InvalidationEventUpperAddress",
    "InvalidationQueueAddress",
    "InvalidationQueueErrorRecord",
    "InvalidationQueueHead",
    "InvalidationQueueTail",
    "PageRequestEventAddress",
    "PageRequestEventControl",
    "PageRequestEventData",
    "PageRequestEventUpperAddress",
    "PageRequestQueueAddress",
    "PageRequestQueueHead",
    "PageRequestQueueTail",
    "PageRequestStatus",
]


class InvalidationQueueHead(Register, name="IQH", width=64, offset=0x80):
    """Invalidation queue head; 0 whenever QIES=0."""

    rsvd_3_0 = Reserved(3, 0)
    qh = RO(18, 4, "byte offset/16 of next descriptor to fetch; bit 4 is 0 when IQA.DW=1", address=True)
    rsvd_63_19 = Reserved(63, 19)


class InvalidationQueueTail(Register, name="IQT", width=64, offset=0x88):
    """Invalidation queue tail."""

    rsvd_3_0 = Reserved(3, 0)
    qt = RW(18, 4, "byte offset/16 of next free slot; bit 4 must be 0 when IQA.DW=1", address=True)
    rsvd_63_19 = Reserved(63, 19)


class InvalidationQueueAddress(Register, name="IQA", width=64, offset=0x90):
    """Invalidation queue address."""

    qs = RW(2, 0, "queue is 2^QS pages of 4 KiB")
    rsvd_10_3 = Reserved(10, 3)
    dw = RW(11, about="0: 128-bit, 1: 256-bit descriptors")
    iqa = RW(63, 12, "queue page (63:HAW not implemented: read 0)", address=True)


class InvalidationCompletionStatus(Register, name="ICS", width=32, offset=0x9C):
    """Invalidation completion status."""

    iwc = RW1CS(0, about="wait descriptor with IF=1 completed")
    rsvd_31_1 = Reserved(31, 1)


class InvalidationEventControl(FaultEventControl, name="IECTL", offset=0xA0, reset=0x80000000):
    """Invalidation completion event control; bits 29:0 read 0 whatever software writes there."""


class InvalidationEventData(FaultEventData, name="IEDATA", offset=0xA4):
    """Invalidation completion event data."""


class InvalidationEventAddress(FaultEventAddress, name="IEADDR", offset=0xA8):
    """Invalidation completion event address."""


class InvalidationEventUpperAddress(FaultEventUpperAddress, name="IEUADDR", offset=0xAC):
    """Invalidation completion event upper address."""


class InvalidationQueueErrorRecord(Register, name="IQERCD", width=64, offset=0xB0):
    """Invalidation queue error record."""

    iqei = ROS(3, 0, "reason of IQE (see queue errors)")
    rsvd_31_4 = Reserved(31, 4)
    itesid = ROS(47, 32, "source id of the timed-out device-TLB invalidation")
    icesid = ROS(63, 48, "source id of the bad invalidation completion")


class InterruptRemappingTableAddress(Register, name="IRTA", width=64, offset=0xB8):
    """Interrupt remapping table address; latched by GCMD.SIRTP."""

    s = RW(3, 0, "table has 2^(S+1) entries")
    rsvd_10_4 = Reserved(10, 4)
    eime = RW(11, about="x2APIC destinations; reserved-zero if ECAP.EIM=0")
    irta = RW(63, 12, "table page (63:HAW not implemented: read 0)", address=True)


class PageRequestQueueHead(Register, name="PQH", width=64, offset=0xC0):
    """Page request queue head."""

    rsvd_4_0 = Reserved(4, 0)
    pqh = RW(18, 5, "offset/32 of next descriptor software reads", address=True)
    rsvd_63_19 = Reserved(63, 19)


class PageRequestQueueTail(Register, name="PQT", width=64, offset=0xC8):
    """Page request queue tail."""

    rsvd_4_0 = Reserved(4, 0)
    pqt = RW(18, 5, "offset/32 of next descriptor hardware writes", address=True)
    rsvd_63_19 = Reserved(63, 19)


class PageRequestQueueAddress(Register, name="PQA", width=64, offset=0xD0):
    """Page request queue address."""

    pqs = RW(2, 0, "queue is 2^PQS pages = 2^(PQS+7) descriptors")
    rsvd_11_3 = Reserved(11, 3)
    pqa = RW(63, 12, "queue page (63:HAW not implemented: read 0)", address=True)


class PageRequestStatus(Register, name="PRS", width=32, offset=0xDC):
    """Page request status."""

    ppr = RW1CS(0, about="pending page request")
    pro = RW1CS(1, about="page request overflow")
    rsvd_31_2 = Reserved(31, 2)


class PageRequestEventControl(FaultEventControl, name="PECTL", offset=0xE0, reset=0x80000000):
    """Page request event control; bits 29:0 read 0 whatever software writes there."""


class PageRequestEventData(FaultEventData, name="PEDATA", offset=0xE4):
    """Page request event data."""


class PageRequestEventAddress(FaultEventAddress, name="PEADDR", offset=0xE8):
    """Page request event address."""


class PageRequestEventUpperAddress(FaultEventUpperAddress, name="PEUADDR", offset=0xEC):
    """Page request event upper address."""
