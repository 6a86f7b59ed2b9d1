"""A pressure script on a zone: its steps happen on the clock, and who may sleep and got too little asks again.

Who takes a number of pages in a class that may sleep keeps asking for the rest whenever pages become free; any other
takes what there is and goes without the rest. `leave` takes what its class allows, and asks for no more. `circle`
names who waits for whom where swapping needs the memory that it is to free.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

from emulator.clock import MILLISECOND, Clock, Timer
from emulator.mapping.dma_pool import DmaPool
from emulator.mapping.pressure import Zone
from emulator.mapping.pressure_script import Action, PressureScript, Step, SwapDisk
from emulator.mapping.swap_out import Deadlock, MapForDma, SwapOut
from emulator.mapping.uhci import TD_ALIGN, TD_SIZE, Uhci
from pagetables.errors import InputError

__all__ = ["PressureCounts", "PressureRun"]


@dataclass(slots=True)
class PressureCounts:
    """What the script came to, in pages."""

    steps: int = 0
    taken: int = 0
    given_back: int = 0
    refused: int = 0  # what takers that may not sleep went without

    def as_dict(self) -> dict[str, int]:
        """The numbers by name, as a report prints them."""
        return asdict(self)


class PressureRun:
    """`script` on `zone`. `map_for_dma` is what a write to the disk is mapped with; None: nothing has to be mapped."""

    def __init__(self, script: PressureScript, zone: Zone, clock: Clock, map_for_dma: MapForDma | None = None) -> None:
        self.script = script
        self.counts = PressureCounts()
        self._zone, self._clock = zone, clock
        self._timers: list[Timer] = []
        self._waiting: dict[int, tuple[Step, int]] = {}  # by number: who still wants how many pages
        self._numbers = 0
        self._asking = False
        self.swap_out = self._connect(script.swap, map_for_dma or (lambda pages: _unmap_nothing))

    def start(self) -> None:
        """Set every step on the clock, as far from now as the script says."""
        self._zone.on_available.append(self._ask_again)
        for step in self.script.steps:
            self._timers.append(self._clock.after(step.at, partial(self._do, step)))

    def stop(self) -> None:
        """Nothing more happens by the script; what was taken stays taken."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        if self._ask_again in self._zone.on_available:
            self._zone.on_available.remove(self._ask_again)

    @property
    def waiting(self) -> dict[str, int]:
        """Pages that takers still wait for, by their names."""
        pages: dict[str, int] = {}
        for step, wanted in self._waiting.values():
            pages[step.who] = pages.get(step.who, 0) + wanted
        return pages

    def circle(self) -> Deadlock | None:
        """The circle of waits that stands now, those who wait for memory first; None if there is none."""
        found = self.swap_out.deadlock() if self.swap_out is not None else None
        if found is None:
            return None
        waiting = tuple(f"{name} waits for {pages} pages of memory" for name, pages in self.waiting.items())
        return Deadlock(found.since_ns, (*waiting, *found.chain))

    def as_dict(self) -> dict[str, object]:
        """What happened, as a report prints it."""
        circle, swap = self.circle(), self.swap_out
        return {
            "script": self.script.file,
            **self.counts.as_dict(),
            "waiting": self.waiting,
            "swap_out": None if swap is None else {**swap.statistics.as_dict(), **_host(swap)},
            "deadlock": None if circle is None else circle.as_dict(),
        }

    def _connect(self, disk: SwapDisk | None, map_for_dma: MapForDma) -> SwapOut | None:
        if disk is None:
            return None
        pool = DmaPool("uhci_td", self._zone, TD_SIZE, TD_ALIGN)
        if not pool.preallocate(disk.reserve):
            raise InputError(f"{self.script.file}: memory does not hold {disk.reserve} descriptors in reserve")
        host = Uhci(pool, disk.descriptors)
        return SwapOut(self._zone, self._clock, host, map_for_dma, disk.pages_per_write, disk.packet, disk.bytes_per_s)

    def _do(self, step: Step) -> None:
        self.counts.steps += 1
        match step.action:
            case Action.RECLAIM:
                self._zone.reclaim_per_ms = step.amount.pages
            case Action.GIVE_BACK:
                self._give_back(step)
            case Action.LEAVE:
                self._occupy(step, max(self._zone.free - step.amount.of(self._zone.managed), 0))
            case Action.TAKE:
                wanted = self._zone.free if step.amount.everything else step.amount.of(self._zone.managed)
                self._take(step, wanted)

    def _give_back(self, step: Step) -> None:
        wanted = None if step.amount.everything else step.amount.of(self._zone.managed)
        # Who gives back what it has does not go on asking for more.
        self._waiting = {number: entry for number, entry in self._waiting.items() if entry[0].who != step.who}
        self.counts.given_back += self._zone.vacate(step.who, wanted)

    def _take(self, step: Step, wanted: int) -> None:
        now = min(step.rate or wanted, wanted)
        missing = now - self._occupy(step, now)
        if step.gfp.may_sleep and missing:
            self._numbers += 1
            self._waiting[self._numbers] = (step, missing)
        else:
            self.counts.refused += missing
        if wanted > now:
            self._timers.append(self._clock.after(MILLISECOND, partial(self._take, step, wanted - now)))

    def _occupy(self, step: Step, pages: int) -> int:
        got = self._zone.occupy(step.who, pages, step.kind, step.gfp)
        self.counts.taken += got
        return got

    def _ask_again(self) -> None:
        if self._asking:
            return
        self._asking = True
        try:
            for number, (step, wanted) in list(self._waiting.items()):
                left = wanted - self._occupy(step, wanted)
                if left:
                    self._waiting[number] = (step, left)
                else:
                    del self._waiting[number]
        finally:
            self._asking = False


def _unmap_nothing() -> None:
    pass


def _host(swap: SwapOut) -> dict[str, int]:
    return {f"urbs_{name}": value for name, value in swap.host.statistics.as_dict().items()}
