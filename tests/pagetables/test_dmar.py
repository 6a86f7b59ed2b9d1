"""The ACPI DMAR table: every byte kept, every lie in it named by its offset."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pagetables.errors import InputError, LayoutError
from pagetables.layouts import dmar
from pagetables.layouts.dmar import Andd, Atsr, DeviceScope, DmarTable, Drhd, Rhsa, Rmrr, Satc, ScopeType, Sidp, Unknown
from pagetables.layouts.dmar.frames import FRAMES
from tests.recordings import VARIANTS

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
QEMU = (FIXTURES / "dmar" / "qemu-7.2-q35.bin").read_bytes()

SCOPE = struct.pack("<6B2B", 1, 8, 0, 0, 0, 0x02, 0x1F, 7)  # endpoint 02:1f.7
LONG_SCOPE = struct.pack("<6B4B", 2, 10, 0, 0, 0, 0x00, 0x1C, 0, 0x00, 1)  # bridge 00:1c.0, then 00.1 below it
IOAPIC = struct.pack("<6B2B", 3, 8, 0, 0, 9, 0xF0, 0x1F, 0)
STRUCTURES = {
    "drhd": struct.pack("<HHBBHQ", 0, 16 + 8 + 10, 1, 2, 5, 0xFED9_0000) + SCOPE + LONG_SCOPE,
    "rmrr": struct.pack("<HHHHQQ", 1, 24 + 8, 0xABCD, 5, 0x7D00_0000, 0x7D7F_FFFF) + SCOPE,
    "atsr": struct.pack("<HHBBH", 2, 8 + 10, 1, 0xEE, 5) + LONG_SCOPE,
    "rhsa": struct.pack("<HHIQI", 3, 20, 0x1234_5678, 0xFED9_0000, 1),
    "andd": struct.pack("<HH3sB", 4, 8 + 8, b"\1\2\3", 7) + b"\\_SB.I\0\xee",
    "satc": struct.pack("<HHBBH", 5, 8 + 8, 1, 0xEE, 5) + SCOPE,
    "sidp": struct.pack("<HHHH", 6, 8 + 8, 0xABCD, 5) + struct.pack("<6B2B", 1, 8, 0b11, 0, 0, 0x02, 0x1F, 7),
    "unknown": struct.pack("<HH", 0x77, 7) + b"abc",
}


def table(*structures: bytes, length: int | None = None, signature: bytes = b"DMAR", haw: int = 38) -> bytes:
    """A table with a right checksum, packed without our frames."""
    body = b"".join(structures)
    size = 48 + len(body) if length is None else length
    head = struct.pack(
        "<4sIBB6s8sI4sIBB10s", signature, size, 1, 0, b"OEMID ", b"OEMTABLE", 7, b"CRTR", 9, haw, 0b101, b"r" * 10
    )
    data = bytearray(head + body)
    data[9] = -sum(data) & 0xFF
    return bytes(data)


def only(data: bytes) -> Any:
    (structure,) = dmar.parse(table(data)).structures
    return structure


# -- The frames against the tables kept as data


ACPI_TABLES = {
    t["name"]: t
    for t in yaml.load(
        (FIXTURES / "layouts" / "vtd-layouts.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )["structures"]
    if t["group"] == "acpi"
}


def test_every_acpi_table_has_a_frame() -> None:
    assert set(FRAMES) == set(ACPI_TABLES)


@pytest.mark.parametrize("name", ACPI_TABLES)
def test_frame_fields_lie_where_the_table_says(name: str) -> None:
    declared, at = [], 0
    for field in FRAMES[name].subcons:
        declared.append((field.name.upper(), at + 8 * field.sizeof() - 1, at))
        at += 8 * field.sizeof()
    assert declared == [(f["name"], f["hi"], f["lo"]) for f in ACPI_TABLES[name]["fields"]]
    assert at == ACPI_TABLES[name]["width"]


# -- Reading


def test_qemus_table_names_one_unit_and_its_devices() -> None:
    read = dmar.parse(QEMU)
    (unit,) = read.units
    assert (read.haw, read.oemid, read.interrupt_remapping) == (39, b"BOCHS ", False)
    assert (unit.base, unit.segment, unit.register_bytes, unit.include_all) == (0xFED9_0000, 0, 4096, False)
    assert len(unit.scopes) == 14
    assert unit.scopes[0] == DeviceScope(ScopeType.IOAPIC, 0xFF, ((0, 0),))
    assert unit.scopes[-2].source_id == 0x00FA


def test_a_scope_behind_bridges_has_no_source_id() -> None:
    assert [scope.source_id for scope in only(STRUCTURES["drhd"]).scopes] == [0x02FF, None]


def test_every_kind_of_structure_is_read() -> None:
    scope = DeviceScope(ScopeType.ENDPOINT, 2, ((0x1F, 7),))
    long_scope = DeviceScope(ScopeType.BRIDGE, 0, ((0x1C, 0), (0, 1)))
    assert dmar.parse(table(*STRUCTURES.values())).structures == (
        Drhd(0xFED9_0000, segment=5, flags=1, size=2, scopes=(scope, long_scope)),
        Rmrr(0x7D00_0000, 0x7D7F_FFFF, segment=5, rsvd=0xABCD, scopes=(scope,)),
        Atsr(segment=5, flags=1, rsvd=0xEE, scopes=(long_scope,)),
        Rhsa(0xFED9_0000, pxm=1, rsvd=0x1234_5678),
        Andd(7, b"\\_SB.I", rsvd=0x03_0201, padding=b"\xee"),
        Satc(segment=5, flags=1, rsvd=0xEE, scopes=(scope,)),
        Sidp(segment=5, rsvd=0xABCD, scopes=(DeviceScope(ScopeType.ENDPOINT, 2, ((0x1F, 7),), flags=0b11),)),
        Unknown(0x77, b"abc"),
    )


def test_the_header_is_read() -> None:
    read = dmar.parse(table())
    assert (read.haw, read.revision, read.oem_table_id, read.oem_revision) == (39, 1, b"OEMTABLE", 7)
    assert (read.creator_id, read.creator_revision, read.structures) == (b"CRTR", 9, ())
    assert (read.interrupt_remapping, read.x2apic_opt_out, read.dma_opt_in) == (True, False, True)


def test_flags_of_structures_are_questions() -> None:
    assert only(STRUCTURES["drhd"]).include_all
    assert only(STRUCTURES["drhd"]).register_bytes == 4 * 4096
    assert only(STRUCTURES["atsr"]).all_ports
    assert only(STRUCTURES["satc"]).atc_required


def test_an_ioapic_keeps_its_id() -> None:
    (scope,) = only(struct.pack("<HHBBHQ", 0, 24, 0, 0, 0, 0xFED9_0000) + IOAPIC).scopes
    assert (scope.type, scope.enum_id, scope.source_id) == (ScopeType.IOAPIC, 9, 0xF0F8)


# -- Every byte comes back


@pytest.mark.parametrize("name", STRUCTURES)
def test_each_structure_is_written_as_it_was_read(name: str) -> None:
    data = table(STRUCTURES[name])
    assert dmar.build(dmar.parse(data)) == data


def test_a_table_of_everything_is_written_as_it_was_read() -> None:
    data = table(*STRUCTURES.values())
    assert dmar.build(dmar.parse(data)) == data


def test_qemus_table_is_written_as_it_was_read() -> None:
    assert dmar.build(dmar.parse(QEMU)) == QEMU


@pytest.mark.parametrize("variant", VARIANTS)
def test_recorded_tables_are_written_as_they_were_read(corpus: Path, variant: str) -> None:
    data = (corpus / variant / "dmar.bin").read_bytes()
    assert dmar.build(dmar.parse(data)) == data


def test_a_table_of_ours_has_a_right_checksum_and_length() -> None:
    data = dmar.build(DmarTable(haw=46, structures=(Drhd(base=0xFED9_0000, flags=1),)))
    assert sum(data) % 256 == 0
    assert struct.unpack_from("<4sI", data) == (b"DMAR", 64)
    assert data[36] == 45
    assert data[48:] == struct.pack("<HHBBHQ", 0, 16, 1, 0, 0, 0xFED9_0000)


# -- Lies are named by their offset


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "0 bytes, expected a header of 48"),
        (QEMU[:47], "47 bytes, expected a header of 48"),
        (QEMU[:-1], r"says it has 176 bytes \(offset 4\), but there are 175"),
        (QEMU + b"\0", r"says it has 176 bytes \(offset 4\), but there are 177"),
        (table(signature=b"APIC"), r"signature b'APIC' at offset 0, expected b'DMAR'"),
        (QEMU[:9] + b"\0" + QEMU[10:], "checksum 0x00 at offset 9, expected 0xe7"),
        (table(b"\0\0\0"), "3 bytes left at offset 0x30, too few for a structure"),
        (table(struct.pack("<HH", 0, 0)), "structure at offset 0x30 has length 0, expected 4 or more"),
        (table(struct.pack("<HH", 9, 3)), "structure at offset 0x30 has length 3, expected 4 or more"),
        (table(STRUCTURES["rhsa"], struct.pack("<HH", 0, 16)), "at offset 0x44 has length 16, 4 are left"),
        (table(struct.pack("<HH8x", 0, 12)), "DRHD at offset 0x30 has length 12, expected 16 or more"),
        (table(struct.pack("<HH20x", 3, 24)), "RHSA at offset 0x30 has length 24, expected 20"),
        (table(struct.pack("<HH4x3s", 4, 11, b"abc")), "the name in the ANDD at offset 0x30 does not end in a NUL"),
        (table(struct.pack("<HH4x5x", 2, 13)), "device scope at offset 0x38: 5 bytes left, expected 8 or more"),
        (
            table(struct.pack("<HH4x8B", 2, 16, 1, 0, *bytes(6))),
            "device scope at offset 0x38: length 0, expected 6 and",
        ),
        (
            table(struct.pack("<HH4x8B", 2, 16, 1, 6, *bytes(6))),
            "length 6, expected 6 and 2 for each hop, at least one",
        ),
        (table(struct.pack("<HH4x9B", 2, 17, 1, 9, *bytes(7))), "length 9, expected 6 and 2 for each hop"),
        (table(struct.pack("<HH4x8B", 2, 16, 1, 10, *bytes(6))), "0x38: length 10, but 8 bytes are left"),
    ],
)
def test_a_lie_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dmar.parse(data)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (DmarTable(39, (Drhd(base=1 << 64),)), "base"),
        (DmarTable(39, (), oemid=b"1234567"), "expected 6, found 7"),
        (DmarTable(39, (Unknown(9, bytes(1 << 16)),)), "length"),
        (DmarTable(300, ()), "haw"),
        (DmarTable(39, (Andd(1, b"a\0b"),)), r"the name b'a\\x00b' in an ANDD holds a NUL"),
        (DmarTable(39, (Atsr(scopes=(DeviceScope(1, 0, ()),)),)), "a device scope has no path"),
        (DmarTable(39, (Atsr(scopes=(DeviceScope(1, 0, ((300, 0),)),)),)), "must be in range"),
    ],
)
def test_a_value_that_does_not_fit_is_not_written(wrong: DmarTable, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        dmar.build(wrong)


@given(st.lists(st.sampled_from(sorted(STRUCTURES)), max_size=4), st.data())
def test_damage_is_refused_or_kept_but_never_a_surprise(names: list[str], data: st.DataObject) -> None:
    damaged = bytearray(table(*(STRUCTURES[name] for name in names)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(48, len(damaged)) if names else st.just(47)) - 1] = data.draw(st.integers(0, 255))
    damaged[9] = (damaged[9] - sum(damaged)) & 0xFF
    try:
        read = dmar.parse(bytes(damaged))
    except InputError:
        return
    assert dmar.build(read) == damaged
