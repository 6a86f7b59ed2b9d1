"""Tables that hang together wrongly, and their twins."""

from __future__ import annotations

from tests.builders import MIB, capabilities
from tests.pagetables.audit.case import ERROR, NOTE, WARNING, case
from tests.pagetables.audit.machines import DISK, NIC, Machine


@case("VTD301", ERROR, "have reserved bits set")
def reserved_bits_of_a_leaf(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.tables()
    tables.leaf(0x10_0000, gpa=0x200_0000, extra=1 << 50 if wrong else 1 << 52)  # beyond HAW 46; ignored
    machine.attach(NIC, tables, 1)
    machine.firmware()
    return machine


@case("VTD301", ERROR, "legacy-context-entry at")
def reserved_bits_of_a_context_entry(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.tables(), 1, low=0b1_0001 if wrong else 1)
    return machine


@case("VTD301", ERROR, "interrupt remapping entry 3 at")
def reserved_bits_of_an_interrupt_entry(wrong: bool) -> Machine:
    machine = Machine()
    machine.interrupt(3, high=1 << 20 if wrong else 0)
    return machine


@case("VTD302", ERROR, "00:03.0 has second-stage tables of 5 levels, and the unit at 0xfed90000 knows 3 and 4")
def address_width(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["CAP"] = int(capabilities(sagaw=0b110 if wrong else 0b1110).cap)
    machine.attach(NIC, machine.scene.second_stage(5), 1)
    return machine


@case("VTD302", ERROR, "00:03.0 has first-stage tables of 5 levels")
def address_width_of_the_first_stage(wrong: bool) -> Machine:
    machine = Machine(scalable=True)
    machine.registers["CAP"] = int(capabilities(fs5lp=0 if wrong else 1).cap)
    machine.attach_pasid(NIC, 0, 1, first=machine.scene.first_stage(5))
    return machine


@case("VTD303", ERROR, "context entry programmed wrongly")
def invalid_entry(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["ECAP"] = int(capabilities(dt=0 if wrong else 1).ecap)
    machine.attach(NIC, machine.tables(), 1, tt=1)
    return machine


@case("VTD304", WARNING, "is outside memory")
def outside_memory(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.tables()
    tables.put(0, 4, 0x800_0003 if wrong else 0)  # behind the 64 MiB there are
    machine.attach(NIC, tables, 1)
    return machine


@case("VTD305", ERROR, "lead back to a table above them")
def table_loop(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.tables()
    tables.leaf(0, gpa=0x200_0000)
    tables.put(1 << 30, 3, tables.root | 3 if wrong else 0)
    machine.attach(NIC, tables, 1)
    return machine


@case("VTD305", ERROR, "is used as one of level 1, and as one of level 2 by 00:03.0 alike")
def table_at_two_levels(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.tables()
    tables.leaf(0, gpa=0x200_0000)
    second = tables.entry(0, 2) & ~0xFFF
    tables.leaf(1 << 30, gpa=0x200_1000)
    if wrong:
        tables.put((1 << 30) + 2 * MIB, 2, second | 3)
    machine.attach(NIC, tables, 1)
    return machine


@case("VTD306", WARNING, "1 table of 00:03.0 serve 00:04.0 as well")
def shared_table(wrong: bool) -> Machine:
    machine = Machine()
    one, other = machine.mapped(0x200_0000), machine.tables()
    copied = one.raw(0x10_0000, 4) if wrong else 0
    other.put(0x10_0000, 4, copied)
    machine.attach(NIC, one, 1)
    machine.attach(DISK, other, 2)
    return machine


@case("VTD307", WARNING, "is linked more than once in one space")
def linked_twice(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.mapped(0x200_0000)
    tables.put(0x10_0000 + (1 << 30), 2, tables.raw(0x10_0000, 2) if wrong else 0)
    machine.attach(NIC, tables, 1)
    return machine


@case("VTD308", NOTE, "1 empty table of 00:03.0 (4 KiB)")
def empty_table(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.mapped(0x200_0000)
    if wrong:
        tables.change(0x10_0000, 1, clear=(1 << 64) - 1)
    machine.attach(NIC, tables, 1)
    return machine


@case("VTD309", WARNING, "map addresses from 0x8000000000 upwards")
def beyond_width(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["CAP"] = int(capabilities(mgaw=38).cap)
    tables = machine.tables()
    tables.leaf(1 << 39 if wrong else 1 << 38, gpa=0x200_0000)
    machine.attach(NIC, tables, 1)
    return machine


@case("VTD310", ERROR, "RTADDR.TTM is 2, which is reserved")
def table_mode(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["RTADDR"] |= 2 << 10 if wrong else 0
    return machine


@case("VTD311", NOTE, "are not listed again")
def incomplete(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.tables()
    for page in range(0, 512, 2):  # 256 runs a table
        tables.leaf(page << 12, gpa=0x200_0000 + (page << 12))
    leaf, middle = tables.raw(0, 2), tables.entry(0, 2) & ~0xFFF
    machine.scene.store(middle, *[leaf] * 512)
    for index in range(8 if wrong else 1):  # 8 * 512 * 256 runs
        tables.put(index << 30, 3, middle | 3)
    machine.attach(NIC, tables, 1)
    return machine
