"""Second-stage paging entries of every level and page size (§3.7, §9.8).

Levels: PML5E 5, PML4E 4, PDPE 3, PDE 2, PTE 1. A and D are ignored unless SSADE is set, and always in legacy mode;
bit 62 of leaves was TM, transient mapping, until revision 3.2. Address bits from the host address width upwards
must be 0, too: the walker adds them, since only the platform knows the width.
"""

from __future__ import annotations

from pagetables.bits import HW, Bits, Ignored, Reserved, Word

__all__ = ["SsPde2M", "SsPdeTable", "SsPdpe1G", "SsPdpeTable", "SsPml4E", "SsPml5E", "SsPte"]


class _Top(Word, width=64):
    r = Bits(0, about="read")
    w = Bits(1, about="write")
    x = Bits(2, about="execute (only if SSEE; else ignored)")
    ign_6_3 = Ignored(6, 3)
    rsvd_7_7 = Reserved(7)
    a = HW(8, about="accessed (if SSADE=1, else ignored)")
    ign_10_9 = Ignored(10, 9)
    rsvd_11_11 = Reserved(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)", address=True)
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62)
    ign_63_63 = Ignored(63)


class _Table(Word, width=64):
    r = Bits(0, about="read")
    w = Bits(1, about="write")
    x = Bits(2, about="execute (only if SSEE; else ignored)")
    ign_6_3 = Ignored(6, 3)
    ps = Bits(7, about="page size, 0 here")
    a = HW(8, about="accessed (if SSADE=1, else ignored)")
    ign_10_9 = Ignored(10, 9)
    rsvd_11_11 = Reserved(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)", address=True)
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62)
    ign_63_63 = Ignored(63)


class SsPml5E(_Top, name="ss_pml5e"):
    """Second-stage PML5 entry."""


class SsPml4E(_Top, name="ss_pml4e"):
    """Second-stage PML4 entry."""


class SsPdpeTable(_Table, name="ss_pdpe_table"):
    """Second-stage PDPE pointing to a table."""


class SsPdeTable(_Table, name="ss_pde_table"):
    """Second-stage PDE pointing to a table."""


class SsPdpe1G(Word, name="ss_pdpe_1g", width=64):
    """Second-stage PDPE mapping 1 GiB."""

    r = Bits(0, about="read")
    w = Bits(1, about="write")
    x = Bits(2, about="execute (only if SSEE; else ignored)")
    emt = Bits(5, 3, "memory type (ignored without MTS/EMTE)")
    ipat = Bits(6, about="ignore PAT")
    ps = Bits(7, about="page size, 1 here")
    a = HW(8, about="accessed")
    d = HW(9, about="dirty")
    ign_10_10 = Ignored(10)
    snp = Bits(11, about="snoop (reserved if ECAP.SC=0)")
    rsvd_29_12 = Reserved(29, 12)
    addr = Bits(51, 30, "page frame (51:HAW must be 0)", address=True)
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62)
    ign_63_63 = Ignored(63)


class SsPde2M(Word, name="ss_pde_2m", width=64):
    """Second-stage PDE mapping 2 MiB."""

    r = Bits(0, about="read")
    w = Bits(1, about="write")
    x = Bits(2, about="execute (only if SSEE; else ignored)")
    emt = Bits(5, 3, "memory type (ignored without MTS/EMTE)")
    ipat = Bits(6, about="ignore PAT")
    ps = Bits(7, about="page size, 1 here")
    a = HW(8, about="accessed")
    d = HW(9, about="dirty")
    ign_10_10 = Ignored(10)
    snp = Bits(11, about="snoop (reserved if ECAP.SC=0)")
    rsvd_20_12 = Reserved(20, 12)
    addr = Bits(51, 21, "page frame (51:HAW must be 0)", address=True)
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62)
    ign_63_63 = Ignored(63)


class SsPte(Word, name="ss_pte", width=64):
    """Second-stage PTE mapping 4 KiB."""

    r = Bits(0, about="read")
    w = Bits(1, about="write")
    x = Bits(2, about="execute (only if SSEE; else ignored)")
    emt = Bits(5, 3, "memory type (ignored without MTS/EMTE)")
    ipat = Bits(6, about="ignore PAT")
    ign_7_7 = Ignored(7)
    a = HW(8, about="accessed")
    d = HW(9, about="dirty")
    ign_10_10 = Ignored(10)
    snp = Bits(11, about="snoop (reserved if ECAP.SC=0)")
    addr = Bits(51, 12, "page frame (51:HAW must be 0)", address=True)
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62)
    ign_63_63 = Ignored(63)
