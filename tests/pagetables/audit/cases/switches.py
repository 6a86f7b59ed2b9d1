"""Interrupts, switches and firmware that leave a gap, and their twins."""

from __future__ import annotations

from pagetables.audit import Hints, Region, RegionKind
from pagetables.layouts.dmar import Drhd
from tests.builders import capabilities
from tests.pagetables.audit.case import ERROR, NOTE, WARNING, case
from tests.pagetables.audit.machines import BASE, CFIS, DISK, IRES, IRTPS, NIC, RTPS, TES, Machine, rmrr

# -- Interrupts


@case("VTD401", WARNING, "interrupt entries 0 and 2 (of 00:03.0) may be used by any device: SVT=0")
def source_not_validated(wrong: bool) -> Machine:
    machine = Machine()
    machine.interrupt(0, svt=0 if wrong else 1)
    machine.interrupt(1)
    machine.interrupt(2, svt=0 if wrong else 1)
    return machine


@case("VTD402", WARNING, "the unit at 0xfed90000 lets interrupts in compatibility format pass")
def compatibility_format(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["GSTS"] |= CFIS if wrong else 0
    return machine


@case("VTD402", WARNING, "lets interrupts in compatibility format pass")
def compatibility_format_but_x2apic(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["GSTS"] |= CFIS
    machine.registers["IRTA"] |= 0 if wrong else 1 << 11  # EIME: blocked whatever CFIS says
    return machine


@case("VTD403", WARNING, "could remap interrupts (ECAP.IR) but does not")
def interrupts_not_remapped(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["GSTS"] &= ~(IRES | IRTPS) if wrong else -1
    return machine


@case("VTD403", NOTE, "cannot remap interrupts (ECAP.IR=0)")
def interrupts_cannot_be_remapped(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["ECAP"] = int(capabilities(ir=0).ecap)
    machine.registers["GSTS"] &= ~(IRES | IRTPS) if wrong else -1
    return machine


@case("VTD404", NOTE, "interrupt entry 5 may be used by every device of buses 02-04 (SVT=2)")
def bus_range(wrong: bool) -> Machine:
    machine = Machine()
    machine.interrupt(5, sid=0x0204 if wrong else 0x0202, svt=2)
    return machine


@case("VTD405", WARNING, "00:03.0 can raise NMI (1 interrupt entry, the first has index 7)")
def delivery_mode(wrong: bool) -> Machine:
    machine = Machine()
    machine.interrupt(7, dlm=4 if wrong else 1)
    return machine


# -- Switches


@case("VTD501", ERROR, "the unit at 0xfed90000 does not translate")
def translation_off(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["GSTS"] &= ~TES if wrong else -1
    return machine


@case("VTD502", WARNING, "neither translates nor protects the memory regions")
def no_protected_memory(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers |= {"CAP": int(capabilities(plmr=1).cap), "GSTS": RTPS, "PMEN": 0 if wrong else 1 << 31 | 1}
    return machine


@case("VTD502", NOTE, "are off (PMEN.EPM=0), as they should be while it translates")
def no_protected_memory_while_translating(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["CAP"] = int(capabilities(phmr=1 if wrong else 0).cap)
    return machine


@case("VTD503", WARNING, "faults of 00:03.0 are not recorded (FPD=1)")
def faults_not_recorded(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.tables(), 1, low=0b11 if wrong else 1)
    return machine


@case("VTD503", WARNING, "faults of 1 interrupt entry are not recorded (FPD=1)")
def faults_of_interrupts_not_recorded(wrong: bool) -> Machine:
    machine = Machine()
    machine.interrupt(0, low=0b10 if wrong else 0)
    return machine


@case("VTD504", NOTE, "raises no interrupt on faults (FECTL.IM=1)")
def faults_not_signalled(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["FECTL"] = 1 << 31 if wrong else 0
    return machine


@case("VTD505", ERROR, "invalidations of the unit at 0xfed90000 have failed (FSTS.IQE and ITE)")
def invalidation_error(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers["FSTS"] = 0x50 if wrong else 0
    return machine


@case("VTD506", NOTE, "1 fault of 00:03.0 pending")
def faults_pending(wrong: bool) -> Machine:
    machine = Machine()
    machine.registers |= {"FRCD": 0x1000, "FRCD_HI": NIC | 5 << 32 | (1 << 63 if wrong else 0)}
    return machine


# -- Firmware


@case("VTD601", WARNING, "0x2000000-0x2001fff, which firmware reserves for 00:03.0 (RMRR): 4 KiB of it are not mapped")
def rmrr_missing(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0x200_0000, iova=0x200_0000, pages=1 if wrong else 2), 1)
    machine.firmware(rmrr(0x200_0000, 0x2000, NIC))
    return machine


@case("VTD601", NOTE, "which firmware reserves for 00:04.0 (RMRR), cannot be reached by it: it has no tables")
def rmrr_of_a_device_without_tables(wrong: bool) -> Machine:
    machine = Machine()
    if not wrong:
        machine.pass_through(DISK, 1)
    machine.firmware(rmrr(0x200_0000, 0x2000, DISK))
    return machine


@case("VTD602", WARNING, "00:03.0 has 0x2000000-0x2001fff mapped for its reserved memory: 4 KiB more than firmware")
def rmrr_too_wide(wrong: bool) -> Machine:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0x200_0000, iova=0x200_0000, pages=2 if wrong else 1), 1)
    machine.firmware(rmrr(0x200_0000, 0x1000, NIC))
    return machine


@case("VTD603", ERROR, "the RMRR 0x2000000-0x2000fff holds 4 KiB that the operating system uses")
def rmrr_in_ram(wrong: bool) -> Machine:
    machine = Machine()
    machine.firmware(rmrr(0x200_0000, 0x1000))
    machine.hints = Hints((Region("System RAM", RegionKind.RAM, 0x100_0000 if wrong else 0x200_1000, 0x200_0000),))
    return machine


@case("VTD604", WARNING, "the unit at 0xfed90000 is none of those in the DMAR table (0xfed91000)")
def unit_not_in_dmar(wrong: bool) -> Machine:
    machine = Machine()
    machine.firmware(units=(Drhd(BASE + 0x1000 if wrong else BASE, flags=1),))
    return machine


@case("VTD605", NOTE, "the unit at 0xfed91000 of the DMAR table was not looked at")
def unit_not_audited(wrong: bool) -> Machine:
    machine = Machine()
    others = (Drhd(BASE + 0x1000),) if wrong else ()
    machine.firmware(units=(*others, Drhd(BASE, flags=1)))
    return machine
