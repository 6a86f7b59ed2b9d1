"""Registers as debugfs and QEMU print them."""

from __future__ import annotations

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.errors import ImageError
from pagetables.images.registers import RegisterPage, load_registers, load_units
from pagetables.images.regset import register_text
from pagetables.layouts.registers import (
    Capability,
    ContextCommand,
    ExtendedCapability,
    FaultRecord,
    GlobalStatus,
    InterruptRemappingTableAddress,
    InvalidationQueueErrorRecord,
    InvalidationQueueHead,
    MtrrPhysBase,
    ProtectedLowMemoryBase,
)

# Name, offset, value: what a kernel prints of a unit, in its order.
ROWS = [
    ("VER", 0x00, 0x10),
    ("GCMD", 0x18, 0),
    ("GSTS", 0x1C, 0xC7000000),
    ("FSTS", 0x34, 0),
    ("FECTL", 0x38, 0),
    ("FEDATA", 0x3C, 0x21),
    ("FEADDR", 0x40, 0xFEE0100C),
    ("FEUADDR", 0x44, 0),
    ("PMEN", 0x64, 0),
    ("PLMBASE", 0x68, 0x12340000),
    ("PLMLIMIT", 0x6C, 0),
    ("ICS", 0x9C, 0),
    ("CAP", 0x08, 0xD2008C222F0606),
    ("ECAP", 0x10, 0x480080F00F4A),
    ("RTADDR", 0x20, 0x103027000),
    ("PHMBASE", 0x70, 0),
    ("IQH", 0x80, 0x140),
    ("IQT", 0x88, 0x140),
    ("IQA", 0x90, 0x10022E000),
    ("IRTA", 0xB8, 0x430000F),
    ("MTRRCAP", 0x100, 0),
    ("MTRR_FIX64K_00000", 0x120, 0x0606060606060606),
    ("MTRR_PHYSBASE1", 0x190, 0xC0000000),
]


def unit(name: str = "dmar0", base: int = 0xFED90000, rows=ROWS) -> str:
    """The text of one unit as debugfs prints it."""
    body = "".join(f"{row:<16}\t0x{offset:02x}\t\t0x{value:016x}\n" for row, offset, value in rows)
    return f"IOMMU: {name} Register Base Address: {base:x}\nName\t\t\tOffset\t\tContents\n{body}\n"


def loaded(tmp_path, text: str):
    """The units that the loader finds in a file of `text`."""
    (tmp_path / "registers.txt").write_text(text)
    return load_units(tmp_path / "registers.txt")


def without(*names: str):
    """The rows, but for some."""
    return [row for row in ROWS if row[0] not in names]


def test_a_unit_of_debugfs_is_a_register_page(tmp_path):
    (page,) = loaded(tmp_path, unit())
    assert page.base == 0xFED90000
    assert page.read(Capability) == 0xD2008C222F0606
    assert page.read(ExtendedCapability) == 0x480080F00F4A
    assert page.read(GlobalStatus) == 0xC7000000
    assert page.root_table == 0x103027000
    assert page.read(InterruptRemappingTableAddress) == 0x430000F
    assert page.read(ProtectedLowMemoryBase) == 0x12340000
    assert page.read(MtrrPhysBase, 1) == 0xC0000000
    assert page.data[0x34:0x44] == struct.pack("<4I", 0, 0, 0x21, 0xFEE0100C)


def test_what_debugfs_does_not_print_is_unknown_and_zero(tmp_path):
    (page,) = loaded(tmp_path, unit())
    assert page.has(GlobalStatus)
    assert page.has(InvalidationQueueHead)
    assert not page.has(ContextCommand)
    assert page.read(ContextCommand) == 0
    assert not page.has(InvalidationQueueErrorRecord)
    assert not page.has(FaultRecord)
    assert list(page.pending_faults()) == []
    assert 0x1C in page.known
    assert 0x28 not in page.known


def test_several_units_are_several_pages(tmp_path):
    text = unit("dmar0", 0xFED90000) + unit("dmar1", 0x26BE37000, [*without("GSTS"), ("GSTS", 0x1C, 0x87000000)])
    first, second = loaded(tmp_path, text)
    assert (first.base, second.base) == (0xFED90000, 0x26BE37000)
    assert second.status == 0x87000000
    with pytest.raises(ImageError, match=r"registers of 2 units \(0xfed90000, 0x26be37000\); expected those of one"):
        load_registers(tmp_path / "registers.txt")


def test_a_prompt_indentation_and_other_line_ends_do_no_harm(tmp_path):
    text = "$ sudo cat /sys/kernel/debug/iommu/intel/iommu_regset\n\n" + unit()
    indented = "".join(f"\t {line}\r\n" for line in text.splitlines())
    assert [page.status for page in loaded(tmp_path, indented)] == [0xC7000000]


