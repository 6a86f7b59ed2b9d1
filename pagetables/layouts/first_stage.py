"""First-stage paging entries of every level and page size (facts: 5.3)."""

from __future__ import annotations

from pagetables.bits import Bits, HW, Ignored, Reserved, Word

__all__ = ["FsPde2M", "FsPdeTable", "FsPdpe1G", "FsPdpeTable", "FsPml4E", "FsPml5E", "FsPte"]


class FsPml5E(Word, name="fs_pml5e", width=64):
    """First-stage PML5 entry."""

    p = Bits(0, 0, "present")
    rw = Bits(1, 1, "writable")
    us = Bits(2, 2, "user")
    pwt = Ignored(3, 3, "ignored in rev >= 4.0 (memory type of next table in rev 3.x)")
    pcd = Ignored(4, 4, "ignored in rev >= 4.0")
    a = HW(5, 5, "accessed")
    ign_6_6 = Ignored(6)
    rsvd_7_7 = Reserved(7)
    ign_9_8 = Ignored(9, 8)
    ea = HW(10, 10, "extended accessed (if EAFE=1, else ignored)")
    ign_11_11 = Ignored(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)")
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, 63, "execute disable")


class FsPml4E(Word, name="fs_pml4e", width=64):
    """First-stage PML4 entry."""

    p = Bits(0, 0, "present")
    rw = Bits(1, 1, "writable")
    us = Bits(2, 2, "user")
    pwt = Ignored(3, 3, "ignored in rev >= 4.0 (memory type of next table in rev 3.x)")
    pcd = Ignored(4, 4, "ignored in rev >= 4.0")
    a = HW(5, 5, "accessed")
    ign_6_6 = Ignored(6)
    rsvd_7_7 = Reserved(7)
    ign_9_8 = Ignored(9, 8)
    ea = HW(10, 10, "extended accessed (if EAFE=1, else ignored)")
    ign_11_11 = Ignored(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)")
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, 63, "execute disable")


class FsPdpeTable(Word, name="fs_pdpe_table", width=64):
    """First-stage PDPE pointing to a table."""

    p = Bits(0, 0, "present")
    rw = Bits(1, 1, "writable")
    us = Bits(2, 2, "user")
    pwt = Ignored(3, 3, "ignored in rev >= 4.0 (memory type of next table in rev 3.x)")
    pcd = Ignored(4, 4, "ignored in rev >= 4.0")
    a = HW(5, 5, "accessed")
    ign_6_6 = Ignored(6)
    ps = Bits(7, 7, "0 here")
    ign_9_8 = Ignored(9, 8)
    ea = HW(10, 10, "extended accessed (if EAFE=1, else ignored)")
    ign_11_11 = Ignored(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)")
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, 63, "execute disable")


class FsPdeTable(Word, name="fs_pde_table", width=64):
    """First-stage PDE pointing to a table."""

    p = Bits(0, 0, "present")
    rw = Bits(1, 1, "writable")
    us = Bits(2, 2, "user")
    pwt = Ignored(3, 3, "ignored in rev >= 4.0 (memory type of next table in rev 3.x)")
    pcd = Ignored(4, 4, "ignored in rev >= 4.0")
    a = HW(5, 5, "accessed")
    ign_6_6 = Ignored(6)
    ps = Bits(7, 7, "0 here")
    ign_9_8 = Ignored(9, 8)
    ea = HW(10, 10, "extended accessed (if EAFE=1, else ignored)")
    ign_11_11 = Ignored(11)
    addr = Bits(51, 12, "next table page (51:HAW must be 0)")
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, 63, "execute disable")


class FsPdpe1G(Word, name="fs_pdpe_1g", width=64):
    """First-stage PDPE mapping 1 GiB."""

    p = Bits(0, 0, "present")
    rw = Bits(1, 1, "writable")
    us = Bits(2, 2, "user")
    pwt = Bits(3, 3, "PAT index bit 0")
    pcd = Bits(4, 4, "PAT index bit 1")
    a = HW(5, 5, "accessed")
    d = HW(6, 6, "dirty")
    ps = Bits(7, 7, "1")
    g = Bits(8, 8, "global (no effect on ATS completions)")
    ign_9_9 = Ignored(9)
    ea = HW(10, 10, "extended accessed")
    ign_11_11 = Ignored(11)
    pat = Bits(12, 12, "PAT index bit 2")
    rsvd_29_13 = Reserved(29, 13)
    addr = Bits(51, 30, "page frame (51:HAW must be 0)")
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, 63, "execute disable")


class FsPde2M(Word, name="fs_pde_2m", width=64):
    """First-stage PDE mapping 2 MiB."""

    p = Bits(0, 0, "present")
    rw = Bits(1, 1, "writable")
    us = Bits(2, 2, "user")
    pwt = Bits(3, 3, "PAT index bit 0")
    pcd = Bits(4, 4, "PAT index bit 1")
    a = HW(5, 5, "accessed")
    d = HW(6, 6, "dirty")
    ps = Bits(7, 7, "1")
    g = Bits(8, 8, "global (no effect on ATS completions)")
    ign_9_9 = Ignored(9)
    ea = HW(10, 10, "extended accessed")
    ign_11_11 = Ignored(11)
    pat = Bits(12, 12, "PAT index bit 2")
    rsvd_20_13 = Reserved(20, 13)
    addr = Bits(51, 21, "page frame (51:HAW must be 0)")
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, 63, "execute disable")


class FsPte(Word, name="fs_pte", width=64):
    """First-stage PTE mapping 4 KiB."""

    p = Bits(0, 0, "present")
    rw = Bits(1, 1, "writable")
    us = Bits(2, 2, "user")
    pwt = Bits(3, 3, "PAT index bit 0")
    pcd = Bits(4, 4, "PAT index bit 1")
    a = HW(5, 5, "accessed")
    d = HW(6, 6, "dirty")
    pat = Bits(7, 7, "PAT index bit 2")
    g = Bits(8, 8, "global (no effect on ATS completions)")
    ign_9_9 = Ignored(9)
    ea = HW(10, 10, "extended accessed")
    ign_11_11 = Ignored(11)
    addr = Bits(51, 12, "page frame (51:HAW must be 0)")
    ign_62_52 = Ignored(62, 52)
    xd = Bits(63, 63, "execute disable")
