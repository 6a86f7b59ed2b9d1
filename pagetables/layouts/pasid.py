"""PASID directory and table entries (facts: 4)."""

from __future__ import annotations

from pagetables.bits import Bits, Reserved, Word

__all__ = ["PasidDirectoryEntry", "PasidTableEntry", "PasidTableEntryRev3Qword1"]


class PasidDirectoryEntry(Word, name="pasid_dir_entry", width=64):
    """PASID directory entry, index = PASID[19:6]."""

    p = Bits(0, 0, "present")
    fpd = Bits(1, 1, "fault processing disable")
    rsvd_11_2 = Reserved(11, 2)
    smptblptr = Bits(63, 12, "PASID table page (63:HAW must be 0)")


class PasidTableEntry(Word, name="pasid_table_entry", width=512):
    """Scalable-mode PASID table entry (rev 4.0), index = PASID[5:0]."""

    p = Bits(0, 0, "present")
    fpd = Bits(1, 1, "fault processing disable")
    aw = Bits(4, 2, "second-stage address width: 1 39, 2 48, 3 57")
    ssee = Bits(5, 5, "second-stage execute enable (reserved in rev 4.1 per one source)")
    pgtt = Bits(8, 6, "1 first, 2 second, 3 nested, 4 pass-through")
    ssade = Bits(9, 9, "second-stage A/D enable")
    rsvd_11_10 = Reserved(11, 10)
    ssptptr = Bits(63, 12, "second-stage root")
    did = Bits(79, 64, "domain id")
    rsvd_86_80 = Reserved(86, 80)
    pwsnp = Bits(87, 87, "page-walk snoop")
    pgsnp = Bits(88, 88, "page snoop (force snoop on data)")
    cd = Bits(89, 89, "cache disable")
    emte = Bits(90, 90, "extended memory type enable")
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
    sre = Bits(128, 128, "supervisor request enable")
    ere = Bits(129, 129, "execute request enable (reserved in rev 4.1 per one source)")
    fspm = Bits(131, 130, "first-stage paging mode: 0 4-level, 1 5-level, 2/3 reserved")
    wpe = Bits(132, 132, "write protect enable")
    nxe = Bits(133, 133, "no-execute enable (ignored in rev 4.1 per one source)")
    smep = Bits(134, 134, "supervisor execute prevention (ignored in rev 4.1 per one source)")
    eafe = Bits(135, 135, "extended accessed flag enable")
    rsvd_139_136 = Reserved(139, 136)
    fsptptr = Bits(191, 140, "first-stage root")
    rsvd_255_192 = Reserved(255, 192)
    rsvd_511_256 = Reserved(511, 256)


class PasidTableEntryRev3Qword1(Word, name="pasid_table_entry_rev3_dw1", width=64):
    """Second qword of the PASID entry as defined by rev 3.x."""

    did = Bits(15, 0, "domain id")
    rsvd_22_16 = Reserved(22, 16)
    pwsnp = Bits(23)
    pgsnp = Bits(24)
    cd = Bits(25)
    emte = Bits(26)
    emt = Bits(29, 27, "memory type (rev 3.x)")
    pwt = Bits(30, 30, "(rev 3.x)")
    pcd = Bits(31, 31, "(rev 3.x)")
    pat = Bits(63, 32, "8 x (3 bits + 1 reserved)")
