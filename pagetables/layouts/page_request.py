"""Page request descriptor and ATS translation completion."""

from __future__ import annotations

from pagetables.bits import HW, Reserved, Word

__all__ = ["AtsTranslationCompletion", "PageRequestDescriptor"]


class PageRequestDescriptor(Word, name="page_request_descriptor", width=256):
    """Page request descriptor, as hardware writes it into the page request queue."""

    type = HW(7, 0, "descriptor type, 1 here")
    pp = HW(8, about="PASID present")
    rsvd_15_9 = Reserved(15, 9, "0 (bit 9 was private-data-present in rev 3.x)")
    rid = HW(31, 16, "requester id")
    pasid = HW(51, 32, "PASID")
    exe = HW(52, about="execute requested")
    pm = HW(53, about="privileged mode requested")
    rsvd_63_54 = Reserved(63, 54)
    rd = HW(64, about="read requested")
    wr = HW(65, about="write requested")
    lpig = HW(66, about="last page in group")
    prgi = HW(75, 67, "page request group index")
    addr = HW(127, 76, "page address", address=True)
    rsvd_255_128 = Reserved(255, 128, "0 (private data in rev 3.x)")


class AtsTranslationCompletion(Word, name="ats_translation_completion", width=64):
    """PCIe ATS translation completion data entry, as a number (PCIe sends it big-endian)."""

    r = HW(0, about="read")
    w = HW(1, about="write")
    u = HW(2, about="untranslated access only")
    exe = HW(3, about="execute permitted")
    priv = HW(4, about="privileged")
    global_ = HW(5, about="global mapping; VT-d always 0")
    rsvd_9_6 = Reserved(9, 6, "reserved (PCIe 6 puts CXL.io and AMA here)")
    n = HW(10, about="non-snooped access")
    s = HW(11, about="size > 4 KiB, size encoded in address")
    addr = HW(63, 12, "translated address", address=True)
