"""Every declaration against the bit tables kept as data: same fields, same bits, same access, nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pagetables import layouts
from pagetables.bits import Bits, Ignored, Reserved, Word
from pagetables.errors import UnknownLayout
from pagetables.layouts import LAYOUTS, STRUCTURES, find, values
from pagetables.layouts.registers import REGISTERS, Register

TABLES = yaml.load(
    (Path(__file__).resolve().parents[2] / "fixtures" / "layouts" / "vtd-layouts.yaml").read_text(),
    getattr(yaml, "CSafeLoader", yaml.SafeLoader),
)
REGISTER_TABLES = {table["name"]: table for table in TABLES["registers"]}
# The ACPI structures are framed bytes, not words: test_dmar holds them.
STRUCTURE_TABLES = {table["name"]: table for table in TABLES["structures"] if table["group"] != "acpi"}
ALL_TABLES = {**STRUCTURE_TABLES, **REGISTER_TABLES}
BASES = {"CAP.FRO*16": "fro", "ECAP.IRO*16": "iro", "[PERFCFGOFF]": "perfcfgoff", None: None}


def test_every_table_is_declared_and_every_declaration_has_a_table() -> None:
    assert set(STRUCTURES) == set(STRUCTURE_TABLES)
    assert set(REGISTERS) == set(REGISTER_TABLES)
    assert set(LAYOUTS) == set(ALL_TABLES)


@pytest.mark.parametrize("name", ALL_TABLES)
def test_fields_lie_where_the_table_says(name: str) -> None:
    declared = [
        (field.label, field.hi, field.lo, field.access.value) for field in LAYOUTS[name].fields_by_name.values()
    ]
    assert declared == [(f["name"], f["hi"], f["lo"], f["access"]) for f in ALL_TABLES[name]["fields"]]
    assert LAYOUTS[name].width == ALL_TABLES[name]["width"]


@pytest.mark.parametrize("name", REGISTER_TABLES)
def test_registers_lie_where_the_table_says(name: str) -> None:
    table, register = REGISTER_TABLES[name], REGISTERS[name]
    assert register.mmio_offset == table["offset"]
    assert register.mmio_base == BASES[table.get("base")]
    assert (register.copies, register.spacing) == (table.get("count", 1), table.get("stride", 0))


@pytest.mark.parametrize("name", REGISTER_TABLES)
def test_registers_come_up_as_the_table_says(name: str) -> None:
    reset = REGISTER_TABLES[name]["reset"]
    assert REGISTERS[name].power_on == (None if reset == "impl" else int(reset, 0))


@pytest.mark.parametrize("name", REGISTER_TABLES)
def test_a_power_on_value_fits_and_sets_no_reserved_bit(name: str) -> None:
    register = REGISTERS[name]
    assert register(register.power_on or 0) & register.reserved_mask == 0


@pytest.mark.parametrize("name", LAYOUTS)
def test_reserved_and_ignored_fields_are_named_for_their_bits(name: str) -> None:
    for key, field in LAYOUTS[name].fields_by_name.items():
        if isinstance(field, Reserved):
            assert key == f"rsvd_{field.hi}_{field.lo}"
        if isinstance(field, Ignored) and key.startswith("ign"):
            assert key == f"ign_{field.hi}_{field.lo}"


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_field_with_a_meaning_says_it(name: str) -> None:
    silent = [
        key
        for key, field in LAYOUTS[name].fields_by_name.items()
        if not field.about and not isinstance(field, Reserved | Ignored)
    ]
    assert silent == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_of_values_fit_their_field(name: str) -> None:
    for field in LAYOUTS[name].fields_by_name.values():
        assert all(value <= field.limit for value in field.values or ())


def test_fixed_registers_do_not_overlap() -> None:
    taken: dict[int, str] = {}
    for register in REGISTERS.values():
        if register.mmio_base is not None:
            continue
        for copy in range(register.copies):
            start = register.mmio_offset + copy * register.spacing
            for byte in range(start, start + register.width // 8):
                assert taken.setdefault(byte, register.name) == register.name, hex(byte)


@pytest.mark.parametrize(
    "event, offset",
    [("FE", 0x38), ("IE", 0xA0), ("PE", 0xE0), ("PERFINTR", 0x328)],
)
def test_event_registers_share_one_shape(event: str, offset: int) -> None:
    names = [event + part for part in ("CTL", "DATA", "ADDR", "UADDR")]
    assert [REGISTERS[name].mmio_offset - offset for name in names] == [0, 4, 8, 12]
    assert REGISTERS[names[0]].power_on == 0x8000_0000  # masked


@pytest.mark.parametrize(
    "name, mask",
    [
        ("ss_pml5e", 0x4000_0000_0000_0880),
        ("ss_pml4e", 0x4000_0000_0000_0880),
        ("ss_pdpe_table", 0x4000_0000_0000_0800),
        ("ss_pde_table", 0x4000_0000_0000_0800),
        ("ss_pdpe_1g", 0x4000_0000_3FFF_F000),
        ("ss_pde_2m", 0x4000_0000_001F_F000),
        ("ss_pte", 0x4000_0000_0000_0000),
        ("fs_pml5e", 0x80),
        ("fs_pml4e", 0x80),
        ("fs_pdpe_table", 0),
        ("fs_pde_table", 0),
        ("fs_pdpe_1g", 0x3FFF_E000),
        ("fs_pde_2m", 0x001F_E000),
        ("fs_pte", 0),
    ],
)
def test_reserved_masks_of_paging_entries(name: str, mask: int) -> None:
    assert LAYOUTS[name].reserved_mask == mask


@pytest.mark.parametrize(
    "spelt", ["legacy-context-entry", "legacy_context_entry", "Legacy-Context_Entry", "LEGACY-CONTEXT-ENTRY"]
)
def test_a_layout_is_found_however_it_is_spelt(spelt: str) -> None:
    assert find(spelt) is layouts.LegacyContextEntry


def test_registers_are_found_by_the_manuals_name() -> None:
    assert find("gsts") is REGISTERS["GSTS"]
    assert find("MTRR-PHYSBASE") is REGISTERS["MTRR_PHYSBASE"]


def test_an_unknown_layout_is_refused_with_what_is_near() -> None:
    with pytest.raises(UnknownLayout, match=r"no layout is called 'legacy-contxt-entry'; did you mean legacy_context_"):
        find("legacy-contxt-entry")


def test_a_register_knows_its_place_whatever_it_inherits() -> None:
    assert issubclass(REGISTERS["IECTL"], REGISTERS["FECTL"])
    assert (REGISTERS["FECTL"].mmio_offset, REGISTERS["IECTL"].mmio_offset) == (0x38, 0xA0)
    assert Register.mmio_offset == 0


@pytest.mark.parametrize("name", values.__all__)
def test_names_of_values_are_used_by_some_field(name: str) -> None:
    used = {field.values for layout in LAYOUTS.values() for field in layout.fields_by_name.values()}
    assert getattr(values, name) in used


def test_the_package_exports_every_structure() -> None:
    exported = {value for value in map(layouts.__dict__.get, layouts.__all__) if isinstance(value, type)}
    assert exported == set(STRUCTURES.values())
    assert all(issubclass(layout, Word) for layout in exported)
    assert all(isinstance(field, Bits) for layout in exported for field in layout.fields_by_name.values())