def test_a_register_of_a_newer_kernel_is_left_unknown(tmp_path):
    (page,) = loaded(tmp_path, unit(rows=[*ROWS, ("NEWREG", 0xF00, 1)]))
    assert page.data[0xF00] == 0
    assert 0xF00 not in page.known


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (unit(rows=without("RTADDR")), "line 1: dmar0 at 0xfed90000 lacks RTADDR: cut short?"),
        (unit() + unit("dmar1", rows=ROWS[:9]), "line 27: dmar1 at 0xfed90000 lacks CAP: cut short?"),
        (unit(rows=[*ROWS, ("IQT", 0x80, 0)]), "line 26: IQT at 0x80; the register page has it at 0x88"),
        (unit(rows=[*ROWS, ("GSTS", 0x1C, 1 << 32)]), "line 26: GSTS is 0x100000000, but has 32 bits"),
        (unit(rows=[*ROWS, ("MTRR_PHYSBASE10", 0x220, 0)]), "line 26: MTRR_PHYSBASE10"),
        (unit() + "oops\n", r"line 27: 'oops'; expected a register's name, offset and contents"),
        (unit(rows=[("VER", 0, 0), *without("VER")]), "0x00000000 at offset 0 is no VT-d version"),
        ("".join(unit(f"dmar{n}", n << 12) for n in range(300)), "more than 256 units"),
    ],
)
def test_damaged_text_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(ImageError, match=r"registers.txt: .*" + re.escape(message)):
        loaded(tmp_path, text)


def xp(data: bytes, base: int = 0xFED90000, size: int = 4) -> str:
    """What QEMU's `xp /NNNxw BASE` prints of `data`, in items of `size` bytes."""
    items = [f"0x{int.from_bytes(data[at : at + size], 'little'):0{2 * size}x}" for at in range(0, len(data), size)]
    per_line = 16 // size
    return "".join(
        f"{base + at * size:016x}: {' '.join(items[at : at + per_line])}\n" for at in range(0, len(items), per_line)
    )


PAGE = struct.pack("<IIQQII", 0x10, 0, 0xD2008C222F0606, 0x480080F00F4A, 0, 0xC7000000) + struct.pack("<Q", 0x7DA7400)
PAGE = PAGE.ljust(0x220, b"\0") + struct.pack("<QQ", 0xFFFFF000, 1 << 63)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_what_xp_prints_is_a_register_page(tmp_path, size):
    (page,) = loaded(tmp_path, xp(PAGE, size=size))
    assert page.base == 0xFED90000
    assert page.data[: len(PAGE)] == PAGE
    assert page.root_table == 0x7DA7400
    assert [int(record) for record in page.pending_faults()] == [(1 << 127) + 0xFFFFF000]
    assert max(page.known) == len(PAGE) - 4


def test_a_monitor_session_with_two_units_is_two_pages(tmp_path):
    text = f"(qemu) xp /140xw 0xfed90000\n{xp(PAGE)}(qemu) xp /140xw 0xfed91000\n{xp(PAGE, 0xFED91000)}(qemu) \n"
    assert [page.base for page in loaded(tmp_path, text)] == [0xFED90000, 0xFED91000]


def test_the_recorded_registers_survive_the_way_through_xp(tmp_path, corpus):
    for folder in sorted(corpus.glob("*/registers.json")):
        recorded = load_registers(folder)
        (page,) = loaded(tmp_path, xp(recorded.data) + "00000000fed90230: Cannot access memory\n")
        assert page.data[: len(recorded.data)] == recorded.data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (xp(PAGE[:32]), "line 1: the unit at 0xfed90000 lacks RTADDR"),
        (xp(PAGE) + "what\n", "line 36: 'what'; expected an address and the words there"),
        ("00000000fed90000: 0x00000010 0x0000\n", "line 1: items of no width"),
        ("00000000fed90002: 0x00000010\n", "line 1: items of no width"),
        (xp(b"\xff" * 64), "0xffffffff at offset 0 is no VT-d version"),
        ("".join(xp(PAGE[:8], n << 12) for n in range(300)), "line 257: more than 256 units"),
    ],
)
def test_damaged_xp_text_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(ImageError, match=r"registers.txt: .*" + re.escape(message)):
        loaded(tmp_path, text)


def test_a_page_written_as_text_reads_back_with_what_is_known_of_it(tmp_path):
    first, second = loaded(tmp_path, unit("dmar0", 0xFED90000) + unit("dmar1", 0xFED91000))
    assert loaded(tmp_path, first.as_text() + second.as_text()) == (first, second)
    whole = RegisterPage(0xFED90000, PAGE)
    assert loaded(tmp_path, whole.as_text())[0].data[: len(PAGE)] == PAGE


LINES = st.one_of(
    st.sampled_from([*unit().splitlines(), *xp(PAGE[:64]).splitlines(), "", "(qemu)"]),
    st.from_regex(r"[A-Z]{2,6}[0-9]{0,12}\s0x[0-9a-f]{1,4}\s0x[0-9a-f]{1,16}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{8,16}:( 0x[0-9a-f]{2,16}){1,4}", fullmatch=True),
    st.text(max_size=20),
)


@given(st.sampled_from([unit().splitlines()[0], xp(PAGE).splitlines()[0]]), st.lists(LINES, max_size=40))
def test_no_text_does_more_than_fail_in_our_words(first, lines):
    try:
        units = register_text("file", "\n".join([first, *lines]).encode())
    except ImageError as error:
        assert re.match("file: ", str(error))  # noqa: PT017  # both ends are good ones
        return
    for one in units:
        assert len(one.page) == 4096
        assert all(one.page[at : at + 4] == bytes(4) for at in range(0, 4096, 4) if at not in one.known)


@given(st.binary(max_size=400))
def test_other_bytes_are_neither(data):
    assert register_text("file", b"\x10\0\0\0" + data) is None
