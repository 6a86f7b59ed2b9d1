"""Verdicts on faults: by tables written here, by traces written here, and by both."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.trace import read_traces
from emulator.trace.history import TraceHistory
from pagetables.address import parse_source_id
from pagetables.dmesg import FaultLine, Storm, parse_fault_line
from pagetables.explain import Tables, Verdict, explain, explain_storm
from pagetables.explain.codes import is_same
from pagetables.fault import FaultReason
from pagetables.images.registers import RegisterPage
from tests.builders import LegacyRoot, ScalableRoot, Scene, first_stage_pasid, second_stage_pasid

NIC = "00:02.0"
DISK = "00:03.0"
DEFAULT = {"device": NIC, "address": 0x5000, "kind": "Read", "reason": 6, "pasid": None, "time": "10.000000"}


def fault(**changed) -> FaultLine:
    """A fault as the kernel prints it; 10 s after the boot, a read of 0x5000 by the NIC, unless changed."""
    one = DEFAULT | changed
    stamp = f"[{one['time']}] " if one["time"] else ""
    pasid = "NO_PASID" if one["pasid"] is None else f"PASID {one['pasid']:#x}"
    return parse_fault_line(
        f"{stamp}DMAR: [DMA {one['kind']} {pasid}] Request device [{one['device']}] "
        f"fault addr {one['address']:#x} [fault reason {one['reason']:#04x}] text"
    )


def sid(device: str) -> int:
    return parse_source_id(device)


class Machine:
    """Legacy tables: the NIC and the disk have a space each."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.root = LegacyRoot(self.scene)
        self.nic = self.space(NIC)
        self.disk = self.space(DISK)

    def space(self, device: str):
        tables = self.scene.second_stage()
        self.root.attach(sid(device), tables.root)
        return tables

    @property
    def tables(self) -> Tables:
        return Tables(self.scene.memory, (RegisterPage.of_root_table(self.root.rtaddr),))


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def history(tmp_path: Path):
    """Makes a history of (event, device, iova, more) tuples; the NIC and the disk are attached from the start."""

    def make(*events: tuple, attached: tuple[str, ...] = (NIC, DISK)) -> TraceHistory:
        lines = [
            {"event": "attach", "device": device, "domain": number, "time": "0.5s"}
            for number, device in enumerate(attached, 1)
        ]
        for event, device, iova, more in events:
            line = {"event": event, "time": "1s"}
            if event != "attach":
                line |= {"iova": hex(iova), "size": 4096}
            if event == "map":
                line |= {"gpa": hex(0x70000000 + iova), "access": "rw"}
            lines.append(line | ({"device": device} if device else {"space": 99}) | more)
        path = tmp_path / "trace.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return TraceHistory(read_traces([path]))

    return make


def test_address_that_nobody_ever_mapped(machine, history):
    found = explain(fault(address=0x12345000), machine.tables, history(("map", NIC, 0x80000, {})))
    assert (found.verdict, found.agrees) == (Verdict.NEVER_MAPPED, True)
    assert found.sentence == "00:02.0 tried to read 0x12345000, which the trace never maps for it"
    assert found.answer.steps[-1].entry == 0
    assert found.next


def test_device_for_which_nothing_is_mapped(machine, history):
    assert explain(fault(), machine.tables).sentence.endswith("nothing at all is mapped for it")
    assert "nothing at all was mapped" in explain(fault(), None, history()).sentence


def test_tables_alone_say_that_it_is_not_mapped(machine):
    machine.nic.leaf(0x900000, 0x100000)
    found = explain(fault(), machine.tables)
    assert (found.verdict, found.agrees, found.past) == (Verdict.NOT_MAPPED, True, None)
    assert any("nearest above: 0x900000-0x900fff -> 0x100000 rw of 00:02.0" in line for line in found.evidence)


