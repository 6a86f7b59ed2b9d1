"""PCI functions: configuration space, BARs, MSI, MSI-X, the interrupt pin, and who may send requests."""

from __future__ import annotations

import pytest

from device_models.dma import DmaRefusal
from device_models.memory_region import MemoryRegion
from device_models.pci.bars import Bar, BarKind
from device_models.pci.config_space import ConfigSpace
from device_models.pci.extended import Ats, PageRequests, Pasids, add_express_capability
from device_models.pci.function import PciFunction
from device_models.pci.msix import MsiX
from pagetables.errors import InputError
from tests.device_models.pci_scene import (
    BAR_0,
    COMMAND,
    INTX_DISABLE,
    IO,
    MASTER,
    MEMORY,
    STATUS,
    Plain,
    Software,
    plug,
    scene,
)

SLOT = 0x10


class WithMessages(PciFunction):
    """MSI with four maskable vectors, and MSI-X with three in BAR 0."""

    TYPE = "with-messages"
    PIN = 2

    def realize(self) -> None:
        super().realize()
        region = MemoryRegion("table", 0x1000)
        self.add_bar(0, region)
        self.add_msi(vectors=4, maskable=True, offset=0x50)
        self.add_msix(region, 0, 3)


class TestConfigurationSpace:
    def test_ids_are_read_only_and_the_command_register_keeps_five_bits(self) -> None:
        _, _, software = scene()
        software.write(SLOT, 0, 0)
        assert software.read(SLOT, 0) == 0x5678_1234
        software.write(SLOT, COMMAND, 0xFFFF, 2)
        assert software.read(SLOT, COMMAND, 2) == 0x0507

    def test_ones_clear_the_error_bits_of_the_status_register(self) -> None:
        _, device, software = scene()
        device.config.set(STATUS, 2, 0xF908)
        software.write(SLOT, STATUS, 0x8000, 2)
        assert software.read(SLOT, STATUS, 2) == 0x7908

    def test_nobody_answers_with_ones(self) -> None:
        _, _, software = scene()
        assert software.read(0x18, 0) == 0xFFFF_FFFF
        assert software.read(0x18, 0, 1) == 0xFF

    def test_capabilities_are_a_list_that_begins_with_the_last(self) -> None:
        config = ConfigSpace()
        first, second = config.add_capability(1, 8), config.add_capability(5, 14)
        assert (first, second) == (0x40, 0x48)
        assert (config.data[0x34], config.data[0x49], config.data[0x41]) == (0x48, 0x40, 0)
        assert config.find_capability(1) == 0x40
        assert config.find_capability(9) == 0
        assert config.get(STATUS, 2) & 0x10

    def test_a_capability_is_found_however_many_stand_before_it(self) -> None:
        config = ConfigSpace()
        places = {identity: config.add_capability(identity, 8) for identity in range(1, 7)}
        assert {identity: config.find_capability(identity) for identity in places} == places

    def test_a_list_that_leads_back_into_itself_comes_to_an_end(self) -> None:
        config = ConfigSpace()
        at = config.add_capability(1, 8)
        config.set(at + 1, 1, at)
        assert (config.find_capability(1), config.find_capability(2)) == (at, 0)

    def test_a_capability_ends_where_configuration_space_ends(self) -> None:
        assert ConfigSpace().add_capability(1, 8, 0xF8) == 0xF8
        with pytest.raises(InputError, match="ends before 0x104"):
            ConfigSpace().add_capability(1, 8, 0xFC)

    def test_two_capabilities_do_not_overlap(self) -> None:
        config = ConfigSpace()
        config.add_capability(1, 8, 0x80)
        with pytest.raises(InputError, match="taken"):
            config.add_capability(2, 8, 0x84)
        with pytest.raises(InputError, match="no room"):
            config.add_capability(2, 0xC0)

    def test_extended_capabilities_begin_at_100h_and_are_linked(self) -> None:
        config = ConfigSpace(4096)
        Ats(config)
        Pasids(config)
        assert config.get(0x100, 4) == 0x1081_000F  # next 108h, version 1
        assert config.get(0x108, 4) == 0x0001_001B
        assert config.find_extended_capability(0x1B) == 0x108
        assert config.find_extended_capability(0x13) == 0
        with pytest.raises(InputError, match="no extended"):
            Ats(ConfigSpace())

    def test_ats_is_what_software_enables(self) -> None:
        config = ConfigSpace(4096)
        ats = Ats(config, depth=8)
        assert not ats.enabled
        config.write(ats.offset + 6, 2, 0x8002)
        assert ats.enabled
        assert ats.smallest_shift == 14
        assert config.read(ats.offset + 4, 2) == 0x28

    def test_pasids_allow_only_what_the_device_has(self) -> None:
        config = ConfigSpace(4096)
        pasids = Pasids(config, width=16, privileged=True)
        config.write(pasids.offset + 6, 2, 7)
        assert (pasids.enabled, pasids.execute_enabled, pasids.privileged_enabled) == (True, False, True)
        assert config.read(pasids.offset + 4, 2) == 0x1004

    def test_page_requests_are_limited_by_both_sides_and_failures_stay_until_cleared(self) -> None:
        config = ConfigSpace(4096)
        requests = PageRequests(config, capacity=32)
        config.write(requests.offset + 12, 4, 100)
        config.write(requests.offset + 4, 2, 1)
        assert (requests.enabled, requests.allocation, requests.stopped) == (True, 32, True)
        requests.stopped = False
        requests.failed()
        requests.failed(unexpected_group=True)
        assert config.read(requests.offset + 6, 2) == 0x8003
        config.write(requests.offset + 6, 2, 1)
        assert config.read(requests.offset + 6, 2) == 0x8002
        assert not requests.stopped

    def test_an_endpoint_has_an_express_capability_without_a_slot(self) -> None:
        config = ConfigSpace(4096)
        at = add_express_capability(config, 0)
        assert config.get(at + 2, 2) == 0x0002


