"""`vtd inspect` against what an independent walker found in recordings of real kernels."""

from __future__ import annotations

import json
import struct

import pytest

from cli.__main__ import main
from pagetables.images.elf import write_elf
from pagetables.memory import PhysicalMemory
from tests.conftest import FIXTURES
from tests.truth import FIXED, VARIANTS, Truth

IMAGES = FIXTURES / "images"


@pytest.fixture
def inspect(capsys):
    """Runs `vtd inspect --json`; the document, and optionally the status expected."""

    def run(*arguments, status=0):
        assert main(["inspect", *map(str, arguments), "--json"]) == status
        out, err = capsys.readouterr()
        assert err == ""
        assert out.count("\n") == 1
        return json.loads(out)["units"]

    return run


def coverage(space):
    pages = set()
    for one in space["mappings"]:
        start, target = int(one["iova"], 16), int(one["gpa"], 16)
        steps = range(0, one["size"], 4096)
        pages |= {(start + step, target + step, one["access"], one.get("user", False)) for step in steps}
    return pages


def equals(units, truth):
    (unit,) = units
    spaces = {(space["source_id"], space["pasid"]): space for space in unit["spaces"]}
    assert spaces.keys() == truth.spaces.keys()
    for name, expected in truth.spaces.items():
        found = spaces[name]
        for key in ("domain_id", "translation", "levels", "table", "pages"):
            assert found[key] == expected[key], (name, key)
        assert coverage(found) == expected["coverage"], name
    assert unit["mode"] == ("scalable" if truth.document["ttm"] else "legacy")
    assert unit["translation_enabled"] is truth.document["translation_enabled"]
    assert unit["interrupt_remapping_enabled"] is bool(truth.interrupts)
    assert unit["findings"] == []
    assert [interrupt(one) for one in unit["interrupts"]] == [recorded(one) for one in truth.interrupts]


def interrupt(one):
    names = ("index", "vector", "destination", "source_id", "source_validation", "source_qualifier", "entry")
    flags = (one["destination_mode"] == "logical", one["redirection_hint"], one["trigger"] == "level", one["posted"])
    return {name: one[name] for name in names} | {"flags": flags, "delivery": one["delivery"]}


def recorded(one):
    low, high = (int(qword, 16) for qword in one["raw"])
    deliveries = ("fixed", "lowest-priority", "smi", "reserved", "nmi", "init", "reserved", "extint")
    return {
        "index": one["index"],
        "vector": one["vector"],
        "destination": one["apic_id"],
        "source_id": one["sid"],
        "source_validation": one["svt"],
        "source_qualifier": one["sq"],
        "entry": hex(high << 64 | low),
        "flags": tuple(bool(one[name]) for name in ("dm", "rh", "tm", "im")),
        "delivery": deliveries[one["dlm"]],
    }


@pytest.mark.parametrize("variant", FIXED)
def test_an_image_says_what_the_independent_walk_found(inspect, variant):
    truth = Truth.fixture(variant)
    equals(inspect(truth.image), truth)
    equals(inspect(truth.image, "--registers", truth.registers), truth)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_recording_says_what_the_independent_walk_found(inspect, corpus, variant):
    truth = Truth.recording(corpus, variant)
    equals(inspect(truth.image), truth)
    equals(inspect(truth.image, "--registers", truth.registers), truth)


@pytest.mark.parametrize("variant", FIXED)
def test_the_root_table_address_alone_gives_the_same_spaces(inspect, variant):
    truth = Truth.fixture(variant)
    (known,) = inspect(truth.image)
    (unit,) = inspect(truth.image, "--rtaddr", truth.document["rtaddr"])
    assert unit["spaces"] == known["spaces"]
    assert unit["mode"] == known["mode"]
    assert (unit["register_base"], unit["interrupts"], unit["findings"]) == (None, [], [])


def test_leaves_of_each_size_are_counted(inspect):
    (unit,) = inspect(IMAGES / "t-vfio-superpages/image.elf.gz", "--source", "00:05.0")
    (space,) = unit["spaces"]
    assert space["pages"] == {"4096": 285, "2097152": 7, "1073741824": 1}
    assert {"iova": "0x80000000", "gpa": "0x40000000", "size": 1 << 30, "access": "rw"} in space["mappings"]
    assert {"iova": "0x10100000", "gpa": "0xe564000", "size": 4096, "access": "r"} in space["mappings"]