def test_mapping_that_was_freed_before(machine, history):
    events = (("map", NIC, 0x5000, {"time": "2s"}), ("unmap", NIC, 0x5000, {"time": "9.997s"}))
    found = explain(fault(), machine.tables, history(*events))
    assert (found.verdict, found.agrees) == (Verdict.FREED, True)
    assert "which was freed 3 ms before the fault was reported: 0x5000-0x5fff" in found.sentence
    assert (found.past.freed.mapped.time_ns, found.past.freed.unmapped.line) == (2_000_000_000, 4)


def test_mapping_that_was_freed_and_nobody_says_whose(history):
    events = (("map", None, 0x5000, {"time": "2s"}), ("unmap", None, 0x5000, {"time": "9s"}))
    found = explain(fault(), None, history(*events))
    assert found.verdict is Verdict.FREED
    assert "does not say whose" in found.sentence


def test_mapping_that_came_later(machine, history):
    machine.nic.leaf(0x5000, 0x100000)
    found = explain(fault(), machine.tables, history(("map", NIC, 0x5000, {"time": "10.002s"})))
    assert (found.verdict, found.agrees) == (Verdict.MAPPED_LATER, False)
    assert "2 ms before it was mapped" in found.sentence


@pytest.mark.parametrize("freed, mapped, verdict", [(9.9, 10.5, Verdict.FREED), (9.0, 10.1, Verdict.MAPPED_LATER)])
def test_nearer_of_freed_and_mapped_again_decides(history, freed, mapped, verdict):
    events = (
        ("map", NIC, 0x5000, {"time": "2s"}),
        ("unmap", NIC, 0x5000, {"time": f"{freed}s"}),
        ("map", NIC, 0x5000, {"time": f"{mapped}s"}),
    )
    assert explain(fault(), None, history(*events)).verdict is verdict


def test_live_mapping_that_faults_all_the_same_is_a_stale_cache(machine, history):
    machine.nic.leaf(0x5000, 0x100000)
    found = explain(fault(), machine.tables, history(("map", NIC, 0x5000, {"time": "9s"})))
    assert (found.verdict, found.agrees) == (Verdict.STALE_CACHE, False)
    assert "had been mapped 1 s before" in found.sentence


def test_live_mapping_of_unknown_access_leaves_it_open(history):
    found = explain(fault(), None, history(("map", NIC, 0x5000, {"access": "-", "time": "9s"})))
    assert (found.verdict, found.verdict.explained) == (Verdict.MAPPED_NOW, False)


def test_write_through_a_mapping_for_reading_is_named_by_the_trace(history):
    found = explain(fault(kind="Write", reason=5), None, history(("map", NIC, 0x5000, {"access": "r"})))
    assert found.verdict is Verdict.PERMISSION
    assert "(0x5000-0x5fff, with access r), but not for writing" in found.sentence


def test_write_through_a_mapping_for_reading_is_named_by_the_tables(machine):
    machine.nic.leaf(0x5000, 0x100000, "r")
    found = explain(fault(kind="Write", reason=5), machine.tables)
    assert (found.verdict, found.agrees) == (Verdict.PERMISSION, True)


def test_today_mapped_without_a_trace_stays_open(machine):
    machine.nic.leaf(0x5000, 0x100000)
    found = explain(fault(), machine.tables)
    assert (found.verdict, found.agrees, found.verdict.explained) == (Verdict.MAPPED_NOW, False, False)


@pytest.mark.parametrize("by_trace", [True, False])
@pytest.mark.parametrize(
    "mapped, verdict, words",
    [
        (0x4000, Verdict.PAST_END, "in the page right behind the mapping 0x4000-0x4fff"),
        (0x2000, Verdict.PAST_END, "8192 bytes behind the end of the mapping 0x2000-0x2fff"),
        (0x6000, Verdict.BEFORE_START, "in the page right before the mapping 0x6000-0x6fff"),
        (0x8000, Verdict.BEFORE_START, "12288 bytes before the start of the mapping 0x8000-0x8fff"),
    ],
)
def test_near_misses_say_by_how_much(machine, history, by_trace, mapped, verdict, words):
    machine.nic.leaf(mapped, 0x100000)
    told = history(("map", NIC, mapped, {})) if by_trace else None
    found = explain(fault(), machine.tables, told)
    assert (found.verdict, found.sentence) == (verdict, f"00:02.0 tried to read 0x5000, {words}")


