"""Invalidation queue descriptors. Types 1 to 5 have 16 bytes (in a 256-bit queue the rest is reserved), 6 to 9 have 32.

The type has 7 bits, in two parts: bits 3:0 and 11:9 of every descriptor.
"""

from __future__ import annotations

from pagetables.bits import Bits, Reserved, Word
from pagetables.layouts.values import ContextGranularity, IotlbGranularity, PasidCacheGranularity, PasidIotlbGranularity

__all__ = [
    "ContextCacheInvalidate",
    "DeviceTlbInvalidate",
    "InterruptEntryInvalidate",
    "InvalidationWait",
    "IotlbInvalidate",
    "PageGroupResponse",
    "PasidCacheInvalidate",
    "PasidDeviceTlbInvalidate",
    "PasidIotlbInvalidate",
]


class ContextCacheInvalidate(Word, name="inv_context_cache", width=128):
    """Type 0x1 context-cache invalidate."""

    type_lo = Bits(3, 0, "type bits 3:0")
    g = Bits(5, 4, "granularity: 1 global, 2 domain, 3 device", values=ContextGranularity)
    rsvd_8_6 = Reserved(8, 6)
    type_hi = Bits(11, 9, "type bits 6:4")
    rsvd_15_12 = Reserved(15, 12)
    did = Bits(31, 16, "domain id")
    sid = Bits(47, 32, "source id")
    fm = Bits(49, 48, "function mask")
    rsvd_63_50 = Reserved(63, 50)
    rsvd_127_64 = Reserved(127, 64)


class IotlbInvalidate(Word, name="inv_iotlb", width=128):
    """Type 0x2 IOTLB invalidate."""

    type_lo = Bits(3, 0, "type bits 3:0")
    g = Bits(5, 4, "granularity: 1 global, 2 domain, 3 page", values=IotlbGranularity)
    dw = Bits(6, about="drain writes")
    dr = Bits(7, about="drain reads")
    rsvd_8_8 = Reserved(8)
    type_hi = Bits(11, 9, "type bits 6:4")
    rsvd_15_12 = Reserved(15, 12)
    did = Bits(31, 16, "domain id")
    rsvd_63_32 = Reserved(63, 32)
    am = Bits(69, 64, "address mask")
    ih = Bits(70, about="invalidation hint")
    rsvd_75_71 = Reserved(75, 71)
    addr = Bits(127, 76, "page address", address=True)


class DeviceTlbInvalidate(Word, name="inv_device_tlb", width=128):
    """Type 0x3 device-TLB invalidate."""

    type_lo = Bits(3, 0, "type bits 3:0")
    rsvd_8_4 = Reserved(8, 4)
    type_hi = Bits(11, 9, "type bits 6:4")
    pfsid_lo = Bits(15, 12, "PF source id 3:0 (reserved if DIT=0)")
    mip = Bits(20, 16, "max invalidations pending (0 means 32)")
    rsvd_31_21 = Reserved(31, 21)
    sid = Bits(47, 32, "source id")
    rsvd_51_48 = Reserved(51, 48)
    pfsid_hi = Bits(63, 52, "PF source id 15:4 (reserved if DIT=0)")
    s = Bits(64, about="size")
    rsvd_75_65 = Reserved(75, 65)
    addr = Bits(127, 76, "page address with size encoding", address=True)


class InterruptEntryInvalidate(Word, name="inv_iec", width=128):
    """Type 0x4 interrupt entry cache invalidate."""

    type_lo = Bits(3, 0, "type bits 3:0")
    g = Bits(4, about="granularity: 0 global, 1 index")
    rsvd_8_5 = Reserved(8, 5)
    type_hi = Bits(11, 9, "type bits 6:4")
    rsvd_26_12 = Reserved(26, 12)
    im = Bits(31, 27, "index mask, 2^IM entries")
    iidx = Bits(47, 32, "interrupt index")
    rsvd_63_48 = Reserved(63, 48)
    rsvd_127_64 = Reserved(127, 64)


