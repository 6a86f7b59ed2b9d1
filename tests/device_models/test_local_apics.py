"""Local APICs: who takes an interrupt, and what is recorded of it."""

from __future__ import annotations

from device_models.local_apic import ArrivedInterrupt, LocalApics
from emulator.clock import Clock
from pagetables.address import SourceId
from pagetables.interrupt_message import Interrupt
from pagetables.layouts.values import DeliveryMode, DestinationMode, TriggerMode


def test_a_message_names_vector_and_processor() -> None:
    apics = LocalApics(Clock(500), 4)
    apics.write_message(0xFEE0_2000, 0x0041, SourceId(0x10))
    assert [apics.vectors(number) for number in range(4)] == [[], [], [0x41], []]
    (event,) = apics.events
    assert (event.time, event.interrupt.source_id, event.apics, event.from_device) == (500, 0x10, (2,), True)


def test_a_broadcast_reaches_everybody_and_lowest_priority_one() -> None:
    apics = LocalApics(Clock(), 2)
    apics.write_message(0xFEEF_F000, 0x50)
    apics.write_message(0xFEEF_F000, 0x151)
    assert (apics.vectors(0), apics.vectors(1)) == ([0x50, 0x51], [0x50])
    assert not apics.events[0].from_device


def test_a_logical_destination_is_a_mask() -> None:
    apics = LocalApics(Clock(), 2)
    apics.write_message(0xFEE0_3004, 0x60)
    assert apics.events[0].apics == ()  # nobody has a logical id yet
    apics.apics[1].logical_id = 2
    apics.write_message(0xFEE0_3004, 0x60)
    assert (apics.vectors(0), apics.vectors(1)) == ([], [0x60])


def test_in_x2apic_mode_ff_is_a_processor_and_only_all_ones_are_a_broadcast() -> None:
    apics = LocalApics(Clock(), 2)
    apics.deliver(Interrupt(SourceId(0), 0x30, 0xFF, x2apic=True))
    assert apics.events[0].apics == ()
    apics.deliver(Interrupt(SourceId(0), 0x30, 0xFFFF_FFFF, x2apic=True))
    assert apics.events[1].apics == (0, 1)


def test_level_triggered_vectors_are_marked_and_an_nmi_requests_none() -> None:
    apics = LocalApics(Clock())
    apics.deliver(Interrupt(SourceId(0), 0x30, 0, trigger=TriggerMode.LEVEL))
    assert apics.apics[0].tmr == {0x30}
    apics.deliver(Interrupt(SourceId(0), 0x30, 0))
    assert apics.apics[0].tmr == set()
    apics.deliver(Interrupt(SourceId(0), 0x02, 0, DestinationMode.PHYSICAL, DeliveryMode.NMI))
    assert apics.vectors() == [0x30]
    assert len(apics.events) == 3


def test_a_reset_forgets_requests_and_keeps_the_record() -> None:
    apics = LocalApics(Clock())
    seen: list[ArrivedInterrupt] = []
    apics.watchers.append(seen.append)
    apics.write_message(0xFEE0_0000, 0x41)
    apics.reset()
    assert apics.vectors() == []
    assert apics.events == seen
    assert len(seen) == 1