class TestBars:
    def test_all_ones_show_the_size(self) -> None:
        _, _, software = scene()
        for bar, shown in ((0, 0xFFFF_F000), (1, 0xFFFF_FFF1), (2, 0xFFFF_000C), (3, 0xFFFF_FFFF)):
            software.write(SLOT, BAR_0 + 4 * bar, 0xFFFF_FFFF)
            assert software.read(SLOT, BAR_0 + 4 * bar) == shown

    def test_a_bar_is_there_only_while_the_command_register_says_so(self) -> None:
        machine, _, software = scene()
        software.write(SLOT, BAR_0, 0xE000_0000)
        assert machine.space.read_number(0xE000_0000, 1) == 0
        software.write(SLOT, COMMAND, MEMORY, 2)
        assert machine.space.read_number(0xE000_0000, 1) == 0xA0
        software.write(SLOT, COMMAND, IO | MASTER, 2)
        assert machine.space.read_number(0xE000_0000, 1) == 0

    def test_ports_need_their_own_bit(self) -> None:
        machine, _, software = scene()
        software.write(SLOT, BAR_0 + 4, 0xC000)
        software.write(SLOT, COMMAND, MEMORY, 2)
        assert machine.ports.read_number(0xC000, 1) == 0xFF
        software.write(SLOT, COMMAND, IO, 2)
        assert machine.ports.read_number(0xC000, 1) == 0xA1

    def test_a_64_bit_bar_lies_above_4_gib(self) -> None:
        machine, _, software = scene()
        software.write(SLOT, BAR_0 + 8, 0x4000_0000)
        software.write(SLOT, BAR_0 + 12, 0x12)
        software.write(SLOT, COMMAND, MEMORY, 2)
        assert machine.space.read_number(0x12_4000_0000, 1) == 0xA2

    def test_a_bar_follows_its_register_and_never_ends_at_the_top(self) -> None:
        machine, device, software = scene()
        software.write(SLOT, COMMAND, MEMORY, 2)
        software.write(SLOT, BAR_0, 0xD000_0000)
        software.write(SLOT, BAR_0, 0xE000_0000)
        assert machine.space.lookup(0xD000_0000) is None
        software.write(SLOT, BAR_0, 0xFFFF_F000)
        assert device.bars[0].address is None
        assert machine.space.lookup(0xE000_0000) is None

    def test_memory_hides_a_bar_that_was_put_over_it(self) -> None:
        machine, _, software = scene()
        software.write(SLOT, COMMAND, MEMORY, 2)
        software.write(SLOT, BAR_0, 0x10_0000)
        machine.space.write_number(0x10_0000, 1, 0x5A)
        assert machine.space.read_number(0x10_0000, 1) == 0x5A

    def test_sizes_are_powers_of_two(self) -> None:
        for size, kind in ((0x1001, BarKind()), (8, BarKind()), (2, BarKind(io=True))):
            with pytest.raises(InputError, match="no size that a BAR can have"):
                Bar(ConfigSpace(), 0, MemoryRegion("odd", size), kind)

    def test_a_reset_takes_bars_away(self) -> None:
        machine, _, software = scene()
        software.write(SLOT, COMMAND, MEMORY, 2)
        software.write(SLOT, BAR_0, 0xE000_0000)
        machine.reset()
        assert machine.space.lookup(0xE000_0000) is None
        assert software.read(SLOT, BAR_0) == 0