@pytest.mark.parametrize("pages, verdict", [(15, Verdict.PAST_END), (16, Verdict.NOT_MAPPED)])
def test_misses_are_near_within_sixteen_pages(machine, pages, verdict):
    machine.nic.leaf(0x100000, 0x100000)
    assert explain(fault(address=0x101000 + pages * 4096), machine.tables).verdict is verdict


@pytest.mark.parametrize("pages, verdict", [(15, Verdict.BEFORE_START), (16, Verdict.NOT_MAPPED)])
def test_misses_before_a_mapping_are_near_as_well(machine, pages, verdict):
    machine.nic.leaf(0x100000, 0x100000)
    assert explain(fault(address=0xFF000 - pages * 4096), machine.tables).verdict is verdict


def test_what_was_freed_long_ago_goes_behind_the_page_right_behind_a_mapping(history):
    old = (("map", NIC, 0x5000, {"time": "1s"}), ("unmap", NIC, 0x5000, {"time": "2s"}))
    assert explain(fault(), None, history(*old)).verdict is Verdict.FREED
    assert explain(fault(), None, history(*old, ("map", NIC, 0x4000, {"time": "3s"}))).verdict is Verdict.PAST_END
    recent = (*old[:1], ("unmap", NIC, 0x5000, {"time": "9.5s"}), ("map", NIC, 0x4000, {"time": "3s"}))
    assert explain(fault(), None, history(*recent)).verdict is Verdict.FREED


@pytest.mark.parametrize("by_trace", [True, False])
def test_lower_half_of_a_long_address_is_recognised(machine, history, by_trace):
    machine.nic.leaf(0x7_0000_5000, 0x100000)
    told = history(("map", NIC, 0x7_0000_5000, {})) if by_trace else None
    assert explain(fault(address=0x5000), machine.tables, told).verdict is Verdict.TRUNCATED
    for other in (0x6000, 0x3_0000_5000):
        assert explain(fault(address=other), machine.tables, told).verdict is not Verdict.TRUNCATED


@pytest.mark.parametrize("by_trace", [True, False])
def test_physical_address_of_a_mapping_is_recognised(machine, history, by_trace):
    machine.nic.leaf(0xFFF00000, 0x1234000)
    told = history(("map", NIC, 0xFFF00000, {"gpa": "0x1234000"})) if by_trace else None
    found = explain(fault(address=0x1234000), machine.tables, told)
    assert found.verdict is Verdict.PHYSICAL_ADDRESS
    assert "0xfff00000" in found.sentence


def test_identity_mapping_is_no_physical_address_given_by_mistake(machine):
    tables = machine.space("00:05.0")
    tables.leaf(0x900000, 0x900000)
    mappings = machine.tables.mappings(frozenset({sid("00:05.0")}), None)
    assert mappings.leading_to(0x900000) is None
    tables.leaf(0xA00000, 0x900000)
    assert machine.tables.mappings(frozenset({sid("00:05.0")}), None).leading_to(0x900800).iova == 0xA00000


@pytest.mark.parametrize("by_trace", [True, False])
def test_mapping_of_another_device_is_named(machine, history, by_trace):
    machine.disk.leaf(0x5000, 0x100000)
    told = history(("map", DISK, 0x5000, {})) if by_trace else None
    found = explain(fault(), machine.tables, told)
    assert (found.verdict, found.sentence) == (
        Verdict.OTHER_DEVICE,
        "00:02.0 tried to read 0x5000, which is mapped for 00:03.0, not for 00:02.0",
    )


