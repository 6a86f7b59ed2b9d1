"""swiotlb: one preallocated pool of 2 KiB slots in areas, for everybody; today's, static or dynamic.

Source: kernel/dma/swiotlb.c, Linux 7. Defaults: 64 MiB of slots; as many areas as there are CPUs, rounded up to a power
of two, each searched under its own lock and this CPU's first. Data is copied in always, also for a device that only
writes: otherwise what the slot held before would come back with what the device did not write.

    prepare   this CPU's area, then the others: the first free run at a rotating index, inside a segment of 128 slots
              none, and `dynamic`: a worker adds a pool of the default size, and a transient pool of just this size is
              tried at once (GFP_NOWAIT); else there is no room, however empty the pool may be
    finish    data back if the device wrote; slots join their neighbours; a transient pool goes back to the system

`force` bounces everything; without it only what lies beyond `reach_mib` or the device's mask. `align` is the granule of
the IOMMU: with one, whole pages are bounced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.clock import MICROSECOND, Clock, Timer
from emulator.mapping.bounce.bouncer import NO_MASK, Bounced, Bouncer, NoBounceBuffer
from emulator.mapping.bounce.copying import WRITES, Copier, NotBounced
from emulator.mapping.bounce.slots import SEGMENT, SLOT, SLOT_SHIFT, Area
from emulator.mapping.options import number_options, takes
from emulator.mapping.pressure import Zone
from emulator.mapping.watermarks import Gfp
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "DYNAMIC", "Swiotlb", "make", "make_dynamic"]

DEFAULTS = {"slots": 32768, "areas": 4, "force": 1, "dynamic": 0, "grow_us": 100, "align": PAGE_SIZE, "reach_mib": 0}
DYNAMIC = {**DEFAULTS, "slots": 4096, "dynamic": 1}


class _Pool:
    # A contiguous piece of memory cut into areas. A transient pool serves one mapping and has none.

    def __init__(self, start: Gpa, slots: int, areas: int) -> None:
        self.start, self.slots = start, slots
        self.per_area = slots // areas if areas else slots
        self.areas = [Area(self.per_area) for _ in range(areas)]

    @property
    def pages(self) -> list[Gpa]:
        end = self.start + (self.slots << SLOT_SHIFT)
        return [Gpa(page) for page in range(self.start, end, PAGE_SIZE)]


@dataclass(frozen=True, slots=True)
class _Mapping:
    original: int
    size: int
    access: int
    slots: int
    pool: _Pool
    area: int
    slot: int


class Swiotlb(Copier):
    """Bounces through pools of `slots` slots in `areas` areas."""

    name = "swiotlb"

    def __init__(self, zone: Zone, clock: Clock, options: Mapping[str, int]) -> None:
        super().__init__()
        self._zone, self._clock = zone, clock
        self._slots, self._areas = options["slots"], options["areas"]
        self._force, self._dynamic = bool(options["force"]), bool(options["dynamic"])
        self._delay = options["grow_us"] * MICROSECOND
        self._align, self._reach = options["align"], options["reach_mib"] << 20
        _check(self._slots, self._areas, self._align)
        self._pools: list[_Pool] = []
        self._mappings: dict[int, _Mapping] = {}
        self._worker: Timer | None = None
        if not self._grow():
            raise InputError(f"bounce swiotlb: no {self._slots << SLOT_SHIFT >> 20} MiB of memory in a row")

    def prepare(self, gpa: int, size: int, access: int, mask: int = NO_MASK, cpu: int = 0) -> Bounced | None:
        """Where the device finds the buffer; None where it reaches it as it is; NoBounceBuffer if there is no room."""
        self.statistics.maps += 1
        if not self._force and not (gpa | gpa + size - 1) & ~self._mask(mask):
            return None
        try:
            where, mapping = self._room(gpa, size, access, cpu)
        except NoBounceBuffer:
            self.statistics.failed += 1
            raise
        self._mappings[where] = mapping
        self.statistics.bounced += 1
        self.occupy(mapping.slots << SLOT_SHIFT)
        self.copy(gpa, where, size)
        return Bounced(where, size)

    def finish(self, bounced: Bounced) -> None:
        """The device is done with a buffer."""
        mapping = self._mapping(bounced.gpa)
        if mapping.access & WRITES:
            self.copy(bounced.gpa, mapping.original, mapping.size)
        del self._mappings[bounced.gpa]
        self.vacate(mapping.slots << SLOT_SHIFT)
        self.meter.spend("lock.cpu")
        self.meter.spend("bounce.slot")
        if mapping.pool.areas:
            mapping.pool.areas[mapping.area].give_back(mapping.slot, mapping.slots)
        else:
            self.count("transient_slots", -mapping.pool.slots)
            self._zone.give_back(mapping.pool.pages)

    def sync(self, bounced: Bounced, to_device: bool) -> None:
        """Copy the first `bounced.size` bytes of a live buffer, to the device or back."""
        mapping = self._mapping(bounced.gpa)
        if bounced.size > mapping.size:
            raise NotBounced(f"{bounced.gpa:#x}: {mapping.size} bytes are mapped, {bounced.size} are synchronised")
        source, target = (mapping.original, bounced.gpa) if to_device else (bounced.gpa, mapping.original)
        self.copy(source, target, bounced.size)

    @property
    def used(self) -> int:
        """Slots in use, without those of transient pools."""
        return sum(area.used for pool in self._pools for area in pool.areas)

    @property
    def total(self) -> int:
        """Slots there are, without those of transient pools."""
        return sum(pool.slots for pool in self._pools)

    def _mapping(self, where: int) -> _Mapping:
        if where not in self._mappings:
            raise NotBounced(f"no bounced buffer is at {where:#x}")
        return self._mappings[where]

    def _mask(self, mask: int) -> int:
        return min(mask, self._reach - 1) if self._reach else mask

    def _room(self, gpa: int, size: int, access: int, cpu: int) -> tuple[int, _Mapping]:
        count = -(-(-(-size // self._align) * self._align) // SLOT)
        stride = max(self._align >> SLOT_SHIFT, 1)
        if count <= SEGMENT:
            for pool in self._pools:
                for turn in range(len(pool.areas)):
                    number = (cpu + turn) % len(pool.areas)
                    slot = self._search(pool.areas[number], count, stride)
                    if slot is not None:
                        at = pool.start + (number * pool.per_area + slot << SLOT_SHIFT)
                        return at, _Mapping(gpa, size, access, count, pool, number, slot)
        if self._dynamic and count <= SEGMENT:  # a transient pool has segments, too
            self._wake_worker()
            transient = self._transient(count)
            if transient is not None:
                return transient.start, _Mapping(gpa, size, access, count, transient, 0, 0)
        raise NoBounceBuffer(
            f"no {count} slots in a row for {size} bytes: {self.used} of {self.total} are in use, and a mapping has at "
            f"most {SEGMENT}"
        )

    def _search(self, area: Area, count: int, stride: int) -> int | None:
        before = area.looked_at
        slot = area.take(count, stride)
        self.meter.spend("lock.cpu")
        self.meter.spend("bounce.lookup", area.looked_at - before)
        if slot is not None:
            self.meter.spend("bounce.slot")
        return slot

    def _transient(self, count: int) -> _Pool | None:
        pages = -(-(count << SLOT_SHIFT) // PAGE_SIZE)
        start = self._zone.take_run(Gfp.NOWAIT, pages)
        self.meter.spend(f"page.{Gfp.NOWAIT.value}" if start is not None else "page.refused")
        if start is None:
            return None
        slots = pages << PAGE_SHIFT - SLOT_SHIFT
        self.count("transient_pools")
        self.count("transient_slots", slots)
        return _Pool(start, slots, 0)

    def _wake_worker(self) -> None:
        if self._worker is None:
            self._worker = self._clock.after(self._delay, self._work)

    def _work(self) -> None:
        self._worker = None
        self.count("worker_runs")
        if self._grow():
            for action in list(self.on_available):
                action()

    def _grow(self) -> bool:
        start = self._zone.take_run(Gfp.KERNEL, self._slots << SLOT_SHIFT >> PAGE_SHIFT)
        if start is None:
            return False
        self._pools.append(_Pool(start, self._slots, self._areas))
        self.count("pools")
        return True


def _check(slots: int, areas: int, align: int) -> None:
    if areas < 1 or areas & areas - 1:
        raise InputError(f"bounce.areas={areas}: expected a power of two")
    if slots < areas * SEGMENT or slots % (areas * SEGMENT):
        raise InputError(f"bounce.slots={slots}: expected a multiple of {SEGMENT} slots in each of {areas} areas")
    if align < 1 or align & align - 1:
        raise InputError(f"bounce.align={align}: expected a power of two")


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> Bouncer:
    """A `swiotlb` bouncer; options as in DEFAULTS: `slots`, `areas`, `force`, `dynamic`, `grow_us`, `align` (bytes),
    `reach_mib` (0: only the device's mask)."""
    return Swiotlb(zone, clock, number_options("bounce", "swiotlb", options, DEFAULTS))


@takes(DYNAMIC)
def make_dynamic(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> Bouncer:
    """`swiotlb` that grows: a pool of 8 MiB at first, and transient pools until the next is there."""
    return Swiotlb(zone, clock, number_options("bounce", "swiotlb-dynamic", options, DYNAMIC))
