"""Registers over bytes: sizes and halves, access semantics, and handlers that cannot be misspelt."""

from __future__ import annotations

import pytest

from emulator.engine import load_engine
from emulator.profile import load_profile, parse_profile
from emulator.unit import RemappingUnit
from emulator.unit.register_file import Copies, RegisterFile, Slot, on_write
from emulator.unit.registers import UnitRegisters
from pagetables.bits import RO, ROS, RW, RW1C, RW1CS, WO, Reserved
from pagetables.errors import LayoutError, UnknownField
from pagetables.layouts.registers import REGISTERS, FaultRecord, Register
from pagetables.memory import PhysicalMemory
from tests.profiles import changed

PROFILE = load_profile("spec")
FRCD = 0x220


class Mixed(Register, name="MIXED", width=64, offset=0x10, reset=0x30):
    """One field of each kind."""

    ro = RO(3, 0)
    rw = RW(7, 4)
    clear = RW1C(11, 8)
    sticky = RW1CS(15, 12)
    rsvd = Reserved(23, 16)
    wo = WO(31, 24)
    log = ROS(39, 32)
    high = RW(63, 40)


class Low(Register, name="LOW", width=32, offset=0x20):
    """Half of a pair."""

    all = RW(31, 0)


class High(Register, name="HIGH", width=32, offset=0x24):
    """The other half."""

    all = RW(31, 0)


class Many(Register, name="MANY", width=128, offset=0x40, count=4, stride=16):
    """Copies of 128 bits."""

    low = RW(63, 0)
    high = RO(95, 64)
    f = RW1C(127, 96)


class Page(RegisterFile):
    """A page of them."""

    mixed = Slot(Mixed)
    low = Slot(Low)
    high = Slot(High)
    many = Copies(Many)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int, int]] = []
        self.place({})
        self.power_on()

    def implemented(self, layout: type[Register]) -> int:
        return 3 if layout is Many else 1

    @on_write(mixed, "high")
    def high_written(self, new: Mixed, old: Mixed) -> None:
        self.seen.append(("mixed.high", int(new), int(old)))

    @on_write(low)
    def low_written(self, new: Low, old: Low) -> None:
        self.seen.append(("low", int(new), int(old)))

    @on_write(high)
    def upper_written(self, new: High, old: High) -> None:
        self.seen.append(("high", int(new), int(old)))


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_other_sizes_read_0_and_write_nothing(page: Page, size: int) -> None:
    page.write(0x20, size, 0x55)
    assert page.read(0x20, 4) == 0
    page.write(0x20, 4, 0x77)
    assert page.read(0x20, size) == 0


@pytest.mark.parametrize(
    "offset, size", [(0x21, 4), (0x22, 4), (0x24, 8), (0x14, 8), (-4, 4), (0x1000, 4), (0x2020, 8)]
)
def test_misaligned_and_outside_accesses_read_0_and_write_nothing(page: Page, offset: int, size: int) -> None:
    before = bytes(page.registers)
    page.write(offset, size, (1 << 8 * size) - 1)
    assert bytes(page.registers) == before
    page.low = Low(0x7777_7777)
    page.high = High(0x7777_7777)
    assert page.read(offset, size) == 0


def test_reserved_offsets_read_0_and_ignore_writes(page: Page) -> None:
    page.write64(0x100, 0xFFFF)
    assert page.read64(0x100) == 0
    assert page.registers[0x100:0x108] == bytes(8)


def test_a_64_bit_register_takes_its_halves_in_any_order(page: Page) -> None:
    page.write32(0x14, 0xABCD_EF00)
    page.write32(0x10, 0xF0)
    assert page.read64(0x10) == 0xABCD_EF00_0000_00F0
    assert (page.read32(0x10), page.read32(0x14)) == (0xF0, 0xABCD_EF00)


def test_a_handler_acts_on_the_half_that_holds_its_field(page: Page) -> None:
    page.write32(0x10, 0x50)
    assert page.seen == []
    page.write32(0x14, 0x100)
    page.write64(0x10, 0x200_0000_0060)
    assert page.seen == [
        ("mixed.high", 0x100_0000_0050, 0x50),
        ("mixed.high", 0x200_0000_0060, 0x100_0000_0050),
    ]


def test_a_qword_access_reaches_two_32_bit_registers_the_lower_first(page: Page) -> None:
    page.write64(0x20, 0x2222_2222_1111_1111)
    assert [name for name, _, _ in page.seen] == ["low", "high"]
    assert page.read64(0x20) == 0x2222_2222_1111_1111
    assert (page.read32(0x20), page.read32(0x24)) == (0x1111_1111, 0x2222_2222)