def test_mapping_that_nobody_claims_is_no_other_device(history):
    assert explain(fault(), None, history(("map", None, 0x5000, {}))).verdict is Verdict.NEVER_MAPPED


def test_zero_is_an_address_that_was_never_filled_in(machine):
    assert explain(fault(address=0x234), machine.tables).verdict is Verdict.NULL_ADDRESS


@pytest.mark.parametrize("address", [(1 << 64) - 4096, (1 << 57) - 4096, (1 << 48) - 1])
def test_all_ones_are_a_mapping_error_that_was_not_checked(machine, address):
    assert explain(fault(address=address, reason=4), machine.tables).verdict is Verdict.ERROR_VALUE


def test_address_beyond_the_width(machine):
    found = explain(fault(address=0xFF000_0000_0000, reason=4), machine.tables)
    assert (found.verdict, found.agrees) == (Verdict.BEYOND_WIDTH, True)
    assert "needs 52 bits" in found.sentence


def test_device_without_a_context_entry(machine, history):
    found = explain(fault(device="00:06.0", reason=2), machine.tables)
    assert (found.verdict, found.agrees) == (Verdict.NOT_ATTACHED, True)
    assert explain(fault(device="00:06.0", reason=2), None, history()).verdict is Verdict.NOT_ATTACHED
    assert explain(fault(device="80:00.0", reason=1), machine.tables).agrees is True


def test_alias_of_a_conventional_bus_is_named_by_the_tables(machine):
    machine.space("03:01.0").leaf(0x5000, 0x100000)
    found = explain(fault(device="03:00.0", reason=2), machine.tables)
    assert (found.verdict, found.agrees) == (Verdict.ALIAS_MISSING, True)
    assert "03:01.0 has a context entry, the alias has none" in found.sentence
    assert any("the address is mapped for 03:01.0" in line for line in found.evidence)


def test_alias_of_a_conventional_bus_is_named_by_the_trace(history):
    told = history(("map", "03:01.0", 0x5000, {}), attached=(NIC, "03:01.0"))
    found = explain(fault(device="03:00.0", reason=2), None, told)
    assert found.verdict is Verdict.ALIAS_MISSING
    assert "03:01.0 was attached, the alias was not" in found.sentence
    assert found.past.live.owners == (sid("03:01.0"),)


def test_only_device_0_function_0_is_an_alias(machine):
    machine.space("03:01.0")
    assert explain(fault(device="03:02.0", reason=2), machine.tables).verdict is Verdict.NOT_ATTACHED
    machine.space("05:00.1")  # another function of a PCIe device
    assert explain(fault(device="05:00.0", reason=2), machine.tables).verdict is Verdict.NOT_ATTACHED


def test_device_that_exists_is_nobodys_alias(machine):
    machine.space("03:01.0")
    found = explain(fault(device="03:00.0", reason=2), machine.tables, present={sid("03:00.0"), sid("03:01.0")})
    assert found.verdict is Verdict.NOT_ATTACHED


def test_device_that_has_an_entry_by_now(machine):
    for _ in range(2):
        found = explain(fault(reason=2), machine.tables)
        assert (found.verdict, found.agrees) == (Verdict.ATTACHED_NOW, False)
        machine.nic.leaf(0x5000, 0x100000)


def test_entry_with_reserved_bits_is_named(machine):
    at = machine.nic.put(0x5000, 2, 0x200000 | 0x1000 | 0x83)  # bits 20:12 of a 2 MiB leaf
    found = explain(fault(reason=0xC), machine.tables)
    assert (found.verdict, found.agrees) == (Verdict.BROKEN_TABLES, True)
    assert f"{at:#x}" in found.sentence


def test_tables_that_refuse_for_another_reason_do_not_agree(machine):
    found = explain(fault(reason=0xC), machine.tables)
    assert (found.verdict, found.agrees) == (Verdict.TABLES_DIFFER, False)
    assert "0x0c" in found.sentence
    assert "0x06" in found.sentence


