"""What a hostile device reaches: nothing that it was not given, but for the holes that the architecture has."""

from __future__ import annotations

import pytest

from device_models.attacker import Attacker
from device_models.machine import SystemMachine
from device_models.pci.bridges import PcieRootPort
from device_models.scopes import Scope, ScopeKind, UnitPlace, UnitScope
from emulator.engine import Engine
from emulator.unit import RemappingUnit
from pagetables.address import Gpa
from pagetables.request import AddressType
from tests.ats import DTE, ITE, PASIDE, PRE, device_tlb
from tests.device_models.dma_scene import BAR, MachineBench
from tests.units import DISK, FSTS, IRE, IRTA, NIC, SIRTP, STATUS, iotlb_global, wait_status

SECRET, GIVEN = 0x80_0000, 0x40_0000
TOP = 64 << 20
IRT = 0x18_0000
START, END, COMMAND, REACHED, BLOCKED = range(0, 0x28, 8)


class Stage(MachineBench):
    """00:02.0 is hostile and was given one page at 7000h; 00:1f.0 is a disk with the secret at 7000h."""

    def __init__(self, engine: Engine | str = "python", options: str = "") -> None:
        super().__init__("attacker", engine, options=options)
        assert isinstance(self.function, Attacker)
        self.evil = self.function
        self.memory.write(SECRET, b"secret")
        self.own, self.disk = self.table(), self.table()
        self.at = self.map(self.own, 0x7000, GIVEN)
        self.map(self.disk, 0x7000, SECRET)

    def legacy_mode(self, low: int = 0) -> None:
        self.legacy_context(DISK, self.disk, 8)
        self.ats_legacy(self.own, low=low)
        self.start_queue()

    def scalable_mode(self, low: int = DTE | PASIDE | PRE) -> None:
        """The secret is in PASID 5, which the device was given for its process, and a supervisor's."""
        self.pasid_entry(0, 2, 9, self.own)
        self.ats_scalable(low)


@pytest.fixture
def stage(engine: Engine) -> Stage:
    """Legacy mode without ATS."""
    stage = Stage(engine)
    stage.legacy_mode()
    return stage


@pytest.fixture
def trusted(engine: Engine) -> Stage:
    """Legacy mode with TT=01."""
    stage = Stage(engine)
    stage.legacy_mode(low=4)
    return stage


# -- what is blocked


@pytest.mark.parametrize("write", [False, True])
def test_a_scan_reaches_the_pages_that_were_given_and_no_other(stage: Stage, write: bool) -> None:
    before = stage.memory.read(SECRET, 4096)
    report = stage.evil.scan(0, 4 << 20, write)
    assert report.pages == {0x7000}
    assert report.blocked == {("05h write-denied" if write else "06h read-denied"): 1023}
    assert str(report) == f"scan: reached 1 page, 1023 blocked ({next(iter(report.blocked))}: 1023)"
    assert stage.memory.read(SECRET, 4096) == before
    assert (stage.memory.read(GIVEN, 4) == b"\x0d\xf0\xad\x0b") is write


def test_guesses_are_the_same_for_a_seed_and_reach_nothing(stage: Stage) -> None:
    first, again, other = (stage.evil.guess(200, 30, seed) for seed in (1, 1, 2))
    assert first.as_dict() == again.as_dict()
    assert not first.reached + other.reached
    assert sum(first.blocked.values()) == 200


def test_addresses_beyond_the_width_are_blocked_as_such(stage: Stage) -> None:
    assert stage.evil.guess(50, 64).blocked.keys() == {"04h address-beyond-width"}


def test_translated_requests_are_blocked_without_ats(stage: Stage) -> None:
    report = stage.evil.forge_translated(SECRET, SECRET + 0x1_0000)
    assert (report.reached, report.blocked) == ([], {"0Dh translation-type-blocked": 16})
    assert stage.evil.harvest(0x7000, 0x8000).blocked == {"translation request unsupported": 1}
    assert not stage.evil.port.tlb.entries()


def test_pasids_mean_nothing_in_legacy_mode(stage: Stage) -> None:
    assert stage.evil.forge_pasids(0x7000, range(16)).blocked == {"31h pasid-in-legacy-mode": 16}


def test_processes_that_do_not_exist_are_not_reached(engine: Engine) -> None:
    stage = Stage(engine)
    stage.scalable_mode()
    kernel = stage.table()
    stage.map_first(kernel, 0x7000, SECRET, 0x63)
    stage.pasid_entry(3, 1, 3, kernel)
    report = stage.evil.forge_pasids(0x7000, range(1, 70))
    assert (report.pages, sum(report.blocked.values())) == (set(), 69)
    assert report.blocked == {
        "59h pasid-entry-not-present": 62,
        "81h user-denied": 1,
        "51h pasid-directory-not-present": 6,
    }
    stage.scalable_context(NIC, DTE)
    stage.invalidate(b"\x11".ljust(32, b"\0"))
    assert stage.evil.forge_pasids(0x7000, [3]).blocked == {"45h pasid-disabled": 1}