def test_neighbours_that_continue_each_other_are_one_mapping(inspect):
    (unit,) = inspect(IMAGES / "a-legacy-strict/image.elf.gz", "--source", "00:1f.0")
    assert unit["spaces"][0]["mappings"][0] == {"iova": "0x0", "gpa": "0x0", "size": 16 << 20, "access": "rw"}


def test_one_device_is_asked_for(inspect):
    image = IMAGES / "c-scalable/image.elf.gz"
    (unit,) = inspect(image, "--source", "00:04.0")
    assert {space["source_id"] for space in unit["spaces"]} == {"00:04.0"}
    assert {one["source_id"] for one in unit["interrupts"]} == {"00:04.0"}
    (unit,) = inspect(image, "--source", "00:04.0", "--pasid", "0")
    assert len(unit["spaces"]) == 1


@pytest.mark.parametrize(
    "question", [["--source", "0a:00.0"], ["--pasid", "7"], ["--source", "00:04.0", "--pasid", "1"]]
)
def test_a_device_without_tables_is_status_1(inspect, question):
    (unit,) = inspect(IMAGES / "c-scalable/image.elf.gz", *question, status=1)
    assert unit["spaces"] == []


def test_devices_are_sorted(inspect):
    (unit,) = inspect(IMAGES / "i-firststage-k72/image.elf.gz")
    names = [space["source_id"] for space in unit["spaces"]]
    assert names == sorted(names)


def test_a_pending_fault_is_shown(inspect, corpus):
    (unit,) = inspect(corpus / "h-fault/image.elf")
    (fault,) = unit["pending_faults"]
    assert fault["name"] == "write-denied"
    del fault["name"], fault["meaning"]
    assert fault == {"source_id": "00:05.0", "address": "0xabcde000", "reason": 5, "access": "w", "pasid": None}


def test_people_get_a_tree(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["inspect", str(IMAGES / "t-vfio-superpages/image.elf.gz")]) == 0
    out = capsys.readouterr().out
    for text in (
        "unit at 0xfed90000: legacy mode, root table 0x7f09000, translation on, interrupt remapping on",
        "00:05.0  domain 5  second-stage, 4 levels, table 0x9182e000: 285 x 4 KiB + 7 x 2 MiB + 1 x 1 GiB",
        "00:1f.2  domain 12  second-stage, 4 levels, table 0xad4f000: as 00:1f.0",
        "00:00.0  domain 2  second-stage, 4 levels, table 0x7f13000: nothing mapped",
        "16 MiB  rw",
        "more runs (--all)",
        "31 interrupt remapping entries",
        "total: 18 devices, 14 sets of tables, 5,551 leaves, 1.0 GiB mapped",
    ):
        assert text in out
    assert "\x1b" not in out


def test_all_lists_every_run(capsys):
    assert main(["inspect", str(IMAGES / "t-vfio-superpages/image.elf.gz"), "--all"]) == 0
    out = capsys.readouterr().out
    assert "0xfffffff00000" in out
    assert "(--all)" not in out


def unit_page(irta, cap=0x0800_0000_0000_0000):
    """A register page by hand: legacy mode, translation and interrupt remapping on, root table at 1000h."""
    page = bytearray(4096)
    struct.pack_into("<I4xQQII", page, 0, 0x10, cap | 0xF0602, 0xF00F4A, 0, 0xC700_0000)
    struct.pack_into("<Q", page, 0x20, 0x1000)
    struct.pack_into("<Q", page, 0xB8, irta)
    return bytes(page)