def test_read_only_fields_keep_what_hardware_put_there(page: Page) -> None:
    page.mixed = page.mixed.replace(ro=5, log=9)
    page.write64(0x10, 0)
    assert page.mixed.ro == 5
    assert page.mixed.log == 9


def test_writing_1_clears_and_writing_0_leaves(page: Page) -> None:
    page.mixed = page.mixed.replace(clear=0xF, sticky=0xF)
    page.write32(0x10, 0x0000_1400)
    assert page.mixed.clear == 0xB
    assert page.mixed.sticky == 0xE
    page.write32(0x14, 0xFFFF_FFFF)
    assert page.mixed.clear == 0xB


def test_reserved_fields_read_0_whatever_was_written(page: Page) -> None:
    page.write64(0x10, (1 << 64) - 1)
    assert page.read64(0x10) >> 16 & 0xFF == 0


def test_write_only_fields_are_kept_but_read_0(page: Page) -> None:
    page.write32(0x10, 0xAB00_0000)
    assert page.read32(0x10) == 0
    assert page.mixed.wo == 0xAB
    assert page.register_page()[0x10:0x14] == bytes(4)


def test_copies_have_their_own_bytes_and_no_more_than_implemented(page: Page) -> None:
    page.write64(0x50, 7)
    assert [word.low for word in page.many] == [0, 7, 0]
    assert len(page.many) == 3
    page.write64(0x70, 7)
    assert page.read64(0x70) == 0
    with pytest.raises(IndexError, match="many has 3 copies"):
        page.many[3]


def test_a_128_bit_register_is_reached_by_any_of_its_dwords(page: Page) -> None:
    page.many[2] = Many.of(low=1, high=2, f=0xF)
    page.write32(0x60 + 12, 0x5)
    assert page.many[2].f == 0xA
    assert page.read32(0x68) == 2
    assert page.read64(0x68) == 0xA_0000_0002


def test_power_on_sets_reset_values_and_a_warm_reset_leaves_sticky_fields(page: Page) -> None:
    page.mixed = Mixed.of(rw=1, clear=2, sticky=3, log=4, high=5)
    page.power_on(warm=True)
    assert page.mixed == Mixed.of(rw=3, sticky=3, log=4)
    page.power_on()
    assert page.mixed == 0x30


def test_values_wider_than_the_access_are_cut(page: Page) -> None:
    page.write(0x20, 4, 0x1_2345_6789)
    assert page.read64(0x20) == 0x2345_6789


def test_a_handler_for_a_register_of_another_file_fails_when_the_class_is_made() -> None:
    with pytest.raises(LayoutError, match="handles frcd, which is not in"):

        class Wrong(RegisterFile):
            low = Slot(Low)

            @on_write(UnitRegisters.frcd)
            def misplaced(self, new: FaultRecord, old: FaultRecord) -> None: ...


def test_a_handler_for_an_unknown_field_fails_when_the_class_is_made() -> None:
    with pytest.raises(UnknownField, match="hihg"):
        on_write(Page.mixed, "hihg")


def test_handlers_are_inherited_and_may_be_added_to() -> None:
    class More(Page):
        @on_write(Page.mixed, "rw")
        def also(self, new: Mixed, old: Mixed) -> None:
            self.seen.append(("rw", int(new), int(old)))

    more = More()
    more.write64(0x10, 0)
    assert [name for name, _, _ in more.seen] == ["mixed.high", "rw"]
    plain = Page()
    plain.write32(0x10, 0)
    assert plain.seen == []


def test_registers_that_overlap_are_refused_with_both_names() -> None:
    text = "{name: x, explains: x, source: x, version: 0x10, ecap: 0xf02, haw: 39, cap: {fro: 2}}"
    with pytest.raises(LayoutError, match=r"FRCD at 0x20 overlaps RTADDR at 0x20"):
        UnitRegisters(parse_profile(text, "test"))


def test_registers_beyond_the_page_are_refused() -> None:
    text = "{name: x, explains: x, source: x, version: 0x10, ecap: 0xf02, haw: 39, cap: {fro: 0xff, nfr: 3}}"
    with pytest.raises(LayoutError, match="outside the register page"):
        UnitRegisters(parse_profile(text, "test"))


