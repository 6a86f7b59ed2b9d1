"""attacker: a hostile function that tries to reach memory that nobody gave it, and reports what it reached.

    machine.add_device("attacker,id=evil")
    evil = machine.device("evil")
    print(evil.scan(0, 64 << 20))    # scan: reached 3 pages, 16381 blocked (06h read-denied: 16381)

Every attack returns a `Report`. Attacks use the function's own source-id unless they forge another, do not look at bus
mastering, ATS or PASID enables (hardware that cheats does not either), and write only where they are told to.

A program that has only memory reaches it through BAR 0, with registers of 8 bytes: 00h start, 08h end (address, first
and behind the last), 10h command (1 scan, 2 forge translated requests, 3 replay, 4 flood with page requests, 5 forge
interrupts; bit 8 writes instead of reading), 18h reached, 20h blocked. A command tries 4096 pages at most.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from device_models.ats_port import AtsPort, NoPlace, PortOptions
from device_models.attack_report import Report
from device_models.dma import DmaRefusal
from device_models.memory_region import MemoryRegion, Operations, Sizes
from device_models.pci.extended import ENDPOINT, ROOT_ENDPOINT, add_express_capability
from device_models.pci.function import PciFunction
from device_models.properties import Switch, Unsigned
from emulator.unit.device_tlb import DeviceTlbEntry, DeviceTlbInvalidation
from emulator.unit.page_requests import PageRequest, PageRequestOutcome
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Iova, Pasid, SourceId
from pagetables.request import Access, AddressType, Request

__all__ = ["Attacker"]

_INTERRUPTS = 0xFEE0_0000
_REMAPPABLE = 1 << 4
_REGISTERS = {0x00: "start", 0x08: "end", 0x10: "command", 0x18: "reached", 0x20: "blocked"}
_WRITES = 1 << 8
_VECTORS = 256
_MOST = PAGE_SIZE << 12  # of one command, which a guest gives: it is not to take for ever


class _Hoard(AtsPort):
    # A port that asks whether or not it may, and never forgets what it was told to.

    def __init__(self, function: PciFunction, options: PortOptions) -> None:
        super().__init__(function, options)
        self.stale: list[DeviceTlbEntry] = []

    @property
    def translating(self) -> bool:
        return True

    def invalidate(self, invalidation: DeviceTlbInvalidation) -> bool:
        known = self.tlb.entries()
        self.tlb.invalidate(invalidation)
        kept = set(self.tlb.entries())
        self.stale += [entry for entry in known if entry not in kept]
        return super().invalidate(invalidation)

    def reset(self) -> None:
        super().reset()
        self.stale.clear()


class Attacker(PciFunction):
    """1234:bad0."""

    TYPE = "attacker"
    EXPLAINS = "hostile device: scans, guesses, forges, replays, floods"
    VENDOR, DEVICE, CLASS, EXPRESS = 0x1234, 0xBAD0, 0x00FF, True

    answers = Switch(True, "say that translations are forgotten (they never are)")
    mark = Unsigned(32, 0x0BAD_F00D, "what it writes")

    def realize(self) -> None:
        """Capabilities that look innocent, and BAR 0."""
        super().realize()
        on_link = self.bus is not None and self.bus.bridge is not None
        add_express_capability(self.config, ENDPOINT if on_link else ROOT_ENDPOINT)
        self.port = _Hoard(self, PortOptions(invalidations="lie" if self.answers else "ignore", capacity=1 << 16))
        self.registers = dict.fromkeys(_REGISTERS.values(), 0)
        operations = Operations(self._read, self._write, Sizes(8, 8), Sizes(8, 8))
        self.add_bar(0, MemoryRegion("attacker", PAGE_SIZE, operations))

    def reset(self) -> None:
        """What was hoarded is lost."""
        super().reset()
        self.port.reset()
        self.registers = dict.fromkeys(_REGISTERS.values(), 0)

    def unrealize(self) -> None:
        """Units hear of it no more."""
        if hasattr(self, "port"):
            self.port.detach()
        super().unrealize()

    # -- attacks ------------------------------------------------------------------------------------------------------

    def scan(
        self, start: int, end: int, write: bool = False, pasid: int | None = None, step: int = PAGE_SIZE
    ) -> Report:
        """Try each address from `start` up to `end`."""
        return self._attack("scan", (self._own(iova, write, pasid) for iova in range(start, end, step)))

    def guess(self, count: int, bits: int = 48, seed: int = 0, write: bool = False) -> Report:
        """Try `count` random pages below 2**bits."""
        chance = random.Random(seed)
        pages = (chance.getrandbits(bits) & -PAGE_SIZE for _ in range(count))
        return self._attack("guess", (self._own(iova, write) for iova in pages))

    def harvest(self, start: int, end: int, pasid: int | None = None) -> Report:
        """Ask for the translations of a range and hoard them; pages granted count as reached."""
        report = Report("harvest")
        for iova in range(start, end, PAGE_SIZE):
            request = self._own(iova, False, pasid)
            found = self.port.translate(iova, Access.READ, pasid)
            if isinstance(found, NoPlace):
                report.blocked[found.value] += 1
            else:
                report.note(request, None)
        return report

    def replay(self, write: bool = False) -> Report:
        """Use every translation that was to be forgotten."""
        return self._attack("replay", (self._translated(entry.gpa, write) for entry in self.port.stale))

    def forge_translated(self, start: int, end: int, write: bool = False, step: int = PAGE_SIZE) -> Report:
        """Claim that physical addresses are translations."""
        return self._attack("forge translated", (self._translated(gpa, write) for gpa in range(start, end, step)))

    def forge_requesters(
        self,
        iova: int,
        source_ids: Iterable[int],
        write: bool = False,
        address_type: AddressType = AddressType.UNTRANSLATED,
    ) -> Report:
        """Claim to be other functions. A root port stops that once its source validation is on."""
        access = Access.WRITE if write else Access.READ
        return self._attack(
            "forge requesters",
            (Request(SourceId(sid), Iova(iova), access, address_type=address_type) for sid in source_ids),
        )

    def forge_pasids(self, iova: int, pasids: Iterable[int], write: bool = False, privileged: bool = False) -> Report:
        """Claim to work for other processes."""
        return self._attack("forge PASIDs", (self._own(iova, write, pasid, privileged) for pasid in pasids))

    def forge_interrupts(self, handles: Iterable[int], remappable: bool = True) -> Report:
        """Send interrupts: by handle, or in compatibility format with these vectors."""
        report = Report("forge interrupts")
        for number in handles:
            low, high = (number & 0x7FFF) << 5, number >> 15 << 2
            address = _INTERRUPTS | (low | high | _REMAPPABLE if remappable else 0)
            data = 0 if remappable else number
            request = self._own(address, write=True)
            report.note(request, self.machine.dma.write_all(request, data.to_bytes(4, "little")))
        return report

    def flood(self, count: int, pasid: int | None = None, source_id: int | None = None) -> Report:
        """Ask for pages that nobody needs; requests that were queued count as reached."""
        report = Report("flood")
        sid = self.source_id if source_id is None else SourceId(source_id)
        tag = None if pasid is None else Pasid(pasid)
        unit = self.machine.unit_for(sid)
        for number in range(count):
            if self.bus is not None and not self.bus.lets_up(sid):
                report.blocked[DmaRefusal.FORGED_SOURCE.value] += 1
                continue
            page = PageRequest(sid, Iova(number << PAGE_SHIFT), pasid=tag, last=False)
            outcome = PageRequestOutcome.REFUSED if unit is None else unit.page_request(page)
            if outcome is PageRequestOutcome.QUEUED:
                report.note(page.request(), None)
            else:
                report.blocked[outcome.value] += 1
        return report

    # -- requests -----------------------------------------------------------------------------------------------------

    def _own(self, iova: int, write: bool, pasid: int | None = None, privileged: bool = False) -> Request:
        return self.request(iova, Access.WRITE if write else Access.READ, pasid, privileged)

    def _translated(self, gpa: int, write: bool) -> Request:
        access = Access.WRITE if write else Access.READ
        return self.request(gpa, access, address_type=AddressType.TRANSLATED)

    def _attack(self, name: str, requests: Iterable[Request]) -> Report:
        # Past `dma_read` and `dma_write`, which ask for bus mastering.
        report, mark = Report(name), self.mark.to_bytes(4, "little")
        for request in requests:
            if self.bus is not None and not self.bus.lets_up(request.source_id):
                report.note(request, DmaRefusal.FORGED_SOURCE)
            elif request.access is Access.WRITE:
                report.note(request, self.machine.dma.write_all(request, mark))
            else:
                found = self.machine.dma.read_all(request, len(mark))
                report.note(request, found.error, found.data)
        return report

    # -- registers ----------------------------------------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> int:
        return self.registers.get(_REGISTERS.get(offset, ""), 0)

    def _write(self, offset: int, size: int, value: int) -> None:
        name = _REGISTERS.get(offset)
        if name in ("start", "end", "command"):
            self.registers[name] = value
        if name == "command":
            self._command(value & 0xFF, bool(value & _WRITES))

    def _command(self, number: int, write: bool) -> None:
        start = self.registers["start"]
        end = min(self.registers["end"], start + _MOST)
        attacks: dict[int, Callable[[], Report]] = {
            1: lambda: self.scan(start, end, write),
            2: lambda: self.forge_translated(start, end, write),
            3: lambda: self.replay(write),
            4: lambda: self.flood(max(end - start, 0) // PAGE_SIZE),
            5: lambda: self.forge_interrupts(range(_VECTORS), remappable=False),
        }
        if number in attacks:
            report = attacks[number]()
            self.registers["reached"] = len(report.reached)
            self.registers["blocked"] = sum(report.blocked.values())
