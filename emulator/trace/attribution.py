"""Which space each map and unmap belongs to, gathered while the events go by.

A kernel's iommu:map and iommu:unmap name neither device nor domain; the events around them do:

* dma_map_page/phys/sg and dma_alloc come after their maps, in the same task: they claim the maps in their range;
* dma_unmap_page/phys comes after its unmap, dma_unmap_sg and dma_free come before theirs;
* cache_tag_assign comes directly before attach_device_to_domain in the same task and gives the domain-id;
  cache_tag_flush_range after an unmap gives the domain-id that the unmap belongs to;
* identity maps directly before an attach that begins a space are that space's direct maps;
* a task that attached devices to one space only, and maps with no dma event, maps there (VFIO).

What is not told here is decided by `emulator.trace.settling`, once all events are known.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import NamedTuple

from emulator.trace.announced import Announcements, Expected
from emulator.trace.columns import NO_SPACE, Rows
from emulator.trace.descriptors import Descriptors
from emulator.trace.event import READ, WRITE, CacheTag, Descriptor, Event, Kind, Segments, SpaceRef
from emulator.trace.generations import Signs, StandIns, page_range
from emulator.trace.spaces import SpaceBook
from pagetables.address import PAGE_SIZE

__all__ = ["Attributor", "Progress", "Waiting"]

Progress = Callable[[int], None]

_PROGRESS = 4096
_EVERYTHING = 1 << 48  # a flush of this many bytes tells nothing about one unmap
_AWAITING = 64  # unmaps of one task that still may get a word of explanation


class Waiting(NamedTuple):
    """A map that no event has claimed yet."""

    row: int
    end: int
    gpa: int


class _Unmap(NamedTuple):
    row: int
    start: int
    end: int


class Attributor:
    """Takes events in order; keeps the rows, the spaces, and what is known of each row."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.book = SpaceBook()
        self.signs = Signs()
        self.events = 0
        self.kinds = [0] * (max(Kind) + 1)
        self.early: list[int] = []  # direct maps, made before their space had a device
        self.partial: list[int] = []  # unmaps that removed less or more than was asked
        self.waiting: defaultdict[int, dict[int, list[Waiting]]] = defaultdict(
            dict
        )  # task -> iova -> maps, latest last
        self.announced = Announcements()
        self.descriptors = Descriptors()
        self.attachers: dict[
            int, dict[int, int]
        ] = {}  # task -> spaces it attached devices to, with the row of the attach
        self.stand_ins = StandIns(self.rows)
        self._awaiting: dict[int, deque[_Unmap]] = {}
        self._flushed: dict[int, tuple[_Unmap, int]] = {}
        self._assigned: dict[int, tuple[str, int, int]] = {}
        self._other: dict[int, int] = {}  # task -> number of rows when it last did anything but map
        handlers = {
            Kind.MAP: self._map,
            Kind.UNMAP: self._unmap,
            Kind.ACCESS: self._access,
            Kind.ATTACH: self._attach,
            Kind.DETACH: self._detach,
            Kind.DMA_MAP: self._dma_map,
            Kind.DMA_ALLOC: self._dma_map,
            Kind.DMA_MAP_SG: self._dma_map_sg,
            Kind.DMA_UNMAP: self._dma_unmap,
            Kind.DMA_UNMAP_SG: self._dma_unmap_sg,
            Kind.DMA_FREE: self._dma_free,
            Kind.CACHE_TAG_ASSIGN: self._assign,
            Kind.CACHE_TAG_UNASSIGN: self._unassign,
            Kind.CACHE_TAG_FLUSH: self._flush,
            Kind.GROUP_ADD: self._group,
            Kind.GROUP_REMOVE: self._group,
            Kind.SPACE: self._declare,
            Kind.QI_SUBMIT: self._submit,
        }
        self._handlers = [handlers.get(Kind(kind)) if kind else None for kind in range(len(Kind) + 1)]

    def feed(self, events: Iterable[Event], progress: Progress | None = None) -> None:
        """Take the next events, in order; `progress` is told now and then how many there were."""
        handlers, kinds = self._handlers, self.kinds
        for event in events:
            kind = event.kind
            kinds[kind] += 1
            self.events += 1
            handle = handlers[kind]
            if handle is not None:
                handle(event)
            if progress is not None and not self.events % _PROGRESS:
                progress(self.events)

    def _declare(self, event: Event) -> None:
        self.events -= 1
        self._named(event)

    def _named(self, event: Event) -> int | None:
        # The space that the event itself names.
        if event.device is None and event.domain is None and event.detail is None:
            return None
        if isinstance(event.detail, SpaceRef):
            ref = event.detail
            return self.book.declare(event.file, ref.number, ref.name, event.domain, ref.attributed)
        if event.device is not None:
            return self._space_of(event.device, event)
        if event.domain is not None:
            return self.book.of_tag("", event.domain)
        return None

    def _space_of(self, device: str, event: Event) -> int:
        # A device of which no attach is known gets its own space where it first appears.
        space = self.book.find_device(device)
        if space is None:
            space = self.book.without_tag(device)
            self._put(device, space, event._replace(kind=Kind.ATTACH, pasid=None))
        return space

    def _put(self, device: str, space: int, event: Event) -> None:
        before = self.book.find_device(device) if device else None
        if before is not None:
            self.rows.add(self.events, _bare(event, Kind.DETACH, device), before, named=True)
        self.book.attach(device, space)
        self.rows.add(self.events, _bare(event, Kind.ATTACH, device), space, named=True)

    def _map(self, event: Event) -> None:
        if (space := self._named(event)) is not None:
            self.rows.add(self.events, event, space, named=True)
            return
        self.signs.maps += 1
        self.stand_ins.over = True
        row = self.rows.add(self.events, event)
        iova = event.iova
        waiting = self.waiting[event.pid or ~event.cpu]
        found = waiting.get(iova)
        if found is None:
            waiting[iova] = [Waiting(row, iova + event.size, event.gpa)]
        else:
            found.append(Waiting(row, iova + event.size, event.gpa))

    def _unmap(self, event: Event) -> None:
        space = self._named(event)
        if space is not None:
            self.rows.add(self.events, event, space, named=True)
            return
        self.signs.unmaps += 1
        row = self.rows.add(self.events, event)
        if event.detail is not None:
            self.partial.append(row)
        key = event.pid or ~event.cpu
        self.announced.unmapped(key, row)
        awaiting = self._awaiting.get(key)
        if awaiting is None:
            awaiting = self._awaiting[key] = deque(maxlen=_AWAITING)
        awaiting.append(_Unmap(row, event.iova, event.iova + event.size))
        self._other[key] = row + 1

    def _access(self, event: Event) -> None:
        space = self._named(event)
        self.rows.add(self.events, event, NO_SPACE if space is None else space, named=True)

    def _attach(self, event: Event) -> None:
        key = event.pid or ~event.cpu
        tag = self._assigned.pop(key, None)
        device = event.device or ""
        if isinstance(event.detail, SpaceRef):
            space = self.book.declare(event.file, event.detail.number)
        elif event.domain is not None:
            space = self.book.of_tag("", event.domain)
        elif tag is not None:
            space = self.book.assigned(*tag)
        elif self.book.tags_seen:
            self._detach(event)  # a domain without cache tags does not translate
            return
        else:
            space = self.book.without_tag(device)
        self._direct_maps(key, space)
        self._put(device, space, event)
        self.attachers.setdefault(key, {}).setdefault(space, len(self.rows) - 1)
        self._other[key] = len(self.rows)

    def _direct_maps(self, key: int, space: int) -> None:
        # Only identity maps: a VMM's own maps may stand before its next attach too.
        since = self._other.get(key, 0)
        waiting = self.waiting.get(key, {})
        latest = takewhile(lambda iova: waiting[iova][-1].row >= since, reversed(list(waiting)))
        for iova in [iova for iova in latest if waiting[iova][-1].gpa == iova]:
            row = self._pop(waiting, iova, iova).row
            self.rows.space[row] = space
            self.early.append(row)

    def _detach(self, event: Event) -> None:
        device = event.device or ""
        space = self.book.find_device(device)
        self._other[event.pid or ~event.cpu] = len(self.rows)
        if space is not None:
            self.rows.add(self.events, _bare(event, Kind.DETACH, device), space, named=True)
            self.book.detach(device)

    def _group(self, event: Event) -> None:
        if event.kind is Kind.GROUP_ADD and isinstance(event.detail, int):
            self.book.join_group(event.device or "", event.detail)
        else:
            self.book.leave_group(event.device or "")

    def _assign(self, event: Event) -> None:
        tag = event.detail
        if isinstance(tag, CacheTag) and event.domain is not None and _is_iotlb(tag):
            self.book.tags_seen = True
            self._assigned[event.pid or ~event.cpu] = (tag.unit, event.domain, tag.references)

    def _unassign(self, event: Event) -> None:
        tag = event.detail
        if isinstance(tag, CacheTag) and event.domain is not None and _is_iotlb(tag):
            self.book.tags_seen = True
            if tag.references == 1:  # printed before it is taken off
                self.book.unassign(tag.unit, event.domain)

    def _flush(self, event: Event) -> None:
        tag = event.detail
        if not isinstance(tag, CacheTag) or event.domain is None:
            return
        if event.size < _EVERYTHING:
            if tag.pages:
                self.signs.flush_with_pages = True
            else:
                self.signs.flush_without_pages = True
        key = event.pid or ~event.cpu
        awaiting = self._awaiting.get(key)
        if not awaiting or event.size >= _EVERYTHING or not _is_iotlb(tag):
            return
        end = event.iova + event.size
        space = NO_SPACE
        for unmap in [unmap for unmap in awaiting if unmap.start >= event.iova and unmap.end <= end]:
            if space == NO_SPACE:
                space = self.book.of_tag(tag.unit, event.domain)
            awaiting.remove(unmap)
            self._explain(unmap.row, space)
            self._flushed[key] = (unmap, space)

    def _explain(self, row: int, space: int) -> None:
        self.rows.space[row] = space
        self.announced.explained(row, space)

    def _submit(self, event: Event) -> None:
        if isinstance(event.detail, Descriptor):
            self.descriptors.add(self.events, event.detail)

    def _dma_map(self, event: Event) -> None:
        start, end = page_range(event.iova, event.size)
        if end > 1 << 64:  # all ones: the mapping failed
            return
        if isinstance(event.detail, str):
            self.signs.dma_phys |= event.detail == "phys"
            self.signs.dma_page |= event.detail == "page"
        if not self.stand_ins.over:
            self._stand_in(event, told=isinstance(event.detail, str))
        self._claim(event, ((start, end),), (event.gpa,))

    def _dma_map_sg(self, event: Event) -> None:
        lists = event.detail
        if not isinstance(lists, Segments):
            return
        if not self.stand_ins.over:
            self._stand_in(event, told=True)
        ranges = tuple(page_range(iova, size) for iova, size in zip(lists.iovas, lists.sizes, strict=False))
        self._claim(event, ranges, lists.physical, beyond=lists.truncated or len(lists.physical) >= 128)

    def _stand_in(self, event: Event, told: bool) -> None:
        if told:
            self.stand_ins.map(self.events, event, self._space_of(event.device or "", event))
        else:
            self.stand_ins.untold += 1

    def _claim(
        self, event: Event, ranges: tuple[tuple[int, int], ...], physical: tuple[int, ...], beyond: bool = False
    ) -> None:
        key = event.pid or ~event.cpu
        waiting = self.waiting.get(key)
        self._other[key] = len(self.rows)
        if not waiting or not ranges:
            return
        gpa = physical[0] & -PAGE_SIZE if physical else None
        # Memory of dma_alloc is for both, where the event has no direction.
        access = READ | WRITE if event.kind is Kind.DMA_ALLOC else event.access
        at, space = -1, NO_SPACE
        for start, end in ranges:
            if at < start:
                at = start
            while (at < end or beyond) and at in waiting:
                claimed = self._pop(waiting, at, gpa)
                if space == NO_SPACE:
                    space = self._space_of(event.device or "", event)
                self.rows.space[claimed.row] = space
                self.rows.access[claimed.row] = access
                if event.kind is Kind.DMA_ALLOC and isinstance(event.detail, int):
                    self.rows.gfp[claimed.row] = event.detail
                at, gpa = claimed.end, None

    @staticmethod
    def _pop(waiting: dict[int, list[Waiting]], iova: int, gpa: int | None) -> Waiting:
        # The latest; if an interrupt mapped the same address in another space, the latest of that physical page.
        maps = waiting[iova]
        if len(maps) == 1:
            del waiting[iova]
            return maps[0]
        latest = range(len(maps) - 1, max(len(maps) - 1 - _AWAITING, -1), -1)
        index = next((i for i in latest if maps[i].gpa == gpa), len(maps) - 1)
        return maps.pop(index)

    def _dma_unmap(self, event: Event) -> None:
        if not self.stand_ins.over:
            self.stand_ins.unmap(self.events, event, self._space_of(event.device or "", event))
        key = event.pid or ~event.cpu
        flushed = self._flushed.get(key)
        if flushed is not None and flushed[0].start <= event.iova < flushed[0].end:
            del self._flushed[key]
            if self.book.find_device(event.device or "") != flushed[1]:
                self._explain(flushed[0].row, self._same(event, flushed[1]))
            return
        awaiting = self._awaiting.get(key, ())
        for unmap in reversed(awaiting):
            if unmap.start <= event.iova < unmap.end:
                self._awaiting[key].remove(unmap)
                self._explain(unmap.row, self._space_of(event.device or "", event))
                return

    def _same(self, event: Event, tagged: int) -> int:
        # The tag was flushed for this device's unmap: they are one space.
        device = event.device or ""
        if self.book.find_device(device) is None:
            self._put(device, tagged, event)
            return tagged
        return self.book.same(device, tagged)

    def _dma_unmap_sg(self, event: Event) -> None:
        lists = event.detail
        space = self.book.find_device(event.device or "")
        if isinstance(lists, Segments) and lists.physical and space is not None:
            key = event.pid or ~event.cpu
            self._announce(key, Expected(space, lists.physical[0] & -PAGE_SIZE, 0, 0))

    def _dma_free(self, event: Event) -> None:
        space = self.book.find_device(event.device or "")
        start, end = page_range(event.iova, event.size)
        if space is not None and start < end:
            if not self.stand_ins.over:
                self.stand_ins.unmap(self.events, event, space)
            key = event.pid or ~event.cpu
            self._announce(key, Expected(space, None, start, end))

    def _announce(self, key: int, expected: Expected) -> None:
        self.announced.announce(key, expected)
        self._other[key] = len(self.rows)

    def finish(self) -> None:
        """Join spaces that turned out to be one: the unmaps announced for it were mostly flushed with one tag."""
        for space, tagged in self.announced.same():
            self.book.merge(space, tagged)


def _is_iotlb(tag: CacheTag) -> bool:
    # trace-cmd prints the number of the type.
    return tag.pasid == 0 and tag.type in ("iotlb", "0x0", "0")


def _bare(event: Event, kind: Kind, device: str) -> Event:
    return Event(event.file, event.line, event.time_ns, event.cpu, event.pid, event.task, kind, device)
