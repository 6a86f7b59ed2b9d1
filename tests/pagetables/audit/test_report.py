"""What an audit reports: who reaches what, what was not judged, and an end to every image."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagetables.audit import RULES, Severity, audit, choose_rules, read_hints
from pagetables.audit.ranges import Ranges
from pagetables.errors import InputError
from pagetables.images.inspection import register_pages
from pagetables.images.opening import open_image
from pagetables.images.registers import RegisterPage
from pagetables.layouts import dmar
from pagetables.memory import PhysicalMemory
from tests.builders import MIB
from tests.pagetables.audit.machines import DISK, GPU, NIC, RTPS, Machine
from tests.pagetables.test_dmar import VARIANTS


def reach(machine: Machine, sid: int = NIC, **more):
    (one,) = [one for one in machine.audit(**more).reach if one.device.source_id == sid]
    return one


def test_reach_is_told_by_access() -> None:
    machine = Machine()
    tables = machine.mapped(0x200_0000, permissions="r")
    tables.leaf(0x20_0000, gpa=0x300_0000, permissions="w")
    tables.leaf(0x20_1000, gpa=0x200_1000, permissions="rw")
    machine.attach(NIC, tables, 7)
    one = reach(machine)
    assert one.readable == Ranges.of([(0x200_0000, 0x2000)])
    assert one.writable == Ranges.of([(0x200_1000, 0x1000), (0x300_0000, 0x1000)])
    assert (one.domain_id, one.translation, one.everything) == (7, "second-stage", False)


def test_memory_mapped_twice_is_reached_once() -> None:
    machine = Machine()
    tables = machine.mapped(0x200_0000)
    tables.leaf(0x50_0000, gpa=0x200_0000)
    machine.attach(NIC, tables, 7)
    assert reach(machine).writable.size == 0x1000


def test_a_passed_through_device_reaches_everything() -> None:
    machine = Machine()
    machine.pass_through(NIC, 1)
    assert (reach(machine).everything, reach(machine).readable.size) == (True, 0)


def test_everybody_reaches_everything_where_nothing_is_translated() -> None:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0x200_0000), 1)
    machine.registers["GSTS"] = RTPS
    assert reach(machine).everything


@pytest.mark.parametrize(("flags", "readable", "writable"), [(0, 1, 0), (1, 2, 2), (1 | 1 << 4, 2, 1)])
def test_supervisor_pages_count_for_who_makes_such_requests(flags: int, readable: int, writable: int) -> None:
    machine = Machine(scalable=True)  # flags: SRE, WPE
    first = machine.scene.first_stage()
    first.leaf(0x10_0000, gpa=0x200_0000, permissions="r")
    first.leaf(0x10_1000, gpa=0x300_0000, permissions="ws")
    machine.attach_pasid(NIC, 0, 1, first=first, flags=flags)
    one = reach(machine)
    assert (one.readable.size, one.writable.size) == (readable * 0x1000, writable * 0x1000)


def test_a_nested_device_reaches_what_both_stages_let_it() -> None:
    machine = Machine(scalable=True)
    offset = 0x4000_0000  # where the guest sees its memory
    second, first = machine.tables(), machine.scene.first_stage(offset=offset)
    first.leaf(0x10_0000, gpa=0x8000_0000)
    first.leaf(0x10_1000, gpa=0x8000_1000)
    first.leaf(0x10_2000, gpa=0x8000_2000, permissions="r")
    first.leaf(0x10_3000, gpa=0x9000_0000)  # nothing below
    for page in first.pages:
        second.leaf(page + offset, gpa=page)
    second.leaf(0x8000_0000, gpa=0x200_0000)
    second.leaf(0x8000_1000, gpa=0x300_0000, permissions="r")
    second.leaf(0x8000_2000, gpa=0x310_0000)
    machine.attach_pasid(NIC, 0, 1, first=first, second=second)
    one = reach(machine)
    assert one.readable == Ranges.of([(0x200_0000, 0x1000), (0x300_0000, 0x1000), (0x310_0000, 0x1000)])
    assert one.writable == Ranges.of([(0x200_0000, 0x1000)])


def test_tables_of_a_guest_are_found_where_they_really_lie() -> None:
    machine = Machine(scalable=True)
    second, first = machine.tables(), machine.scene.first_stage(offset=0x4000_0000)
    for page in first.pages:
        second.leaf(page + 0x4000_0000, gpa=page)
    first.leaf(0x10_0000, gpa=0x8000_0000)
    for page in first.pages:
        second.leaf(page + 0x4000_0000, gpa=page)
    machine.attach_pasid(NIC, 0, 1, first=first, second=second)
    spy = machine.mapped(first.entry(0x10_0000, 1) & ~0xFFF)
    machine.attach_pasid(DISK, 0, 2, second=spy)
    found = machine.audit(rules=choose_rules(["own-structures"])).findings
    assert [one.message[:47] for one in found] == ["00:04.0 can write 4 KiB of the paging tables, a"]


def test_the_kernel_half_that_processes_share_is_no_finding() -> None:
    machine = Machine(scalable=True)
    one, other = machine.scene.first_stage(), machine.scene.first_stage()
    one.leaf(1 << 46, gpa=0x200_0000)
    entry = one.change(1 << 46, 4, clear=4)  # supervisor only
    other.put(1 << 46, 4, machine.scene.qword(entry))
    machine.attach_pasid(NIC, 1, 1, first=one)
    machine.attach_pasid(NIC, 2, 1, first=other)
    assert not [found for found in machine.audit().findings if found.rule.name == "shared-table"]
    other.put(1 << 46, 4, machine.scene.qword(entry) | 4)
    assert [found for found in machine.audit().findings if found.rule.name == "shared-table"]


def test_mapped_reserved_memory_is_no_identity_map() -> None:
    machine = Machine()
    tables = machine.tables()
    tables.leaf(0x200_0000, gpa=0x200_0000, level=2)
    machine.attach(GPU, tables, 1)
    from tests.pagetables.audit.machines import rmrr

    machine.firmware(rmrr(0x200_0000, 2 * MIB, GPU))
    assert not machine.audit().findings


def test_findings_come_worst_first_and_say_what_about() -> None:
    machine = Machine()
    at = machine.attach(NIC, machine.mapped(machine.root), 1)
    machine.attach(DISK, machine.tables(), 1)
    report = machine.audit()
    severities = [one.severity for one in report.findings]
    assert severities == sorted(severities, reverse=True)
    assert report.worst is Severity.ERROR
    found = next(one for one in report.findings if one.rule.name == "own-structures")
    assert [(device.unit, device.source_id, device.pasid) for device in found.subject.devices] == [(0, NIC, None)]
    assert (found.subject.start, found.subject.size, found.subject.entry) == (machine.root, 0x1000, at)


def test_only_the_rules_that_are_asked_are_checked() -> None:
    machine = Machine()
    machine.pass_through(NIC, 1)
    machine.interrupt(0, svt=0)
    assert [one.rule.id for one in machine.audit(rules=choose_rules(["vtd103"])).findings] == ["VTD103"]
    assert choose_rules([]) == choose_rules([""]) == RULES
    assert [rule.id for rule in choose_rules(["Pass-Through", " VTD101"])] == ["VTD101", "VTD103"]
    with pytest.raises(InputError, match="no rule is called 'vtd13'; did you mean"):
        choose_rules(["VTD13"])


def test_what_could_not_be_judged_is_said() -> None:
    machine = Machine()
    machine.attach(NIC, machine.mapped(machine.root), 1)
    machine.registers["GSTS"] = 0
    report = audit(machine.scene.memory, (RegisterPage.of_root_table(machine.root),))
    assert len(report.notes) == 3
    assert {one.rule.name for one in report.findings} == {"own-structures"}


def test_registers_that_nobody_read_are_not_judged() -> None:
    machine = Machine()
    machine.registers["FSTS"] = 0x70
    read = frozenset(range(0, 0x30, 4))
    report = audit(machine.scene.memory, (machine.page(known=read),))
    assert "invalidation-error" not in {one.rule.name for one in report.findings}


def test_a_rule_says_no_more_than_a_thousand_times_what_is_wrong() -> None:
    machine = Machine()
    for sid in range(1100):
        machine.pass_through(sid, 1)
    found = machine.audit().findings
    assert len([one for one in found if one.severity is Severity.WARNING]) == 1000
    assert [one.message for one in found][-1] == "only the first 1000 are listed"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_clean_guest_deserves_no_more_than_notes(variant: str, corpus) -> None:
    folder = corpus / variant
    table = dmar.parse((folder / "dmar.bin").read_bytes())
    with open_image(folder / "image.elf") as memory:
        pages = register_pages(memory, str(folder / "registers.json"))
        report = audit(memory, pages, dmar=table, hints=read_hints(str(folder / "iomem.txt")))
    assert report.worst is Severity.NOTE, [one.message for one in report.findings if one.severity > Severity.NOTE]
    assert {one.rule.name for one in report.findings} <= {
        "shared-domain",  # the functions of the chipset, and what is behind the conventional PCI bridge
        "shared-memory",  # c: one page that holds buffers of two network devices
        "identity-map",  # the first 16 MiB, for the floppy controller that the ISA bridge may have
        "empty-table",  # Linux keeps table pages after the last unmap
        "interrupts-not-remapped",  # a: QEMU without intremap
        "faults-not-signalled",  # h: masked by hand,
        "faults-pending",  # h: so that its last fault stays pending
    }
    assert report.notes == ()


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([0, 1 << 10]))
def test_every_image_comes_to_an_end(data: st.DataObject, mode: int) -> None:
    # Nine pages that lead to one another in any way, with every kind of flag.
    memory = PhysicalMemory([(0, 0x9000)])
    words = st.builds(
        lambda page, low, high: page << 12 | low | high,
        st.integers(0, 9),
        st.sampled_from([0, 1, 3, 7, 0x83, 0x87, 0x41, 0xC1, 0x101, 0x4B, 5, 0x27, 0x1000_0003]),
        st.sampled_from([0, 0, 0, 1 << 63, 1 << 55, 1 << 40]),
    )
    for page in range(9):
        for index, word in data.draw(st.dictionaries(st.integers(0, 20), words, max_size=12)).items():
            memory.write(page * 0x1000 + index * 8, struct.pack("<Q", word))
    machine = Machine()
    machine.registers |= {"RTADDR": mode, "IRTA": 0x3000 | data.draw(st.integers(0, 15)), "IQA": 0x4000, "PQA": 0x5000}
    report = audit(memory, (machine.page(),))
    assert all(one.message for one in report.findings)