@pytest.fixture
def synthetic(tmp_path):
    """An image with an empty root table and the interrupt remapping entries given."""

    def make(entries, irta=0x2001, cap=0x0800_0000_0000_0000, base=0xFED9_0000):
        memory = PhysicalMemory([(0, 0x10000)])
        for index, (low, high) in entries.items():
            memory.write(0x2000 + 16 * index, struct.pack("<QQ", low, high))
        descriptor = (5 << 8 | 0) << 32 | 0xF2 << 16
        memory.write(0x8000 + 32, struct.pack("<Q", descriptor))
        write_elf(tmp_path / "out.elf", memory, [("VTD", 1, struct.pack("<Q", base) + unit_page(irta, cap))])
        return tmp_path / "out.elf"

    return make


POSTED = (0x55 << 16 | 1 << 15 | 1 << 14 | 1 | (0x8000 >> 6) << 38, 0x30)


def test_a_posted_entry_names_its_descriptor(inspect, synthetic):
    (unit,) = inspect(synthetic({3: POSTED}))
    (one,) = unit["interrupts"]
    assert (one["index"], one["posted"], one["vector"], one["descriptor"]) == (3, True, 0x55, "0x8000")
    assert (one["destination"], one["notification_vector"], one["urgent"]) == (5, 0xF2, True)
    assert one["source_id"] == "00:06.0"
    assert unit["findings"] == []


def test_a_posted_entry_whose_descriptor_was_not_dumped_has_no_destination(inspect, synthetic):
    nowhere = POSTED[0] & ~(0x3FFFFFF << 38) | (0x4000_0000 >> 6) << 38
    (unit,) = inspect(synthetic({0: (nowhere, 0x30)}))
    (one,) = unit["interrupts"]
    assert (one["destination"], one["notification_vector"], one["descriptor"]) == (None, None, "0x40000000")


def test_a_posted_entry_without_posting_is_a_finding(inspect, synthetic):
    (unit,) = inspect(synthetic({3: POSTED}, cap=0))
    (finding,) = unit["findings"]
    assert finding["kind"] == "bad-entry"
    assert finding["at"] == "0x2030"
    assert "CAP.PI=0" in finding["message"]


def test_reserved_bits_of_an_entry_are_a_finding(inspect, synthetic):
    (unit,) = inspect(synthetic({0: (0x24_0001 | 3 << 40, 0), 1: (0x24_0001 | 3 << 32, 0)}))
    (finding,) = unit["findings"]
    assert "entry 1 at 0x2010 has reserved bits set: 0x300000000 (fault 24h)" in finding["message"]
    assert [one["destination"] for one in unit["interrupts"]] == [3, 0]


def test_extended_destinations_have_32_bits(inspect, synthetic):
    (unit,) = inspect(synthetic({0: (0x24_0001 | 0x1_0003 << 32, 0)}, irta=0x2801))
    assert unit["interrupts"][0]["destination"] == 0x1_0003
    assert unit["findings"] == []


def test_only_entries_of_the_table_are_listed(inspect, synthetic):
    (unit,) = inspect(synthetic({3: (0x24_0001, 0), 4: (0x25_0001, 0)}, irta=0x2001))
    assert [one["index"] for one in unit["interrupts"]] == [3]


def test_an_interrupt_table_outside_memory_is_a_finding(inspect, synthetic):
    (unit,) = inspect(synthetic({}, irta=0xF00F))
    (finding,) = unit["findings"]
    assert "255 pages of the interrupt remapping table are outside memory, the first at 0x10000" in finding["message"]


def test_translation_that_is_off_is_said(inspect, tmp_path):
    page = bytearray(unit_page(0))
    struct.pack_into("<I", page, 0x1C, 0)
    write_elf(tmp_path / "off.elf", PhysicalMemory([(0, 0x4000)]), [("VTD", 1, struct.pack("<Q", 0) + page)])
    (unit,) = inspect(tmp_path / "off.elf")
    assert (unit["translation_enabled"], unit["spaces"], unit["interrupts"]) == (False, [], [])


def test_each_unit_of_an_image_is_shown(inspect, tmp_path):
    notes = [("VTD", 1, struct.pack("<Q", base) + unit_page(0x2000)) for base in (0xFED9_0000, 0xFED9_1000)]
    write_elf(tmp_path / "two.elf", PhysicalMemory([(0, 0x4000)]), notes)
    assert [unit["register_base"] for unit in inspect(tmp_path / "two.elf")] == ["0xfed90000", "0xfed91000"]