def test_structure_fault_without_tables_stays_open(history):
    assert explain(fault(reason=0xC), None, history()).verdict is Verdict.UNKNOWN


def test_image_that_lacks_the_page_cannot_tell(machine):
    machine.nic.put(0x5000, 3, 0xF_F000_0003)
    found = explain(fault(), machine.tables)
    assert found.agrees is None
    assert any("lacks a page" in line for line in found.evidence)


def test_reason_that_the_oldest_form_lost_is_that_of_the_walk(machine, history):
    line = parse_fault_line("DMAR:[DMA Read] Request device [00:02.0] fault addr 5000")
    assert explain(line, machine.tables).verdict is Verdict.NOT_MAPPED
    assert explain(line, None, history()).verdict is Verdict.UNKNOWN


def test_reason_is_believed_where_the_access_contradicts_it(machine):
    machine.nic.leaf(0x5000, 0x100000, "r")
    found = explain(fault(kind="Read", reason=5), machine.tables)
    assert found.verdict is Verdict.PERMISSION
    assert any("the reason is believed" in line for line in found.evidence)


def test_reason_that_no_specification_names(machine):
    found = explain(fault(reason=0xFE), machine.tables)
    assert found.verdict is Verdict.TABLES_DIFFER
    assert any("no specification names" in line for line in found.evidence)


def test_fault_without_a_time_is_held_against_the_end_of_the_trace(history):
    gone = (("map", NIC, 0x5000, {"time": "2s"}), ("unmap", NIC, 0x5000, {"time": "3s"}))
    found = explain(fault(time=None), None, history(*gone))
    assert found.verdict is Verdict.FREED
    assert "when the fault came is not known" in found.sentence
    live = explain(fault(time=None), None, history(("map", NIC, 0x5000, {})))
    assert live.verdict is Verdict.MAPPED_NOW


@pytest.mark.parametrize("time, words", [("0.250000", "it begins 250 ms after"), ("99.000000", "it ends 98 s before")])
def test_fault_outside_the_trace_is_said_to_be(history, time, words):
    found = explain(fault(time=time, address=0x9000000), None, history(("map", NIC, 0x5000, {"time": "1s"})))
    assert any(words in line for line in found.evidence)


def test_device_that_moved_to_another_domain_is_judged_by_the_one_it_was_in(history):
    told = history(
        ("map", NIC, 0x5000, {"time": "1s"}),
        ("attach", NIC, 0, {"time": "2s", "domain": 7}),
    )
    assert explain(fault(time="1.500000"), None, told).verdict is Verdict.STALE_CACHE
    assert explain(fault(time="3.000000"), None, told).past.live is None


