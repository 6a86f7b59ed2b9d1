"""What the profiles of QEMU do otherwise, case by case. No QEMU is needed: what was read from real ones stands here.

The records are those that 7.2.22, 10.0.2 and 11.1.3 left when a device at 00:01.0 read 12_3456_9000h.
"""

from __future__ import annotations

import pytest

from device_models.intel_iommu_options import Dialect, UnitOptions, compose
from emulator.engine import Engine
from emulator.profile import Profile, load_profile
from tests.units import CONTEXT, IOTLB, ROOT, RTADDR, SRTP, TE, Bench, R, W

VERSIONS = ("7.2", "10.0", "11.1")
EDU = 0x0008
IOVA = 0x12_3456_9000
GPA = 0x80_0000
RECORDS = {
    "legacy": {"7.2": 0xC0FFFF0600000008, "10.0": 0xC0FFFF0600000008, "11.1": 0xC000000600000008},
    "root": dict.fromkeys(VERSIONS, 0xC000000100000008),
    "context": dict.fromkeys(VERSIONS, 0xC000000200000008),
    "second": {"7.2": 0xC000000680000008, "10.0": 0xC000000680000008, "11.1": 0xC000000600000008},
    "first": {"10.0": 0xC000007180000008, "11.1": 0xC000007100000008},
}


def profile(version: str, **options: object) -> Profile:
    given = {"aw-bits": 48, **{name.replace("_", "-"): value for name, value in options.items()}}
    return compose(load_profile(f"qemu-{version}"), UnitOptions(Dialect(version), given))


def scalable(version: str, first: bool = False) -> Profile:
    mode = {"scalable_mode": True} if version == "11.1" else {"x_scalable_mode": True}
    stage = {} if not first else {"fsts": True} if version == "11.1" else {"x_flts": True}
    return profile(version, **mode, **stage)


class Machine(Bench):
    """A bench whose tables are latched as they stand."""

    def latch(self, mode: int = 0) -> None:
        self.write(RTADDR, ROOT | mode << 10, 8)
        self.command(SRTP)
        self.command(TE)

    def legacy_space(self, low: int = 0) -> int:
        table = self.table(4)
        self.legacy_context(EDU, table, 5, 4, low)
        self.latch()
        return table

    def scalable_space(self, first: bool, aw: int = 2) -> tuple[int, int]:
        table, directory, entries = self.table(4), self.page(), self.page()
        self.put(ROOT, CONTEXT | 1, 0)
        self.put(CONTEXT + 32 * EDU, directory | 1, 0, 0, 0)
        self.put(directory, entries | 1)
        second = 0 if first else table
        self.put(entries, 1 | (1 if first else 2) << 6 | aw << 2 | second, 5, table if first else 0, 0, 0, 0, 0, 0)
        self.latch(1)
        return table, entries

    def reason(self, iova: int = IOVA, access: str = "r") -> int:
        """The reason that is recorded, 0 for none; the record is cleared."""
        self.go(iova, access, EDU)
        high = self.record()[1]
        self.write(0x22C, 1 << 31)
        return high >> 32 & 0xFF if high >> 63 else 0

    def forget(self) -> None:
        self.write(IOTLB, 1 << 63 | 1 << 60, 8)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("what, version", [(what, version) for what, of in RECORDS.items() for version in of])
def test_records_are_those_that_real_ones_left(what: str, version: str, engine: Engine) -> None:
    if what in ("second", "first"):
        bench = Machine(engine, scalable(version, what == "first"))
        bench.scalable_space(what == "first")
    else:
        bench = Machine(engine, profile(version))
        bench.legacy_space()
        if what == "root":
            bench.put(ROOT, 0, 0)
        if what == "context":
            bench.put(CONTEXT + 16 * EDU, 0, 0)
        bench.latch()
    bench.go(IOVA, "r", EDU)
    assert bench.record() == (IOVA, RECORDS[what][version])


def test_an_iotlb_hit_with_too_few_rights_blocks_in_silence(version: str, engine: Engine) -> None:
    bench = Machine(engine, profile(version))
    table = bench.legacy_space()
    leaf = bench.map(table, IOVA, GPA, R)
    assert bench.go(IOVA, "r", EDU) == GPA
    bench.put(leaf, GPA | R | W)
    assert bench.go(IOVA, "w", EDU) == -5
    assert bench.record()[1] >> 63 == 0
    bench.forget()
    assert bench.go(IOVA, "w", EDU) == GPA