def enable_msi(software: Software, control: int = 1, address: int = 0xFEE0_0000, data: int = 0x40) -> None:
    software.write(SLOT, COMMAND, MASTER | MEMORY, 2)
    software.write(SLOT, 0x54, address)
    software.write(SLOT, 0x5C, data, 2)
    software.write(SLOT, 0x52, control, 2)


class TestMsi:
    def test_a_message_is_a_write_of_the_data_to_the_address(self) -> None:
        machine, device, software = scene(WithMessages)
        enable_msi(software)
        device.notify()
        assert machine.apics.vectors() == [0x40]
        assert machine.apics.events[0].interrupt.source_id == SLOT

    def test_vectors_replace_the_low_bits_of_the_data(self) -> None:
        machine, device, software = scene(WithMessages)
        enable_msi(software, 0x21, data=0x43)
        device.notify(2)
        assert machine.apics.vectors() == [0x42]

    def test_no_more_vectors_are_allocated_than_there_are(self) -> None:
        _, device, software = scene(WithMessages)
        enable_msi(software, 0x71)
        assert software.read(SLOT, 0x52, 2) == 0x1A5  # 64-bit, maskable, 4 of 4, on
        assert device.msi is not None
        assert device.msi.allocated == 4

    def test_nothing_is_sent_while_msi_is_off_or_the_function_is_no_master(self) -> None:
        machine, device, software = scene(WithMessages)
        enable_msi(software, 0)
        device.notify()
        enable_msi(software)
        software.write(SLOT, COMMAND, MEMORY, 2)
        device.notify()
        assert machine.apics.events == []

    def test_a_masked_message_waits_in_the_pending_bits(self) -> None:
        machine, device, software = scene(WithMessages)
        enable_msi(software, 0x21)
        software.write(SLOT, 0x60, 0b0100)
        device.notify(2)
        device.notify(1)
        assert software.read(SLOT, 0x64) == 0b0100
        assert machine.apics.vectors() == [0x41]
        software.write(SLOT, 0x60, 0)
        assert machine.apics.vectors() == [0x41, 0x42]
        assert software.read(SLOT, 0x64) == 0

    def test_vectors_that_there_are_not_have_no_mask_bits(self) -> None:
        _, _, software = scene(WithMessages)
        software.write(SLOT, 0x60, 0xFFFF_FFFF)
        assert software.read(SLOT, 0x60) == 0b1111