def test_interrupts_are_sent_by_those_that_own_them(stage: Stage) -> None:
    for index, owner in ((1, DISK), (2, NIC)):
        stage.put(IRT + 16 * index, 1 | 0x40 + index << 16, owner | 1 << 18)
    stage.write(IRTA, IRT | 3, 8)
    stage.command(SIRTP)
    stage.command(IRE)
    report = stage.evil.forge_interrupts(range(20))
    assert stage.machine.apics.vectors() == [0x42]
    assert len(report.reached) == 1
    assert report.blocked == {"22h ir-not-present": 14, "26h ir-source-invalid": 1, "21h ir-index-beyond-table": 4}
    assert stage.evil.forge_interrupts(range(256), remappable=False).blocked == {"25h ir-compatibility-blocked": 256}


def test_page_requests_of_a_device_that_may_not_ask_are_refused(stage: Stage) -> None:
    report = stage.evil.flood(8)
    assert (report.reached, report.blocked) == ([], {"refused": 8})
    stage.machine.detach_unit(stage.unit)
    assert stage.evil.flood(3).blocked == {"refused": 3}


def test_a_flood_ends_where_the_queue_is_full(engine: Engine) -> None:
    stage = Stage(engine)
    stage.scalable_mode()
    stage.start_page_requests()
    report = stage.evil.flood(200, pasid=5)
    assert (len(report.reached), report.blocked) == (127, {"dropped": 73})
    assert stage.evil.flood(1, source_id=DISK).blocked == {"refused": 1}


# -- the holes: each is the architecture's, and has its remedy


def test_with_ats_allowed_all_memory_is_reached(trusted: Stage) -> None:
    """A unit does not check translated requests. Remedy: ATS for trusted devices only (TT=00, DTE=0)."""
    report = trusted.evil.forge_translated(0, TOP, step=0x10_0000)
    assert (len(report.pages), report.blocked) == (64, {})
    stolen = trusted.evil.forge_translated(SECRET, SECRET + 1)
    assert stolen.reached[0].data == b"secr"
    assert trusted.evil.forge_translated(0xFEE0_0000, 0xFEE0_1000).blocked == {"0Eh output-in-interrupt-range": 1}


def test_a_stale_translation_works_after_its_invalidation(trusted: Stage) -> None:
    assert trusted.evil.harvest(0, 0x1_0000).pages == {0x7000}
    trusted.put(trusted.at, 0)
    trusted.invalidate(iotlb_global(), device_tlb(NIC, 0x7000))
    assert not trusted.read(FSTS) & ITE
    assert trusted.evil.scan(0x7000, 0x8000).blocked == {"06h read-denied": 1}
    assert trusted.evil.replay(write=True).pages == {GIVEN}
    assert trusted.memory.read(GIVEN, 4) == b"\x0d\xf0\xad\x0b"
    trusted.legacy_context(NIC, trusted.own, 5)
    trusted.invalidate(b"\x11".ljust(16, b"\0"))
    assert trusted.evil.replay().blocked == {"0Dh translation-type-blocked": 1}


def test_a_device_that_ignores_invalidations_is_found_out(engine: Engine) -> None:
    stage = Stage(engine, ",answers=off")
    stage.legacy_mode(low=4)
    stage.evil.harvest(0x7000, 0x8000)
    stage.submit(device_tlb(NIC, 0x7000), wait_status(STATUS, 0x77))
    assert stage.read(FSTS) & ITE
    assert len(stage.evil.port.stale) == 1


def test_an_attacker_that_leaves_is_asked_no_more(trusted: Stage) -> None:
    trusted.evil.harvest(0x7000, 0x8000)
    trusted.machine.remove_device(trusted.evil)
    trusted.submit(device_tlb(NIC, 0x7000), wait_status(STATUS, 0x77))
    assert trusted.read(FSTS) & ITE


def test_what_was_not_invalidated_is_not_stale(trusted: Stage) -> None:
    trusted.evil.harvest(0x7000, 0x8000)
    trusted.invalidate(device_tlb(NIC, 0x9000))
    assert trusted.evil.replay().as_dict() == {"attack": "replay", "reached": [], "blocked": {}}


