"""Interrupt remapping entries, posted descriptors and the messages they translate."""

from __future__ import annotations

from pagetables.bits import HW, Bits, Ignored, Reserved, Word
from pagetables.layouts.values import DeliveryMode, DestinationMode, SourceValidation, TriggerMode

__all__ = [
    "CompatibilityMsiAddress",
    "CompatibilityMsiData",
    "PostedInterruptDescriptor",
    "PostedInterruptEntry",
    "RemappableIoapicEntry",
    "RemappableMsiAddress",
    "RemappableMsiData",
    "RemappedInterruptEntry",
]


class RemappedInterruptEntry(Word, name="irte_remapped", width=128):
    """Interrupt remapping table entry, remapped format."""

    p = Bits(0, about="present")
    fpd = Bits(1, about="fault processing disable")
    dm = Bits(2, about="destination mode", values=DestinationMode)
    rh = Bits(3, about="redirection hint")
    tm = Bits(4, about="trigger mode", values=TriggerMode)
    dlm = Bits(7, 5, "delivery mode", values=DeliveryMode)
    avl = Ignored(11, 8, "for software")
    rsvd_14_12 = Reserved(14, 12)
    im = Bits(15, about="mode, 0 here: remapped")
    v = Bits(23, 16, "vector")
    rsvd_31_24 = Reserved(31, 24)
    dst = Bits(63, 32, "destination: EIME=1 32-bit id; EIME=0 8-bit id in 47:40, other bits reserved")
    sid = Bits(79, 64, "source id")
    sq = Bits(81, 80, "source-id qualifier")
    svt = Bits(83, 82, "source validation type", values=SourceValidation)
    rsvd_127_84 = Reserved(127, 84)


class PostedInterruptEntry(Word, name="irte_posted", width=128):
    """Interrupt remapping table entry, posted format."""

    p = Bits(0, about="present")
    fpd = Bits(1, about="fault processing disable")
    rsvd_7_2 = Reserved(7, 2)
    avl = Ignored(11, 8, "for software")
    rsvd_13_12 = Reserved(13, 12)
    urg = Bits(14, about="urgent")
    im = Bits(15, about="mode, 1 here: posted")
    vv = Bits(23, 16, "virtual vector")
    rsvd_37_24 = Reserved(37, 24)
    pdal = Bits(63, 38, "posted descriptor address 31:6")
    sid = Bits(79, 64, "source id")
    sq = Bits(81, 80, "qualifier")
    svt = Bits(83, 82, "validation type", values=SourceValidation)
    rsvd_95_84 = Reserved(95, 84)
    pdah = Bits(127, 96, "posted descriptor address 63:32")


class PostedInterruptDescriptor(Word, name="posted_interrupt_descriptor", width=512):
    """Posted interrupt descriptor."""

    pir = HW(255, 0, "one bit per vector")
    on = HW(256, about="outstanding notification")
    sn = Bits(257, about="suppress notification")
    rsvd_271_258 = Reserved(271, 258)
    nv = Bits(279, 272, "notification vector")
    rsvd_287_280 = Reserved(287, 280)
    ndst = Bits(319, 288, "notification destination: x2APIC 32-bit, xAPIC id in 303:296")
    rsvd_511_320 = Reserved(511, 320, "reserved / available to software")


class RemappableMsiAddress(Word, name="msi_addr_remappable", width=32):
    """Address of a remappable interrupt request."""

    ign_1_0 = Ignored(1, 0)
    handle15 = Bits(2, about="handle bit 15")
    shv = Bits(3, about="sub-handle valid")
    if_ = Bits(4, about="interrupt format, 1 here")
    handle14_0 = Bits(19, 5, "handle bits 14:0")
    fee = Bits(31, 20, "0xfee here")


class RemappableMsiData(Word, name="msi_data_remappable", width=32):
    """Data of a remappable interrupt request."""

    subhandle = Bits(15, 0, "added to the handle when SHV=1")
    rsvd_31_16 = Reserved(31, 16)


class CompatibilityMsiAddress(Word, name="msi_addr_compat", width=32):
    """Address of a compatibility-format request."""

    ign_1_0 = Ignored(1, 0)
    dm = Bits(2, about="destination mode", values=DestinationMode)
    rh = Bits(3, about="redirection hint")
    if_ = Bits(4, about="interrupt format, 0 here")
    ign_11_5 = Ignored(11, 5, "reserved (KVM/Xen use 11:5 as an extended destination id)")
    dest = Bits(19, 12, "APIC id 7:0")
    fee = Bits(31, 20, "0xfee here")


class CompatibilityMsiData(Word, name="msi_data_compat", width=32):
    """Data of a compatibility-format request."""

    vec = Bits(7, 0, "vector")
    dlm = Bits(10, 8, "delivery mode", values=DeliveryMode)
    ign_13_11 = Ignored(13, 11)
    level = Bits(14, about="level")
    tm = Bits(15, about="trigger mode", values=TriggerMode)
    ign_31_16 = Ignored(31, 16)


class RemappableIoapicEntry(Word, name="ioapic_rte_remappable", width=64):
    """IOAPIC redirection entry in remappable format."""

    vec = Bits(7, 0, "vector: matches an EOI; the message takes its vector and trigger mode from the IRTE")
    rsvd_10_8 = Reserved(10, 8)
    handle15 = Bits(11, about="handle bit 15")
    ds = HW(12, about="delivery status")
    pol = Bits(13, about="polarity")
    irr = HW(14, about="remote IRR")
    tm = Bits(15, about="trigger mode", values=TriggerMode)
    mask = Bits(16, about="mask")
    rsvd_47_17 = Reserved(47, 17)
    if_ = Bits(48, about="interrupt format, 1 here")
    handle14_0 = Bits(63, 49, "handle bits 14:0")
