"""Who shares what with whom: machines that break a rule of isolation, and their twins."""

from __future__ import annotations

from tests.builders import MIB, capabilities
from tests.pagetables.audit.case import ERROR, NOTE, WARNING, case
from tests.pagetables.audit.machines import DISK, NIC, Machine

# -- Isolation


@case("VTD101", NOTE, "00:03.0 and 00:04.0 use the same tables: what one may reach, all may (4 KiB)")
def shared_domain(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.mapped(0x200_0000)
    machine.attach(NIC, tables, 1)
    machine.attach(DISK, *(tables, 1) if wrong else (machine.mapped(0x300_0000), 2))
    return machine


@case("VTD102", WARNING, "68 KiB in 1 piece, the first at 0x2000000, reachable by 00:03.0 and 00:04.0; 00:04.0 can")
def shared_memory(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0x200_0000, pages=17, permissions="r"), 1)
    machine.attach(DISK, machine.mapped(0x200_0000 if wrong else 0x201_1000, iova=0x40_0000, pages=17), 2)
    return machine


@case("VTD102", NOTE, "4 KiB in 1 piece, the first at 0x2000000, reachable by 00:03.0 and 00:04.0; none can write")
def memory_read_by_two(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0x200_0000, permissions="r"), 1)
    machine.attach(DISK, machine.mapped(0x200_0000 if wrong else 0x200_1000, permissions="r"), 2)
    return machine


@case("VTD103", WARNING, "00:03.0 is passed through: it reaches all memory")
def pass_through(wrong: bool) -> Machine:
    machine = Machine()
    if wrong:
        machine.pass_through(NIC, 1)
    else:
        machine.attach(NIC, machine.tables(), 1)
    return machine


@case("VTD103", WARNING, "00:03.0 pasid 0x5 is passed through")
def pass_through_of_a_pasid(wrong: bool) -> Machine:
    machine = Machine(scalable=True)
    machine.attach_pasid(NIC, 5, 1, second=None if wrong else machine.tables())
    return machine


@case("VTD104", NOTE, "2 MiB are mapped to their own addresses, the first 2 MiB at 0x2000000, for 00:03.0")
def identity_map(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.tables()
    tables.leaf(0x200_0000, gpa=0x200_0000 if wrong else 0x220_0000, level=2)
    machine.attach(NIC, tables, 1)
    return machine


@case("VTD104", WARNING, "1 GiB are mapped to their own addresses, the first 1 GiB at 0x40000000: as good as no")
def identity_map_of_everything(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.tables()
    tables.leaf(1 << 30, gpa=1 << 30 if wrong else 2 << 30, level=3)
    machine.attach(NIC, tables, 1)
    return machine


@case("VTD105", WARNING, "00:03.0 may execute (ERE=1) 4 KiB that can be written as well, from 0x100000 on")
def writable_and_executable(wrong: bool) -> Machine:
    machine = Machine(scalable=True)
    first = machine.scene.first_stage(4)
    first.leaf(0x10_0000, gpa=0x200_0000, extra=0 if wrong else 1 << 63)
    first.leaf(0x10_1000, gpa=0x200_1000, permissions="r")
    machine.attach_pasid(NIC, 0, 1, first=first, flags=0b10 | 1 << 5)  # ERE, NXE
    return machine


@case("VTD105", WARNING, "may execute (ERE=1) 4 KiB")
def writable_and_executable_in_the_second_stage(wrong: bool) -> Machine:
    machine = Machine(scalable=True)
    tables = machine.tables()
    tables.leaf(0x10_0000, gpa=0x200_0000, permissions="rwx" if wrong else "rw")
    for table in range(10):  # enough of them to be read at once
        tables.leaf(0x10_1000 + table * 2 * MIB, gpa=0x200_1000 + table * MIB, permissions="rx")
    for level in (2, 3, 4):
        tables.change(0x10_0000, level, set=4)
    machine.attach_pasid(NIC, 0, 1, second=tables, low=1 << 5, flags=0b10)  # SSEE, ERE
    return machine


@case("VTD105", WARNING, "may execute (ERE=1) 4 KiB")
def executable_since_reading_is_executing(wrong: bool) -> Machine:
    machine = Machine(scalable=True)
    machine.attach_pasid(NIC, 0, 1, second=machine.mapped(0x200_0000), flags=0b10 if wrong else 0)
    return machine


@case("VTD106", NOTE, "translated requests of 00:03.0 are let through")
def device_tlb(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.tables(), 1, tt=1 if wrong else 0)
    return machine


@case("VTD106", NOTE, "translated requests of 00:03.0 are let through")
def device_tlb_in_scalable_mode(wrong: bool) -> Machine:
    machine = Machine(scalable=True)
    machine.attach_pasid(NIC, 0, 1, second=machine.tables(), context=0b100 if wrong else 0)
    return machine


# -- Domain-ids


@case("VTD107", ERROR, "domain 1 stands for 2 different second-stage tables")
def domain_id_reused(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.tables(), 1)
    machine.attach(DISK, machine.tables(), 1 if wrong else 2)
    return machine


@case("VTD107", ERROR, "domain 1 stands for 2 different first-stage tables")
def domain_id_reused_with_one_pasid(wrong: bool) -> Machine:
    machine = Machine(scalable=True)
    machine.attach_pasid(NIC, 3, 1, first=machine.scene.first_stage())
    machine.attach_pasid(DISK, 3 if wrong else 4, 1, first=machine.scene.first_stage())
    return machine


@case("VTD108", WARNING, "domain 1 is first-stage for 00:03.0 and second-stage for 00:04.0")
def domain_id_across_stages(wrong: bool) -> Machine:
    machine = Machine(scalable=True)
    machine.attach_pasid(NIC, 0, 1, first=machine.scene.first_stage())
    machine.attach_pasid(DISK, 0, 1 if wrong else 2, second=machine.tables())
    return machine


@case("VTD109", WARNING, "the tables of 00:03.0 and 00:04.0 are known by domain-ids 1 and 2")
def several_domain_ids(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.tables()
    machine.attach(NIC, tables, 1)
    machine.attach(DISK, tables, 2 if wrong else 1)
    return machine


@case("VTD110", WARNING, "00:03.0 has domain-id 0")
def domain_id_zero(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["CAP"] = int(capabilities(cm=1 if wrong else 0).cap)
    machine.attach(NIC, machine.tables(), 0)
    return machine
