"""PASID directory and table entries (scalable mode)."""

from __future__ import annotations

from pagetables.bits import Bits, Reserved, Word
from pagetables.layouts.values import TranslationType

__all__ = ["PasidDirectoryEntry", "PasidTableEntry", "PasidTableEntryRev3Qword1"]


class PasidDirectoryEntry(Word, name="pasid_dir_entry", width=64):
    """PASID directory entry; 512 a page, index = PASID bits 19:6."""

    p = Bits(0, about="present")
    fpd = Bits(1, about="fault processing disable")
    rsvd_11_2 = Reserved(11, 2)
    smptblptr = Bits(63, 12, "PASID table page (63:HAW must be 0)", address=True)


class PasidTableEntry(Word, name="pasid_table_entry", width=512):
    """PASID table entry (revision 4.0); 64 a table, index = PASID bits 5:0. SSEE and ERE are reserved from 4.1 on."""

    p = Bits(0, about="present")
    fpd = Bits(1, about="fault processing disable")
    aw = Bits(4, 2, "second-stage address width: 1 39-bit, 2 48-bit, 3 57-bit")
    ssee = Bits(5, about="second-stage execute enable")
    pgtt = Bits(8, 6, "how addresses are translated", values=TranslationType)
    ssade = Bits(9, about="second-stage A/D enable")
    rsvd_11_10 = Reserved(11, 10)
    ssptptr = Bits(63, 12, "second-stage root", address=True)
    did = Bits(79, 64, "domain id")
    rsvd_86_80 = Reserved(86, 80)
    pwsnp = Bits(87, about="page-walk snoop")
    pgsnp = Bits(88, about="page snoop (force snoop on data)")
    cd = Bits(89, about="cache disable")
    emte = Bits(90, about="extended memory type enable")
    rsvd_95_91 = Reserved(95, 91, "reserved in rev >= 4.0 (was EMT 93:91, PWT 94, PCD 95)")
    pa0 = Bits(98, 96, "PAT entry 0")
    rsvd_99_99 = Reserved(99)
    pa1 = Bits(102, 100, "PAT entry 1")
    rsvd_103_103 = Reserved(103)
    pa2 = Bits(106, 104, "PAT entry 2")
    rsvd_107_107 = Reserved(107)
    pa3 = Bits(110, 108, "PAT entry 3")
    rsvd_111_111 = Reserved(111)
    pa4 = Bits(114, 112, "PAT entry 4")
    rsvd_115_115 = Reserved(115)
    pa5 = Bits(118, 116, "PAT entry 5")
    rsvd_119_119 = Reserved(119)
    pa6 = Bits(122, 120, "PAT entry 6")
    rsvd_123_123 = Reserved(123)
    pa7 = Bits(126, 124, "PAT entry 7")
    rsvd_127_127 = Reserved(127)
    sre = Bits(128, about="supervisor request enable")
    ere = Bits(129, about="execute request enable")
    fspm = Bits(131, 130, "first-stage paging mode: 0 4-level, 1 5-level, 2/3 reserved")
    wpe = Bits(132, about="write protect enable")
    nxe = Bits(133, about="no-execute enable (ignored in rev 4.1)")
    smep = Bits(134, about="supervisor execute prevention (ignored in rev 4.1)")
    eafe = Bits(135, about="extended accessed flag enable")
    rsvd_139_136 = Reserved(139, 136)
    fsptptr = Bits(191, 140, "first-stage root", address=True)
    rsvd_255_192 = Reserved(255, 192)
    rsvd_511_256 = Reserved(511, 256)


class PasidTableEntryRev3Qword1(Word, name="pasid_table_entry_rev3_dw1", width=64):
    """Second qword of the PASID table entry as revision 3.x had it: with memory types."""

    did = Bits(15, 0, "domain id")
    rsvd_22_16 = Reserved(22, 16)
    pwsnp = Bits(23, about="page-walk snoop")
    pgsnp = Bits(24, about="page snoop")
    cd = Bits(25, about="cache disable")
    emte = Bits(26, about="extended memory type enable")
    emt = Bits(29, 27, "memory type")
    pwt = Bits(30, about="memory type of the tables")
    pcd = Bits(31, about="memory type of the tables")
    pat = Bits(63, 32, "eight memory types of 3 bits, each with a reserved bit above")
