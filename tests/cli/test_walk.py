"""`vtd walk`: a page of each size, refusals, and the steps that lead there, in tables that Linux wrote."""

from __future__ import annotations

import json
import struct

import pytest

from cli.__main__ import main
from pagetables.fault import FaultReason
from pagetables.images.elf import write_elf
from pagetables.memory import PhysicalMemory
from tests.conftest import FIXTURES
from tests.truth import FIXED, Truth

IMAGES = FIXTURES / "images"
VFIO = IMAGES / "t-vfio-superpages/image.elf.gz"


@pytest.fixture
def walk(capsys):
    """Runs `vtd walk --json`; the document."""

    def run(*arguments, status=0):
        assert main(["walk", *map(str, arguments), "--json"]) == status
        out, err = capsys.readouterr()
        assert err == ""
        return json.loads(out)

    return run


def structures(answer):
    return [step["structure"] for step in answer["steps"]]


def test_a_4_kib_page(walk):
    answer = walk(VFIO, "00:05.0", "0x10000123")
    assert (answer["outcome"], answer["gpa"], answer["page_size"]) == ("translated", "0xe566123", 4096)
    assert answer["access"] == "rw"
    assert structures(answer) == [
        "legacy-root-entry",
        "legacy-context-entry",
        "ss-pml4e",
        "ss-pdpe-table",
        "ss-pde-table",
        "ss-pte",
    ]
    assert [step["level"] for step in answer["steps"]] == [0, 0, 4, 3, 2, 1]


def test_a_2_mib_page(walk):
    answer = walk(VFIO, "00:05.0", "0x20212345")
    assert (answer["gpa"], answer["page_size"]) == ("0x9612345", 1 << 21)
    assert structures(answer)[-1] == "ss-pde-2m"


def test_a_1_gib_page(walk):
    answer = walk(VFIO, "00:05.0", "0x80abcdef")
    assert (answer["gpa"], answer["page_size"]) == ("0x40abcdef", 1 << 30)
    assert structures(answer)[-1] == "ss-pdpe-1g"


def test_a_read_only_page_refuses_a_write(walk):
    assert walk(VFIO, "00:05.0", "0x10100000")["access"] == "r"
    answer = walk(VFIO, "00:05.0", "0x10100000", "--access", "w", status=1)
    assert (answer["outcome"], answer["reason"], answer["condition"]) == ("fault", 5, "LGN.2")
    assert answer["meaning"] == FaultReason.WRITE_DENIED.meaning
    assert (answer["at"], answer["level"], answer["recorded"]) == ("0x9ff91800", 1, True)
    assert "write permission" in answer["remedy"]
    assert answer["steps"][-1]["fields"]["w"] == 0


def test_an_unmapped_address_names_the_empty_entry(walk):
    answer = walk(VFIO, "00:05.0", "0x12345000", status=1)
    assert (answer["reason"], answer["name"], answer["at"]) == (6, "read-denied", "0x9ffb0488")
    assert answer["remedy"] == "0x12345000 must be mapped: the entry at 0x9ffb0488 is empty"
    assert answer["steps"][-1]["entry"] == "0x0"


def test_an_address_beyond_the_width_is_a_fault(walk):
    answer = walk(VFIO, "00:05.0", "0x1000000000000", status=1)
    assert (answer["reason"], answer["condition"]) == (4, "LGN.1")
    assert walk(VFIO, "00:05.0", "0xffffffffffffffff", status=1)["reason"] == 4


def test_a_device_that_is_not_attached_is_a_fault(walk):
    answer = walk(VFIO, "00:06.7", "0x1000", status=1)
    assert (answer["reason"], structures(answer)) == (2, ["legacy-root-entry", "legacy-context-entry"])
    answer = walk(VFIO, "80:00.0", "0x1000", status=1)
    assert (answer["reason"], structures(answer)) == (1, ["legacy-root-entry"])


def test_the_alias_that_linux_leaves_out_in_scalable_mode(walk):
    answer = walk(IMAGES / "c-scalable/image.elf.gz", "03:00.0", "0x1000", status=1)
    assert (answer["reason"], answer["condition"]) == (0x41, "SCT.2")
    assert "alias" in answer["remedy"]


def test_scalable_mode_goes_through_directory_and_pasid_table(walk):
    image = IMAGES / "c-scalable/image.elf.gz"
    answer = walk(image, "00:03.0", "0xfffc0000")
    assert structures(answer)[:4] == ["sm-root-entry", "sm-context-entry", "pasid-dir-entry", "pasid-table-entry"]
    assert answer["gpa"] == "0x7c02000"
    assert answer["steps"][3]["fields"]["did"] == 3
    assert walk(image, "00:03.0", "0xfffc0000", "--pasid", "0", status=1)["reason"] == 0x45  # PASIDE=0


