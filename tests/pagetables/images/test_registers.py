"""The registers of a unit: from the file beside an image, from its notes, from RTADDR alone."""

from __future__ import annotations

import gzip
import json
import struct

import pytest

from pagetables.errors import ImageError
from pagetables.images.elf_format import Note
from pagetables.images.opening import open_image
from pagetables.images.registers import RegisterPage, load_registers
from pagetables.layouts.registers import Capability, FaultRecord, IotlbCommand, Version
from tests.conftest import FIXTURES

CAP, ECAP = 0xD2008C22260206, 0xF00F4A  # as QEMU 7.2 says them: FRO 0x22, IRO 0xF


def page(size=0x230):
    """A register page by hand: version 1.0, translating, one fault record."""
    data = bytearray(size)
    struct.pack_into("<IIQQIIQ", data, 0, 0x10, 0, CAP, ECAP, 0, 0xC700_0000, 0x7BDB400)
    struct.pack_into("<Q", data, 0x90, 0x42E4801)
    struct.pack_into("<Q", data, 0xB8, 0x430000F)
    struct.pack_into("<QQ", data, 0x220, 0xABCDE000, 0x8000_0005_0000_0028)
    return bytes(data)


def check(registers):
    assert (registers.root_table.rta, registers.root_table.ttm) == (0x7BDB, 1)
    assert (registers.status.tes, registers.status.ires, registers.status.rtps) == (1, 1, 1)
    assert (registers.queue.iqa, registers.queue.qs, registers.queue.dw) == (0x42E4, 1, 1)
    assert (registers.interrupt_table.irta, registers.interrupt_table.s) == (0x4300, 15)
    assert registers.capabilities(46).haw == 46
    assert int(registers.capabilities().cap) == CAP


@pytest.mark.parametrize("size", [0x230, 0x1000])
def test_a_raw_page_is_read(tmp_path, size):
    (tmp_path / "page").write_bytes(page(size))
    check(load_registers(tmp_path / "page"))


def test_a_compressed_page_is_read(tmp_path):
    (tmp_path / "page.gz").write_bytes(gzip.compress(page()))
    check(load_registers(tmp_path / "page.gz"))


def test_raw_bytes_in_json_are_preferred(tmp_path):
    document = {"base": "0xfed91000", "raw_hex": page().hex(), "regs": {"RTADDR": "0x1"}}
    (tmp_path / "registers.json").write_text(json.dumps(document))
    registers = load_registers(tmp_path / "registers.json")
    assert registers.base == 0xFED9_1000
    check(registers)


def test_values_in_json_are_enough(tmp_path):
    values = {"VER": 0x10, "CAP": CAP, "ECAP": ECAP, "GSTS": 0xC700_0000, "RTADDR": 0x7BDB400, "IQA": 0x42E4801}
    values |= {"IRTA": 0x430000F, "IOTLB_offset": 0xF0}
    document = {"regs": {name: hex(value) for name, value in values.items()}}
    (tmp_path / "registers.json").write_text(json.dumps(document))
    registers = load_registers(tmp_path / "registers.json")
    check(registers)
    assert registers.base == 0xFED9_0000


@pytest.mark.parametrize("folder", sorted((FIXTURES / "images").iterdir()), ids=lambda folder: folder.name)
def test_the_note_in_an_image_is_the_file_beside_it(folder):
    with open_image(folder / "image.elf.gz") as image:
        assert RegisterPage.from_notes(image.notes) == (load_registers(folder / "registers.json"),)


def test_our_note_holds_the_base_and_the_page():
    ours = Note("VTD", 1, struct.pack("<Q", 0xFED9_3000) + page(0x1000))
    (registers,) = RegisterPage.from_notes([Note("CORE", 1, bytes(336)), ours, Note("VTD", 2, b"")])
    assert registers.base == 0xFED9_3000
    check(registers)
    assert registers.note() == ("VTD", 1, ours.data)


def test_there_is_one_note_for_each_unit():
    notes = [Note("VTD", 1, struct.pack("<Q", base) + page(0x1000)) for base in (0xFED9_0000, 0xFED9_1000)]
    assert [registers.base for registers in RegisterPage.from_notes(notes)] == [0xFED9_0000, 0xFED9_1000]


def test_the_root_table_address_alone_makes_a_unit_that_can_do_everything():
    registers = RegisterPage.of_root_table(0x7BDB400)
    assert registers.base is None
    assert (registers.root_table.rta, registers.root_table.ttm) == (0x7BDB, 1)
    assert registers.status.tes
    assert not registers.status.ires
    capabilities = registers.capabilities()
    assert capabilities.second_stage_levels == {3, 4, 5}
    assert capabilities.second_stage_leaf_levels == {1, 2, 3}
    assert capabilities.mgaw == 57


def test_moved_registers_are_found_where_the_capabilities_say():
    data = bytearray(page())
    struct.pack_into("<Q", data, 0xF8, 1 << 63)
    registers = RegisterPage(0, bytes(data))
    assert registers.read(IotlbCommand).ivt == 1
    assert registers.read(FaultRecord).fr == 5


def test_pending_faults_are_listed():
    (fault,) = RegisterPage(0, page()).pending_faults()
    assert (fault.sid, fault.fr, fault.fi) == (0x28, 5, 0xABCDE)


def test_fault_records_behind_the_bytes_are_not_there():
    registers = RegisterPage(0, page()[:0x100])
    assert not registers.has(FaultRecord)
    assert list(registers.pending_faults()) == []
    with pytest.raises(ImageError, match="FRCD is at 0x220, but only 0x100 register bytes are there"):
        registers.read(FaultRecord)
    assert registers.has(Version)
    assert registers.has(Capability)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty; expected registers.json"),
        (b"\x7fELF" + bytes(0x1FC), "an ELF file, not registers"),
        (b"x" * 0x80, "128 bytes are no register page"),
        (b"\x10\0\0\0" + bytes(0x22D), "561 bytes are no register page"),
        (bytes(0x2000), "8192 bytes are no register page"),
        (bytes(0x1000), "0x00000000 at offset 0 is no VT-d version"),
        (b"a line of text\n" * 64, "at offset 0 is no VT-d version"),
        (b"{", "not registers.json"),
        (b'{"a": 1}', "neither `raw_hex` nor `regs`"),
        (b'{"raw_hex": "12"}', "`raw_hex` has 1 bytes"),
        (b'{"raw_hex": "zz"}', "not registers.json"),
        (b'{"raw_hex": 5}', "not registers.json"),
        (b'{"regs": {"RTADDR": "0x1ffffffffffffffff"}}', "does not fit 64 bits"),
        (b'{"regs": {"RTADDR": 7}}', "not registers.json"),
        (b'{"regs": {"RTADDR": "-1"}}', "does not fit 64 bits"),
        (b'{"regs": []}', "not registers.json"),
        (b'{"base": null, "raw_hex": ""}', "not registers.json"),
        (b'{"regs": ' * 100_000, "not registers.json"),
        (b"\xff{", "no register page"),
    ],
    ids=repr,
)
def test_what_is_no_register_file_is_said_to_be_what_it_is(tmp_path, data, message):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ImageError, match=message) as error:
        load_registers(tmp_path / "file")
    assert "\n" not in str(error.value)
    assert "file: " in str(error.value)
