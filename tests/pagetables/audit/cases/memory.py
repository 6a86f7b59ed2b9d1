"""Memory that DMA must not reach: machines that let it, and their twins."""

from __future__ import annotations

from pagetables.audit import Hints, Region, RegionKind
from tests.builders import MIB, capabilities
from tests.pagetables.audit.case import ERROR, NOTE, WARNING, case
from tests.pagetables.audit.machines import BASE, DISK, NIC, Machine


@case("VTD201", ERROR, "00:03.0 can write 4 KiB of kernel text, at 0x2000000")
def kernel_text_written(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0x200_0000 if wrong else 0x1FF_F000), 1)
    machine.hints = Hints((Region("kernel text", RegionKind.TEXT, 0x200_0000, MIB),))
    return machine


@case("VTD201", WARNING, "00:03.0 can read 4 KiB of CPU tables, at 0x2000000")
def page_tables_read(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0x200_0000 if wrong else 0x210_0000, permissions="r"), 1)
    machine.hints = Hints((Region("CPU tables", RegionKind.TABLES, 0x200_0000, MIB),))
    return machine


@case("VTD202", ERROR, "00:03.0 can write 4 KiB of the paging tables")
def own_paging_table_written(wrong: bool) -> Machine:
    machine = Machine()
    tables = machine.tables()
    tables.leaf(0x10_0000, gpa=tables.entry(0x10_0000, 1) & ~0xFFF if wrong else 0x200_0000)
    machine.attach(NIC, tables, 1)
    return machine


@case("VTD202", ERROR, "00:03.0 can write 4 KiB of the root, context and PASID tables")
def root_table_written(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(machine.root if wrong else 0x200_0000), 1)
    return machine


@case("VTD202", ERROR, "00:03.0 can write 4 KiB of the interrupt remapping table")
def interrupt_table_written(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(machine.irt if wrong else 0x200_0000), 1)
    return machine


@case("VTD202", WARNING, "00:03.0 can read 4 KiB of the invalidation queue")
def queue_read(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(machine.queue if wrong else 0x200_0000, permissions="r"), 1)
    return machine


@case("VTD202", ERROR, "00:03.0 can write 4 KiB of the registers, at 0xfed90000")
def registers_written(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(BASE if wrong else BASE + 0x1000), 1)
    return machine


@case("VTD202", ERROR, "00:03.0 can write 4 KiB of the page request queue, at 0x2800000")
def page_request_queue_written(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["PQA"] = 0x280_0000
    machine.attach(NIC, machine.mapped(0x280_0000 if wrong else 0x200_0000), 1)
    return machine


@case("VTD202", ERROR, "00:03.0 can write 64 B of the posted interrupt descriptors, at 0x2800040")
def posted_descriptor_written(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["CAP"] = int(capabilities(pi=1).cap)
    machine.interrupt(0, low=1 << 15 | 0x280_0040 >> 6 << 38)
    machine.attach(NIC, machine.mapped(0x280_0000 if wrong else 0x200_0000), 1)
    return machine


@case("VTD203", ERROR, "00:04.0 can write 4 KiB of the rings of the NIC, at 0x2000000")
def rings_of_another(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(DISK if wrong else NIC, machine.mapped(0x200_0000), 1)
    machine.hints = Hints((Region("the rings of the NIC", RegionKind.PRIVATE, 0x200_0000, 0x1000, (NIC,)),))
    return machine


@case("VTD203", WARNING, "00:04.0 can read 4 KiB of the rings of the NIC")
def rings_of_another_read(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(DISK, machine.mapped(0x200_0000 if wrong else 0x200_1000, permissions="r"), 1)
    machine.hints = Hints((Region("the rings of the NIC", RegionKind.PRIVATE, 0x200_0000, 0x1000, (NIC,)),))
    return machine


@case("VTD204", WARNING, "mappings of 00:03.0 lead to 0xfee00000")
def mapped_to_interrupts(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0xFEE0_0000 if wrong else 0xFEDF_F000), 1)
    return machine


@case("VTD204", NOTE, "0xfee00000-0xfeefffff is mapped for 00:03.0")
def interrupts_mapped(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0x200_0000, iova=0xFEEF_F000 if wrong else 0xFEF0_0000), 1)
    return machine