def test_a_pasid_in_legacy_mode_is_a_fault(walk):
    assert walk(VFIO, "00:05.0", "0x10000000", "--pasid", "1", status=1)["reason"] == 0x31


def test_first_stage_tables_are_walked(walk):
    answer = walk(IMAGES / "i-firststage-k72/image.elf.gz", "00:1f.0", "0x1000")
    assert (answer["gpa"], answer["page_size"], structures(answer)[-1]) == ("0x1000", 1 << 21, "fs-pde-2m")


@pytest.mark.parametrize("variant", FIXED)
def test_walks_agree_with_the_independent_walk(walk, variant):
    truth = Truth.fixture(variant)
    for (device, _), space in truth.spaces.items():
        for iova, gpa, access, _ in sorted(space["coverage"])[:: max(1, len(space["coverage"]) // 3)]:
            answer = walk(truth.image, device, hex(iova + 0xABC))
            assert (answer["gpa"], answer["access"]) == (hex(gpa + 0xABC), access)


def test_registers_may_come_from_a_file_or_be_told(walk):
    told = walk(VFIO, "00:05.0", "0x10000000", "--rtaddr", "0x7f09000")
    read = walk(VFIO, "00:05.0", "0x10000000", "--registers", IMAGES / "t-vfio-superpages/registers.json")
    assert (told["gpa"], told["register_base"]) == ("0xe566000", None)
    assert (read["gpa"], read["register_base"]) == ("0xe566000", "0xfed90000")


def unit_note(base, rtaddr, status=0xC000_0000):
    page = bytearray(4096)
    struct.pack_into("<I4xQQIIQ", page, 0, 0x10, 0x00D2_008C_222F_0606, 0xF00F4A, 0, status, rtaddr)
    return "VTD", 1, struct.pack("<Q", base) + bytes(page)


@pytest.fixture
def two_units(tmp_path):
    """Two units: only the second one knows 00:03.0, and passes it through."""
    memory = PhysicalMemory([(0, 0x10000)])
    memory.write(0x2000, struct.pack("<Q", 0x3001))
    memory.write(0x3000 + 16 * 0x18, struct.pack("<QQ", 2 << 2 | 1, 7 << 8 | 2))
    notes = [unit_note(0xFED9_0000, 0x1000), unit_note(0xFED9_1000, 0x2000)]
    write_elf(tmp_path / "two.elf", memory, notes)
    return tmp_path / "two.elf"


def test_the_unit_that_knows_the_device_answers(walk, two_units):
    answer = walk(two_units, "00:03.0", "0x1234")
    assert (answer["outcome"], answer["gpa"], answer["register_base"]) == ("translated", "0x1234", "0xfed91000")
    assert walk(two_units, "00:04.0", "0x1234", status=1)["register_base"] == "0xfed90000"


def test_translation_that_is_off_is_noted(walk, tmp_path):
    write_elf(tmp_path / "off.elf", PhysicalMemory([(0, 0x4000)]), [unit_note(0, 0x1000, status=0)])
    answer = walk(tmp_path / "off.elf", "00:03.0", "0x1000", status=1)
    assert "translation is off (GSTS.TES=0)" in answer["notes"][0]


def test_interrupt_addresses_are_noted(walk):
    answer = walk(VFIO, "00:05.0", "0xfee00018", "--access", "w", status=1)
    assert "is an interrupt" in answer["notes"][0]


def test_people_see_every_step_and_the_verdict(capsys):
    assert main(["walk", str(VFIO), "00:05.0", "0x10100000", "--access", "w"]) == 1
    out = capsys.readouterr().out
    for text in (
        "write of 0x10100000 by 00:05.0",
        "1. legacy-root-entry at 0x7f09000, index 0x0",
        "2. legacy-context-entry at 0x7f14280, index 0x28",
        "P SSPTPTR=0x9182e000 AW=0x2 DID=0x5",
        "6. ss-pte (level 1) at 0x9ff91800, index 0x100",
        "0x000000000e564001",
        "R ADDR=0xe564000",
        "fault 0x05 write-denied (condition LGN.2), decided at 0x9ff91800",
        "meaning: ",
        "to pass: write permission must be granted",
    ):
        assert text in out
    assert "\x1b" not in out
    assert main(["walk", str(VFIO), "00:05.0", "0x80000000"]) == 0
    assert "translated: 0x40000000, in a page of 1 GiB, access rw" in capsys.readouterr().out
