"""First-stage paging entries of every level and page size: the x86-64 formats, with EA (bit 10) added.

Levels: PML5E 5, PML4E 4, PDPE 3, PDE 2, PTE 1. EA is written only with EAFE; XD counts only with NXE. The memory type
bits of tables are ignored since revision 4.0; those of leaves count only with ECAP.MTS. Address bits from the host
address width upwards must be 0, too: the walker adds them, since only the platform knows the width.
"""

from __future__ import annotations

from pagetables.bits import HW, Bits, Ignored, Reserved, Word

__all__ = ["FsPde2M", "FsPdeTable", "FsPdpe1G", "FsPdpeTable", "FsPml4E", "FsPml5E", "FsPte"]


class _Top(Word, width=64):
    p = Bits(0, about="present")
    rw = Bits(1, about="writable")
    us = Bits(2, about="user")
    pwt = Ignored(3, about="ignored (memory type of the next table until rev 3.x)")
    pcd = Ignored(4, about="ignored (memory type of the next table until rev 3.x)")
    a = HW(5, about="accessed")
    ign_6_6 = Ignored(6)
    rsvd_7_7 = Reserved(7)
    ign_9_8 = Ignored(9, 8)
    ea = HW(10, about="extended accessed (if EAFE=1, else ignored)")
    ign_11_11 = Ignored(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)", address=True)
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, about="execute disable")


class _Table(Word, width=64):
    p = Bits(0, about="present")
    rw = Bits(1, about="writable")
    us = Bits(2, about="user")
    pwt = Ignored(3, about="ignored (memory type of the next table until rev 3.x)")
    pcd = Ignored(4, about="ignored (memory type of the next table until rev 3.x)")
    a = HW(5, about="accessed")
    ign_6_6 = Ignored(6)
    ps = Bits(7, about="page size, 0 here")
    ign_9_8 = Ignored(9, 8)
    ea = HW(10, about="extended accessed (if EAFE=1, else ignored)")
    ign_11_11 = Ignored(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)", address=True)
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, about="execute disable")


class FsPml5E(_Top, name="fs_pml5e"):
    """First-stage PML5 entry."""


class FsPml4E(_Top, name="fs_pml4e"):
    """First-stage PML4 entry."""


class FsPdpeTable(_Table, name="fs_pdpe_table"):
    """First-stage PDPE pointing to a table."""


class FsPdeTable(_Table, name="fs_pde_table"):
    """First-stage PDE pointing to a table."""


class FsPdpe1G(Word, name="fs_pdpe_1g", width=64):
    """First-stage PDPE mapping 1 GiB."""

    p = Bits(0, about="present")
    rw = Bits(1, about="writable")
    us = Bits(2, about="user")
    pwt = Bits(3, about="PAT index bit 0")
    pcd = Bits(4, about="PAT index bit 1")
    a = HW(5, about="accessed")
    d = HW(6, about="dirty")
    ps = Bits(7, about="page size, 1 here")
    g = Bits(8, about="global (no effect on ATS completions)")
    ign_9_9 = Ignored(9)
    ea = HW(10, about="extended accessed")
    ign_11_11 = Ignored(11)
    pat = Bits(12, about="PAT index bit 2")
    rsvd_29_13 = Reserved(29, 13)
    addr = Bits(51, 30, "page frame (51:HAW must be 0)", address=True)
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, about="execute disable")


class FsPde2M(Word, name="fs_pde_2m", width=64):
    """First-stage PDE mapping 2 MiB."""

    p = Bits(0, about="present")
    rw = Bits(1, about="writable")
    us = Bits(2, about="user")
    pwt = Bits(3, about="PAT index bit 0")
    pcd = Bits(4, about="PAT index bit 1")
    a = HW(5, about="accessed")
    d = HW(6, about="dirty")
    ps = Bits(7, about="page size, 1 here")
    g = Bits(8, about="global (no effect on ATS completions)")
    ign_9_9 = Ignored(9)
    ea = HW(10, about="extended accessed")
    ign_11_11 = Ignored(11)
    pat = Bits(12, about="PAT index bit 2")
    rsvd_20_13 = Reserved(20, 13)
    addr = Bits(51, 21, "page frame (51:HAW must be 0)", address=True)
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, about="execute disable")


class FsPte(Word, name="fs_pte", width=64):
    """First-stage PTE mapping 4 KiB."""

    p = Bits(0, about="present")
    rw = Bits(1, about="writable")
    us = Bits(2, about="user")
    pwt = Bits(3, about="PAT index bit 0")
    pcd = Bits(4, about="PAT index bit 1")
    a = HW(5, about="accessed")
    d = HW(6, about="dirty")
    pat = Bits(7, about="PAT index bit 2")
    g = Bits(8, about="global (no effect on ATS completions)")
    ign_9_9 = Ignored(9)
    ea = HW(10, about="extended accessed")
    ign_11_11 = Ignored(11)
    addr = Bits(51, 12, "page frame (51:HAW must be 0)", address=True)
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, about="execute disable")