class Scalable:
    """Scalable tables: the NIC has second-stage tables for PASID 0 and first-stage tables for PASID 5."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.root = ScalableRoot(self.scene)
        self.plain, self.user = self.scene.second_stage(), self.scene.first_stage()
        self.root.context(sid(NIC), bits=8)
        self.root.attach(sid(NIC), 0, *second_stage_pasid(self.plain.root))
        self.root.attach(sid(NIC), 5, *first_stage_pasid(self.user.root))

    @property
    def tables(self) -> Tables:
        return Tables(self.scene.memory, (RegisterPage.of_root_table(self.root.rtaddr),))


def test_legacy_code_in_scalable_mode_agrees_and_both_are_told():
    found = explain(fault(), Scalable().tables)
    assert (found.verdict, found.agrees) == (Verdict.NOT_MAPPED, True)
    line = next(line for line in found.evidence if "they agree" in line)
    assert "0x06" in line
    assert "0x79" in line


def test_scalable_code_is_as_it_is():
    assert explain(fault(reason=0x79), Scalable().tables).agrees is True


def test_pasid_has_tables_of_its_own():
    machine = Scalable()
    machine.user.leaf(0x6000, 0x100000)
    with_pasid = explain(fault(reason=0x71, pasid=5), machine.tables)
    assert (with_pasid.verdict, with_pasid.agrees) == (Verdict.BEFORE_START, True)
    assert explain(fault(reason=0x79), machine.tables).verdict is Verdict.NOT_MAPPED


@pytest.mark.parametrize("reason", FaultReason)
def test_every_reason_is_the_same_as_itself(reason):
    assert is_same(reason, reason)


@pytest.mark.parametrize(
    "legacy, scalable", [(1, 0x39), (2, 0x41), (3, 0x5B), (4, 0x84), (5, 0x85), (6, 0x71), (7, 0x78), (0xC, 0x7A)]
)
def test_legacy_codes_stand_for_scalable_ones_but_not_the_other_way_round(legacy, scalable):
    assert is_same(legacy, scalable)
    assert not is_same(scalable, legacy)
    assert not is_same(legacy, 0x46)


# interrupts


def interrupt_tables(entries: dict[int, tuple[int, int]], eime: int = 0, status: int = 0x3000000) -> Tables:
    scene = Scene()
    table = scene.page()
    for index, words in entries.items():
        scene.store(table + index * 16, *words)
    page = bytearray(4096)
    struct.pack_into("<I4xQQIIQ", page, 0, 0x10, 0xD2008C22260206, 0xF00F4A, 0, status, 0)
    struct.pack_into("<Q", page, 0xB8, table | eime << 11 | 7)
    return Tables(scene.memory, (RegisterPage(0xFED90000, bytes(page)),))


def interrupt(index: int, reason: int, device: str = NIC) -> FaultLine:
    return parse_fault_line(
        f"DMAR: [INTR-REMAP NO_PASID] Request device [{device}] fault index {index:#x} [fault reason {reason:#04x}] x"
    )


VALID = (1, 1 << 18 | sid(NIC))  # P; SVT 01, SQ 00


@pytest.mark.parametrize(
    "index, reason, words",
    [
        (0x100, 0x21, "the table has 256 entries"),
        (3, 0x22, "is not present"),
        (1, 0x24, "reserved bits"),
        (2, 0x26, "is for 00:03.0"),
    ],
)
def test_interrupt_entry_that_refuses_is_named(index, reason, words):
    tables = interrupt_tables({0: VALID, 1: (1 | 1 << 12, 0), 2: (1, 1 << 18 | sid(DISK))})
    found = explain(interrupt(index, reason), tables)
    assert (found.verdict, found.agrees) == (Verdict.INTERRUPT_REFUSED, True)
    assert words in found.sentence


def test_interrupt_entry_that_lets_pass_does_not_agree():
    found = explain(interrupt(0, 0x22), interrupt_tables({0: VALID}))
    assert (found.verdict, found.agrees) == (Verdict.TABLES_DIFFER, False)


def test_interrupt_table_outside_the_image_is_said_to_be():
    tables = interrupt_tables({})
    page = bytearray(tables.pages[0].data)
    struct.pack_into("<Q", page, 0xB8, 0xF_F000_0007)
    found = explain(interrupt(0, 0x23), Tables(tables.memory, (RegisterPage(0xFED90000, bytes(page)),)))
    assert found.verdict is Verdict.INTERRUPT_REFUSED


@pytest.mark.parametrize(
    "device, sq, passes",
    [("00:02.4", 1, True), ("00:02.1", 1, False), ("00:02.6", 2, True), ("00:02.7", 3, True), ("00:01.0", 3, False)],
)
def test_source_qualifier_leaves_function_bits_out(device, sq, passes):
    tables = interrupt_tables({0: (1, 1 << 18 | sq << 16 | sid(NIC))})
    verdict = explain(interrupt(0, 0x26, device), tables).verdict
    assert verdict is (Verdict.TABLES_DIFFER if passes else Verdict.INTERRUPT_REFUSED)


@pytest.mark.parametrize("device, passes", [("02:01.0", True), ("04:00.0", False)])
def test_source_validation_by_bus_has_a_range(device, passes):
    tables = interrupt_tables({0: (1, 2 << 18 | 0x0103)})
    verdict = explain(interrupt(0, 0x26, device), tables).verdict
    assert verdict is (Verdict.TABLES_DIFFER if passes else Verdict.INTERRUPT_REFUSED)


@pytest.mark.parametrize(
    "eime, status, verdict",
    [
        (0, 0x3000000, Verdict.INTERRUPT_REFUSED),
        (0, 0x3800000, Verdict.TABLES_DIFFER),
        (1, 0x3800000, Verdict.INTERRUPT_REFUSED),
    ],
)
def test_compatibility_format_is_blocked_by_eime_or_without_cfis(eime, status, verdict):
    tables = interrupt_tables({0: VALID}, eime, status)
    assert explain(interrupt(0, 0x25), tables).verdict is verdict


def test_interrupt_without_an_image_stays_open(history):
    assert explain(interrupt(0, 0x22), None, history()).verdict is Verdict.UNKNOWN


# storms


def test_storm_with_two_verdicts_is_told_as_two(machine):
    machine.nic.leaf(0x5000, 0x100000, "r")
    faults = tuple(fault(kind="Write", reason=5, address=page << 12) for page in (5, 6, 5, 6, 6))
    found = explain_storm(Storm(faults), machine.tables)
    assert [(one.what.verdict, len(one.storm.faults)) for one in found] == [
        (Verdict.PERMISSION, 2),
        (Verdict.PAST_END, 3),
    ]


def test_long_storm_is_not_looked_at_page_by_page(machine):
    machine.nic.leaf(190 << 12, 0x100000)  # near which the verdict would be another
    faults = tuple(fault(address=page << 12) for page in range(100, 200))
    (found,) = explain_storm(Storm(faults), machine.tables)
    assert (len(found.storm.faults), found.assumed) == (100, 36)


@given(
    st.sampled_from([NIC, DISK, "03:00.0", "ff:1f.7"]),
    st.integers(0, (1 << 64) - 1) | st.sampled_from([0, 0x5000, 0x6000, (1 << 64) - 1]),
    st.integers(0, 255),
    st.none() | st.integers(0, (1 << 20) - 1),
    st.sampled_from(["Read", "Write"]),
    st.sampled_from([None, "0.0", "10.000000", "999999999999.999999999"]),
    st.sampled_from(["tables", "scalable", "history", "both", "nothing"]),
)
def test_no_fault_is_too_odd(device, address, reason, pasid, kind, time, sources):
    line = fault(device=device, address=address, reason=reason, pasid=pasid, kind=kind, time=time)
    tables = {"tables": TABLES, "both": TABLES, "scalable": SCALABLE}.get(sources)
    found = explain(line, tables, HISTORY if sources in ("history", "both") else None)
    assert found.sentence
    assert found.next
    assert (found.agrees is None) or tables is not None


def _example_history() -> TraceHistory:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for line in (
            {"event": "attach", "device": NIC, "time": "1s"},
            {"event": "map", "device": NIC, "iova": "0x5000", "gpa": "0x9000", "size": 4096, "access": "r"},
            {"event": "map", "device": NIC, "iova": "0x100006000", "gpa": "0x9000", "size": 4096, "access": "r"},
            {"event": "unmap", "device": NIC, "iova": "0x5000", "size": 4096},
        ):
            file.write(json.dumps(line) + "\n")
        file.flush()
        history = TraceHistory(read_traces([file.name]))
        history.freed(frozenset({sid(NIC)}), 0x5000, None)  # the tasks are read while the file is there
        return history


_EXAMPLE = Machine()
_EXAMPLE.nic.leaf(0x5000, 0x9000, "r")
TABLES, SCALABLE, HISTORY = _EXAMPLE.tables, Scalable().tables, _example_history()