def test_what_a_higher_entry_withholds_wins_over_an_error_below_it(version: str, engine: Engine) -> None:
    bench = Machine(engine, profile(version))
    table = bench.legacy_space()
    leaf = bench.map(table, IOVA, GPA | 1 << 50)
    assert bench.reason(access="w") == 0xC
    bench.put(table, bench.qword(table) & ~W)
    assert bench.reason(access="w") == 5
    bench.put(leaf, (1 << 64) - 1)
    assert bench.reason() == 7


def test_the_interrupt_range_has_the_code_of_scalable_mode_where_that_is_offered(version: str, engine: Engine) -> None:
    for unit, reason in ((profile(version), 0xE), (scalable(version), 0x87)):
        bench = Machine(engine, unit)
        bench.map(bench.legacy_space(), IOVA, 0xFEE0_0000)
        assert bench.reason() == reason


@pytest.mark.parametrize("what, reasons", [("nothing", (0x58, 0x5B, 0x5B)), ("type", (0x58, 0x5B, 0x5B))])
def test_pasid_entries_are_looked_at_for_their_type_first(
    what: str, reasons: tuple[int, int, int], version: str, engine: Engine
) -> None:
    bench = Machine(engine, scalable(version))
    _, entries = bench.scalable_space(False)
    bench.put(entries, 0 if what == "nothing" else bench.qword(entries) ^ 1 << 8)
    assert bench.reason() == reasons[VERSIONS.index(version)]


def test_a_pasid_entry_counts_as_it_is_in_memory_now(version: str, engine: Engine) -> None:
    bench = Machine(engine, scalable(version))
    table, entries = bench.scalable_space(False)
    bench.map(table, IOVA, GPA)
    assert bench.go(IOVA, "r", EDU) == GPA
    bench.put(entries, 0)
    assert bench.reason() == (0x58 if version == "7.2" else 0x5B)


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_first_stage_address_is_canonical_for_the_width_of_aw(version: str, engine: Engine) -> None:
    for aw, reason in ((2, 0x71), (0, 0x80)):
        bench = Machine(engine, scalable(version, first=True))
        bench.scalable_space(True, aw)
        assert bench.reason(1 << 29) == reason


@pytest.mark.parametrize("version", VERSIONS[1:])
@pytest.mark.parametrize("before, after", [(0x07, 0x67), (0x27, 0x27), (0x47, 0x47), (0x03, 0x03)])
def test_dirty_is_lost_where_accessed_is_set(version: str, before: int, after: int, engine: Engine) -> None:
    bench = Machine(engine, scalable(version, first=True))
    table, _ = bench.scalable_space(True)
    leaf = bench.map_first(table, IOVA, GPA, before)
    assert bench.go(IOVA, "w", EDU) == (GPA if before & 4 else -0x81)
    assert bench.qword(leaf) == GPA | after


def test_a_requester_that_passes_through_passes_until_it_is_looked_at_anew(version: str, engine: Engine) -> None:
    bench = Machine(engine, profile(version))
    bench.legacy_space(2 << 2)
    assert bench.go(1 << 60, "w", EDU) == 1 << 60
    bench.put(CONTEXT + 16 * EDU, 0, 0)
    assert bench.go(IOVA, "w", EDU) == IOVA
    bench.write(0x28, 1 << 63 | 3 << 61 | EDU << 16 | 0x99, 8)  # of another domain
    assert bench.reason() == 2


def test_transient_mapping_is_a_reserved_bit_but_where_it_is_not(engine: Engine) -> None:
    for unit, reason in (
        (profile("7.2"), 0xC),
        (profile("7.2", device_iotlb=True), 0),
        (profile("10.0", device_iotlb=True), 0xC),
        (profile("10.0", device_iotlb=True, stale_tm=True), 0),
    ):
        bench = Machine(engine, unit)
        bench.map(bench.legacy_space(), IOVA, GPA | 1 << 62)
        assert bench.reason() == reason


def test_ignored_bits_of_second_stage_entries_are_ignored(version: str, engine: Engine) -> None:
    bench = Machine(engine, profile(version))
    leaf = bench.map(bench.legacy_space(), IOVA, GPA)
    for bit in (7, *range(52, 62), 63):
        bench.put(leaf, GPA | 3 | 1 << bit)
        bench.forget()
        assert bench.reason() == 0
    bench.put(leaf, GPA | 3 | 1 << 51)
    bench.forget()
    assert bench.reason() == 0xC
