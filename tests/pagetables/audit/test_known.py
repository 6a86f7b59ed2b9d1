"""What an audit knows beside the tables: where it looks for it, and what goes before what."""

from __future__ import annotations

import struct

import pytest

from pagetables.audit.known import gather, kernel_place
from pagetables.audit.regions import Hints
from pagetables.errors import InputError
from pagetables.images.elf_format import Note
from pagetables.images.opening import open_image
from tests.pagetables.images.elf_bytes import Core, Load, note
from tests.pagetables.test_dmar import QEMU

VMCOREINFO = b"OSRELEASE=6.12\nNUMBER(phys_base)=-16777216\nKERNELOFFSET=1f000000\n"
MAP = b"ffffffff81000000 T _text\nffffffff82000000 T _etext\n"


@pytest.fixture
def image(tmp_path):
    """An ELF core with a DMAR table where firmware leaves it, and with VMCOREINFO."""

    def make(table: bytes = QEMU, notes: bytes = b""):
        page = bytearray(0x2000)
        page[:20] = b"RSD PTR \0" + b"OEMID \0" + struct.pack("<I", 0xF0100)
        page[8] = -sum(page[:20]) & 0xFF
        page[0x100:0x128] = (b"RSDT" + struct.pack("<I", 40)).ljust(36, b"\0") + struct.pack("<I", 0xF0200)
        page[0x200 : 0x200 + len(table)] = table
        (tmp_path / "image").write_bytes(bytes(Core([Load(0xF0000, bytes(page))], notes=notes)))
        return open_image(tmp_path / "image")

    return make


def test_the_table_in_the_image_is_taken(image) -> None:
    known = gather(image())
    assert known.dmar is not None
    assert known.notes == ("the DMAR table is that of the image",)


def test_a_table_that_is_named_goes_first(image, tmp_path) -> None:
    (tmp_path / "dmar").write_bytes(QEMU[:9] + bytes([QEMU[9] ^ 1]) + QEMU[10:])
    known = gather(image(), dmar=str(tmp_path / "dmar"))
    assert known.notes == ("the DMAR table has faults of its own (1 complaint of `vtd dmar`)",)


def test_no_table_in_the_image_is_no_error(image) -> None:
    assert gather(image(table=b"DMAT")).dmar is None


def test_a_table_in_the_image_that_is_too_short_is_a_note(image, tmp_path) -> None:
    short = b"DMAR" + struct.pack("<I", 40) + bytes(32)
    assert gather(image(table=short)).notes[0].startswith("the DMAR table in the image was not read: ")
    (tmp_path / "dmar").write_bytes(short)
    with pytest.raises(InputError, match="expected a header of 48"):
        gather(image(), dmar=str(tmp_path / "dmar"))


def test_vmcoreinfo_tells_where_the_kernel_is(image, tmp_path) -> None:
    (tmp_path / "map").write_bytes(MAP)
    known = gather(image(notes=note(b"VMCOREINFO", 0, VMCOREINFO)), symbols=str(tmp_path / "map"))
    assert [one.start for one in known.symbols] == [0x100_0000 + 0x1F00_0000 - 0x100_0000]


def test_hints_go_before_vmcoreinfo(image, tmp_path) -> None:
    (tmp_path / "map").write_bytes(MAP)
    (tmp_path / "hints").write_text("kernel: {phys_base: 0}\n")
    notes = note(b"VMCOREINFO", 0, VMCOREINFO)
    known = gather(image(notes=notes), symbols=str(tmp_path / "map"), hints=str(tmp_path / "hints"))
    assert [one.start for one in known.symbols] == [0x100_0000 + 0x1F00_0000]


def test_what_vmcoreinfo_does_not_say_stays_unknown() -> None:
    assert kernel_place([Note("CORE", 1, VMCOREINFO), Note("VMCOREINFO", 0, b"KERNELOFFSET=zz\n")], Hints()) == Hints()