def test_a_forged_requester_reaches_what_its_victim_may(stage: Stage) -> None:
    """The unit believes the source-id. Remedy: source validation in the root port above."""
    report = stage.evil.forge_requesters(0x7000, range(256))
    assert [(one.request.source_id, one.data) for one in report.reached] == [(NIC, bytes(4)), (DISK, b"secr")]
    assert report.blocked == {"02h context-not-present": 254}
    forged = stage.evil.forge_requesters(SECRET, [DISK], write=True, address_type=AddressType.TRANSLATED)
    assert forged.blocked == {"0Dh translation-type-blocked": 1}


def test_a_root_port_that_validates_sources_lets_pass_what_carries_a_bus_number_behind_it() -> None:
    machine = SystemMachine(memory_size=4 << 20)
    port = machine.add_device("pcie-root-port,id=rp,addr=4")
    evil = machine.add_device("attacker,bus=rp")
    assert isinstance(evil, Attacker)
    assert isinstance(port, PcieRootPort)
    port.config_write(0x18, 4, 0x0004_0300)  # buses 3 and 4 are behind it
    forged = [0x0018, 0x0200, 0x0300, 0x0308, 0x04FF, 0x0500]
    assert len(evil.forge_requesters(0x1000, forged).reached) == 6
    port.config_write(0x14E, 2, 0x5E)  # every control but source validation
    assert len(evil.forge_requesters(0x1000, forged).reached) == 6
    assert port.config_read(0x104, 4) == 0
    port.config_write(0x14E, 2, 1)
    report = evil.forge_requesters(0x1000, forged)
    assert [one.request.source_id for one in report.reached] == [0x0300, 0x0308, 0x04FF]
    assert report.blocked == {"source validation of a port above": 3}
    assert port.config_read(0x104, 4) == 1 << 21  # uncorrectable: an ACS violation
    assert evil.flood(2, source_id=0x0018).blocked == {"source validation of a port above": 2}
    assert evil.scan(0x1000, 0x3000).pages == {0x1000, 0x2000}
    port.config_write(0x104, 4, 1 << 21)
    assert port.config_read(0x104, 4) == 0


def test_a_forged_requester_may_belong_to_another_unit(stage: Stage) -> None:
    """The unit of the forged requester decides. Remedy: translation on in each unit before any device is a master."""
    machine = stage.machine
    machine.detach_unit(stage.unit)
    machine.attach_unit(stage.unit, UnitPlace(stage.unit.base, UnitScope((Scope(ScopeKind.ENDPOINT, (NIC,)),))))
    idle = RemappingUnit(stage.memory, stage.unit.profile, machine.engine, Gpa(0xFED9_1000))
    machine.attach_unit(idle, UnitPlace(idle.base))
    assert stage.evil.scan(SECRET, SECRET + 0x1000).blocked == {"06h read-denied": 1}
    assert [one.data for one in stage.evil.forge_requesters(SECRET, [0x18]).reached] == [b"secr"]
    assert stage.evil.harvest(0x7000, 0x8000).blocked == {"translation request unsupported": 1}


def test_without_translation_everything_is_reached() -> None:
    machine = SystemMachine(memory_size=4 << 20)
    evil = machine.add_device("attacker")
    assert isinstance(evil, Attacker)
    assert len(evil.scan(0, 4 << 20).pages) == 1024
    assert evil.scan(4 << 20, 5 << 20).blocked == {"no memory and no register at the address": 256}
    assert evil.harvest(0, 0x1000).blocked == {"translation request unsupported": 1}
    assert len(evil.forge_interrupts(range(16), remappable=False).reached) == 16
    assert machine.apics.vectors() == list(range(16))


# -- registers


def test_a_program_without_python_attacks_through_registers(trusted: Stage) -> None:
    def attack(command: int, start: int = 0, end: int = 0) -> tuple[int, int]:
        for offset, value in ((START, start), (END, end), (COMMAND, command)):
            trusted.machine.space.write_number(BAR + offset, 8, value)
        return tuple(trusted.machine.space.read_number(BAR + offset, 8) for offset in (REACHED, BLOCKED))

    assert attack(1, 0, 0x10_0000) == (1, 255)
    assert attack(2, SECRET, SECRET + 0x4000) == (4, 0)
    assert attack(0x102, SECRET, SECRET + 0x1000) == (1, 0)
    assert trusted.memory.read(SECRET, 4) == b"\x0d\xf0\xad\x0b"
    assert attack(3) == (0, 0)
    assert attack(4, 0, 0x4000) == (0, 4)
    assert attack(5) == (256, 0)
    assert attack(1, 0, 1 << 63) == (1, 4095)
    assert attack(99, 1, 2) == (1, 4095)
    assert trusted.machine.space.read_number(BAR + 0x28, 8) == 0
    trusted.machine.space.write_number(BAR + REACHED, 8, 5)
    trusted.machine.reset()
    trusted.config(0x10, BAR)
    trusted.config(4, 6)
    assert trusted.machine.space.read_number(BAR + START, 8) == 0