class TestMsiX:
    TABLE = 0xE000_0000

    def prepared(self):
        machine, device, software = scene(WithMessages)
        software.write(SLOT, BAR_0, self.TABLE)
        software.write(SLOT, COMMAND, MASTER | MEMORY, 2)
        self.at = device.config.find_capability(0x11)
        software.write(SLOT, self.at + 2, 0x8000, 2)
        for vector in range(3):
            machine.space.write_number(self.TABLE + 16 * vector, 8, 0xFEE0_0000)
            machine.space.write_number(self.TABLE + 16 * vector + 8, 4, 0x50 + vector)
        return machine, device, software

    def test_entries_are_masked_until_software_unmasks_them(self) -> None:
        machine, device, _ = self.prepared()
        device.notify(1)
        assert machine.apics.vectors() == []
        assert machine.space.read_number(self.TABLE + 0x30, 8) == 0b010
        machine.space.write_number(self.TABLE + 16 + 12, 4, 0)
        assert machine.apics.vectors() == [0x51]
        assert machine.space.read_number(self.TABLE + 0x30, 8) == 0

    def test_the_function_mask_holds_every_entry_back(self) -> None:
        machine, device, software = self.prepared()
        machine.space.write_number(self.TABLE + 12, 4, 0)
        software.write(SLOT, self.at + 2, 0xC000, 2)
        device.notify(0)
        assert machine.apics.vectors() == []
        software.write(SLOT, self.at + 2, 0x8000, 2)
        assert machine.apics.vectors() == [0x50]

    def test_what_is_pending_waits_for_msi_x_to_be_switched_on_again(self) -> None:
        machine, device, software = self.prepared()
        device.notify(2)
        software.write(SLOT, self.at + 2, 0, 2)
        machine.space.write_number(self.TABLE + 32 + 12, 4, 0)
        assert machine.space.read_number(self.TABLE + 0x30, 8) == 0b100
        software.write(SLOT, self.at + 2, 0x8000, 2)
        assert machine.apics.vectors() == [0x52]

    def test_a_vector_beyond_the_table_is_nothing(self) -> None:
        machine, device, _ = self.prepared()
        device.notify(3)
        assert machine.apics.events == []

    def test_three_entries_and_their_pending_bits_fill_a_bar_of_38h_bytes(self) -> None:
        region = MemoryRegion("exact", 0x38)
        MsiX(ConfigSpace(), lambda address, data: None, region, 0, 3)
        assert [(part.address, part.size) for part in region.children] == [(0x30, 8), (0, 0x30)]
        with pytest.raises(InputError, match="does not fit"):
            MsiX(ConfigSpace(), lambda address, data: None, MemoryRegion("less", 0x37), 0, 3)

    def test_a_table_that_does_not_fit_its_bar_is_refused(self) -> None:
        _, device, _ = scene()
        with pytest.raises(InputError, match="does not fit"):
            device.add_msix(MemoryRegion("small", 0x20), 0, 3)
        with pytest.raises(InputError, match="1 to 2048"):
            device.add_msix(MemoryRegion("small", 0x20), 0, 0)


class TestPin:
    def test_the_pin_drives_an_input_and_shows_in_the_status_register(self) -> None:
        machine, device, software = scene()
        device.set_interrupt(True)
        assert machine.inputs.levels[16 + 4 + 2] == 1  # slot 2, INTA
        assert software.read(SLOT, STATUS, 2) & 8
        device.set_interrupt(False)
        assert sum(machine.inputs.levels) == 0
        assert not software.read(SLOT, STATUS, 2) & 8

    def test_intx_disable_lowers_the_wire_but_not_the_status(self) -> None:
        machine, device, software = scene()
        device.set_interrupt(True)
        software.write(SLOT, COMMAND, INTX_DISABLE, 2)
        assert sum(machine.inputs.levels) == 0
        assert software.read(SLOT, STATUS, 2) & 8
        software.write(SLOT, COMMAND, 0, 2)
        assert machine.inputs.levels[22] == 1

    def test_two_functions_share_a_wire(self) -> None:
        machine, device, _ = scene()
        other = plug(machine, Plain, "addr=6")
        device.set_interrupt(True)
        other.set_interrupt(True)
        device.set_interrupt(False)
        assert machine.inputs.levels[22] == 1
        other.set_interrupt(False)
        assert machine.inputs.levels[22] == 0


class TestMaster:
    def test_a_function_that_is_no_master_reads_zeros_and_writes_nothing(self) -> None:
        machine, device, software = scene()
        machine.space.write(0x1000, b"abcd")
        answer = device.dma_read(0x1000, 4)
        assert (answer.data, answer.error) == (bytes(4), DmaRefusal.NOT_A_MASTER)
        assert device.dma_write(0x1000, b"WXYZ") is DmaRefusal.NOT_A_MASTER
        software.write(SLOT, COMMAND, MASTER, 2)
        assert device.dma_read(0x1000, 4).data == b"abcd"
        assert device.dma_write(0x1000, b"WXYZ") is None
        assert machine.space.read(0x1000, 4) == b"WXYZ"

    def test_dma_reaches_the_registers_of_other_devices(self) -> None:
        _, device, software = scene()
        software.write(SLOT, COMMAND, MASTER | MEMORY, 2)
        software.write(SLOT, BAR_0, 0xE000_0000)
        assert device.dma_read(0xE000_0000, 1).data == b"\xa0"
        answer = device.dma_read(0xD000_0000, 4)
        assert (answer.data, answer.error) == (bytes(4), DmaRefusal.NOTHING_THERE)
        assert device.dma_write(0xD000_0000, b"a") is DmaRefusal.NOTHING_THERE