CONSTANTS = {
    "spec": {
        0x100: 0x50A,
        0x300: 0x0004_0007_0530_0002,
        0x310: 0x480_0000_0500,
        0x318: 0x800_0000_0488,
        0x380: 2,
        0x388: 0x40,
        0x390: 0xF,
        0x398: 3,
        0x3A0: 7,
        0x448: 0x33_0000_0000_0000,
        0x580: 0x1_3000,
        0x680: 0x1_3000,
    }
}
MINIMAL = "{name: x, explains: x, source: x, version: 0x10, ecap: 0xf02, haw: 39, cap: {fro: 0x22}}"


@pytest.mark.parametrize("name", ["spec", "default", "qemu-7.2"])
def test_reset_values_are_those_of_the_register_map(name: str) -> None:
    profile = load_profile(name)
    registers = UnitRegisters(profile)
    capabilities = profile.capabilities
    page = bytearray(registers.register_page())
    for offset, value in ((0, profile.version), (8, capabilities.cap), (0x10, capabilities.ecap)):
        assert int.from_bytes(page[offset : offset + 8], "little") == value
        page[offset : offset + 8] = bytes(8)
    masked = [0x38, 0xA0] + ([0xE0] if capabilities.ecap.prs else []) + ([0x328] if capabilities.ecap.pms else [])
    for offset, value in CONSTANTS.get(name, {}).items():
        assert int.from_bytes(page[offset : offset + 8], "little") == value
        page[offset : offset + 8] = bytes(8)
    for offset in masked:
        assert page[offset : offset + 4] == bytes([0, 0, 0, 0x80])
        page[offset : offset + 4] = bytes(4)
    assert page == bytes(0x1000)


@pytest.mark.parametrize(
    "offset, size, reads",
    [
        (0x18, 4, 0),  # GCMD is write-only
        (0x20, 8, 0x000F_FFFF_FFFF_FC00),  # RTADDR without bits 63:HAW
        (0x38, 4, 0x8000_0000),  # FECTL: IM only, reserved bits read 0
        (0x3C, 4, 0xFFFF),
        (0x40, 4, 0xFFFF_FFFC),
        (0x44, 4, 0xFFFF_FFFF),
        (0x58, 8, 0),  # no advanced fault log
        (0x64, 4, 0x8000_0001),  # PMEN: PRS follows EPM
        (0x68, 4, 0xFFE0_0000),  # protected regions are multiples of 2 MiB
        (0x6C, 4, 0xFFE0_0000),
        (0x70, 8, 0x000F_FFFF_FFE0_0000),
        (0x78, 8, 0x000F_FFFF_FFE0_0000),
        (0x80, 8, 0),  # IQH is read-only
        (0x88, 8, 0x7FFF0),
        (0x90, 8, 0x000F_FFFF_FFFF_F807),
        (0x9C, 4, 0),  # ICS: nothing to clear
        (0xB0, 8, 0),
        (0xB8, 8, 0x000F_FFFF_FFFF_F80F),
        (0xF0, 8, 0),  # IVA is write-only
        (0x100, 8, 0x50A),  # MTRRCAP is read-only: ten variable ranges, fixed ranges, write combining
        (0x108, 8, 0xCFF),
        (0x120, 8, 0xFFFF_FFFF_FFFF_FFFF),
        (0x178, 8, 0),  # there is no twelfth fixed range
        (0x180, 8, 0x000F_FFFF_FFFF_F0FF),
        (0x218, 8, 0x000F_FFFF_FFFF_F800),
        (0x300, 8, 0x0004_0007_0530_0002),  # PERFCAP: 2 counters of 48 bits, 5 groups, 3 filters, interrupts
        (0x310, 8, 0x480_0000_0500),
        (0x324, 4, 0),
        (0x328, 4, 0x8000_0000),
        (0x32C, 4, 0xFFFF),
        (0x330, 4, 0xFFFF_FFFC),
        (0x334, 4, 0xFFFF_FFFF),
        (0x380, 8, 2),
        (0x388, 8, 0x40),
        (0x3A0, 8, 7),
        (0x3A8, 8, 0),  # five event groups and no sixth
        (0x408, 8, 0xFFFF_FFFF_FFFF_FFFF),
        (0x410, 8, 0),
        (0x420, 8, 0),
        (0x448, 8, 0x33_0000_0000_0000),  # ECCAP 3: commands F0h, F1h, F4h, F5h
        (0x480, 8, 0),
        (0x488, 8, 0),
        (0x500, 8, 0x0FFF_FFFF_0000_0F02),
        (0x508, 4, 0x8000_FFFF),
        (0x510, 4, 0x803F_FFFF),
        (0x580, 4, 0x1_3000),  # counter capability: 48 bits, interrupt on overflow
        (0x584, 4, 0),
        (0x700, 8, 0),  # two counters and no third
        (0x800, 8, 0),
        (0xE00, 8, 0),  # no virtual commands
        (0xE30, 8, 0),
        (FRCD, 8, 0),
        (FRCD + 8, 8, 0),
    ],
)
def test_all_ones_read_back_as_the_register_map_says(offset: int, size: int, reads: int) -> None:
    registers = RemappingUnit(PhysicalMemory([(0, 4096)]), PROFILE, load_engine("python"))
    registers.write(offset, size, (1 << 8 * size) - 1)
    assert registers.read(offset, size) == reads


