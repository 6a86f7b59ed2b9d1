"""Page request descriptor and ATS translation completion (facts: 6.4, 10)."""

from __future__ import annotations

from pagetables.bits import HW, Reserved, Word

__all__ = ["AtsTranslationCompletion", "PageRequestDescriptor"]


class PageRequestDescriptor(Word, name="page_request_descriptor", width=256):
    """Page request descriptor written by hardware."""

    type = HW(7, 0, "1")
    pp = HW(8, 8, "PASID present")
    rsvd_15_9 = Reserved(15, 9, "0 (bit 9 was private-data-present in rev 3.x)")
    rid = HW(31, 16, "requester id")
    pasid = HW(51, 32, "PASID")
    exe = HW(52, 52, "execute requested")
    pm = HW(53, 53, "privileged mode requested")
    rsvd_63_54 = Reserved(63, 54)
    rd = HW(64, 64, "read requested")
    wr = HW(65, 65, "write requested")
    lpig = HW(66, 66, "last page in group")
    prgi = HW(75, 67, "page request group index")
    addr = HW(127, 76, "page address")
    rsvd_255_128 = Reserved(255, 128, "0 (private data in rev 3.x)")


class AtsTranslationCompletion(Word, name="ats_translation_completion", width=64):
    """PCIe ATS translation completion data entry (numeric value after byte order fix; PCIe sends it big-endian)."""

    r = HW(0, 0, "read")
    w = HW(1, 1, "write")
    u = HW(2, 2, "untranslated access only")
    exe = HW(3, 3, "execute permitted")
    priv = HW(4, 4, "privileged")
    global_ = HW(5, 5, "global mapping; VT-d always 0")
    rsvd_9_6 = Reserved(9, 6, "reserved in the PCIe revision the sources use (PCIe 6 puts CXL.io and AMA here)")
    n = HW(10, 10, "non-snooped access")
    s = HW(11, 11, "size > 4 KiB, size encoded in address")
    addr = HW(63, 12, "translated address")
