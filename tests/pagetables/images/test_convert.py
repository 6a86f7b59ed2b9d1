"""Images in other containers: nothing that is inspected changes, and nothing else leaks."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.errors import InputError, NoMemory
from pagetables.images.acpi import find_dmar
from pagetables.images.convert import container_of, convert
from pagetables.images.elf import write_elf
from pagetables.images.excerpt import Excerpt
from pagetables.images.inspection import inspect_unit, register_pages
from pagetables.images.opening import open_image
from pagetables.images.registers import RegisterPage
from pagetables.memory import PhysicalMemory

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "images"
NAMES = ["a-legacy-strict", "c-scalable", "i-firststage-k72", "t-vfio-superpages"]
OUTPUTS = ["out.elf", "out.elf.gz", "out.lime", "out.lime.gz", "out.raw"]
PAGE = 4096
SECRET = b"a secret of eight words, sixteen bytes at least"


def reports(image, units):
    """What inspection says of each unit."""
    return [inspect_unit(image, unit) for unit in units]


def fixture(name: str):
    """A recorded image, and its units."""
    image = open_image(FIXTURES / name / "image.elf.gz")
    return image, register_pages(image)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("tables_only", [False, True])
def test_what_is_inspected_stays_the_same(tmp_path, output, tables_only):
    image, units = fixture("c-scalable")
    done = convert(image, tmp_path / output, units, tables_only=tables_only)
    with open_image(tmp_path / output) as other:
        assert other.container == done.container
        for one, two in zip(reports(image, units), reports(other, units), strict=True):
            assert (one.spaces, one.interrupts, one.findings) == (two.spaces, two.interrupts, two.findings)


@pytest.mark.parametrize("name", NAMES)
def test_the_tables_alone_are_inspected_as_the_whole(tmp_path, name):
    image, units = fixture(name)
    convert(image, tmp_path / "out.elf", units, tables_only=True)
    with open_image(tmp_path / "out.elf") as other:
        kept = register_pages(other)  # from its own notes
        pages = [unit.data.ljust(PAGE, b"\0") for unit in units]
        assert [(page.base, page.data) for page in kept] == [(0xFED90000, page) for page in pages]
        for one, two in zip(reports(image, units), reports(other, kept), strict=True):
            assert (one.spaces, one.interrupts, one.findings) == (two.spaces, two.interrupts, two.findings)


def test_every_recording_is_inspected_alike_when_only_its_tables_are_kept(tmp_path, corpus):
    for path in sorted(corpus.glob("*/image.elf")):
        image = open_image(path)
        units = register_pages(image)
        out = tmp_path / f"{path.parent.name}.elf.gz"
        convert(image, out, units, tables_only=True)
        for one, two in zip(reports(image, units), reports(open_image(out), units), strict=True):
            assert (one.spaces, one.interrupts, one.findings) == (two.spaces, two.interrupts, two.findings)
        assert out.stat().st_size < 64 << 10


def crowded(tmp_path, name: str = "a-legacy-strict"):
    """A recorded image in the middle of other memory, which is full of secrets; and its units."""
    image, units = fixture(name)
    end = image.regions[-1][0] + image.regions[-1][1] + (1 << 20)
    memory = PhysicalMemory([(0, end)])
    crowd = (SECRET * (1 << 16))[: 1 << 20]
    for start in (1 << 20, end - (1 << 20)):
        memory.write(start, crowd)
    for start, size in image.regions:  # one page of secrets on either side of each table
        for at in (start - PAGE, start + size):
            memory.write(at, crowd[:PAGE])
    for start, size in image.regions:
        memory.write(start, image.read(start, size))
    write_elf(tmp_path / "crowded.elf", memory, [*(unit.note() for unit in units), ("CORE", 1, SECRET)])
    return open_image(tmp_path / "crowded.elf"), units


def test_nothing_but_tables_leaks_out(tmp_path):
    image, units = crowded(tmp_path)
    done = convert(image, tmp_path / "out.elf", units, tables_only=True)
    data = (tmp_path / "out.elf").read_bytes()
    assert SECRET not in image.path.encode()
    assert SECRET in (tmp_path / "crowded.elf").read_bytes()
    assert SECRET not in data
    assert SECRET[:16] not in data
    assert done.memory < image.regions[0][1] // 100
    small, _ = fixture("a-legacy-strict")
    with open_image(tmp_path / "out.elf") as other:
        assert reports(other, units) == reports(small, units)
        assert [note.owner for note in other.notes] == ["VTD"]


def test_a_page_of_which_a_part_is_read_is_zero_elsewhere():
    memory = PhysicalMemory([(0x1000, 0x3000)])
    memory.write(0x1000, b"s" * 0x3000)
    excerpt = Excerpt(memory)
    excerpt.load(0x1008)
    excerpt.read(0x1FFC, 8)
    excerpt.keep(0x3FC0, 64)
    kept = excerpt.kept()
    assert len(kept) == 3
    assert kept.read(0x1000, 0x1000) == bytes(8) + b"s" * 8 + bytes(0xFEC) + b"s" * 4
    assert kept.read(0x1FF8, 16) == bytes(4) + b"s" * 8 + bytes(4)
    assert kept.regions == ((0x1000, 0x3000),)
    with pytest.raises(NoMemory):
        kept.read(0x3FFF, 2)


def test_what_an_excerpt_lacks_stays_missing():
    excerpt = Excerpt(PhysicalMemory([(0x1000, 0x1000)]))
    assert excerpt.load(0x8000) is None
    with pytest.raises(NoMemory):
        excerpt.read(0x1FFC, 8)
    excerpt.keep(0x1000, 0x9000)
    assert excerpt.kept().regions == ((0x1000, 0x1000),)


def test_pages_of_zeros_are_kept_but_not_stored(tmp_path):
    image, units = fixture("c-scalable")  # its interrupt remapping table is mostly zero
    done = convert(image, tmp_path / "out.elf", units, tables_only=True)
    assert done.memory > 1 << 20
    assert done.stored < 512 << 10
    assert (tmp_path / "out.elf").stat().st_size < 512 << 10


def test_both_queues_are_kept_with_the_tables(tmp_path):
    memory = PhysicalMemory([(0, 1 << 20)])
    memory.write(0x10000, b"q" * 0x2000)
    memory.write(0x20000, b"r" * 0x1000)
    memory.write(0x30000, b"s" * 0x1000)
    page = bytearray(PAGE)
    struct.pack_into("<I", page, 0, 0x10)
    struct.pack_into("<Q", page, 0x90, 0x10000 | 1)  # IQA: 2 pages
    struct.pack_into("<Q", page, 0xD0, 0x20000)  # PQA
    write_elf(tmp_path / "in.elf", memory)
    convert(open_image(tmp_path / "in.elf"), tmp_path / "out.elf", (RegisterPage(0, bytes(page)),), tables_only=True)
    assert open_image(tmp_path / "out.elf").regions == ((0x10000, 0x2000), (0x20000, 0x1000))


def test_what_lies_behind_a_short_interrupt_table_does_not_leak(tmp_path):
    memory = PhysicalMemory([(0, 1 << 20)])
    memory.write(0x10000, b"s" * PAGE)
    memory.write(0x10000, struct.pack("<QQ", 0x230001, 0x10) + bytes(48))
    page = bytearray(PAGE)
    for at, value in ((0, 0x10), (0x1C, 0x01000000), (0xB8, 0x10000 | 1)):  # VER, GSTS.IRTPS, IRTA: 4 entries
        struct.pack_into("<I", page, at, value)
    write_elf(tmp_path / "in.elf", memory)
    convert(open_image(tmp_path / "in.elf"), tmp_path / "out.elf", (RegisterPage(0, bytes(page)),), tables_only=True)
    assert open_image(tmp_path / "out.elf").read(0x10000, PAGE) == memory.read(0x10000, 64) + bytes(PAGE - 64)


def acpi(extended: bool, pointer: int = 0xF5A40) -> PhysicalMemory:
    """Memory with a DMAR table as firmware leaves it: behind another table, in the middle of a page."""
    memory = PhysicalMemory([(0, 1 << 20), (0x7FE0000, 0x10000)])
    table = lambda name, body: (name + struct.pack("<I", 36 + len(body))).ljust(36, b"\1") + body  # noqa: E731
    dmar, other = table(b"DMAR", b"units" * 10), table(b"APIC", b"x")
    memory.write(0x7FE2A7B, dmar)
    memory.write(0x7FE3000, other)
    body = struct.pack("<QQ" if extended else "<II", 0x7FE3000, 0x7FE2A7B)
    memory.write(0x7FE1004, table(b"XSDT" if extended else b"RSDT", body))
    head = b"RSD PTR \0FIRMWA" + struct.pack("<BI", 2 * extended, 0 if extended else 0x7FE1004)
    head = bytearray(head + struct.pack("<IQI", 36, 0x7FE1004, 0))
    head[8] = -sum(head[:20]) & 0xFF
    memory.write(pointer, bytes(head))
    return memory


@pytest.mark.parametrize("extended", [False, True])
def test_the_dmar_table_is_found_the_way_firmware_left_it(extended):
    found = find_dmar(acpi(extended))
    assert found.table == b"DMAR" + struct.pack("<I", 86) + b"\1" * 28 + b"units" * 10
    assert found.parts[0] == (0xF5A40, 36 if extended else 20)
    assert found.parts[-1] == (0x7FE2A7B, 86)


def test_the_dmar_table_is_found_from_the_extended_bios_area():
    memory = acpi(True, pointer=0x9FC10)
    assert find_dmar(memory) is None
    memory.write(0x40E, struct.pack("<H", 0x9FC0))
    assert find_dmar(memory) is not None


@pytest.mark.parametrize(
    "damage",
    [
        (0xF5A40, b"rsd"),  # no pointer
        (0xF5A48, b"\0\0\0\0"),  # a wrong sum
        (0x7FE1008, struct.pack("<I", 1 << 31)),  # a length that lies
        (0x7FE1008, struct.pack("<I", 10)),
        (0x7FE1028, bytes(16)),  # no DMAR in it
        (0x7FE2A7F, struct.pack("<I", 1 << 20)),  # beyond the memory
    ],
)
def test_a_damaged_chain_leads_to_no_dmar_table(damage):
    memory = acpi(True)
    memory.write(*damage)
    assert find_dmar(memory) is None


@given(st.lists(st.tuples(st.sampled_from([0xF5A40, 0x7FE1000, 0x7FE2A70]), st.integers(0, 99), st.binary(max_size=9))))
def test_no_chain_does_more_than_lead_nowhere(writes):
    memory = acpi(True)
    for page, offset, data in writes:
        memory.write(page + offset, data)
    found = find_dmar(memory)
    assert found is None or found.table.startswith(b"DMAR")


def test_the_recorded_images_have_their_dmar_table(tmp_path, corpus):
    for path in sorted(corpus.glob("*/image.elf")):
        image, expected = open_image(path), (path.parent / "dmar.bin").read_bytes()
        assert find_dmar(image).table == expected
        convert(image, tmp_path / "out.elf", register_pages(image), tables_only=True)
        assert find_dmar(open_image(tmp_path / "out.elf")).table == expected


def test_compressed_output_is_the_same_each_time(tmp_path):
    image, units = fixture("a-legacy-strict")
    for name in ("one.elf.gz", "two.elf.gz"):
        convert(image, tmp_path / name, units)
    assert (tmp_path / "one.elf.gz").read_bytes() == (tmp_path / "two.elf.gz").read_bytes()
    convert(image, tmp_path / "plain.elf", units)
    assert gzip.decompress((tmp_path / "one.elf.gz").read_bytes()) == (tmp_path / "plain.elf").read_bytes()


def test_other_notes_stay_and_those_of_registers_are_replaced(tmp_path):
    image, (unit,) = fixture("a-legacy-strict")
    notes = [("CORE", 1, b"registers of a processor"), *image.notes]
    write_elf(tmp_path / "in.elf", PhysicalMemory([(0, PAGE)]), notes)
    convert(open_image(tmp_path / "in.elf"), tmp_path / "out.elf", (unit,))
    assert sorted(note.owner for note in open_image(tmp_path / "out.elf").notes) == ["CORE", "VTD"]
    convert(open_image(tmp_path / "in.elf"), tmp_path / "out.elf")
    owners = sorted(note.owner for note in image.notes)
    assert sorted(note.owner for note in open_image(tmp_path / "out.elf").notes) == sorted(["CORE", *owners])


def test_what_gets_lost_is_said(tmp_path):
    image, units = fixture("a-legacy-strict")
    assert convert(image, tmp_path / "out.elf", units).lost == ()
    (registers,) = convert(image, tmp_path / "out.lime", units).lost
    assert registers.startswith("a LiME file has no room for registers")
    registers, gaps = convert(image, tmp_path / "out.raw", units).lost
    assert gaps.startswith("raw memory has no gaps")


def test_progress_is_told_what_was_written(tmp_path):
    image, units = fixture("a-legacy-strict")
    told = []
    done = convert(image, tmp_path / "out.elf", units, progress=told.append)
    assert sum(told) == done.stored


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.elf", ("ELF core", False)),
        ("dir.raw/a.lime.gz", ("LiME dump", True)),
        (Path("x/y.raw"), ("raw memory", False)),
    ],
)
def test_the_name_says_the_container(name, expected):
    assert container_of(name) == expected


@pytest.mark.parametrize("name", ["a", "a.gz", "a.kdump", "elf", "a.elf.zst", ".elf.gz/x"])
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match=r"its name says no container; expected .elf, .lime, .raw, .gz appended"):
        container_of(name)


def test_an_image_without_any_of_the_tables_is_refused_and_nothing_is_written(tmp_path):
    write_elf(tmp_path / "in.elf", PhysicalMemory([(0, PAGE)]))
    unit = RegisterPage.of_root_table(0x5000)
    with pytest.raises(InputError, match="has none of the tables"):
        convert(open_image(tmp_path / "in.elf"), tmp_path / "out.elf", (unit,), tables_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.elf"]
