"""Second-stage paging entries of every level and page size (facts: 5.2)."""

from __future__ import annotations

from pagetables.bits import Bits, HW, Ignored, Reserved, Word

__all__ = ["SsPde2M", "SsPdeTable", "SsPdpe1G", "SsPdpeTable", "SsPml4E", "SsPml5E", "SsPte"]


class SsPml5E(Word, name="ss_pml5e", width=64):
    """Second-stage PML5 entry."""

    r = Bits(0, 0, "read")
    w = Bits(1, 1, "write")
    x = Bits(2, 2, "execute (only if SSEE; else ignored)")
    ign_6_3 = Ignored(6, 3)
    rsvd_7_7 = Reserved(7)
    a = HW(8, 8, "accessed (if SSADE=1, else ignored)")
    ign_10_9 = Ignored(10, 9)
    rsvd_11_11 = Reserved(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)")
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62)
    ign_63_63 = Ignored(63)


class SsPml4E(Word, name="ss_pml4e", width=64):
    """Second-stage PML4 entry."""

    r = Bits(0, 0, "read")
    w = Bits(1, 1, "write")
    x = Bits(2, 2, "execute (only if SSEE; else ignored)")
    ign_6_3 = Ignored(6, 3)
    rsvd_7_7 = Reserved(7)
    a = HW(8, 8, "accessed (if SSADE=1, else ignored)")
    ign_10_9 = Ignored(10, 9)
    rsvd_11_11 = Reserved(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)")
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62)
    ign_63_63 = Ignored(63)


class SsPdpeTable(Word, name="ss_pdpe_table", width=64):
    """Second-stage PDPE pointing to a table."""

    r = Bits(0, 0, "read")
    w = Bits(1, 1, "write")
    x = Bits(2, 2, "execute (only if SSEE; else ignored)")
    ign_6_3 = Ignored(6, 3)
    ps = Bits(7, 7, "page size, 0 here")
    a = HW(8, 8, "accessed (if SSADE=1, else ignored)")
    ign_10_9 = Ignored(10, 9)
    rsvd_11_11 = Reserved(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)")
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62)
    ign_63_63 = Ignored(63)


class SsPdeTable(Word, name="ss_pde_table", width=64):
    """Second-stage PDE pointing to a table."""

    r = Bits(0, 0, "read")
    w = Bits(1, 1, "write")
    x = Bits(2, 2, "execute (only if SSEE; else ignored)")
    ign_6_3 = Ignored(6, 3)
    ps = Bits(7, 7, "page size, 0 here")
    a = HW(8, 8, "accessed (if SSADE=1, else ignored)")
    ign_10_9 = Ignored(10, 9)
    rsvd_11_11 = Reserved(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)")
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62)
    ign_63_63 = Ignored(63)


class SsPdpe1G(Word, name="ss_pdpe_1g", width=64):
    """Second-stage PDPE mapping 1 GiB."""

    r = Bits(0, 0, "read")
    w = Bits(1, 1, "write")
    x = Bits(2, 2, "execute (only if SSEE; else ignored)")
    emt = Bits(5, 3, "memory type (ignored without MTS/EMTE)")
    ipat = Bits(6, 6, "ignore PAT")
    ps = Bits(7, 7, "1")
    a = HW(8, 8, "accessed")
    d = HW(9, 9, "dirty")
    ign_10_10 = Ignored(10)
    snp = Bits(11, 11, "snoop (reserved if ECAP.SC=0)")
    rsvd_29_12 = Reserved(29, 12)
    addr = Bits(51, 30, "page frame (51:HAW must be 0)")
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62, 62, "reserved (was TM, transient mapping, until rev 3.2)")
    ign_63_63 = Ignored(63)


class SsPde2M(Word, name="ss_pde_2m", width=64):
    """Second-stage PDE mapping 2 MiB."""

    r = Bits(0, 0, "read")
    w = Bits(1, 1, "write")
    x = Bits(2, 2, "execute (only if SSEE; else ignored)")
    emt = Bits(5, 3, "memory type (ignored without MTS/EMTE)")
    ipat = Bits(6, 6, "ignore PAT")
    ps = Bits(7, 7, "1")
    a = HW(8, 8, "accessed")
    d = HW(9, 9, "dirty")
    ign_10_10 = Ignored(10)
    snp = Bits(11, 11, "snoop (reserved if ECAP.SC=0)")
    rsvd_20_12 = Reserved(20, 12)
    addr = Bits(51, 21, "page frame (51:HAW must be 0)")
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62, 62, "reserved (was TM, transient mapping, until rev 3.2)")
    ign_63_63 = Ignored(63)


class SsPte(Word, name="ss_pte", width=64):
    """Second-stage PTE mapping 4 KiB."""

    r = Bits(0, 0, "read")
    w = Bits(1, 1, "write")
    x = Bits(2, 2, "execute (only if SSEE; else ignored)")
    emt = Bits(5, 3, "memory type (ignored without MTS/EMTE)")
    ipat = Bits(6, 6, "ignore PAT")
    ign_7_7 = Ignored(7)
    a = HW(8, 8, "accessed")
    d = HW(9, 9, "dirty")
    ign_10_10 = Ignored(10)
    snp = Bits(11, 11, "snoop (reserved if ECAP.SC=0)")
    addr = Bits(51, 12, "page frame (51:HAW must be 0)")
    ign_61_52 = Ignored(61, 52)
    rsvd_62_62 = Reserved(62, 62, "reserved (was TM, transient mapping, until rev 3.2)")
    ign_63_63 = Ignored(63)