@pytest.mark.parametrize("offset", [*range(0x58, 0x80, 4), *range(0x100, 0x220, 4), *range(0x300, 0x1000, 4)])
def test_what_no_capability_offers_reads_0_and_ignores_writes(offset: int) -> None:
    registers = UnitRegisters(parse_profile(MINIMAL, "test"))
    registers.write32(offset, 0xFFFF_FFFF)
    assert registers.read32(offset) == 0


def test_every_register_of_the_map_is_there_but_for_what_is_not_modelled() -> None:
    declared = {slot.layout for slot in UnitRegisters.slots.values()}
    missing = {layout.name for layout in REGISTERS.values() if layout not in declared}
    # No current unit has an advanced fault log or virtual commands; counters here have no event list of their own.
    assert missing == {"AFLOG", "VCMD", "VCMD_EO", "VCRSP", "VCCAP", "PERFCNTREVCAP"}


def test_one_protected_region_may_be_there_without_the_other() -> None:
    low = UnitRegisters(parse_profile(MINIMAL.replace("fro: 0x22", "fro: 0x22, plmr: 1"), "test"))
    high = UnitRegisters(parse_profile(MINIMAL.replace("fro: 0x22", "fro: 0x22, phmr: 1"), "test"))
    for registers, kept in ((low, [0x68, 0x6C]), (high, [0x70, 0x74, 0x78, 0x7C])):
        for offset in range(0x68, 0x80, 4):
            registers.write32(offset, 0xFFFF_FFFF)
        assert [offset for offset in range(0x68, 0x80, 4) if registers.read32(offset)] == kept
    assert high.read64(0x70) == 0x7F_FFE0_0000  # 39 address bits


def test_without_eim_the_upper_message_addresses_and_eime_are_reserved() -> None:
    registers = UnitRegisters(changed(load_profile("qemu-7.2"), behaviours=frozenset()))
    for offset in (0x44, 0xAC):
        registers.write32(offset, 0xFFFF_FFFF)
        assert registers.read32(offset) == 0
    registers.write64(0xB8, (1 << 64) - 1)
    assert registers.read64(0xB8) == 0x7F_FFFF_F00F


def test_without_device_tlbs_ice_and_ite_are_reserved() -> None:
    with_them, without = UnitRegisters(PROFILE), UnitRegisters(load_profile("default"))
    for registers, left in ((with_them, 0), (without, 0x60)):
        registers.fsts = registers.fsts.replace(iqe=1, ice=1, ite=1, pfo=1)
        registers.write32(0x34, 0xFFFF_FFFF)
        assert int(registers.fsts) == left


def test_from_version_6_on_there_are_no_command_registers() -> None:
    text = "{name: x, explains: x, source: x, version: 0x60, ecap: 0xf02, haw: 39, cap: {fro: 0x22}}"
    registers = UnitRegisters(parse_profile(text, "test"))
    registers.write64(0x28, (1 << 64) - 1)
    registers.write64(0xF8, (1 << 64) - 1)
    assert registers.read64(0x28) == registers.read64(0xF8) == 0


def test_without_queued_invalidation_there_is_no_queue() -> None:
    text = "{name: x, explains: x, source: x, version: 0x10, ecap: 0xf00, haw: 39, cap: {fro: 0x22}}"
    registers = UnitRegisters(parse_profile(text, "test"))
    registers.write64(0x90, 0x5000)
    registers.write32(0xA0, 0)
    assert registers.read64(0x90) == registers.read32(0xA0) == 0
    assert registers.iqa == 0