class InvalidationWait(Word, name="inv_wait", width=128):
    """Type 0x5 invalidation wait."""

    type_lo = Bits(3, 0, "type bits 3:0")
    if_ = Bits(4, about="interrupt flag")
    sw = Bits(5, about="status write")
    fn = Bits(6, about="fence")
    pd = Bits(7, about="page-request drain (reserved if PDS=0)")
    rsvd_8_8 = Reserved(8)
    type_hi = Bits(11, 9, "type bits 6:4")
    rsvd_31_12 = Reserved(31, 12)
    stdata = Bits(63, 32, "status data (ignored if SW=0)")
    rsvd_65_64 = Reserved(65, 64)
    staddr = Bits(127, 66, "status address 63:2 (63:HAW reserved; ignored if SW=0)", address=True)


class PasidIotlbInvalidate(Word, name="inv_pasid_iotlb", width=256):
    """Type 0x6 PASID-based IOTLB invalidate."""

    type_lo = Bits(3, 0, "type bits 3:0")
    g = Bits(5, 4, "granularity: 2 all of the PASID, 3 page", values=PasidIotlbGranularity)
    rsvd_8_6 = Reserved(8, 6)
    type_hi = Bits(11, 9, "type bits 6:4")
    rsvd_15_12 = Reserved(15, 12)
    did = Bits(31, 16, "domain id")
    pasid = Bits(51, 32, "PASID")
    rsvd_63_52 = Reserved(63, 52)
    am = Bits(69, 64, "address mask")
    ih = Bits(70, about="invalidation hint")
    rsvd_75_71 = Reserved(75, 71)
    addr = Bits(127, 76, "page address", address=True)
    rsvd_255_128 = Reserved(255, 128)


class PasidCacheInvalidate(Word, name="inv_pasid_cache", width=256):
    """Type 0x7 PASID-cache invalidate."""

    type_lo = Bits(3, 0, "type bits 3:0")
    g = Bits(5, 4, "granularity: 0 domain, 1 PASID in domain, 3 global", values=PasidCacheGranularity)
    rsvd_8_6 = Reserved(8, 6)
    type_hi = Bits(11, 9, "type bits 6:4")
    rsvd_15_12 = Reserved(15, 12)
    did = Bits(31, 16, "domain id")
    pasid = Bits(51, 32, "PASID")
    rsvd_63_52 = Reserved(63, 52)
    rsvd_127_64 = Reserved(127, 64)
    rsvd_255_128 = Reserved(255, 128)


class PasidDeviceTlbInvalidate(Word, name="inv_pasid_device_tlb", width=256):
    """Type 0x8 PASID-based device-TLB invalidate."""

    type_lo = Bits(3, 0, "type bits 3:0")
    mip = Bits(8, 4, "max invalidations pending")
    type_hi = Bits(11, 9, "type bits 6:4")
    pfsid_lo = Bits(15, 12, "PF source id 3:0")
    sid = Bits(31, 16, "source id")
    pasid = Bits(51, 32, "PASID")
    pfsid_hi = Bits(63, 52, "PF source id 15:4")
    g = Bits(64, about="all PASIDs")
    rsvd_74_65 = Reserved(74, 65)
    s = Bits(75, about="size")
    addr = Bits(127, 76, "page address with size encoding", address=True)
    rsvd_255_128 = Reserved(255, 128)


class PageGroupResponse(Word, name="inv_page_group_response", width=256):
    """Type 0x9 page group response."""

    type_lo = Bits(3, 0, "type bits 3:0")
    pp = Bits(4, about="PASID present")
    rsvd_8_5 = Reserved(8, 5, "reserved (bit 5 was PDP in rev 3.x)")
    type_hi = Bits(11, 9, "type bits 6:4")
    rc = Bits(15, 12, "response: 0 success, 1 invalid request, 15 failure")
    rid = Bits(31, 16, "requester id")
    pasid = Bits(51, 32, "PASID")
    rsvd_63_52 = Reserved(63, 52)
    rsvd_66_64 = Reserved(66, 64, "reserved (bit 66 was LPIG in rev 3.x)")
    prgi = Bits(75, 67, "page request group index")
    rsvd_127_76 = Reserved(127, 76)
    rsvd_255_128 = Reserved(255, 128, "reserved (was private data in rev 3.x)")
