"""The book of the DMA API: each mapping from the call that made it to the call that takes it back.

Judged as Linux's dma-debug judges (kernel/dma/debug.c), from events alone. Kernels print a call's event where they do:
`dma_unmap_page` after the work, so that another CPU may have mapped the address again before the line appears. A second
mapping of a live address is therefore no misuse here, and an unmap closes the oldest mapping that fits best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from emulator.clock import SECOND
from emulator.misuse.verdict import Place, Verdict, owner_of
from emulator.trace.event import READ, WRITE, Event, Kind, Segments

__all__ = ["DmaBook", "DmaMapping"]

FAILED = (1 << 64) - 1  # DMA_MAPPING_ERROR
BEFORE_RECORDING = 10 * SECOND  # from the first event on: what was mapped before may still be unmapped
_DIRECTIONS = {READ: "to device", WRITE: "from device", READ | WRITE: "bidirectional"}


@dataclass(slots=True)
class DmaMapping:
    """A live mapping. `kind` is page, coherent or sg; `entries` those of a scatter list; `checked` whether somebody
    looked if the map had failed."""

    device: str
    kind: str
    iova: int
    size: int
    access: int
    made: Place
    physical: tuple[tuple[int, int], ...] = ()  # start, size
    entries: int = 1
    checked: bool = False

    @property
    def says(self) -> str:
        """The mapping in words."""
        return f"{self.kind} of {self.size:#x} bytes, {_DIRECTIONS.get(self.access, 'no direction')}"


_Key = tuple[str, int]


@dataclass(slots=True)
class DmaBook:
    """Feed it events in order with `see`; `verdicts` grows. `checks` asks for rule unchecked-error, which only traces
    that tell of checks can be judged by."""

    checks: bool = False
    verdicts: list[Verdict] = field(default_factory=list)
    _live: dict[_Key, list[DmaMapping]] = field(default_factory=dict)
    _lists: dict[tuple[str, tuple[int, ...]], list[DmaMapping]] = field(default_factory=dict)
    _closed: dict[_Key, tuple[Place, Place]] = field(default_factory=dict)
    _first: int | None = None

    def see(self, number: int, event: Event) -> None:
        """Take note of one event, the `number`-th of the trace."""
        if self._first is None:
            self._first = event.time_ns
        handle = _HANDLERS.get(event.kind)
        if handle is not None and event.device is not None:
            handle(self, number, event)

    def live(self) -> Iterator[DmaMapping]:
        """What is mapped now."""
        for mappings in self._live.values():
            yield from mappings
        for lists in self._lists.values():
            yield from lists

    # -- mappings come ----------------------------------------------------------------------------------------------

    def _map(self, number: int, event: Event) -> None:
        if event.iova == FAILED:
            return
        physical = ((event.gpa, event.size),) if event.gpa else ()
        self._open(
            DmaMapping(str(event.device), "page", event.iova, event.size, event.access, _made(number, event), physical)
        )

    def _alloc(self, number: int, event: Event) -> None:
        if event.iova not in (FAILED, 0):
            self._open(
                DmaMapping(str(event.device), "coherent", event.iova, event.size, READ | WRITE, _made(number, event))
            )

    def _open(self, mapping: DmaMapping) -> None:
        self._live.setdefault((mapping.device, mapping.iova), []).append(mapping)

    def _map_sg(self, number: int, event: Event) -> None:
        lists = event.detail
        if not isinstance(lists, Segments) or lists.truncated or not lists.iovas:
            return
        physical = tuple((start, 0) for start in lists.physical)
        mapping = DmaMapping(
            str(event.device), "sg", lists.iovas[0], sum(lists.sizes), event.access, _made(number, event), physical,
            entries=len(lists.physical),
        )  # fmt: skip
        self._lists.setdefault((mapping.device, lists.physical), []).append(mapping)

    # -- and go -----------------------------------------------------------------------------------------------------

    def _unmap(self, number: int, event: Event, kind: str = "page") -> None:
        place = Place("unmapped", number, event.file, event.line, event.time_ns)
        if event.iova == FAILED:
            self._blame("error-value-unmapped", event, (place,), "unmaps the address that says a map failed")
            return
        mapping = self._best(event, kind)
        if mapping is None:
            self._nothing_there(event, place)
            return
        self._live[mapping.device, mapping.iova].remove(mapping)
        self._closed[mapping.device, mapping.iova] = (mapping.made, place)
        self._judge_unmap(mapping, event, kind, place)

    def _judge_unmap(self, mapping: DmaMapping, event: Event, kind: str, place: Place) -> None:
        places = (mapping.made, place)
        if kind != mapping.kind:
            self._blame("wrong-function", event, places, f"mapped as {mapping.kind}, taken back as {kind}")
        if event.size != mapping.size:
            self._blame("wrong-size", event, places, f"mapped {mapping.size} bytes, takes back {event.size}")
        if kind == "page" and event.access and mapping.access and event.access != mapping.access:
            wrong = f"mapped {_DIRECTIONS[mapping.access]}, taken back {_DIRECTIONS[event.access]}"
            self._blame("wrong-direction", event, places, wrong)
        if self.checks and mapping.kind == "page" and not mapping.checked:
            self._blame("unchecked-error", event, places, "nobody looked whether the map had failed")

    def _free(self, number: int, event: Event) -> None:
        if event.size:  # freeing nothing is allowed, and the event comes before anybody looks
            self._unmap(number, event, "coherent")

    def _best(self, event: Event, kind: str) -> DmaMapping | None:
        # Several may be live at one address for a moment: the oldest of those that fit best.
        known = self._live.get((str(event.device), event.iova), ())
        fits: Callable[[DmaMapping], int] = lambda one: (  # noqa: E731
            4 * (one.kind == kind) + 2 * (one.size == event.size) + (one.access == event.access)
        )
        return max(known, key=fits, default=None)

    def _nothing_there(self, event: Event, place: Place) -> None:
        closed = self._closed.get((str(event.device), event.iova))
        if closed is not None:
            self._blame("double-unmap", event, (*closed, place), "was taken back already")
        elif place.time_ns - (self._first or 0) > BEFORE_RECORDING or self.checks:
            self._blame("never-mapped", event, (place,), "nothing is mapped there")

    def _unmap_sg(self, number: int, event: Event) -> None:
        lists = event.detail
        if not isinstance(lists, Segments) or lists.truncated:
            return
        place = Place("unmapped", number, event.file, event.line, event.time_ns)
        device = str(event.device)
        mapping = self._list_of(device, lists.physical)
        if mapping is None:
            return  # mapped before the recording, or with a list that was cut short
        if mapping.entries != len(lists.physical):
            wrong = f"mapped {mapping.entries} entries, takes back {len(lists.physical)}"
            self._blame("wrong-entries", event, (mapping.made, place), wrong, mapping)
        if event.access and mapping.access and event.access != mapping.access:
            wrong = f"mapped {_DIRECTIONS[mapping.access]}, taken back {_DIRECTIONS[event.access]}"
            self._blame("wrong-direction", event, (mapping.made, place), wrong, mapping)

    def _list_of(self, device: str, physical: tuple[int, ...]) -> DmaMapping | None:
        # The list itself, or one that begins alike: somebody passes another number of entries.
        known = self._lists.get((device, physical))
        key = physical
        if not known:
            found = (
                mapped
                for owner, mapped in self._lists
                if owner == device and self._lists[owner, mapped] and _one_begins_the_other(mapped, physical)
            )
            key = next(found, ())
            known = self._lists.get((device, key))
        if not known:
            return None
        mapping = known.pop(0)
        if not known:
            del self._lists[device, key]
        return mapping

    # -- in between -------------------------------------------------------------------------------------------------

    def _check(self, number: int, event: Event) -> None:
        for mapping in self._live.get((str(event.device), event.iova), ()):
            mapping.checked = True

    def _sync(self, number: int, event: Event) -> None:
        if not event.size:
            return  # of a scatter list
        place = Place("synchronised", number, event.file, event.line, event.time_ns)
        mapping = self._holding(str(event.device), event.iova)
        if mapping is None:
            if self._was_recorded(str(event.device), event.iova):
                self._blame("sync-unmapped", event, (place,), "nothing is mapped there")
            return
        places = (mapping.made, place)
        if event.iova + event.size > mapping.iova + mapping.size:
            over = event.iova + event.size - mapping.iova
            self._blame("sync-beyond", event, places, f"mapped {mapping.size} bytes, synchronised up to byte {over}")
        if event.access and event.access != mapping.access and mapping.access != READ | WRITE:
            wrong = f"mapped {_DIRECTIONS[mapping.access]}, synchronised {_DIRECTIONS[event.access]}"
            self._blame("wrong-direction", event, places, wrong)

    def _holding(self, device: str, iova: int) -> DmaMapping | None:
        known = self._live.get((device, iova))
        if known:
            return known[-1]
        for mapping in self.live():
            if mapping.device == device and mapping.iova <= iova < mapping.iova + mapping.size:
                return mapping
        return None

    def _was_recorded(self, device: str, iova: int) -> bool:
        return self.checks or (device, iova) in self._closed

    def _leave(self, number: int, event: Event) -> None:
        place = Place("detached", number, event.file, event.line, event.time_ns)
        for mapping in [one for one in self.live() if one.device == event.device]:
            self._blame("leak", event, (mapping.made, place), f"is still mapped: {mapping.says}", mapping)
            self._drop(mapping)

    def _drop(self, mapping: DmaMapping) -> None:
        for mappings in (*self._live.values(), *self._lists.values()):
            if mapping in mappings:
                mappings.remove(mapping)

    def _blame(
        self, rule: str, event: Event, places: tuple[Place, ...], says: str, about: DmaMapping | None = None
    ) -> None:
        iova, size = (event.iova, event.size) if about is None else (about.iova, about.size)
        self.verdicts.append(Verdict(rule, owner_of(str(event.device)), iova, size, says, places))


def _made(number: int, event: Event) -> Place:
    return Place("mapped", number, event.file, event.line, event.time_ns)


def _one_begins_the_other(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    shorter = min(len(one), len(other))
    return shorter > 0 and one[:shorter] == other[:shorter]


_HANDLERS: dict[Kind, Callable[[DmaBook, int, Event], None]] = {
    Kind.DMA_MAP: DmaBook._map,
    Kind.DMA_ALLOC: DmaBook._alloc,
    Kind.DMA_MAP_SG: DmaBook._map_sg,
    Kind.DMA_UNMAP: DmaBook._unmap,
    Kind.DMA_FREE: DmaBook._free,
    Kind.DMA_UNMAP_SG: DmaBook._unmap_sg,
    Kind.DMA_SYNC: DmaBook._sync,
    Kind.DMA_CHECK: DmaBook._check,
    Kind.GROUP_REMOVE: DmaBook._leave,
}
